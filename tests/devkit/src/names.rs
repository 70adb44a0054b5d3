//! Names that no other test uses, so that tests can run in parallel in one control plane and on one server.

/// `prefix-` and eight random hex digits; valid as a Kubernetes name and, quoted, as an SQL identifier.
pub fn unique(prefix: &str) -> String {
    let id = uuid::Uuid::new_v4().simple().to_string();
    format!("{prefix}-{}", id.get(..8).unwrap_or(&id))
}
