//! How an agent behaves, and its registry entry: one per AgentConfig, for any number of tenants.

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
    /// Epoch of the leader that last wrote the entry. It is not compared.
    pub epoch: Epoch,
    /// The revision that every replica runs.
    pub current: AgentRevision,
}

impl AgentEntry {
    /// The AgentConfig of this entry.
    pub fn object(&self) -> ObjectId {
        ObjectId { namespace: self.namespace.clone(), name: self.name.clone(), uid: self.uid.clone() }
    }
}

/// One revision of an AgentConfig.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentRevision {
    /// Number of the revision, from 1.
    pub number: i64,
    /// Hash of its behaviour in hexadecimal, from [`behaviour_hash`].
    pub hash: String,
    /// How the agent behaves in this revision.
    pub behaviour: Behaviour,
    /// Hash of the credential entry, if the provider needs one; see [`super::entry::upstream_entry_name`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
}

/// How an agent behaves: a validated AgentConfig spec.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Behaviour {
    /// The provider that answers.
    pub provider: Provider,
    /// Name of the model at the provider.
    pub model: String,
    /// Instructions that the model gets before every conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_prompt: Option<String>,
    /// Sampling temperature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<Decimal>,
    /// Nucleus sampling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<Decimal>,
    /// Maximum number of tokens in one answer.
    pub max_output_tokens: i32,
    /// Texts at which the model stops.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// Seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<i32>,
    /// Maximum number of earlier messages that are sent with a question.
    pub max_history_messages: i32,
    /// Maximum time until the answer is complete.
    pub total_timeout_seconds: i32,
}

/// Hash of a behaviour: the first 16 bytes of SHA-256 over its JSON, in hexadecimal. Equal behaviours have equal
/// hashes.
pub fn behaviour_hash(behaviour: &Behaviour) -> String {
    short_hash(&[&serde_json::to_vec(behaviour).unwrap_or_default()])
}

/// Hash that names the entry of a credential. The namespace is part of it, so that two namespaces never share one.
pub fn credential_hash(namespace: &str, api_key: &KeyBytes) -> String {
    short_hash(&[b"upstream\0", namespace.as_bytes(), b"\0", api_key.expose()])
}

/// The first half of the SHA-256 of these parts, in hexadecimal.
pub(super) fn short_hash(parts: &[&[u8]]) -> String {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    parts.iter().for_each(|p| context.update(p));
    context.finish().as_ref().iter().take(16).map(|b| format!("{b:02x}")).collect()
}

/// The provider that answers.
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
