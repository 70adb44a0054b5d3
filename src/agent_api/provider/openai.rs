//! A server with OpenAI's chat completions: `POST {baseUrl}/chat/completions`.
//!
//! Its answer is bounded in time and size; redirects are not followed, because they could lead where `baseUrl` may not
//! point. What it refuses is asked otherwise where that is known to help: see `dialect`.

use super::{
    Call, Completion, UpstreamError,
    address::{NameServers, Resolver, check_literal, is_forbidden},
    dialect::{Dialect, Dialects},
    refusal::{RefusalKind, UpstreamRefusal, resolve_refusal},
};
use crate::{agent_api::database::statements::PastMessage, settings::agent_api::UpstreamSettings};
use futures::StreamExt;
use hickory_resolver::net::NetError;
use reqwest::{Client, Response, Url, header, redirect};
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, sync::Arc, time::Duration};
use zeroize::Zeroizing;

/// Longest time to establish a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest error that is read, in bytes.
const MAX_ERROR_BYTES: usize = 16 << 10;
/// Most characters of a provider's name for its model.
const MODEL_CHARS: usize = 256;
/// Most requests for one answer. Each but the last was refused, and a refused one isn't billed.
const MAX_ATTEMPTS: usize = 12;

/// Connections to providers.
#[derive(Clone)]
pub struct Upstreams {
    client: Client,
    dialects: Arc<Dialects>,
}

#[derive(Serialize)]
struct CompletionRequest<'r> {
    model: &'r str,
    messages: Vec<Message<'r>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<i32>,
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
    content: Cow<'r, str>,
}

#[derive(Deserialize)]
struct CompletionResponse {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    choices: Option<Vec<Choice>>,
    #[serde(default)]
    usage: Option<CompletionUsage>,
}

#[derive(Deserialize)]
struct Choice {
    message: AnswerMessage,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct AnswerMessage {
    #[serde(default)]
    content: Option<MessageContent>,
    #[serde(default)]
    refusal: Option<String>,
}

/// A text, or a list of parts.
#[derive(Deserialize)]
#[serde(untagged)]
enum MessageContent {
    Text(String),
    Parts(Vec<ContentPart>),
}

#[derive(Deserialize)]
struct ContentPart {
    #[serde(default)]
    text: Option<String>,
}

#[derive(Default, Deserialize)]
struct CompletionUsage {
    #[serde(default)]
    prompt_tokens: Option<i64>,
    #[serde(default)]
    completion_tokens: Option<i64>,
}

impl Upstreams {
    /// A client for all providers.
    ///
    /// # Errors
    /// When TLS or the proxy can't be set up.
    pub fn new(settings: &UpstreamSettings) -> Result<Self, UpstreamsError> {
        let mut builder = Client::builder()
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .no_proxy()
            .dns_resolver(Resolver::new(NameServers::new().map_err(UpstreamsError::Names)?))
            .user_agent(concat!("agent-tenancy/", env!("CARGO_PKG_VERSION")));
        if !settings.proxy_url.is_empty() {
            builder = builder.proxy(reqwest::Proxy::all(&settings.proxy_url).map_err(UpstreamsError::Proxy)?);
        }
        if !settings.root_certificates.is_empty() {
            let pem = std::fs::read(&settings.root_certificates).map_err(UpstreamsError::File)?;
            let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(UpstreamsError::Certificates)?;
            builder = builder.tls_certs_merge(certificates);
        }
        Ok(Self { client: builder.build().map_err(UpstreamsError::Tls)?, dialects: Arc::default() })
    }

    pub(super) async fn perform_call(&self, base_url: &str, call: &Call<'_>) -> Result<Completion, UpstreamError> {
        let seconds = call.revision.behaviour.total_timeout_seconds.max(1).unsigned_abs();
        let limit = Duration::from_secs(seconds.into());
        tokio::time::timeout(limit, self.ask(base_url, call)).await.unwrap_or(Err(UpstreamError::Timeout))
    }

    /// Asks until there is an answer, or a refusal that nothing is known to help against.
    async fn ask(&self, base_url: &str, call: &Call<'_>) -> Result<Completion, UpstreamError> {
        let (model, mut history) = (&call.revision.behaviour.model, call.history);
        let mut dialect = self.dialects.get(base_url, model);
        for _ in 1..MAX_ATTEMPTS {
            let refusal = match self.attempt(base_url, call, history, dialect).await {
                Err(UpstreamError::Refused(refusal)) => refusal,
                other => return other,
            };
            if let Some(adapted) = dialect.adapted(&refusal) {
                tracing::info!(model, %refusal, "asking the model otherwise from now on");
                dialect = adapted;
                self.dialects.set(base_url, model, dialect);
            } else if refusal.kind == RefusalKind::ContextLength && !history.is_empty() {
                // The older half of the turns; a turn has two messages.
                let left = history.len() / 4 * 2;
                history = history.get(history.len() - left..).unwrap_or_default();
                tracing::info!(
                    model,
                    messages = left,
                    "the conversation is too long for the model; asking with less of it"
                );
            } else {
                return Err(UpstreamError::Refused(refusal));
            }
        }
        self.attempt(base_url, call, history, dialect).await
    }

    async fn attempt(
        &self,
        base_url: &str,
        call: &Call<'_>,
        history: &[PastMessage],
        dialect: Dialect,
    ) -> Result<Completion, UpstreamError> {
        let url = Url::parse(&format!("{base_url}/chat/completions")).map_err(|_| UpstreamError::Address)?;
        check_literal(&url).map_err(|_| UpstreamError::Forbidden)?;
        let mut request = self.client.post(url).json(&body(call, history, dialect));
        let credential = match &call.revision.upstream {
            Some(_) => Some(call.credential.as_ref().ok_or(UpstreamError::Credential)?),
            None => None,
        };
        let key = credential.map(|c| std::str::from_utf8(c.api_key.expose())).transpose();
        let key = key.map_err(|_| UpstreamError::Credential)?;
        if let Some(key) = key {
            let bearer = Zeroizing::new(format!("Bearer {key}"));
            let mut value = header::HeaderValue::from_str(&bearer).map_err(|_| UpstreamError::Credential)?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        let response = request.send().await.map_err(failed)?;
        let status = response.status();
        if !status.is_success() {
            let retry_after =
                response.headers().get(header::RETRY_AFTER).and_then(|v| v.to_str().ok()).map(str::to_owned);
            let body = read(response, MAX_ERROR_BYTES).await.unwrap_or_default();
            let refusal = resolve_refusal(status.as_u16(), retry_after.as_deref(), &body, key);
            return Err(UpstreamError::Refused(refusal));
        }
        resolve_answer(&read(response, call.max_bytes).await?, call, history, key)
    }
}

/// Why there can be no client for providers.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamsError {
    /// TLS can't be set up.
    #[error("can't set up TLS")]
    Tls(#[source] reqwest::Error),
    /// Names can't be looked up.
    #[error("names of providers can't be looked up")]
    Names(#[source] NetError),
    /// The proxy's address is none.
    #[error("upstream.proxyUrl is no URL of a proxy")]
    Proxy(#[source] reqwest::Error),
    /// The file can't be read.
    #[error("upstream.rootCertificates can't be read")]
    File(#[source] std::io::Error),
    /// The file's content is of another kind.
    #[error("upstream.rootCertificates has no certificates in PEM form")]
    Certificates(#[source] reqwest::Error),
}

fn failed(error: reqwest::Error) -> UpstreamError {
    match error {
        error if error.is_timeout() => UpstreamError::Timeout,
        error if is_forbidden(&error) => UpstreamError::Forbidden,
        error => UpstreamError::Unreachable(error.without_url()),
    }
}

/// The body, if it is not larger than this.
async fn read(response: Response, most: usize) -> Result<Vec<u8>, UpstreamError> {
    let mut bytes = Vec::new();
    let mut stream = response.bytes_stream();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(failed)?;
        if bytes.len() + chunk.len() > most {
            return Err(UpstreamError::TooLarge);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn body<'r>(call: &'r Call<'_>, history: &'r [PastMessage], dialect: Dialect) -> CompletionRequest<'r> {
    let behaviour = &call.revision.behaviour;
    let mut messages = Vec::with_capacity(history.len() + 2);
    if !dialect.no_system_role {
        messages.extend(call.system_prompt.map(|content| Message { role: "system", content: content.into() }));
    }
    messages.extend(history.iter().map(|m| Message { role: &m.role, content: m.content.as_str().into() }));
    messages.push(Message { role: "user", content: call.message.into() });
    if let (true, Some(prompt), Some(first)) = (dialect.no_system_role, call.system_prompt, messages.first_mut()) {
        first.content = format!("{prompt}\n\n{}", first.content).into();
    }
    let tokens = call.effective.max_output_tokens.value;
    CompletionRequest {
        model: &behaviour.model,
        messages,
        max_tokens: (!dialect.completion_tokens).then_some(tokens),
        max_completion_tokens: dialect.completion_tokens.then_some(tokens),
        temperature: call.effective.temperature.value.filter(|_| !dialect.no_temperature).map(|t| t.as_f64()),
        top_p: call.effective.top_p.value.filter(|_| !dialect.no_top_p).map(|t| t.as_f64()),
        stop: if dialect.no_stop { &[] } else { &behaviour.stop },
        seed: behaviour.seed.filter(|_| !dialect.no_seed),
        stream: false,
    }
}

fn resolve_answer(
    bytes: &[u8],
    call: &Call<'_>,
    history: &[PastMessage],
    key: Option<&str>,
) -> Result<Completion, UpstreamError> {
    let CompletionResponse { model, choices, usage } =
        serde_json::from_slice(bytes).map_err(|_| UpstreamError::Unreadable)?;
    let Some(first) = choices.unwrap_or_default().into_iter().next() else {
        // Some answer with status 200 and an error.
        let refusal = resolve_refusal(200, None, bytes, key);
        return Err(UpstreamError::Refused(UpstreamRefusal { text: refusal.text, ..refusal }));
    };
    let Choice { message: AnswerMessage { content, refusal }, finish_reason } = first;
    let text = match content {
        Some(MessageContent::Text(text)) => text,
        Some(MessageContent::Parts(parts)) => parts.into_iter().filter_map(|part| part.text).collect(),
        None => String::new(),
    };
    let text = if text.is_empty() { refusal.unwrap_or_default() } else { text };
    // Postgres keeps no zero bytes in text.
    let text = text.replace('\0', "");
    let asked = call.system_prompt.map_or(0, str::len)
        + history.iter().map(|m| m.content.len()).sum::<usize>()
        + call.message.len();
    let CompletionUsage { prompt_tokens, completion_tokens } = usage.unwrap_or_default();
    let count = |counted: Option<i64>, bytes| counted.filter(|n| *n >= 0).unwrap_or_else(|| estimate(bytes));
    let (input_tokens, output_tokens) = (count(prompt_tokens, asked), count(completion_tokens, text.len()));
    if text.is_empty() {
        let is_filtered = finish_reason.as_deref() == Some("content_filter");
        return Err(UpstreamError::Empty { is_filtered, input_tokens, output_tokens });
    }
    let named = model.map(|model| model.replace('\0', "").chars().take(MODEL_CHARS).collect::<String>());
    let model = named.filter(|m| !m.is_empty()).unwrap_or_else(|| call.revision.behaviour.model.clone());
    Ok(Completion { text, model, input_tokens, output_tokens })
}

/// For servers that don't count: about four bytes are a token. Better counted roughly than as nothing.
fn estimate(bytes: usize) -> i64 {
    i64::try_from(bytes.div_ceil(4)).unwrap_or(i64::MAX)
}
