//! Watches, and which objects their events enqueue.
//!
//! | file | what is there |
//! | --- | --- |
//! | `custom_migrations` | The platform team's own migrations |
//! | `triggers` | Who has to be looked at when something changes |
//! | `watches` | Everything that is watched, and where its changes go |

pub(crate) mod custom_migrations;
pub(crate) mod triggers;
pub(crate) mod watches;
