//! Who leads.
//!
//! | file | what is there |
//! | --- | --- |
//! | `election` | Leadership |
//! | `identity` | Who this operator is, across restarts |

pub(crate) mod election;
pub mod identity;
