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
/// The status of a question that waits for its answer, and of one that will have none.
const PENDING: &str = "pending";
const FAILED: &str = "failed";
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
    let abandoned = caller.context.clock.now() - jiff::SignedDuration::from_secs(caller.context.abandoned_seconds());
    let messages = messages.into_iter().map(|message| show(message, abandoned)).collect();
    let answer = HistoryAnswer { messages, has_more, next };
    let body = serde_json::to_vec(&answer).map_err(|_| Problem::new(Code::Internal))?;
    page("application/json", body, share)
}

/// Nobody answers a question any more that has been pending since before `abandoned`.
fn show(message: StoredMessage, abandoned: jiff::Timestamp) -> MessageAnswer {
    let StoredMessage { id, conversation, role, status, content, agent, revision, created_at } = message;
    let status = if status == PENDING && created_at < abandoned { FAILED.to_owned() } else { status };
    MessageAnswer { id, conversation_id: conversation, role, status, content, agent, revision, created_at }
}
