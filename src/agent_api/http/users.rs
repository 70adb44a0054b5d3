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

/// Conversations that go in one transaction: each has to end within the tenant's statement timeout.
const AT_ONCE: i64 = 50;

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
    let sub: Arc<str> = sub.into();
    let pseudonym = Uuid::new_v4();
    let mut total = Erased::default();
    loop {
        let of = Arc::clone(&sub);
        let some = caller.transact(&context, move |at| {
            let sub = Arc::clone(&of);
            Box::pin(async move { portable::erase_conversations(at, &sub, AT_ONCE).await })
        });
        let some = some.await?;
        total.conversations += some.conversations;
        total.messages += some.messages;
        if some.conversations == 0 {
            break;
        }
    }
    let renamed = caller.transact(&context, move |at| {
        let sub = Arc::clone(&sub);
        Box::pin(async move { portable::rename_user(at, &sub, pseudonym).await })
    });
    total.renamed = renamed.await?.renamed;
    tracing::info!(
        tenant = %caller.claims.tenant,
        conversations = total.conversations,
        messages = total.messages,
        "a user was erased"
    );
    let Erased { conversations, messages, renamed } = total;
    Ok(answer(&ErasureAnswer { conversations, messages, renamed }))
}
