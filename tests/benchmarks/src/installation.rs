//! Installations for measurements: each in its own control plane, with an operator that watches every namespace.

use devkit::{Environment, Options, ProgramFiles, TestInstallation};
use serde_json::Value;

/// Starts a control plane and Postgres, and creates an installation in them. `values` are additional chart values.
pub(crate) async fn start(programs: &ProgramFiles, values: Value) -> anyhow::Result<TestInstallation> {
    let env = Environment::start(Options::default()).await?;
    TestInstallation::builder(&env, programs.clone()).unscoped().values(values).create().await
}
