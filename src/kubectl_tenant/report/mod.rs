//! What was read about one Tenant.
//!
//! | file | what is there |
//! | --- | --- |
//! | `document` | the document that `-o json` and `-o yaml` print |
//! | `tree` | the document as text |

pub(crate) mod document;
pub(crate) mod tree;
