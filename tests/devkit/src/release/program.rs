//! A program of the chart that runs beside the cluster instead of in a Pod.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use super::Component;
use crate::{Spec, free_port};

/// See the file's description.
#[derive(Clone, Debug)]
pub struct Program {
    component: Component,
    binary: PathBuf,
    config: Option<PathBuf>,
    variables: Vec<(String, OsString)>,
}

impl Program {
    /// Without a file of settings and without a kubeconfig: its settings come from variables.
    pub fn new(component: Component, binary: &Path) -> Program {
        Program { component, binary: binary.to_owned(), config: None, variables: Vec::new() }
    }

    /// Reads its settings from that file.
    pub(super) fn config(self, config: PathBuf) -> Program {
        Program { config: Some(config), ..self }
    }

    /// Sets a variable; `AGENT_TENANCY__…` overrides a setting.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Program {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// Removes a variable that [`Program::env`] has set.
    #[must_use]
    pub fn env_remove(mut self, name: &str) -> Program {
        self.variables.retain(|(known, _)| known != name);
        self
    }

    /// The value of a variable that is set.
    pub fn variable(&self, name: &str) -> Option<&OsStr> {
        self.variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_os_str())
    }

    /// On free ports of this machine: the program and its address, and that of its health, where /readyz is.
    pub fn on_free_ports(self) -> anyhow::Result<(Program, String, String)> {
        let address = || Ok::<_, anyhow::Error>(format!("127.0.0.1:{}", free_port()?));
        match self.component {
            Component::Operator => {
                let health = address()?;
                Ok((self.env("AGENT_TENANCY__HTTP_ADDRESS", &health), health.clone(), health))
            }
            Component::AgentApi => {
                let (listen, health) = (address()?, address()?);
                let program =
                    self.env("AGENT_TENANCY__HTTP__LISTEN", &listen).env("AGENT_TENANCY__HEALTH__LISTEN", &health);
                Ok((program, listen, health))
            }
        }
    }

    /// The command, one word or variable a line, as one would type it.
    pub fn words(&self) -> Vec<String> {
        let mut words: Vec<String> =
            self.variables.iter().map(|(name, value)| format!("{name}={}", value.to_string_lossy())).collect();
        let name = self.binary.file_name().unwrap_or_default().to_string_lossy();
        words.push(match &self.config {
            Some(config) => format!("{name} --config {}", config.display()),
            None => name.into_owned(),
        });
        words
    }

    /// What to start; `name` is for messages.
    pub fn spec(&self, name: impl Into<String>) -> Spec {
        let mut spec = Spec::new(name, &self.binary);
        if let Some(config) = &self.config {
            spec = spec.arg("--config").arg(config);
        }
        self.variables.iter().fold(spec, |spec, (name, value)| spec.env(name, value))
    }
}
