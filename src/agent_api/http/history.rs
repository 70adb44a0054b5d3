//! `GET chat`: one page of the caller's own messages.

use super::{
    cursor::Cursor,
    page,
    request::{CheckedQuery, resolve_limit},
};
use crate::agent_api::{
    auth::{Caller, scope::ChatRead},
    database::history::{Page, PageQuery, StoredMessage},
    problem::{Code, Problem},
};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

const DEFAULT_LIMIT: i64 = 50;
const MAX_LIMIT: i64 = 200;
/// A page ends early rather than being larger than this, but always holds one message.
const MAX_BYTES: usize = 1 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct HistoryQuery {
    #[serde(default)]
    limit: Option<i64>,
    #[serde(default)]
    cursor: Option<String>,
    #[serde(default)]
    conversation_id: Option<Uuid>,
    #[serde(default)]
    order: Option<Order>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Order {
    Asc,
    Desc,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HistoryAnswer {
    messages: Vec<MessageAnswer>,
    has_more: bool,
    next: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MessageAnswer {
    id: Uuid,
    conversation_id: Uuid,
    role: String,
    status: String,
    content: String,
    agent: String,
    revision: i64,
    created_at: jiff::Timestamp,
}

pub(super) async fn read(
    caller: Caller<ChatRead>,
    CheckedQuery(query): CheckedQuery<HistoryQuery>,
) -> Result<Response, Problem> {
    let HistoryQuery { limit, cursor, conversation_id, order } = query;
    let limit = resolve_limit(limit, DEFAULT_LIMIT, MAX_LIMIT)?;
    let descending = matches!(order.unwrap_or(Order::Desc), Order::Desc);
    let incarnation = caller.access.tenant.incarnation;
    let after = match cursor.as_deref() {
        None => None,
        Some(text) => {
            let fits = |c: &Cursor| {
                c.incarnation == incarnation && c.descending == descending && c.conversation == conversation_id
            };
            let cursor = Cursor::parse(text).filter(fits);
            Some(cursor.ok_or_else(|| Problem::field("cursor", "must be a 'next' of this very query"))?.last)
        }
    };
    let (share, bytes) = caller.reserve_page(MAX_BYTES)?;
    let query = PageQuery {
        sub: caller.claims.sub.clone(),
        conversation: conversation_id,
        after,
        descending,
        // One more than asked for shows whether there is another page.
        limit: limit + 1,
        bytes: i64::try_from(bytes).unwrap_or(i64::MAX),
    };
    let Page { mut messages, is_cut } = caller.transact(query).await?;
    let size = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = is_cut || messages.len() > size;
    messages.truncate(size);
    let next = messages
        .last()
        .filter(|_| has_more)
        .map(|last| Cursor { incarnation, descending, conversation: conversation_id, last: last.id }.render());
    let answer = HistoryAnswer { messages: messages.into_iter().map(show).collect(), has_more, next };
    let body = serde_json::to_vec(&answer).map_err(|_| Problem::new(Code::Internal))?;
    page("application/json", body, share)
}

fn show(message: StoredMessage) -> MessageAnswer {
    let StoredMessage { id, conversation, role, status, content, agent, revision, created_at } = message;
    MessageAnswer { id, conversation_id: conversation, role, status, content, agent, revision, created_at }
}
