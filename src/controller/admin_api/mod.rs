//! The admin API: dry runs of plans, and takeover grants.
//!
//! | file | what is there |
//! | --- | --- |
//! | `dry_run` | What a pass of a Tenant as it would be would do in the world as it is |
//! | `manifest` | A Tenant that somebody posted to see what would be done |
//! | `plan` | Asking the operator's door for a plan |
//! | `server` | The door of the operator for those who ask it something, on a port of its own |
//! | `takeover` | Letting one Tenant take over what a lost cluster left, at the operator's door |

pub(crate) mod dry_run;
pub(crate) mod manifest;
pub(crate) mod plan;
pub(crate) mod server;
pub(crate) mod takeover;
