//! Watches, and which objects their events enqueue.
//!
//! | file | what is there |
//! | --- | --- |
//! | `credentials` | looks for replaced credentials of providers |
//! | `custom_migrations` | the watch of the ConfigMap with custom migrations |
//! | `triggers` | which objects a change enqueues |
//! | `watches` | all other watches |

pub(crate) mod credentials;
pub(crate) mod custom_migrations;
pub(crate) mod triggers;
pub(crate) mod watches;
