//! `DELETE users/{sub}`: erases one user. Conversations and messages are deleted; usage stays under a pseudonym.

use super::{answer, request::UserPath};
use crate::agent_api::{
    auth::{Caller, scope::DataErase},
    database::portable::{Erased, Erasure, ErasureStep},
    problem::Problem,
};
use axum::response::Response;
use serde::Serialize;
use uuid::Uuid;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ErasureAnswer {
    conversations: i64,
    messages: i64,
    renamed: i64,
}

pub(super) async fn erase(caller: Caller<DataErase>, UserPath(sub): UserPath) -> Result<Response, Problem> {
    let pseudonym = Uuid::new_v4();
    let mut total = Erased::default();
    let clears_ids = caller.access.tenant.place.records_model;
    for step in ErasureStep::ALL {
        loop {
            let erased = caller.transact(Erasure { step, sub: sub.clone(), pseudonym, clears_ids }).await?;
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
