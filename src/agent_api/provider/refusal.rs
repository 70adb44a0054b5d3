//! What a provider says when it refuses a call. Pure.
//!
//! Its kind is read from a list of codes and phrases that providers with OpenAI's API use; its text goes to the log only,
//! because it may quote prompts.

use serde::Deserialize;
use std::fmt;

/// Longest part of a provider's text that is kept, in characters.
const MAX_TEXT: usize = 300;
/// Longest wait that a provider may ask for, in seconds.
const MAX_RETRY_AFTER: u32 = 3600;

/// Why a provider refuses a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// The conversation is longer than the model's context.
    ContextLength,
    /// Question or answer violate the provider's rules.
    ContentFilter,
    /// There are too many calls; later ones may succeed.
    RateLimit,
    /// The account's quota is used up.
    Quota,
    /// There is no such model.
    ModelNotFound,
    /// The API key is wrong or may not use the model.
    Credential,
    /// The request has another fault.
    Request,
    /// The provider failed.
    Failed,
}

impl RefusalKind {
    /// A word for the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ContextLength => "context_length",
            Self::ContentFilter => "content_filter",
            Self::RateLimit => "rate_limit",
            Self::Quota => "quota",
            Self::ModelNotFound => "model_not_found",
            Self::Credential => "credential",
            Self::Request => "request",
            Self::Failed => "failed",
        }
    }
}

/// A refused call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamRefusal {
    /// Why.
    pub kind: RefusalKind,
    /// Status of the answer.
    pub status: u16,
    /// When to try again, in seconds.
    pub retry_after: Option<u32>,
    /// The request's parameter that it is about.
    pub parameter: Option<String>,
    /// The provider's text, in lower case and shortened; for the log and for finding out what it is about.
    pub text: String,
}

impl fmt::Display for UpstreamRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status {}, {}: {}", self.status, self.kind.as_str(), self.text)
    }
}

#[derive(Deserialize)]
struct ErrorBody {
    error: ErrorForm,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ErrorForm {
    Object(ErrorObject),
    Text(String),
}

#[derive(Default, Deserialize)]
struct ErrorObject {
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    r#type: Option<serde_json::Value>,
    #[serde(default)]
    code: Option<serde_json::Value>,
    #[serde(default)]
    param: Option<String>,
}

/// Reads an answer that is an error. `secret` is our key, which the provider may quote.
pub(super) fn resolve_refusal(
    status: u16,
    retry_after: Option<&str>,
    body: &[u8],
    secret: Option<&str>,
) -> UpstreamRefusal {
    let ErrorObject { message, r#type, code, param } = match serde_json::from_slice(body) {
        Ok(ErrorBody { error: ErrorForm::Object(object) }) => object,
        Ok(ErrorBody { error: ErrorForm::Text(message) }) => {
            ErrorObject { message: Some(message), ..ErrorObject::default() }
        }
        Err(_) => ErrorObject { message: Some(String::from_utf8_lossy(body).into_owned()), ..ErrorObject::default() },
    };
    let mut message = message.unwrap_or_default();
    if let Some(secret) = secret.filter(|secret| !secret.is_empty()) {
        message = message.replace(secret, "…");
    }
    let text: String =
        message.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_TEXT).collect::<String>().to_lowercase();
    let words = [r#type, code].map(|word| word.as_ref().and_then(serde_json::Value::as_str).map(str::to_owned));
    let kind = resolve_kind(status, &words.each_ref().map(|word| word.as_deref().unwrap_or_default()), &text);
    let retry_after = retry_after.and_then(|text| text.trim().parse::<u32>().ok()).map(|s| s.min(MAX_RETRY_AFTER));
    UpstreamRefusal { kind, status, retry_after, parameter: param.map(|p| p.chars().take(64).collect()), text }
}

fn resolve_kind(status: u16, words: &[&str; 2], text: &str) -> RefusalKind {
    let is = |wanted: &[&str]| wanted.iter().any(|w| words.contains(w));
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| text.contains(phrase));
    if is(&["context_length_exceeded", "exceed_context_size_error"])
        || says(&["context length", "context window", "context size", "prompt is too long", "too many tokens"])
    {
        return RefusalKind::ContextLength;
    }
    if is(&["content_filter", "content_policy_violation", "responsibleaipolicyviolation"])
        || says(&["content management policy", "content policy"])
    {
        return RefusalKind::ContentFilter;
    }
    if is(&["insufficient_quota", "billing_hard_limit_reached"]) || status == 402 {
        return RefusalKind::Quota;
    }
    if is(&["model_not_found"]) {
        return RefusalKind::ModelNotFound;
    }
    match status {
        429 => RefusalKind::RateLimit,
        401 | 403 => RefusalKind::Credential,
        404 => RefusalKind::ModelNotFound,
        400..500 => RefusalKind::Request,
        _ => RefusalKind::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_refusal_keeps_its_kind() {
        use RefusalKind::{ContentFilter, ContextLength, Credential, Failed, ModelNotFound, Quota, RateLimit, Request};
        let error = |code: &str, message: &str| json!({"error": {"code": code, "message": message}}).to_string();
        for (status, body, kind) in [
            (400, error("context_length_exceeded", "too long"), ContextLength),
            (400, error("", "This model's maximum context length is 4096 tokens."), ContextLength),
            (400, json!({"error": {"type": "exceed_context_size_error", "code": 400}}).to_string(), ContextLength),
            (400, error("content_filter", "no"), ContentFilter),
            (429, error("rate_limit_exceeded", "slow down"), RateLimit),
            (429, error("insufficient_quota", "pay"), Quota),
            (404, error("model_not_found", "none"), ModelNotFound),
            (401, error("invalid_api_key", "wrong"), Credential),
            (400, error("unsupported_parameter", "no"), Request),
            (400, json!({"error": "a text alone"}).to_string(), Request),
            (502, "<html>bad gateway</html>".to_owned(), Failed),
        ] {
            assert_eq!(resolve_refusal(status, None, body.as_bytes(), None).kind, kind, "{body}");
        }
    }

    #[test]
    fn the_text_is_short_and_without_our_key() {
        let body = json!({"error": {"message": format!("Incorrect key sk-1\n{}", "x".repeat(1000)), "param": "n"}});
        let refusal = resolve_refusal(401, Some(" 20 "), body.to_string().as_bytes(), Some("sk-1"));
        assert!(refusal.text.starts_with("incorrect key … x") && refusal.text.chars().count() == MAX_TEXT);
        assert_eq!((refusal.retry_after, refusal.parameter.as_deref()), (Some(20), Some("n")));
        assert_eq!(resolve_refusal(429, Some("1000000"), b"", None).retry_after, Some(MAX_RETRY_AFTER));
        assert_eq!(resolve_refusal(429, Some("Wed, 21 Oct 2026 07:28:00 GMT"), b"", None).retry_after, None);
    }
}
