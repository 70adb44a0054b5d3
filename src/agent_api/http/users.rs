//! `DELETE users/{sub}`: erases one user. Conversations and messages are deleted; usage stays under a pseudonym.

use super::answer;
use crate::agent_api::{
    auth::{Caller, scope::DataErase},
    database::portable::{Erased, Erasure, ErasureStep},
    problem::Problem,
};
use axum::{extract::Path, response::Response};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The user of the path.
#[derive(Deserialize)]
pub(super) struct UserPath {
    sub: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ErasureAnswer {
    conversations: i64,
    messages: i64,
    renamed: i64,
}

pub(super) async fn erase(
    caller: Caller<DataErase>,
    Path(UserPath { sub }): Path<UserPath>,
) -> Result<Response, Problem> {
    if sub.is_empty() || sub.len() > 255 || sub.contains('\0') {
        return Err(Problem::field("sub", "must have 1 to 255 bytes, none of them zero"));
    }
    let pseudonym = Uuid::new_v4();
    let mut total = Erased::default();
    for step in ErasureStep::ALL {
        loop {
            let erased = caller.transact(Erasure { step, sub: sub.clone(), pseudonym }).await?;
            total.conversations += erased.conversations;
            total.messages += erased.messages;
            total.renamed += erased.renamed;
            if step.is_done(&erased) {
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
