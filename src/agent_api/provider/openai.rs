//! A server with OpenAI's chat completions: `POST {baseUrl}/chat/completions`.
//!
//! Its answer is bounded in time and size; redirects are not followed, because they could lead where `baseUrl` may not
//! point. What it says about an error stays with it: it may quote prompts or keys.

use super::{
    Call, Completion, UpstreamError,
    address::{Resolver, System, check_literal, is_forbidden},
};
use futures::StreamExt;
use reqwest::{Client, Url, header, redirect};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use zeroize::Zeroizing;

/// Longest time to establish a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections to providers.
#[derive(Clone)]
pub struct Upstreams {
    client: Client,
}

#[derive(Serialize)]
struct Request<'r> {
    model: &'r str,
    messages: Vec<Message<'r>>,
    max_tokens: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop: &'r [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i32>,
    stream: bool,
}

#[derive(Serialize)]
struct Message<'r> {
    role: &'r str,
    content: &'r str,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    model: Option<String>,
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    message: AnswerMessage,
}

#[derive(Deserialize)]
struct AnswerMessage {
    #[serde(default)]
    content: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    #[serde(default)]
    prompt_tokens: i64,
    #[serde(default)]
    completion_tokens: i64,
}

impl Upstreams {
    /// A client for all providers.
    ///
    /// # Errors
    /// When TLS can't be set up.
    pub fn new() -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .no_proxy()
            .dns_resolver(Resolver::new(System))
            .user_agent(concat!("agent-tenancy/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { client })
    }

    pub(super) async fn perform_call(&self, base_url: &str, call: &Call<'_>) -> Result<Completion, UpstreamError> {
        let seconds = call.revision.behaviour.total_timeout_seconds.max(1).unsigned_abs();
        let limit = Duration::from_secs(seconds.into());
        tokio::time::timeout(limit, self.ask(base_url, call)).await.unwrap_or(Err(UpstreamError::Timeout))
    }

    async fn ask(&self, base_url: &str, call: &Call<'_>) -> Result<Completion, UpstreamError> {
        let url = Url::parse(&format!("{base_url}/chat/completions")).map_err(|_| UpstreamError::Address)?;
        check_literal(&url).map_err(|_| UpstreamError::Forbidden)?;
        let mut request = self.client.post(url).json(&body(call));
        if call.revision.upstream.is_some() {
            let credential = call.credential.as_ref().ok_or(UpstreamError::Credential)?;
            let key = std::str::from_utf8(credential.api_key.expose()).map_err(|_| UpstreamError::Credential)?;
            let bearer = Zeroizing::new(format!("Bearer {key}"));
            let mut value = header::HeaderValue::from_str(&bearer).map_err(|_| UpstreamError::Credential)?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        let failed = |error: reqwest::Error| match error {
            error if error.is_timeout() => UpstreamError::Timeout,
            error if is_forbidden(&error) => UpstreamError::Forbidden,
            error => UpstreamError::Unreachable(error.without_url()),
        };
        let response = request.send().await.map_err(failed)?;
        if !response.status().is_success() {
            return Err(UpstreamError::Status(response.status().as_u16()));
        }
        let mut bytes = Vec::new();
        let mut stream = response.bytes_stream();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(failed)?;
            if bytes.len() + chunk.len() > call.max_bytes {
                return Err(UpstreamError::TooLarge);
            }
            bytes.extend_from_slice(&chunk);
        }
        resolve_answer(&bytes, call)
    }
}

fn body<'r>(call: &'r Call<'_>) -> Request<'r> {
    let behaviour = &call.revision.behaviour;
    let mut messages = Vec::with_capacity(call.history.len() + 2);
    messages.extend(call.system_prompt.map(|content| Message { role: "system", content }));
    messages.extend(call.history.iter().map(|m| Message { role: &m.role, content: &m.content }));
    messages.push(Message { role: "user", content: call.message });
    Request {
        model: &behaviour.model,
        messages,
        max_tokens: call.effective.max_output_tokens.value,
        temperature: call.effective.temperature.value.map(|t| t.as_f64()),
        top_p: call.effective.top_p.value.map(|t| t.as_f64()),
        stop: &behaviour.stop,
        seed: behaviour.seed,
        stream: false,
    }
}

fn resolve_answer(bytes: &[u8], call: &Call<'_>) -> Result<Completion, UpstreamError> {
    let Answer { model, choices, usage } = serde_json::from_slice(bytes).map_err(|_| UpstreamError::Unreadable)?;
    let first = choices.into_iter().next().ok_or(UpstreamError::Unreadable)?;
    // Postgres keeps no zero bytes in text.
    let text = first.message.content.unwrap_or_default().replace('\0', "");
    let counted = usage.filter(|u| u.prompt_tokens >= 0 && u.completion_tokens >= 0);
    let (input_tokens, output_tokens) = counted.map_or_else(
        || {
            let asked = call.system_prompt.map_or(0, str::len)
                + call.history.iter().map(|m| m.content.len()).sum::<usize>()
                + call.message.len();
            (estimate(asked), estimate(text.len()))
        },
        |u| (u.prompt_tokens, u.completion_tokens),
    );
    let model = model.unwrap_or_else(|| call.revision.behaviour.model.clone());
    Ok(Completion { text, model, input_tokens, output_tokens })
}

/// For servers that don't count: about four bytes are a token. Better counted roughly than as nothing.
fn estimate(bytes: usize) -> i64 {
    i64::try_from(bytes.div_ceil(4)).unwrap_or(i64::MAX)
}
