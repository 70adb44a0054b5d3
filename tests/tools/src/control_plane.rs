//! etcd, kube-apiserver, kube-controller-manager, kubectl and helm: given by the user, cached, or built from the pinned
//! Go module in `tests/controlplane`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use crate::{
    cache, go,
    places::{Places, is_program},
    progress,
};

const GO_MOD: &str = include_str!("../../controlplane/go.mod");
const GO_SUM: &str = include_str!("../../controlplane/go.sum");
const MODULE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../controlplane");

/// Program and package. The API server comes before kubectl and the controllers, which share most of its packages.
const PROGRAMS: [(&str, &str); 5] = [
    ("etcd", "go.etcd.io/etcd/server/v3"),
    ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
    ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
    ("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
    ("helm", "helm.sh/helm/v4/cmd/helm"),
];

/// The programs' paths.
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

/// Finds every program, and builds those that are neither given nor cached. Blocks, the first time for minutes.
pub fn control_plane(places: &Places) -> anyhow::Result<ControlPlaneTools> {
    if is_incomplete(places) {
        build(places)?;
    }
    let at = |program: &str| place(places, program);
    Ok(ControlPlaneTools {
        etcd: at("etcd"),
        kube_apiserver: at("kube-apiserver"),
        kube_controller_manager: at("kube-controller-manager"),
        kubectl: at("kubectl"),
        helm: at("helm"),
    })
}

/// Whether programs are neither given nor cached, so that Go has to build them.
pub(crate) fn is_incomplete(places: &Places) -> bool {
    !missing(places).is_empty()
}

fn missing(places: &Places) -> Vec<&'static (&'static str, &'static str)> {
    PROGRAMS.iter().filter(|(program, _)| !is_program(&place(places, program))).collect()
}

/// Where the program is, or will be when it is built.
fn place(places: &Places, program: &str) -> PathBuf {
    let given = places.assets.as_ref().map(|dir| dir.join(program)).filter(|file| is_program(file));
    given.unwrap_or_else(|| folder(places).join(program))
}

fn folder(places: &Places) -> PathBuf {
    places.cache.join("controlplane").join(key())
}

/// Depends on everything that the programs are built from but the toolchain: a newer Go does not rebuild them.
fn key() -> String {
    let mut hash = Sha256::new();
    for part in [GO_MOD, GO_SUM, &ldflags(), &format!("{PROGRAMS:?}")] {
        hash.update(part);
        hash.update([0]);
    }
    let hex: String = hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{hex}", env::consts::OS, env::consts::ARCH)
}

/// Sets the version, which kubectl and Helm would otherwise see as v0.0.0.
fn ldflags() -> String {
    let version = kubernetes_version();
    let mut numbers = version.trim_start_matches('v').split('.');
    let (major, minor) = (numbers.next().unwrap_or("0"), numbers.next().unwrap_or("0"));
    let package = "k8s.io/component-base/version";
    format!("-s -w -X {package}.gitVersion={version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}")
}

/// The version that go.mod pins, such as "v1.36.3".
fn kubernetes_version() -> &'static str {
    // A comment may follow the version.
    let rest = GO_MOD.lines().find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes "));
    rest.and_then(|rest| rest.split_whitespace().next()).unwrap_or("v0.0.0")
}

fn build(places: &Places) -> anyhow::Result<()> {
    let folder = folder(places);
    let _lock = cache::lock(&folder)?;
    let todo = missing(places);
    if todo.is_empty() {
        return Ok(()); // Another process built them while this one waited.
    }
    let names: Vec<_> = todo.iter().map(|(program, _)| *program).collect();
    let module = Path::new(MODULE);
    anyhow::ensure!(
        module.join("go.mod").is_file(),
        "{} must be built, but its Go module {} is missing; set KUBEBUILDER_ASSETS to a folder that has it",
        names.join(", "),
        module.display()
    );
    let go = go::go(places).with_context(|| format!("{} can't be built", names.join(", ")))?;
    fs::create_dir_all(&folder)?;
    progress::line(&format!(
        "building {} once with {}; this takes about ten minutes on two cores and is cached in {}",
        names.join(", "),
        go.display(),
        folder.display()
    ));
    for (number, (program, package)) in (1..).zip(&todo) {
        progress::step(&format!("building {program} ({number} of {})", todo.len()), || {
            build_one(&go, module, &folder, program, package)
        })?;
    }
    Ok(())
}

fn build_one(go: &Path, module: &Path, folder: &Path, program: &str, package: &str) -> anyhow::Result<()> {
    let unfinished = folder.join(format!(".{program}.{}", std::process::id()));
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
    // Renamed when it is complete, so that no process runs a partial program.
    fs::rename(&unfinished, folder.join(program)).with_context(|| format!("{program} can't be put into the cache"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_build_sets_the_pinned_version() {
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
