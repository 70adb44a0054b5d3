//! The databases of the settings, each behind its circuit breaker.
//!
//! | file | what is there |
//! | --- | --- |
//! | `breaker` | the circuit breaker of a database |
//! | `instances` | the databases of the settings, and in which of them each tenant is |
//! | `rollout_slots` | the tenants that may be migrated now |

pub mod breaker;
pub mod instances;
pub mod rollout_slots;
