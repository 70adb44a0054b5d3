//! The real program as a child process.

use super::stage::token;
use serde_json::{Value, json};
use std::{process::Stdio, time::Duration};
use tokio::process::{Child, Command};

pub struct Process {
    pub child: Child,
    pub api: String,
    pub health: String,
    client: reqwest::Client,
}

impl Process {
    /// Starts the program with these variables besides its ports; its log goes to `log`.
    pub fn start(variables: &[(&str, &str)], log: &std::path::Path) -> Self {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let (api, health) = (devkit::free_port().unwrap(), devkit::free_port().unwrap());
        let (api, health) = (format!("127.0.0.1:{api}"), format!("127.0.0.1:{health}"));
        let log = std::fs::File::create(log).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_agent-api"))
            .env("AGENT_TENANCY__HTTP__LISTEN", &api)
            .env("AGENT_TENANCY__HEALTH__LISTEN", &health)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { child, api: format!("http://{api}"), health: format!("http://{health}"), client }
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

    /// One chat call over the network; the status and the body.
    pub async fn chat(&self, tenant: &str, message: &str) -> (u16, Value) {
        let url = format!("{}/api/v1/tenants/{tenant}/chat", self.api);
        let call = self.client.post(url).bearer_auth(token(tenant, "ann")).json(&json!({"message": message}));
        let answer = call.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    pub fn terminate(&self) {
        let id = self.child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    }
}

/// Waits until `check` holds, at most 15 seconds.
pub async fn eventually(what: &str, mut check: impl AsyncFnMut() -> bool) {
    for _ in 0..3000 {
        if check().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never: {what}");
}
