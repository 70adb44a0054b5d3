//! Names that no other test uses, so that tests can run in parallel in one control plane and on one server.

/// `prefix-` and eight random hex digits; valid as a Kubernetes name and, quoted, as an SQL identifier.
pub fn unique(prefix: &str) -> String {
    let id = uuid::Uuid::new_v4().simple().to_string();
    format!("{prefix}-{}", id.get(..8).unwrap_or(&id))
}

/// The name of a namespace for one test. It is only a name: see `Environment::create_namespace`.
pub fn test_namespace(prefix: &str) -> String {
    unique(&format!("test-{prefix}"))
}
