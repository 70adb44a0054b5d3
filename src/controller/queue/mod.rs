//! Which object is reconciled next, and when again.
//!
//! | file | what is there |
//! | --- | --- |
//! | `retry` | When to look again, from the outcome alone |
//! | `scheduler` | The shared side of the queue |
//! | `waiters` | Who waits for which acknowledgement |
//! | `work_queue` | The work queue |

pub(crate) mod retry;
pub(crate) mod scheduler;
pub(crate) mod waiters;
pub mod work_queue;
