//! Leader election.
//!
//! | file | what is there |
//! | --- | --- |
//! | `election` | electing a leader by a Lease |
//! | `identity` | the identity of this operator, across restarts |

pub(crate) mod election;
pub mod identity;
