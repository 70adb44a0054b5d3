//! The real program as a process.

use super::in_process::token;
use devkit::{Component, Program};
use serde_json::{Value, json};
use std::{path::Path, time::Duration};

/// Until what a test waits for has happened.
const TIMEOUT: Duration = Duration::from_secs(15);

pub struct Process {
    pub process: devkit::Process,
    api: String,
    health: String,
    client: reqwest::Client,
}

impl Process {
    /// Starts the program with these variables besides its ports; its log goes to `log`.
    pub fn start(variables: &[(&str, &str)], log: &Path) -> Self {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let program = Program::new(Component::AgentApi, env!("CARGO_BIN_EXE_agent-api").as_ref());
        let program = variables.iter().fold(program, |program, (name, value)| program.env(name, *value));
        let (program, api, health) = program.on_free_ports().unwrap();
        let process = devkit::Process::spawn(program.spec("agent-api").log(log)).unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { process, api: format!("http://{api}"), health: format!("http://{health}"), client }
    }

    /// Status and text of a page on the health port; 0 if it doesn't answer.
    pub async fn health(&self, path: &str) -> (u16, String) {
        match self.client.get(format!("{}{path}", self.health)).send().await {
            Ok(answer) => (answer.status().as_u16(), answer.text().await.unwrap_or_default()),
            Err(_) => (0, String::new()),
        }
    }

    pub async fn registry(&self) -> Value {
        serde_json::from_str(&self.health("/registry").await.1).unwrap_or_default()
    }

    pub async fn wait_until_ready(&self) {
        eventually("the process is ready", async || self.health("/readyz").await.0 == 200).await;
    }

    pub fn api_address(&self) -> std::net::SocketAddr {
        self.api.trim_start_matches("http://").parse().unwrap()
    }

    pub fn health_address(&self) -> std::net::SocketAddr {
        self.health.trim_start_matches("http://").parse().unwrap()
    }

    /// Most memory that the process has had so far, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() << 10
    }

    /// One page of a user's history, read to its end; the status.
    pub async fn history(&self, tenant: &str, query: &str) -> u16 {
        let url = format!("{}/api/v1/tenants/{tenant}/chat{query}", self.api);
        let answer = self.client.get(url).bearer_auth(token(tenant, "ann")).send().await.unwrap();
        let status = answer.status().as_u16();
        answer.bytes().await.unwrap();
        status
    }

    /// One chat call over the network; the status and the body.
    pub async fn chat(&self, tenant: &str, message: &str) -> (u16, Value) {
        let url = format!("{}/api/v1/tenants/{tenant}/chat", self.api);
        let call = self.client.post(url).bearer_auth(token(tenant, "ann")).json(&json!({"message": message}));
        let answer = call.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }
}

/// Waits until `check` holds.
pub async fn eventually(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let probe = async || {
        anyhow::ensure!(check().await, "it has not happened");
        Ok(())
    };
    devkit::eventually(TIMEOUT, what, probe).await.unwrap();
}
