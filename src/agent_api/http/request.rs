//! Reading bodies and queries: bounded in size and time, unknown fields refused by name.

use crate::agent_api::{
    Context,
    auth::{AdmittedTenant, COPIES},
    json::from_object,
    problem::{Code, Problem},
    shares::Share,
};
use axum::{
    body::{Body, HttpBody},
    extract::{FromRequest, FromRequestParts, Query, RawPathParams, Request},
    http::{header, request::Parts},
};
use futures::StreamExt;
use serde::de::DeserializeOwned;
use std::{sync::Arc, time::Duration};

/// A JSON body, bounded in size and time.
pub(super) struct LimitedJson<T> {
    pub(super) value: T,
    /// The memory that it takes.
    pub(super) bytes: Share,
}

impl<T: DeserializeOwned> FromRequest<Arc<Context>> for LimitedJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, context: &Arc<Context>) -> Result<Self, Problem> {
        let media = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let media = media.split(';').next().unwrap_or_default().trim();
        if !media.eq_ignore_ascii_case("application/json") {
            return Err(Problem::new(Code::UnsupportedMediaType));
        }
        let AdmittedTenant(tenant) = request.extensions().get().copied().ok_or_else(|| Problem::new(Code::Internal))?;
        let length = request.body().size_hint().upper().unwrap_or(u64::MAX);
        let most = context.settings.limits.body_bytes.min(usize::try_from(length).unwrap_or(usize::MAX));
        let mut bytes = context.bytes.take(tenant, most * COPIES)?;
        let body = read_bytes(context, request.into_body()).await?;
        bytes.shrink_to(body.len() * COPIES);
        Ok(Self { value: parse_json(&body)?, bytes })
    }
}

/// A query with known parameters and valid values; none has a zero byte, which Postgres keeps in no text.
pub(super) struct CheckedQuery<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Arc<Context>> for CheckedQuery<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Context>) -> Result<Self, Problem> {
        if let Ok(Query(pairs)) = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            && let Some((name, _)) = pairs.into_iter().find(|(_, value)| value.contains('\0'))
        {
            return Err(Problem::field(name.chars().take(64).collect::<String>(), "must not contain a zero byte"));
        }
        Query::try_from_uri(&parts.uri).map(|Query(query)| Self(query)).map_err(|rejection| {
            let text = rejection.body_text();
            let rule = text.rsplit("query string: ").next().unwrap_or_default().to_owned();
            match named_field(&rule) {
                Some(field) => Problem::field(field, rule),
                None => Problem::field(rule.split(':').next().unwrap_or_default().to_owned(), rule.clone()),
            }
        })
    }
}

/// A parameter of the path besides the tenant's id: the user to act on.
pub(super) struct UserPath(pub(super) String);

impl FromRequestParts<Arc<Context>> for UserPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, context: &Arc<Context>) -> Result<Self, Problem> {
        let wrong = || Problem::field("sub", "must have 1 to 255 bytes of UTF-8, none of them zero");
        let path = RawPathParams::from_request_parts(parts, context).await.map_err(|_| wrong())?;
        let sub = path.iter().find(|(name, _)| *name == "sub").map_or("", |(_, value)| value);
        if sub.is_empty() || sub.len() > 255 || sub.contains('\0') {
            return Err(wrong());
        }
        Ok(Self(sub.to_owned()))
    }
}

fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    from_object(bytes).map_err(|error| {
        let text = error.to_string();
        match named_field(&text) {
            Some(field) => Problem::field(field, without_position(&text)),
            None if error.is_data() => Problem::new(Code::InvalidField).detail(without_position(&text)),
            None => Problem::new(Code::MalformedBody),
        }
    })
}

async fn read_bytes(context: &Context, body: Body) -> Result<Vec<u8>, Problem> {
    let limits = &context.settings.limits;
    let read = async {
        let mut bytes = Vec::new();
        let mut stream = body.into_data_stream();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|_| Problem::new(Code::MalformedBody).detail("the body broke off"))?;
            if bytes.len() + chunk.len() > limits.body_bytes {
                return Err(Problem::new(Code::BodyTooLarge).detail(format!("at most {} bytes", limits.body_bytes)));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    };
    let limit = Duration::from_secs(limits.body_seconds);
    tokio::time::timeout(limit, read).await.unwrap_or_else(|_| Err(Problem::new(Code::BodyTimeout)))
}

/// How many rows a page has.
///
/// # Errors
/// When it is asked for none, or too many.
pub(super) fn resolve_limit(asked: Option<i64>, default: i64, most: i64) -> Result<i64, Problem> {
    let limit = asked.unwrap_or(default);
    if (1..=most).contains(&limit) {
        return Ok(limit);
    }
    Err(Problem::field("limit", format!("must be from 1 to {most}")))
}

/// The field that serde's message names: ``unknown field `x`…`` or ``missing field `x```.
fn named_field(text: &str) -> Option<String> {
    let rest = ["unknown field `", "missing field `", "duplicate field `"].iter().find_map(|p| text.strip_prefix(p))?;
    rest.split_once('`').map(|(field, _)| field.chars().take(64).collect())
}

/// serde's message without " at line 1 column 2".
fn without_position(text: &str) -> String {
    let rule = text.rsplit_once(" at line ").map_or(text, |(rule, _)| rule);
    rule.chars().take(200).collect()
}
