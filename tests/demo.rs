//! `make demo` without a terminal: every step succeeds, and no secret is shown.

use devkit::{
    Options,
    demo::{Demo, Programs},
};
use std::{
    io::Write,
    sync::{Arc, Mutex, PoisonError},
};

/// Takes what the demo prints.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Runs the scripts of README.md that are marked as executed here.
async fn follow_the_readme(demo: &Demo) -> anyhow::Result<()> {
    let readme = include_str!("../README.md");
    let mut scripts = readme.split("<!-- executed by tests/demo.rs -->\n```sh\n").skip(1).peekable();
    anyhow::ensure!(scripts.peek().is_some(), "README.md has no script to execute");
    for rest in scripts {
        let (script, _) = rest.split_once("```").unwrap_or((rest, ""));
        let output = demo.script(script).await?.ok()?;
        for part in ["tenant.agent-tenancy.dev/initech ready", "Tenant lab/initech", "echo: hello"] {
            anyhow::ensure!(output.contains(part), "no '{part}' in\n{output}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_shows_an_installation_at_work() -> anyhow::Result<()> {
    let ours = vec![
        ("tenant-operator", env!("CARGO_BIN_EXE_tenant-operator").into()),
        ("agent-api", env!("CARGO_BIN_EXE_agent-api").into()),
        ("kubectl-tenant", env!("CARGO_BIN_EXE_kubectl-tenant").into()),
    ];
    let programs = tokio::task::spawn_blocking(|| Programs::find(ours)).await??;
    let page = Page::default();
    let played = Demo::play(Options::default(), &programs, Box::new(page.clone())).await;
    let text = String::from_utf8(page.0.lock().unwrap().clone())?;
    let demo = match played {
        Ok(demo) => demo,
        Err(error) => panic!("{error:#}\n{text}"),
    };
    follow_the_readme(&demo).await?;
    demo.end().await?;
    for line in [
        "tenant.agent-tenancy.dev/acme condition met",
        "tenant.agent-tenancy.dev/globex condition met",
        "→ 401: missing_token",
        "→ 401: invalid_token",
        "→ 403: tenant_mismatch",
        "permission denied for schema at_globex",
        "→ apply→served: replica B answered with revision 2",
        "All steps succeeded",
    ] {
        assert!(text.contains(line), "no '{line}' in\n{text}");
    }
    // The first part of a token is the base64url of a JSON object.
    assert!(!text.contains("eyJ"), "a token was shown");
    Ok(())
}
