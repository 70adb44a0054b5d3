//! However the owner of an environment ends, no process and no folder is left.

// Helpers of tests count as tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use devkit::eventually;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// `devkit up` with the environment's folder and the processes in it.
struct Up {
    owner: Child,
    folder: PathBuf,
    pids: Vec<i32>,
}

fn up(args: &[&str]) -> Up {
    let mut owner = Command::new(env!("CARGO_BIN_EXE_devkit"))
        .arg("up")
        .args(args)
        .stdout(Stdio::piped())
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    let first = lines.next().expect("devkit up says what to export").unwrap();
    let file = first.strip_prefix("export DEVKIT_ENV=").expect("the first line names the environment's file");
    let folder = Path::new(file).parent().unwrap().to_owned();
    let registered = fs::read_dir(folder.join("pids")).unwrap();
    let pid = |path: PathBuf| fs::read_to_string(path).unwrap().split_whitespace().last().unwrap().parse().unwrap();
    let pids = registered.map(|entry| pid(entry.unwrap().path())).collect();
    Up { owner, folder, pids }
}

/// Zombies don't count: in a container, orphans may not be reaped.
fn is_alive(pid: i32) -> bool {
    let zombie = fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "));
    Pid::from_raw(pid).is_some_and(|pid| test_kill_process(pid).is_ok()) && !zombie
}

async fn wait_all_gone(up: &Up) {
    let start = Instant::now();
    eventually(Duration::from_secs(30), "everything is gone", || async {
        let left: Vec<_> = up.pids.iter().filter(|pid| is_alive(**pid)).collect();
        let folder = up.folder.exists();
        anyhow::ensure!(left.is_empty() && !folder, "processes {left:?} are left; folder left: {folder}");
        Ok(())
    })
    .await
    .unwrap();
    println!("gone {:.1} s after the owner", start.elapsed().as_secs_f32());
}

fn signal(up: &Up, signal: Signal) {
    kill_process(Pid::from_child(&up.owner), signal).unwrap();
}

#[tokio::test]
async fn nothing_is_left_after_the_owner_was_killed() {
    let mut up = up(&[]);
    assert_eq!(up.pids.len(), 4, "etcd, kube-apiserver, kube-controller-manager and Postgres are registered");
    assert!(up.pids.iter().all(|pid| is_alive(*pid)));
    signal(&up, Signal::KILL);
    up.owner.wait().unwrap();
    wait_all_gone(&up).await;
}

#[tokio::test]
async fn nothing_is_left_after_an_interrupt() {
    let mut up = up(&["--no-control-plane"]);
    signal(&up, Signal::INT);
    assert!(up.owner.wait().unwrap().success());
    // The environment ended before its owner, not some time later.
    assert!(!up.folder.exists());
    wait_all_gone(&up).await;
}

#[test]
fn nothing_is_left_after_a_failed_command_and_its_exit_code_is_returned() {
    let start = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_devkit"))
        .args(["run", "--no-control-plane", "--", "/bin/sh", "-c", "echo env=$DEVKIT_ENV; sleep 300 & exit 7"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(7));
    // The background process that it left holds our pipe open until it is ended.
    assert!(start.elapsed() < Duration::from_secs(60));
    let stdout = String::from_utf8(output.stdout).unwrap();
    let folder = Path::new(stdout.trim().strip_prefix("env=").unwrap()).parent().unwrap().to_owned();
    // The logs are kept, because the command failed.
    assert!(folder.join("logs").is_dir() && !folder.join("data").exists() && !folder.join("env.json").exists());
    fs::remove_dir_all(folder).unwrap();
}
