//! How an agent behaves, and the registry entry that tells it: one per AgentConfig, however many tenants use it.

use super::{
    decimal::Decimal,
    ident::{Epoch, ObjectId, Uid},
    keys::KeyBytes,
};
use serde::{Deserialize, Serialize};

/// An AgentConfig, as the agent API needs it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentEntry {
    /// Entry format.
    pub format: u32,
    /// UID of the AgentConfig.
    pub uid: Uid,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Epoch of the leader that last wrote it; not compared.
    pub epoch: Epoch,
    /// The revision that everybody runs.
    pub current: AgentRevision,
}

impl AgentEntry {
    /// The AgentConfig that it is about.
    pub fn object(&self) -> ObjectId {
        ObjectId { namespace: self.namespace.clone(), name: self.name.clone(), uid: self.uid.clone() }
    }
}

/// One revision of an AgentConfig.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentRevision {
    /// Its number, from 1.
    pub number: i64,
    /// Hash of its behaviour, hexadecimal.
    pub hash: String,
    /// What it does.
    pub behaviour: Behaviour,
    /// Hash of the credential entry, if the provider needs one; see [`super::entry::upstream_entry_name`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
}

/// How an agent behaves: a validated AgentConfig spec.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Behaviour {
    /// Where answers come from.
    pub provider: Provider,
    /// Model to ask for.
    pub model: String,
    /// What the model is told first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_prompt: Option<String>,
    /// Sampling temperature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<Decimal>,
    /// Nucleus sampling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<Decimal>,
    /// Most tokens of one answer.
    pub max_output_tokens: i32,
    /// Texts at which the model stops.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// Seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<i32>,
    /// Most earlier messages that are sent along.
    pub max_history_messages: i32,
    /// Longest wait for an answer.
    pub total_timeout_seconds: i32,
}

/// Hash of a behaviour: the first 16 bytes of SHA-256 over its document, hexadecimal. Equal behaviour, equal hash.
pub fn behaviour_hash(behaviour: &Behaviour) -> String {
    short_hash(&[&serde_json::to_vec(behaviour).unwrap_or_default()])
}

/// Hash that names the entry of a credential. The namespace is part of it, so that two namespaces never share one.
pub fn credential_hash(namespace: &str, api_key: &KeyBytes) -> String {
    short_hash(&[b"upstream\0", namespace.as_bytes(), b"\0", api_key.expose()])
}

/// The first half of a SHA-256 over these parts, in hexadecimal.
pub(super) fn short_hash(parts: &[&[u8]]) -> String {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    parts.iter().for_each(|p| context.update(p));
    context.finish().as_ref().iter().take(16).map(|b| format!("{b:02x}")).collect()
}

/// Where answers come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum Provider {
    /// Built in.
    Echo,
    /// A server with OpenAI's chat completions.
    OpenAICompatible {
        /// Base of its URLs.
        #[serde(rename = "baseUrl")]
        base_url: String,
    },
}
