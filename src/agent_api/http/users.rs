//! `DELETE users/{sub}`: erases one user. Conversations and messages go; usage stays under a name that says nothing.

use super::answer;
use crate::agent_api::{
    Context,
    auth::{admit, token::Scope},
    database::portable::{self, Erased},
    problem::Problem,
};
use axum::{
    extract::{Path, State},
    http::HeaderMap,
    response::Response,
};
use serde::Serialize;
use std::sync::Arc;
use uuid::Uuid;

/// Conversations, and other rows, of one transaction: each has to end within the tenant's statement timeout.
const CONVERSATIONS: i64 = 50;
const ROWS: i64 = 5000;

/// What is done until there is nothing left of it, in this order: an answer that finds its conversation gone is counted
/// under nobody's name, so the names come last.
#[derive(Clone, Copy)]
enum Step {
    Messages,
    Conversations,
    Names,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ErasureAnswer {
    conversations: i64,
    messages: i64,
    renamed: i64,
}

pub(super) async fn erase(
    State(context): State<Arc<Context>>,
    Path((tenant, sub)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let caller = admit(&context, &headers, &tenant, Scope::DataErase)?;
    if sub.is_empty() || sub.len() > 255 || sub.contains('\0') {
        return Err(Problem::field("sub", "must have 1 to 255 bytes, none of them zero"));
    }
    let pseudonym = Uuid::new_v4();
    let mut total = Erased::default();
    for step in [Step::Messages, Step::Conversations, Step::Names] {
        loop {
            let of = sub.clone();
            let some = caller.transact(&context, move |at| {
                let sub = of.clone();
                Box::pin(async move {
                    match step {
                        Step::Messages => portable::erase_messages(at, &sub, ROWS).await,
                        Step::Conversations => portable::erase_conversations(at, &sub, CONVERSATIONS).await,
                        Step::Names => portable::rename_user(at, &sub, pseudonym, ROWS).await,
                    }
                })
            });
            let some = some.await?;
            total.conversations += some.conversations;
            total.messages += some.messages;
            total.renamed += some.renamed;
            let done = match step {
                Step::Messages => some.messages < ROWS,
                Step::Conversations => some.conversations < CONVERSATIONS,
                Step::Names => some.renamed < ROWS,
            };
            if done {
                break;
            }
        }
    }
    tracing::info!(
        tenant = %caller.claims.tenant,
        conversations = total.conversations,
        messages = total.messages,
        "a user was erased"
    );
    let Erased { conversations, messages, renamed } = total;
    Ok(answer(&ErasureAnswer { conversations, messages, renamed }))
}
