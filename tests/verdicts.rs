//! Pure tables: what is observed → what is planned → what is said of it, and how kubectl, Flux, Helm and Argo CD read it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where something is wrong")]

mod verdicts {
    mod adoption;
    mod agents;
    mod deletions;
    mod everything;
    mod keys;
    mod migrations;
    mod places;
    mod readers;
    mod stage;
    mod suspensions;
    mod takeover;
    mod tenants;
}
