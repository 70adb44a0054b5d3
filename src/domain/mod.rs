//! What a valid tenant, agent, keyring and registry entry is; the entries' format; quoting of SQL.
//!
//! Raw specs stop at [`resolve`]: beyond it there are only types that can't be wrong. No I/O, clock or randomness here.

pub mod ack;
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
pub mod time;
pub mod tls;
pub mod tokens;
mod violation;
