//! The Helm chart: rendered and linted by the real Helm, installed into a real control plane.

mod chart {
    mod generated;
    mod install;
    mod pods;
    mod rbac;
    mod render;
    mod rights;
    mod support;
    mod values;
}
