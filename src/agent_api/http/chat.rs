//! `POST chat`: T1 stores the question and reads settings and history, the provider answers, T2 stores the answer and
//! what it cost. All of it in a task of its own: the answer is stored and counted even if the client disconnects.

use super::{answer_and_warn, persist::persist, request::LimitedJson};
use crate::{
    agent_api::{
        auth::{Admission, COPIES, Caller, scope::ChatWrite},
        database::statements::{
            Answer, HISTORY_BYTES, NoAnswer, Outcome, Question, Reply, StoredQuestion, UsageDetails,
        },
        effective::{TenantSettings, resolve_effective, resolve_system_prompt, resolve_tenant_settings},
        problem::{Code, Problem},
        provider::{Call, Completion, UpstreamError, perform_call},
        storage::{Level, Storage},
        turns::resolve_turns,
    },
    api::MutableSetting,
    domain::{
        entry::{AgentEntry, EntryAgent},
        ident::AgentName,
    },
    telemetry::Chain,
};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ChatRequest {
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

pub(super) async fn send(caller: Caller<ChatWrite>, body: LimitedJson<ChatRequest>) -> Result<Response, Problem> {
    let caller = caller.into_admission();
    let LimitedJson { value: wanted, mut bytes } = body;
    if wanted.message.is_empty() || wanted.message.contains('\0') {
        return Err(Problem::field("message", "must be a text of at least one character, without zero bytes"));
    }
    let context = Arc::clone(&caller.context);
    let slot = context.chats.take(caller.access.tenant.incarnation, 1)?;
    // Everything that the call may need, so that it never fails for memory half-way.
    let history = if wanted.conversation_id.is_some() { HISTORY_BYTES } else { 0 };
    bytes.grow(history * COPIES + resolve_answer_bytes(&caller))?;
    let began = context.clock.monotonic();
    let tasks = context.tasks.clone();
    let exchange = tasks.spawn(async move {
        let _held = (slot, bytes);
        let result = exchange(&Arc::new(caller), wanted).await;
        context.metrics.chat_seconds.observe((context.clock.monotonic() - began).as_secs_f64());
        result
    });
    match exchange.await {
        Ok(result) => result.map(|(done, storage)| answer_and_warn(&done, storage)),
        Err(_) => Err(Problem::new(Code::Internal)),
    }
}

/// Most bytes of an answer, as the provider sends it, of any of the tenant's agents: by their tokens, each of which may be a
/// few characters with escapes, and what surrounds them.
fn resolve_answer_bytes(caller: &Admission) -> usize {
    let agents = caller.access.tenant.agents.values();
    let tokens = agents.filter_map(|agent| {
        let most = caller.snapshot.agents.get(&agent.config_uid)?.current.behaviour.max_output_tokens;
        Some(agent.overrides.max_output_tokens.map_or(most, |tokens| tokens.min(most)))
    });
    let tokens = usize::try_from(tokens.max().unwrap_or(1)).unwrap_or(1);
    tokens.saturating_mul(64).saturating_add(64 << 10).min(caller.context.settings.limits.upstream_bytes)
}

async fn exchange(caller: &Arc<Admission>, wanted: ChatRequest) -> Result<(ChatAnswer, Storage), Problem> {
    let context = &caller.context;
    let question = Arc::new(prepare(caller, wanted)?);
    let reply = caller.transact(Arc::clone(&question)).await?;
    let stored_at = context.clock.monotonic();
    let (asked, storage) = check_reply(caller, reply)?;
    let (reference, agent) = find_agent(caller, &asked.agent)?;
    let outcome = Outcome {
        question: asked.id,
        conversation: question.conversation,
        request: question.request,
        sub: question.sub.clone(),
        agent: asked.agent.clone(),
        agent_uid: agent.uid.0.clone(),
        revision: agent.current.number,
        input_tokens: 0,
        output_tokens: 0,
        details: caller.access.tenant.place.records_model.then(|| UsageDetails {
            model: agent.current.behaviour.model.clone(),
            client_request_id: caller.request.given().map(str::to_owned),
        }),
    };
    let completion = complete(caller, &question, asked, reference, &agent).await;
    let took = context.clock.monotonic() - stored_at;
    context.metrics.upstream_seconds.observe(took.as_secs_f64());
    match completion {
        Ok(completion) => {
            let id = resolve_answer_id(outcome.question, took);
            Ok((store_answer(caller, outcome, id, completion).await?, storage))
        }
        Err(error) => {
            tracing::warn!(
                request = caller.request.as_str(),
                tenant = %caller.claims.tenant,
                class = error.class().as_str(),
                error = %Chain(&error),
                "the provider gave no answer"
            );
            let (tokens, caller) = (error.usage(), Arc::clone(caller));
            // The client doesn't wait for it.
            context.tasks.spawn(async move {
                let outcome = Outcome { input_tokens: tokens.0, output_tokens: tokens.1, ..outcome };
                if let Err(error) = persist(&caller, Arc::new(NoAnswer(outcome))).await {
                    caller.context.metrics.lost_answers.inc();
                    let request = caller.request.as_str();
                    tracing::error!(request, error = %Chain(&error), "a failure could not be stored");
                }
            });
            Err(Problem::from(&error))
        }
    }
}

/// The answer's id, with the database's time as well: that of the question, and what has passed since.
fn resolve_answer_id(question: Uuid, took: Duration) -> Uuid {
    let [a, b, c, d, e, f, ..] = *question.as_bytes();
    let asked = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
    let millis = u64::try_from(took.as_millis()).unwrap_or_default();
    let [_, _, _, _, _, _, random @ ..] = *Uuid::new_v4().as_bytes();
    uuid::Builder::from_unix_timestamp_millis(asked.saturating_add(millis).saturating_add(1), &random).into_uuid()
}

/// How many messages T1 reads for a history of so many: whole turns, and some more, because other questions of the same
/// conversation may stand between a question and its answer.
fn resolve_rows(messages: i32) -> i32 {
    let turns = messages.max(0) / 2;
    if turns == 0 { 0 } else { turns * 2 + 8 }
}

/// What T1 needs. The tenant's agents go along with their revisions, because which one answers may depend on a setting
/// that T1 reads.
fn prepare(caller: &Admission, wanted: ChatRequest) -> Result<Question, Problem> {
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
            history.push(resolve_rows(entry.current.behaviour.max_history_messages));
        }
    }
    Ok(Question {
        request: caller.request.own,
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

/// What T1 read, and how much the tenant keeps; or why nothing was stored.
fn check_reply(caller: &Admission, reply: Reply) -> Result<(StoredQuestion, Storage), Problem> {
    let place = &caller.access.tenant.place;
    match reply {
        Reply::Stored(asked) => {
            let storage = Storage::of(place, asked.used);
            if asked.used.is_some() {
                caller.context.metrics.note_storage(storage.level().as_str());
            }
            Ok((asked, storage))
        }
        Reply::NoConversation => Err(Problem::new(Code::ConversationNotFound)),
        Reply::Full(used) => {
            caller.context.metrics.note_storage(Level::Full.as_str());
            Err(Problem::storage_full(Storage::of(place, Some(used))))
        }
    }
}

fn find_agent<'c>(caller: &'c Admission, name: &str) -> Result<(&'c EntryAgent, Arc<AgentEntry>), Problem> {
    let name = AgentName::parse(name).map_err(|_| Problem::new(Code::Internal))?;
    let reference = caller.access.tenant.agents.get(&name).ok_or_else(|| Problem::new(Code::Internal))?;
    let agent = caller.snapshot.agents.get(&reference.config_uid).ok_or_else(|| Problem::new(Code::TenantNotServed))?;
    Ok((reference, Arc::clone(agent)))
}

async fn complete(
    caller: &Admission,
    question: &Question,
    asked: StoredQuestion,
    reference: &EntryAgent,
    agent: &AgentEntry,
) -> Result<Completion, UpstreamError> {
    let tenant = &caller.access.tenant;
    let own = if asked.settings.is_empty() {
        TenantSettings::default()
    } else {
        resolve_tenant_settings(&asked.settings, &tenant.mutable)
    };
    let revision = &agent.current;
    let effective = resolve_effective(&revision.behaviour, &reference.overrides, &own, &tenant.mutable);
    let system_prompt = resolve_system_prompt(&revision.behaviour, &effective);
    let credential = revision.upstream.as_ref().and_then(|hash| caller.snapshot.upstreams.get(hash)).map(Arc::clone);
    let history = resolve_turns(asked.history, revision.behaviour.max_history_messages);
    let call = Call {
        revision,
        effective: &effective,
        system_prompt: system_prompt.as_deref(),
        history: &history,
        message: &question.content,
        credential,
        max_bytes: resolve_answer_bytes(caller),
    };
    perform_call(&caller.context.upstreams, &call).await
}

async fn store_answer(
    caller: &Admission,
    mut outcome: Outcome,
    id: Uuid,
    completion: Completion,
) -> Result<ChatAnswer, Problem> {
    let Completion { text, model, input_tokens, output_tokens } = completion;
    (outcome.input_tokens, outcome.output_tokens) = (input_tokens, output_tokens);
    if let Some(details) = &mut outcome.details {
        details.model.clone_from(&model);
    }
    let stored = Arc::new(Answer { outcome, id, text });
    if let Err(error) = persist(caller, Arc::clone(&stored)).await {
        caller.context.metrics.lost_answers.inc();
        let request = caller.request.as_str();
        tracing::error!(request, tenant = %caller.claims.tenant, "an answer could not be stored");
        return Err(caller.explain(error).message_id(stored.outcome.question));
    }
    let Answer { outcome, id, text } = Arc::unwrap_or_clone(stored);
    Ok(ChatAnswer {
        conversation_id: outcome.conversation,
        message_id: id,
        message: text,
        agent: outcome.agent,
        revision: outcome.revision,
        model,
        usage: Usage { input_tokens, output_tokens },
        request_id: caller.request.as_str().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_comes_after_its_question_by_the_databases_clock() {
        let question = uuid::Builder::from_unix_timestamp_millis(1_700_000_000_000, &[0xff; 10]).into_uuid();
        let at_once = resolve_answer_id(question, Duration::ZERO);
        let later = resolve_answer_id(question, Duration::from_secs(40));
        assert!(question < at_once && at_once < later, "{question} {at_once} {later}");
        assert_eq!(later.get_version_num(), 7);
    }
}
