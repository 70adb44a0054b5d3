//! The programs of the demo: the product's are built, the others found, fetched or built; all on one search path.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::Context as _;
use serde_json::Value;

use crate::{Places, repository, tools};

/// Name and place of every program that the demo uses.
pub struct Programs {
    found: Vec<(&'static str, PathBuf)>,
}

impl Programs {
    /// Builds the product's programs and finds the others. Blocks, on a fresh machine for minutes, and reports its progress.
    pub fn build() -> anyhow::Result<Programs> {
        eprintln!("devkit: building the operator, the agent API and the kubectl plugin ...");
        Programs::find(cargo_build()?)
    }

    /// With the product's programs, which are built already: `tenant-operator`, `agent-api`, `kubectl-tenant`. Blocks like
    /// [`Programs::build`].
    pub fn find(ours: Vec<(&'static str, PathBuf)>) -> anyhow::Result<Programs> {
        let places = Places::from_env()?;
        places.find("curl").context("curl is missing: the demo calls the agent API with it")?;
        let mut found = ours;
        let control_plane = tools::control_plane(&places)?;
        found.push(("kubectl", control_plane.kubectl));
        found.push(("helm", control_plane.helm));
        let psql = tools::postgres(&places, None)?.bin.join("psql");
        let psql = if psql.is_file() { Some(psql) } else { places.find("psql") };
        found.push(("psql", psql.context("psql is missing: the demo reads the database with it")?));
        Ok(Programs { found })
    }

    /// A folder with a link to each.
    pub(super) fn link_into(&self, dir: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(dir)?;
        for (name, path) in &self.found {
            std::os::unix::fs::symlink(path, dir.join(name))?;
        }
        Ok(())
    }
}

fn cargo_build() -> anyhow::Result<Vec<(&'static str, PathBuf)>> {
    // Set by `cargo run`, and by rustup's proxies.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        // The whole workspace, as `make demo` does: with fewer packages cargo would build dependencies once more.
        .args(["build", "--workspace", "--bins", "--message-format", "json-render-diagnostics"])
        .current_dir(repository())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cargo can't be run")?;
    anyhow::ensure!(output.status.success(), "the programs can't be built; see cargo's output above");
    let text = String::from_utf8_lossy(&output.stdout);
    let messages: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let place = |name: &'static str| {
        let message = messages.iter().find(|m| m["target"]["name"] == name && m["executable"].is_string());
        let path = message.and_then(|m| m["executable"].as_str()).map(PathBuf::from);
        Ok((name, path.with_context(|| format!("cargo did not say where it put {name}"))?))
    };
    ["tenant-operator", "agent-api", "kubectl-tenant"].into_iter().map(place).collect()
}
