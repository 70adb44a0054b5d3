//! What has to change for one Tenant.
//!
//! | file | what is there |
//! | --- | --- |
//! | `present` | the plan of a Tenant that should exist |
//! | `delete` | the plan of a Tenant that is being deleted |
//! | `suspend`, `drain` | suspending a tenant, and waiting for its open transactions |
//! | `upkeep` | repairs and migrations of a provisioned tenant, also without a valid spec |
//! | `inputs` | what the plan of a Tenant that should exist is made from |
//! | `ownership`, `refusal` | what the database has that the Tenant may use, or why it may not |
//! | `origin`, `adopt`, `takeover` | where its data comes from: its own, an earlier Tenant's, a lost cluster's |
//! | `acceptance` | whether the Tenant is accepted |
//! | `database`, `location`, `schema` | the plan of its database: provisioning, location, migrations |
//! | `loss` | lost data, and accepting the loss |
//! | `keys`, `revocation` | the plan of its signing keys; revoking keys in an emergency |
//! | `entry` | its registry entry |

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
pub mod revocation;
pub mod schema;
pub(crate) mod suspend;
pub(crate) mod takeover;
pub mod upkeep;
