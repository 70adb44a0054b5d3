//! What a valid tenant, agent, keyring and registry entry is; the entries' format; quoting of SQL.
//!
//! Raw specs stop at [`resolve`]: code beyond it gets only types that can't be wrong. There is no I/O, clock or
//! randomness in this module.
//!
//! | file | holds |
//! | --- | --- |
//! | `ack` | a replica's acknowledgement |
//! | `base_url`, `decimal`, `quantity`, `time` | values and their rules |
//! | `behaviour`, `entry` | the registry's entries |
//! | `cells`, `ident`, `sql` | names in the database, identifiers, quoting |
//! | `sqlstate` | what a SQLSTATE means |
//! | `class` | classes of errors |
//! | `custom_migrations`, `migrations` | SQL files by version |
//! | `keyring`, `keys` | a tenant's signing keys |
//! | `limits`, `location`, `tokens` | values that travel from spec or plan through the entry to the agent API |
//! | `logins`, `scram` | the agent API's database logins |
//! | `resolve`, `violation` | from raw specs to valid values |
//! | `statements` | the transaction commands of an SQL file |
//! | `tls` | explanations of refused certificates |

pub mod ack;
pub mod admin_api;
pub mod base_url;
pub mod behaviour;
pub mod cells;
pub mod class;
pub mod custom_migrations;
pub mod decimal;
pub mod entry;
pub mod ident;
pub mod keyring;
pub mod keys;
pub mod limits;
pub mod location;
pub mod logins;
pub mod migrations;
pub mod quantity;
pub mod resolve;
pub mod scram;
pub mod sql;
pub mod sqlstate;
mod statements;
pub mod time;
pub mod tls;
pub mod tokens;
mod violation;
