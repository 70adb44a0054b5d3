//! Which object is reconciled next, and when again.
//!
//! | file | what is there |
//! | --- | --- |
//! | `outcome` | the outcome of a reconcile |
//! | `retry` | the delay before the next reconcile |
//! | `scheduler` | the queue, shared by watches and workers |
//! | `waiters` | the objects that wait for an acknowledgement |
//! | `work_queue` | the order of reconciles |

pub(crate) mod outcome;
pub(crate) mod retry;
pub(crate) mod scheduler;
pub(crate) mod waiters;
pub(crate) mod work_queue;
