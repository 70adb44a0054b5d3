//! What has to change: `plan(intent, observed, now) -> Plan`. Pure; no I/O, clock or randomness.

pub mod observed;
pub mod step;
