//! Reading bodies and queries: bounded in size and time, unknown fields refused by name.

use crate::agent_api::{
    Context,
    problem::{Code, Problem},
};
use axum::{
    body::Body,
    extract::Query,
    http::{HeaderMap, Uri, header},
};
use futures::StreamExt;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// Reads a JSON body.
///
/// # Errors
/// When it is too large, too slow, not JSON, or has a wrong field.
pub async fn read_json<T: DeserializeOwned>(context: &Context, headers: &HeaderMap, body: Body) -> Result<T, Problem> {
    let media = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let media = media.split(';').next().unwrap_or_default().trim();
    if !media.eq_ignore_ascii_case("application/json") {
        return Err(Problem::new(Code::UnsupportedMediaType));
    }
    let bytes = read_bytes(context, body).await?;
    serde_json::from_slice(&bytes).map_err(|error| {
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

/// Reads the query.
///
/// # Errors
/// When a parameter is unknown or wrong.
pub fn read_query<T: DeserializeOwned>(uri: &Uri) -> Result<T, Problem> {
    Query::try_from_uri(uri).map(|Query(query)| query).map_err(|rejection| {
        let text = rejection.body_text();
        let rule = text.rsplit("query string: ").next().unwrap_or_default().to_owned();
        match named_field(&rule) {
            Some(field) => Problem::field(field, rule),
            None => Problem::field(rule.split(':').next().unwrap_or_default().to_owned(), rule.clone()),
        }
    })
}

/// How many rows a page has.
///
/// # Errors
/// When it is asked for none, or too many.
pub fn resolve_limit(asked: Option<i64>, default: i64, most: i64) -> Result<i64, Problem> {
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
