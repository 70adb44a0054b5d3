//! Everything that is fetched and not built. It runs first, so that all missing prerequisites are reported together,
//! before the long builds.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::{
    control_plane, go, missing::Missing, pgbouncer::pgbouncer, places::Places, postgres::postgres, version::PgVersion,
};

/// What a run needs beside the control plane.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Servers of these versions; `None` is the default one.
    pub postgres: Vec<Option<PgVersion>>,
    /// Whether pgbouncer is needed.
    pub pgbouncer: bool,
}

/// Finds or fetches the wanted programs, and Go if the control plane has to be built. The error names everything that is
/// missing and one command that installs it.
pub fn fetch(places: &Places, wanted: &Wanted) -> anyhow::Result<()> {
    let root = rustix::process::getuid().is_root();
    let mut results = vec![curl(places)];
    if root {
        results.push(setpriv(places).map(drop));
    }
    if control_plane::is_incomplete(places) {
        results.push(go::go(places).map(drop));
    }
    results.extend(wanted.postgres.iter().map(|version| postgres(places, *version).map(drop)));
    if wanted.pgbouncer {
        results.push(pgbouncer(places).map(drop));
    }
    let mut missing = Vec::new();
    for error in results.into_iter().filter_map(Result::err) {
        // Installing a package does not repair other errors, such as a registry that doesn't answer.
        missing.push(error.downcast::<Missing>()?);
    }
    if missing.is_empty() { Ok(()) } else { Err(Missing::summary(&missing, root)) }
}

/// setpriv, with which root starts servers as another user.
pub fn setpriv(places: &Places) -> anyhow::Result<PathBuf> {
    let reason = "servers refuse to run as root, and setpriv, which changes the user, is missing";
    places.find("setpriv").with_context(|| Missing::new(reason, &["util-linux"]))
}

/// The demo and its test call the agent API with it.
fn curl(places: &Places) -> anyhow::Result<()> {
    places.find("curl").map(drop).with_context(|| Missing::new("curl is missing", &["curl"]))
}
