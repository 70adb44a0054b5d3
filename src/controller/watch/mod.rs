//! Watches, and which objects their events enqueue.
//!
//! | file | what is there |
//! | --- | --- |
//! | `custom_migrations` | the watch of the ConfigMap with custom migrations |
//! | `triggers` | which objects a change enqueues |
//! | `watches` | all other watches |

pub(crate) mod custom_migrations;
pub(crate) mod triggers;
pub(crate) mod watches;
