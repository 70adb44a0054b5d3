//! etcd, kube-apiserver, kube-controller-manager, kubectl and helm: given by the user, cached, or built from the
//! pinned Go module in `tests/controlplane`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use super::{go, pip};
use crate::{
    places::{Places, is_program},
    progress,
};

const GO_MOD: &str = include_str!("../../../controlplane/go.mod");
const GO_SUM: &str = include_str!("../../../controlplane/go.sum");
const MODULE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../controlplane");

/// Program and package. The API server comes before kubectl and the controllers, which share most of its packages.
const PROGRAMS: [(&str, &str); 5] = [
    ("etcd", "go.etcd.io/etcd/server/v3"),
    ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
    ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
    ("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
    ("helm", "helm.sh/helm/v4/cmd/helm"),
];

/// Where each program is.
#[derive(Clone, Debug)]
pub struct ControlPlaneTools {
    /// etcd.
    pub etcd: PathBuf,
    /// kube-apiserver.
    pub kube_apiserver: PathBuf,
    /// kube-controller-manager.
    pub kube_controller_manager: PathBuf,
    /// kubectl.
    pub kubectl: PathBuf,
    /// helm.
    pub helm: PathBuf,
}

/// Finds every program, building what is neither given nor cached. Blocks, the first time for minutes.
pub fn control_plane(places: &Places) -> anyhow::Result<ControlPlaneTools> {
    let cache = places.cache.join("controlplane").join(key());
    let at = |program: &str| {
        let given = places.assets.as_ref().map(|dir| dir.join(program)).filter(|file| is_program(file));
        given.unwrap_or_else(|| cache.join(program))
    };
    if PROGRAMS.iter().any(|(program, _)| !is_program(&at(program))) {
        let missing = |program: &str| !is_program(&at(program));
        build(places, &cache, missing)?;
    }
    Ok(ControlPlaneTools {
        etcd: at("etcd"),
        kube_apiserver: at("kube-apiserver"),
        kube_controller_manager: at("kube-controller-manager"),
        kubectl: at("kubectl"),
        helm: at("helm"),
    })
}

/// Changes with everything that goes into the programs but the toolchain: a newer Go is no reason to build again.
fn key() -> String {
    let mut hash = Sha256::new();
    for part in [GO_MOD, GO_SUM, &ldflags(), &format!("{PROGRAMS:?}")] {
        hash.update(part);
        hash.update([0]);
    }
    let hex: String = hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{hex}", env::consts::OS, env::consts::ARCH)
}

/// Without the version stamped in, kubectl and Helm would see a server v0.0.0.
fn ldflags() -> String {
    let version = kubernetes_version();
    let mut numbers = version.trim_start_matches('v').split('.');
    let (major, minor) = (numbers.next().unwrap_or("0"), numbers.next().unwrap_or("0"));
    let package = "k8s.io/component-base/version";
    format!("-s -w -X {package}.gitVersion={version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}")
}

/// As go.mod pins it, "v1.36.3".
fn kubernetes_version() -> &'static str {
    // A comment may follow the version.
    let rest = GO_MOD.lines().find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes "));
    rest.and_then(|rest| rest.split_whitespace().next()).unwrap_or("v0.0.0")
}

fn build(places: &Places, cache: &Path, missing: impl Fn(&str) -> bool) -> anyhow::Result<()> {
    let _lock = pip::lock(cache)?;
    let todo: Vec<_> = PROGRAMS.iter().filter(|(program, _)| missing(program)).collect();
    if todo.is_empty() {
        return Ok(()); // Another process built them while this one waited.
    }
    let names: Vec<_> = todo.iter().map(|(program, _)| *program).collect();
    let module = Path::new(MODULE);
    anyhow::ensure!(
        module.join("go.mod").is_file(),
        "{} must be built, but its Go module {} is gone; set KUBEBUILDER_ASSETS to a folder that has it",
        names.join(", "),
        module.display()
    );
    let go = go::go(places).with_context(|| format!("{} can't be built", names.join(", ")))?;
    fs::create_dir_all(cache)?;
    progress::say(&format!(
        "building {} once with {}; this takes about ten minutes on two cores and is cached in {}",
        names.join(", "),
        go.display(),
        cache.display()
    ));
    for (number, (program, package)) in (1..).zip(&todo) {
        progress::step(&format!("building {program} ({number} of {})", todo.len()), || {
            build_one(&go, module, cache, program, package)
        })?;
    }
    Ok(())
}

fn build_one(go: &Path, module: &Path, cache: &Path, program: &str, package: &str) -> anyhow::Result<()> {
    let unfinished = cache.join(format!(".{program}.{}", std::process::id()));
    let output = Command::new(go)
        .args(["build", "-trimpath", "-ldflags", &ldflags(), "-o"])
        .args([unfinished.as_os_str(), package.as_ref()])
        .current_dir(module)
        .envs([("CGO_ENABLED", "0"), ("GOFLAGS", "-mod=readonly"), ("GOTOOLCHAIN", "local"), ("GOWORK", "off")])
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{} can't be run", go.display()))?;
    if !output.status.success() {
        let _ = fs::remove_file(&unfinished);
        let errors = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = errors.lines().filter(|line| !line.starts_with("go: downloading")).collect();
        let end = lines.get(lines.len().saturating_sub(12)..).unwrap_or_default().join("\n  ");
        anyhow::bail!("{program} can't be built from {package}:\n  {end}");
    }
    // Renamed when complete, so nobody ever runs half a program.
    fs::rename(&unfinished, cache.join(program)).with_context(|| format!("{program} can't be put into the cache"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_version_stamped_in_is_the_pinned_one() {
        let version = super::kubernetes_version();
        assert!(version.starts_with("v1.") && !version.contains(' '), "{version}");
        let flags = super::ldflags();
        let (major, minor) =
            version[1..].split_once('.').map(|(a, rest)| (a, rest.split('.').next().unwrap())).unwrap();
        assert!(flags.contains(&format!(".gitVersion={version} -X ")), "{flags}");
        assert!(
            flags.contains(&format!(".gitMajor={major} -X ")) && flags.ends_with(&format!(".gitMinor={minor}")),
            "{flags}"
        );
    }
}
