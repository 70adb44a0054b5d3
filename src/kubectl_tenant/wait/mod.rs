//! Waiting for a state of a Tenant.
//!
//! | file | what is there |
//! | --- | --- |
//! | `result` | whether one state of a Tenant is the goal |
//! | `watch` | waiting until it is, by a watch of that one object |

pub(crate) mod result;
pub(crate) mod watch;
