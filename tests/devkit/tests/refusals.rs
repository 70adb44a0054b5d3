//! Each error of devkit is one clear sentence.

// Helpers of tests count as tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
};

/// Runs devkit, which must fail, and returns its last message.
fn refused(args: &[&str], env: &[(&str, &Path)]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_devkit"));
    command.args(args).env_remove("DEVKIT_ENV").envs(env.iter().copied()).stdin(Stdio::null());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    text.split("devkit: ").last().unwrap().trim().to_owned()
}

fn script(dir: &Path, name: &str, body: &str) {
    let file = dir.join(name);
    fs::write(&file, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_busy_port() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port().to_string();
    let text = refused(&["up", "--no-control-plane", "--postgres-port", &port], &[]);
    assert!(text.starts_with(&format!("port {port} on 127.0.0.1 can't be used by Postgres")), "{text}");
    assert!(text.contains("another process listens on it"), "{text}");

    let text = refused(&["up", "--apiserver-port", &port], &[]);
    assert!(text.starts_with(&format!("port {port} on 127.0.0.1 can't be used by kube-apiserver")), "{text}");
}

#[test]
fn a_server_that_is_too_old() {
    let bin = tempfile::tempdir().unwrap();
    script(bin.path(), "postgres", "echo 'postgres (PostgreSQL) 14.18'");
    script(bin.path(), "initdb", "exit 1");
    let text = refused(&["up", "--no-control-plane"], &[("DEVKIT_POSTGRES_BIN", bin.path())]);
    assert!(text.contains("Postgres 14 is too old: agent-tenancy needs 15 or newer"), "{text}");
    assert!(text.contains(bin.path().to_str().unwrap()), "{text}");
}

#[test]
fn missing_tools() {
    let empty = tempfile::tempdir().unwrap();
    let nowhere = [("PATH", empty.path()), ("AGENT_TENANCY_CACHE", empty.path()), ("KUBEBUILDER_ASSETS", empty.path())];
    let text = refused(&["build"], &nowhere);
    let expected = "etcd, kube-apiserver, kubectl, kube-controller-manager, helm can't be built: \
                    Go is not on the search path, and Python's pip, which would fetch it, is missing";
    assert!(text.starts_with(expected), "{text}");

    let bin = tempfile::tempdir().unwrap();
    let text = refused(&["up", "--no-control-plane"], &[("DEVKIT_POSTGRES_BIN", bin.path())]);
    assert!(text.starts_with("Postgres's postgres is missing in "), "{text}");
}

#[test]
fn a_process_that_ends_at_its_start_is_reported_with_its_last_log_lines() {
    let assets = tempfile::tempdir().unwrap();
    script(assets.path(), "kube-apiserver", "echo 'flag not understood'; exit 3");
    let text = refused(&["up"], &[("KUBEBUILDER_ASSETS", assets.path())]);
    assert!(text.starts_with("kube-apiserver ended at its start (exit status: 3)"), "{text}");
    assert!(text.ends_with("flag not understood"), "{text}");
    let log = text.split("log in ").nth(1).and_then(|rest| rest.split(',').next()).expect("the log's path");
    assert_eq!(fs::read_to_string(log).unwrap().trim(), "flag not understood", "the log outlives the environment");
    fs::remove_dir_all(Path::new(log).ancestors().nth(2).unwrap()).unwrap();
}
