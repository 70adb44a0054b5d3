//! Each program alone: which crates it is built with.

use std::{process::Stdio, time::Duration};
use tokio::{process::Command, time::timeout};

/// Longest time for one dependency tree; cargo needs a fraction of a second.
const TIMEOUT: Duration = Duration::from_secs(60);

struct Program {
    feature: &'static str,
    /// Crates that the program must be built with: without them the tree was not read.
    needs: &'static [&'static str],
    /// Crates that the program must be built without.
    lacks: &'static [&'static str],
}

const PROGRAMS: [Program; 3] = [
    Program {
        feature: "operator",
        needs: &["kube", "kube-runtime", "sqlx-postgres", "axum"],
        lacks: &["arc-swap", "jiff-sqlx", "jsonwebtoken", "notify", "reqwest"],
    },
    Program {
        feature: "agent-api",
        needs: &["kube", "sqlx-postgres", "axum", "notify", "reqwest"],
        lacks: &["kube-runtime"],
    },
    // It is built for other systems too, so it has no server, no database and nothing that only Unix has.
    Program {
        feature: "kubectl-tenant",
        needs: &["kube", "kube-runtime", "clap", "reqwest"],
        lacks: &[
            "anyhow",
            "arc-swap",
            "axum",
            "jiff-sqlx",
            "notify",
            "prometheus-client",
            "rustix",
            "sqlx",
            "sqlx-core",
            "sqlx-postgres",
            "tokio-stream",
            "tracing-subscriber",
        ],
    },
];

/// The crates that a program is built with, one per line.
async fn dependency_tree(feature: &str) -> Vec<String> {
    let mut command = Command::new(env!("CARGO"));
    command.args(["tree", "--quiet", "--offline", "--locked", "--package", "agent-tenancy", "--edges", "normal"]);
    command.args(["--prefix", "none", "--format", "{p}", "--no-default-features", "--features", feature]);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true);
    let output = timeout(TIMEOUT, command.output()).await.expect("cargo tree ends in time").unwrap();
    assert!(output.status.success(), "cargo tree failed for {feature}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

fn find_faults(program: &Program, tree: &[String]) -> Vec<String> {
    let has = |name: &&&str| tree.iter().any(|line| line == *name);
    let missing = program.needs.iter().filter(|name| !has(name)).map(|name| format!("is built without {name}"));
    let extra = program.lacks.iter().filter(has).map(|name| format!("is built with {name}"));
    missing.chain(extra).map(|fault| format!("{}: {fault}", program.feature)).collect()
}

#[tokio::test]
async fn each_program_is_built_with_only_the_crates_that_it_needs() {
    let mut faults = Vec::new();
    for program in &PROGRAMS {
        faults.extend(find_faults(program, &dependency_tree(program.feature).await));
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn each_kind_of_fault_is_caught() {
    let program = Program { feature: "x", needs: &["kube"], lacks: &["sqlx"] };
    let tree = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(find_faults(&program, &tree(&["kube", "sqlx-core"])), Vec::<String>::new());
    assert_eq!(find_faults(&program, &tree(&["kube", "sqlx"])), ["x: is built with sqlx"]);
    assert_eq!(find_faults(&program, &[]), ["x: is built without kube"]);
}
