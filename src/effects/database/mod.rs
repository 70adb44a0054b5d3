//! The databases of the settings, each behind its circuit breaker.
//!
//! | file | what is there |
//! | --- | --- |
//! | `breaker` | The way to the database |
//! | `instances` | Every database of the settings, each behind a gate of its own, and what this process knows of who is where |
//! | `rollout_slots` | Whose turn it is in an upgrade of the fleet |

pub mod breaker;
pub mod instances;
pub mod rollout_slots;
