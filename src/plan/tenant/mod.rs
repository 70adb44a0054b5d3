//! What has to change for one Tenant.
//!
//! | file | what is there |
//! | --- | --- |
//! | `adopt` | Taking over the data of an earlier Tenant, as `spec.database.adopt.previousUid` asks |
//! | `delete` | The plan of a Tenant that should be gone |
//! | `drain` | How long open transactions of a tenant are waited for once its access is revoked |
//! | `entry` | The registry entry of a Tenant |
//! | `keys` | The plan of a tenant's signing keys |
//! | `location` | A tenant's data as this pass plans it |
//! | `loss` | Loss, and giving up what was lost |
//! | `ownership` | Judging what the database holds for a tenant id |
//! | `present` | The plan of a Tenant that should exist |
//! | `schema` | What a tenant's tables still need |
//! | `suspend` | Taking a tenant out of service and bringing it back, with nothing lost |
//! | `takeover` | Taking over tenants of a cluster that is no more |
//! | `upkeep` | What is kept in order of a tenant that was provisioned, also where its spec can't be had |

mod acceptance;
pub(crate) mod adopt;
mod database;
pub mod delete;
pub(crate) mod drain;
pub(crate) mod entry;
mod inputs;
pub(crate) mod keys;
pub(crate) mod location;
pub mod loss;
mod origin;
pub mod ownership;
pub mod present;
pub mod refusal;
pub mod schema;
pub(crate) mod suspend;
pub(crate) mod takeover;
pub mod upkeep;
