//! What has to change for one database instance: preflight, capacity, logins, rollouts.
//!
//! | file | what is there |
//! | --- | --- |
//! | `capacity` | How far a database is from the server's limits |
//! | `cells` | Whether the cells can work |
//! | `logins` | Rotating the login that the agent API uses in a cell |
//! | `preflight` | Whether a database is fit for tenants, and what has to be done to its control schema |
//! | `rollout` | rolling a migration out to all tenants |

pub mod capacity;
pub mod cells;
pub mod logins;
pub mod preflight;
pub mod rollout;
