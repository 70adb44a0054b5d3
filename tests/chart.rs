//! The Helm chart: rendered and linted by the real Helm, installed into a real control plane.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where something is wrong")]

mod chart {
    mod generated;
    mod install;
    mod permissions;
    mod pods;
    mod rbac;
    mod render;
    mod support;
    mod values;
}
