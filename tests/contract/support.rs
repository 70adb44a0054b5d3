//! The repository's folder, and comparison of committed files with generated ones.

use serde_json::Value;
use std::path::{Path, PathBuf};

/// The repository's top.
pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Compares a committed file with what is generated; with `UPDATE=1` in the environment, writes it.
pub fn compare(path: &Path, generated: &str) {
    let file = repository().join(path);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, generated).unwrap();
        return;
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == generated,
        "{} is not what is generated; run `UPDATE=1 cargo test` and commit it",
        path.display()
    );
}

/// The CRDs' schemas: kind and `openAPIV3Schema`, as they stand in the generated files.
pub fn schemas() -> Vec<(String, Value)> {
    crds()
        .into_iter()
        .map(|crd| {
            let kind = crd["spec"]["names"]["kind"].as_str().unwrap().to_owned();
            let versions = crd["spec"]["versions"].as_array().unwrap();
            assert_eq!(versions.len(), 1, "a second version needs conversion and a round-trip test");
            (kind, versions[0]["schema"]["openAPIV3Schema"].clone())
        })
        .collect()
}

/// The generated CRDs as values.
pub fn crds() -> Vec<Value> {
    let files = agent_tenancy::api::crd::render_crds().unwrap();
    files.into_iter().map(|(_, text)| serde_yaml::from_str(&text).unwrap()).collect()
}
