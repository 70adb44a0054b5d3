//! The admin API: dry runs of plans, and takeover grants.
//!
//! | file | what is there |
//! | --- | --- |
//! | `dry_run` | the dry run of a reconcile |
//! | `manifest` | the manifest of a Tenant in a request |
//! | `plan` | the requests for a plan |
//! | `server` | authentication, permissions and limits of requests |
//! | `takeover` | the request for a takeover grant |

pub(crate) mod dry_run;
pub(crate) mod manifest;
pub(crate) mod plan;
pub(crate) mod server;
pub(crate) mod takeover;
