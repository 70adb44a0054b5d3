//! Where answers come from: the built-in `Echo`, or any server with OpenAI's chat completions.

mod address;
mod echo;
mod openai;

pub use openai::Upstreams;

use super::{
    database::statements::PastMessage,
    effective::Effective,
    problem::{Code, Problem},
};
use crate::domain::{
    class::ErrorClass,
    entry::{AgentRevision, Provider, UpstreamEntry},
};
use std::sync::Arc;

/// One question to a provider.
pub struct Call<'c> {
    /// The agent's revision.
    pub revision: &'c AgentRevision,
    /// Its parameters for this tenant.
    pub effective: &'c Effective,
    /// The instructions before the conversation.
    pub system_prompt: Option<&'c str>,
    /// Earlier messages, oldest first.
    pub history: &'c [PastMessage],
    /// The message.
    pub message: &'c str,
    /// The provider's credential, if it needs one.
    pub credential: Option<Arc<UpstreamEntry>>,
    /// Most bytes of the provider's answer.
    pub max_bytes: usize,
}

/// A provider's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The text.
    pub text: String,
    /// The model that answered, as the provider calls it.
    pub model: String,
    /// Tokens that went in.
    pub input_tokens: i64,
    /// Tokens that came out.
    pub output_tokens: i64,
}

/// Why there is no answer. The provider's own words and our key never appear in it.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// It didn't answer in time.
    #[error("the provider took too long")]
    Timeout,
    /// It couldn't be reached.
    #[error("the provider can't be reached")]
    Unreachable(#[source] reqwest::Error),
    /// It answered with an error.
    #[error("the provider answered with status {0}")]
    Status(u16),
    /// Its answer is too large.
    #[error("the provider's answer is too large")]
    TooLarge,
    /// Its answer has no usable form.
    #[error("the provider's answer can't be read")]
    Unreadable,
    /// Its address is no URL.
    #[error("the provider's address is no URL")]
    Address,
    /// Its address is one that must not be called.
    #[error("the provider's name or address leads to a link-local, unspecified or metadata address")]
    Forbidden,
    /// The credential is missing or no text.
    #[error("the provider's credential can't be used")]
    Credential,
}

impl UpstreamError {
    /// Its class.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Timeout | Self::Unreachable(_) | Self::TooLarge | Self::Unreadable => ErrorClass::Transient,
            Self::Status(401 | 403) | Self::Credential | Self::Forbidden => ErrorClass::Denied,
            Self::Status(400..500) | Self::Address => ErrorClass::Invalid,
            Self::Status(_) => ErrorClass::Transient,
        }
    }
}

impl From<&UpstreamError> for Problem {
    fn from(error: &UpstreamError) -> Self {
        match error {
            UpstreamError::Timeout => Self::new(Code::UpstreamTimeout),
            UpstreamError::Status(429) => Self::new(Code::UpstreamFailed).detail("the provider is over its limit"),
            UpstreamError::Unreachable(_)
            | UpstreamError::Status(_)
            | UpstreamError::TooLarge
            | UpstreamError::Unreadable
            | UpstreamError::Address
            | UpstreamError::Forbidden
            | UpstreamError::Credential => Self::new(Code::UpstreamFailed),
        }
    }
}

/// Asks the provider. If it is cut off, the provider may have counted tokens that we haven't.
///
/// # Errors
/// When there is no usable answer in time.
pub async fn perform_call(upstreams: &Upstreams, call: &Call<'_>) -> Result<Completion, UpstreamError> {
    match &call.revision.behaviour.provider {
        Provider::Echo => Ok(echo::resolve_answer(call)),
        Provider::OpenAICompatible { base_url } => upstreams.perform_call(base_url, call).await,
    }
}
