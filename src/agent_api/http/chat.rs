//! `POST chat`: T1 stores the question and reads settings and history, the provider answers, T2 stores the answer and
//! what it cost. All of it in a task of its own: a client that leaves is still answered and counted.

use super::{RequestId, answer_and_warn, body::read_json};
use crate::{
    agent_api::{
        Context,
        auth::{Caller, admit, token::Scope},
        database::statements::{self, Asked, Outcome, Question, Reply},
        layers::{OwnSettings, resolve_effective, resolve_own, resolve_system_prompt},
        problem::{Code, Problem},
        provider::{Call, Completion, UpstreamError, perform_call},
        storage::{Level, Storage},
    },
    api::MutableSetting,
    domain::{
        entry::{AgentEntry, EntryAgent},
        ident::AgentName,
    },
    telemetry::Chain,
};
use axum::{
    Extension,
    body::Body,
    extract::{Path, State},
    http::HeaderMap,
    response::Response,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use uuid::Uuid;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ChatRequest {
    message: String,
    #[serde(default)]
    conversation_id: Option<Uuid>,
    #[serde(default)]
    agent: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ChatAnswer {
    conversation_id: Uuid,
    message_id: Uuid,
    message: String,
    agent: String,
    revision: i64,
    model: String,
    usage: Usage,
    request_id: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Usage {
    input_tokens: i64,
    output_tokens: i64,
}

pub(super) async fn send(
    State(context): State<Arc<Context>>,
    Path(tenant): Path<String>,
    Extension(request): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let caller = admit(&context, &headers, &tenant, Scope::ChatWrite)?;
    let wanted: ChatRequest = read_json(&context, &headers, body).await?;
    if wanted.message.is_empty() || wanted.message.contains('\0') {
        return Err(Problem::field("message", "must be a text of at least one character, without zero bytes"));
    }
    let permit = Arc::clone(&context.chats).try_acquire_owned().map_err(|_| Problem::new(Code::Busy))?;
    let began = context.clock.monotonic();
    let tasks = context.tasks.clone();
    let exchange = tasks.spawn(async move {
        let _permit = permit;
        let result = exchange(&context, &caller, wanted, &request).await;
        context.metrics.chat_seconds.observe((context.clock.monotonic() - began).as_secs_f64());
        result
    });
    match exchange.await {
        Ok(result) => result.map(|(done, storage)| answer_and_warn(&done, storage)),
        Err(_) => Err(Problem::new(Code::Internal)),
    }
}

async fn exchange(
    context: &Context,
    caller: &Caller,
    wanted: ChatRequest,
    request: &RequestId,
) -> Result<(ChatAnswer, Storage), Problem> {
    let question = Arc::new(prepare(caller, wanted, request)?);
    let stored = Arc::clone(&question);
    let asked = caller.transact(context, move |at| {
        let question = Arc::clone(&stored);
        Box::pin(async move { statements::ask(at, &question).await })
    });
    let (asked, storage) = check_reply(context, caller, asked.await?)?;
    let (reference, agent) = find_agent(caller, &asked.agent)?;
    let outcome = Outcome {
        question: question.id,
        conversation: question.conversation,
        request: question.request,
        sub: question.sub.clone(),
        agent: asked.agent.clone(),
        agent_uid: agent.uid.0.clone(),
        revision: agent.current.number,
        input_tokens: 0,
        output_tokens: 0,
    };
    let began = context.clock.monotonic();
    let completion = complete(context, caller, &question, &asked, reference, &agent).await;
    context.metrics.upstream_seconds.observe((context.clock.monotonic() - began).as_secs_f64());
    match completion {
        Ok(completion) => {
            let answer = store_answer(context, caller, outcome, completion, request).await?;
            Ok((answer, storage))
        }
        Err(error) => {
            tracing::warn!(
                request = request.as_str(),
                tenant = %caller.claims.tenant,
                class = error.class().as_str(),
                error = %Chain(&error),
                "the provider gave no answer"
            );
            let outcome = Arc::new(outcome);
            let failed = context.database.transact(&caller.access, move |at| {
                let outcome = Arc::clone(&outcome);
                Box::pin(async move { statements::fail(at, &outcome).await })
            });
            if let Err(error) = failed.await {
                context.metrics.lost_answers.inc();
                tracing::error!(request = request.as_str(), error = %Chain(&error), "a failure could not be stored");
            }
            Err(Problem::from(&error))
        }
    }
}

/// What T1 needs. The tenant's agents go along with their revisions, because which one answers may depend on a setting
/// that T1 reads.
fn prepare(caller: &Caller, wanted: ChatRequest, request: &RequestId) -> Result<Question, Problem> {
    let tenant = &caller.access.tenant;
    let ChatRequest { message, conversation_id, agent } = wanted;
    let known = |name: &String| tenant.agents.keys().any(|a| a.as_str() == name);
    if agent.as_ref().is_some_and(|name| !known(name)) {
        return Err(Problem::field("agent", "must name one of the tenant's agents"));
    }
    let (mut agents, mut revisions, mut history) = (Vec::new(), Vec::new(), Vec::new());
    for (name, reference) in &tenant.agents {
        if let Some(entry) = caller.snapshot.agents.get(&reference.config_uid) {
            agents.push(name.as_str().to_owned());
            revisions.push(entry.current.number);
            history.push(entry.current.behaviour.max_history_messages.max(0));
        }
    }
    Ok(Question {
        request: request.own,
        conversation: conversation_id.unwrap_or_else(Uuid::now_v7),
        begins: conversation_id.is_none(),
        id: Uuid::now_v7(),
        sub: caller.claims.sub.clone(),
        content: message,
        agent,
        default_agent: tenant.default_agent.as_str().to_owned(),
        default_is_mutable: tenant.mutable.contains(&MutableSetting::DefaultAgent),
        agents,
        revisions,
        history,
        limit: tenant.place.held_limit(),
    })
}

/// What goes with the stored question, and how much the tenant keeps; or why nothing was stored.
fn check_reply(context: &Context, caller: &Caller, reply: Reply) -> Result<(Asked, Storage), Problem> {
    let place = &caller.access.tenant.place;
    match reply {
        Reply::Asked(asked) => {
            let storage = Storage::of(place, asked.used);
            if asked.used.is_some() {
                context.metrics.note_storage(storage.level());
            }
            Ok((asked, storage))
        }
        Reply::NoConversation => Err(Problem::new(Code::ConversationNotFound)),
        Reply::Full(used) => {
            context.metrics.note_storage(Level::Full);
            Err(Problem::storage_full(Storage::of(place, Some(used))))
        }
    }
}

fn find_agent<'c>(caller: &'c Caller, name: &str) -> Result<(&'c EntryAgent, Arc<AgentEntry>), Problem> {
    let name = AgentName::parse(name).map_err(|_| Problem::new(Code::Internal))?;
    let reference = caller.access.tenant.agents.get(&name).ok_or_else(|| Problem::new(Code::Internal))?;
    let agent = caller.snapshot.agents.get(&reference.config_uid).ok_or_else(|| Problem::new(Code::TenantNotServed))?;
    Ok((reference, Arc::clone(agent)))
}

async fn complete(
    context: &Context,
    caller: &Caller,
    question: &Question,
    asked: &Asked,
    reference: &EntryAgent,
    agent: &AgentEntry,
) -> Result<Completion, UpstreamError> {
    let tenant = &caller.access.tenant;
    let own =
        if asked.settings.is_empty() { OwnSettings::default() } else { resolve_own(&asked.settings, &tenant.mutable) };
    let revision = &agent.current;
    let effective = resolve_effective(&revision.behaviour, &reference.overrides, &own, &tenant.mutable);
    let system_prompt = resolve_system_prompt(&revision.behaviour, &effective);
    let credential = revision.upstream.as_ref().and_then(|hash| caller.snapshot.upstreams.get(hash)).map(Arc::clone);
    let call = Call {
        revision,
        effective: &effective,
        system_prompt: system_prompt.as_deref(),
        history: &asked.history,
        message: &question.content,
        credential,
    };
    perform_call(&context.upstreams, &call).await
}

async fn store_answer(
    context: &Context,
    caller: &Caller,
    mut outcome: Outcome,
    completion: Completion,
    request: &RequestId,
) -> Result<ChatAnswer, Problem> {
    let Completion { text, model, input_tokens, output_tokens } = completion;
    (outcome.input_tokens, outcome.output_tokens) = (input_tokens, output_tokens);
    let id = Uuid::now_v7();
    let shared = Arc::new((outcome, text));
    let stored = Arc::clone(&shared);
    let written = caller.transact(context, move |at| {
        let stored = Arc::clone(&stored);
        Box::pin(async move { statements::answer(at, &stored.0, id, &stored.1).await })
    });
    if let Err(problem) = written.await {
        context.metrics.lost_answers.inc();
        tracing::error!(request = request.as_str(), tenant = %caller.claims.tenant, "an answer could not be stored");
        return Err(problem);
    }
    let (outcome, text) = Arc::try_unwrap(shared).unwrap_or_else(|shared| shared.as_ref().clone());
    Ok(ChatAnswer {
        conversation_id: outcome.conversation,
        message_id: id,
        message: text,
        agent: outcome.agent,
        revision: outcome.revision,
        model,
        usage: Usage { input_tokens, output_tokens },
        request_id: request.as_str().to_owned(),
    })
}
