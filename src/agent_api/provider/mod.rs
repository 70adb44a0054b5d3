//! Where answers come from: the built-in `Echo`, or any server with OpenAI's chat completions.

mod address;
mod dialect;
mod echo;
mod openai;
mod refusal;

pub use openai::{Upstreams, UpstreamsError};
pub use refusal::{RefusalKind, UpstreamRefusal};

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

/// Why there is no answer. Our key never appears in it, and the provider's text in a refusal alone, which goes to the log.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// It didn't answer in time.
    #[error("the provider took too long")]
    Timeout,
    /// It couldn't be reached.
    #[error("the provider can't be reached")]
    Unreachable(#[source] reqwest::Error),
    /// It answered with an error. The text is for the log.
    #[error("the provider refused the call: {0}")]
    Refused(UpstreamRefusal),
    /// Its answer has no content. It counted tokens all the same.
    #[error("the provider's answer is empty")]
    Empty {
        /// Whether its filter removed the content.
        is_filtered: bool,
        /// Tokens that went in.
        input_tokens: i64,
        /// Tokens that came out.
        output_tokens: i64,
    },
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
            Self::Timeout | Self::Unreachable(_) | Self::TooLarge | Self::Unreadable | Self::Empty { .. } => {
                ErrorClass::Transient
            }
            Self::Credential | Self::Forbidden => ErrorClass::Denied,
            Self::Address => ErrorClass::Invalid,
            Self::Refused(refusal) => match refusal.kind {
                RefusalKind::Credential | RefusalKind::Quota => ErrorClass::Denied,
                RefusalKind::RateLimit => ErrorClass::Waiting,
                RefusalKind::Failed => ErrorClass::Transient,
                RefusalKind::ContextLength
                | RefusalKind::ContentFilter
                | RefusalKind::ModelNotFound
                | RefusalKind::Request => ErrorClass::Invalid,
            },
        }
    }

    /// Tokens that went in and came out, as far as the provider counted them.
    pub fn usage(&self) -> (i64, i64) {
        match self {
            Self::Empty { input_tokens, output_tokens, .. } => (*input_tokens, *output_tokens),
            Self::Timeout
            | Self::Unreachable(_)
            | Self::Refused(_)
            | Self::TooLarge
            | Self::Unreadable
            | Self::Address
            | Self::Forbidden
            | Self::Credential => (0, 0),
        }
    }
}

impl From<&UpstreamError> for Problem {
    fn from(error: &UpstreamError) -> Self {
        match error {
            UpstreamError::Timeout => Self::new(Code::UpstreamTimeout),
            UpstreamError::Empty { is_filtered: true, .. } => Self::new(Code::ContentFiltered),
            UpstreamError::Empty { is_filtered: false, .. } => {
                Self::new(Code::UpstreamFailed).detail("the model gave an empty answer")
            }
            UpstreamError::Refused(UpstreamRefusal { kind, retry_after, .. }) => match kind {
                RefusalKind::ContextLength => Self::new(Code::ContextLengthExceeded),
                RefusalKind::ContentFilter => Self::new(Code::ContentFiltered),
                RefusalKind::RateLimit => Self::new(Code::UpstreamRateLimited).retry_after(*retry_after),
                RefusalKind::ModelNotFound => Self::new(Code::UpstreamModelNotFound),
                RefusalKind::Credential => Self::new(Code::UpstreamCredentialRefused),
                RefusalKind::Quota => Self::new(Code::UpstreamFailed).detail("the provider's quota is used up"),
                RefusalKind::Request => Self::new(Code::UpstreamFailed).detail("the provider refuses the request"),
                RefusalKind::Failed => Self::new(Code::UpstreamFailed).retry_after(*retry_after),
            },
            UpstreamError::Unreachable(_)
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
