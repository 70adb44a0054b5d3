//! Background tasks of each database instance.
//!
//! | file | what is there |
//! | --- | --- |
//! | `archives` | dropping expired archives |
//! | `drift` | drift checks of the whole fleet |
//! | `heartbeat` | the leader's heartbeat in each database |
//! | `logins` | rotating the cells' logins |
//! | `report` | the status of each DatabaseInstance |
//! | `rollout` | the rollout of migrations |
//! | `supervisor` | checks and probes of one database |
//! | `tasks` | starts the tasks of one database |

pub(crate) mod archives;
pub(crate) mod drift;
pub(crate) mod heartbeat;
pub(crate) mod logins;
pub(crate) mod report;
pub(crate) mod rollout;
pub(crate) mod supervisor;
pub(crate) mod tasks;
