//! The Helm chart: rendered and linted by the real Helm, installed into a real control plane.

mod chart {
    mod generated;
    mod pods;
    mod rbac;
    mod render;
    mod support;
    mod values;
}
