//! Background tasks of each database instance.
//!
//! | file | what is there |
//! | --- | --- |
//! | `archives` | Archives whose time is over are dropped here, one transaction each |
//! | `drift` | Looking for drift of the whole fleet |
//! | `heartbeat` | The leader's sign of life in each database, by which another cluster can tell whether this one is no more |
//! | `logins` | Rotating the cells' logins |
//! | `report` | Saying how each database stands, as a DatabaseInstance |
//! | `rollout` | Watching over the upgrade of a fleet's tables |
//! | `supervisor` | Watching over one database |
//! | `tasks` | Everything that goes on for one database |

pub(crate) mod archives;
pub(crate) mod drift;
pub(crate) mod heartbeat;
pub(crate) mod logins;
pub(crate) mod report;
pub(crate) mod rollout;
pub(crate) mod supervisor;
pub(crate) mod tasks;
