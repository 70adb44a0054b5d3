//! A release of the chart for programs that run beside the cluster: permissions, ServiceAccounts, settings.

mod grant;
mod program;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Deserialize as _;
use serde_json::Value;

use crate::{Environment, commands};

pub use program::Program;

/// The objects that Helm rendered of the chart, as one release in one namespace.
#[derive(Clone, Debug)]
pub struct Release {
    namespace: String,
    objects: Vec<Value>,
}

/// A program of the chart, by the label `app.kubernetes.io/component` of its objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// `tenant-operator`.
    Operator,
    /// `agent-api`.
    AgentApi,
}

impl Component {
    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Component::Operator => "operator",
            Component::AgentApi => "agent-api",
        }
    }
}

impl Release {
    /// Renders the chart in that folder (`helm template`) with these values. Nothing is installed: see
    /// [`Release::grant`].
    pub async fn render(
        env: &Environment,
        chart: &Path,
        name: &str,
        namespace: &str,
        values: &Value,
    ) -> anyhow::Result<Release> {
        let folder = chart.to_str().context("the chart's path is not UTF-8")?;
        let args = ["template", name, folder, "-n", namespace, "-f", "-"];
        let rendered = commands::run(env.helm_command()?, &args, Some(&values.to_string())).await?.ok()?;
        Release::parse(namespace, &rendered)
    }

    /// Reads what is installed (`helm get manifest`).
    pub async fn installed(env: &Environment, name: &str, namespace: &str) -> anyhow::Result<Release> {
        let manifest = env.helm(&["get", "manifest", name, "-n", namespace]).await?.ok()?;
        Release::parse(namespace, &manifest)
    }

    /// Reads what Helm rendered for that namespace.
    pub fn parse(namespace: &str, text: &str) -> anyhow::Result<Release> {
        let mut objects = Vec::new();
        for document in serde_yaml::Deserializer::from_str(text) {
            let object = Value::deserialize(document).context("Helm rendered something that is not YAML")?;
            if !object.is_null() {
                objects.push(object);
            }
        }
        Ok(Release { namespace: namespace.to_owned(), objects })
    }

    /// All objects.
    pub fn objects(&self) -> &[Value] {
        &self.objects
    }

    /// The release's namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The one object of that kind and component.
    pub fn object(&self, kind: &str, component: Component) -> anyhow::Result<&Value> {
        let label = "app.kubernetes.io/component";
        let found = self
            .objects
            .iter()
            .find(|object| object["kind"] == kind && object["metadata"]["labels"][label] == component.as_str());
        found.with_context(|| format!("the chart rendered no {kind} of the {}", component.as_str()))
    }

    /// The settings of a component, as its Pods would read them.
    pub fn settings(&self, component: Component) -> anyhow::Result<&str> {
        let map = self.object("ConfigMap", component)?;
        let file = map["data"].as_object().and_then(|files| files.values().next());
        file.and_then(Value::as_str).with_context(|| format!("no settings of the {}", component.as_str()))
    }

    /// Name of a component's ServiceAccount.
    pub fn account(&self, component: Component) -> anyhow::Result<&str> {
        self.object("ServiceAccount", component)?["metadata"]["name"].as_str().context("an account without a name")
    }

    /// A component as a program beside the cluster: with a token of its ServiceAccount and its settings, both written
    /// into `dir`.
    pub async fn program(
        &self,
        env: &Environment,
        component: Component,
        binary: &Path,
        dir: &Path,
    ) -> anyhow::Result<Program> {
        let kubeconfig = env.service_account_kubeconfig(&self.namespace, self.account(component)?, dir).await?;
        let config: PathBuf = dir.join(format!("{}-{}.yaml", self.namespace, component.as_str()));
        std::fs::write(&config, self.settings(component)?)?;
        Ok(Program::new(component, binary).env("KUBECONFIG", kubeconfig).config(config))
    }
}
