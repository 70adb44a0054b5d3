//! The statements on a tenant's tables (config/migrations). Columns are always named, values always bound; each function
//! is one statement, so a transaction is three round trips.

use super::{Connection, Transaction};
use sqlx::{PgConnection, Postgres, Row, postgres::PgArguments, query::Query, types::Json};
use std::collections::BTreeMap;
use uuid::Uuid;

/// What a tenant changed itself: JSON values by name of a `MutableSetting`.
pub type StoredSettings = BTreeMap<String, serde_json::Value>;

/// Most bytes of earlier messages that T1 reads. It stands in the statement as well.
pub const HISTORY_BYTES: usize = 262_144;

/// One earlier message, as T1 reads it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct HistoryMessage {
    /// `user` or `assistant`.
    pub role: String,
    /// Its text.
    pub content: String,
    /// Its request: a question and its answer have the same.
    pub request: Uuid,
}

/// One earlier message, as a provider gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastMessage {
    /// `user` or `assistant`.
    pub role: String,
    /// Its text.
    pub content: String,
}

/// A question to store.
#[derive(Clone, Debug)]
pub struct Question {
    /// Request it came with.
    pub request: Uuid,
    /// Its conversation.
    pub conversation: Uuid,
    /// Whether the conversation begins with it.
    pub begins: bool,
    /// Makes its id unique; the time in the id is the database's, so that ids are in the order of storing, whatever the
    /// replicas' clocks say.
    pub id: Uuid,
    /// The user.
    pub sub: String,
    /// Its text.
    pub content: String,
    /// The agent that was asked for, if any.
    pub agent: Option<String>,
    /// The agent otherwise.
    pub default_agent: String,
    /// Whether the tenant's own choice of a default agent counts.
    pub default_is_mutable: bool,
    /// The tenant's agents.
    pub agents: Vec<String>,
    /// Their revisions, in the same order.
    pub revisions: Vec<i64>,
    /// How many earlier messages they see, in the same order.
    pub history: Vec<i32>,
    /// From how many bytes on nothing is added, if that is limited; only where the schema counts.
    pub limit: Option<i64>,
}

/// The result of storing a question.
#[derive(Clone, Debug)]
pub enum Reply {
    /// It is stored.
    Stored(StoredQuestion),
    /// This user has no such conversation, and nothing was stored.
    NoConversation,
    /// The tenant keeps so many bytes, which is the limit or more, and nothing was stored.
    Full(i64),
}

/// What T1 reads along with a stored question.
#[derive(Clone, Debug)]
pub struct StoredQuestion {
    /// Its id.
    pub id: Uuid,
    /// The agent that answers.
    pub agent: String,
    /// What the tenant changed itself.
    pub settings: StoredSettings,
    /// Earlier messages, oldest first.
    pub history: Vec<HistoryMessage>,
    /// What the tenant kept before, in bytes, if that is limited.
    pub used: Option<i64>,
}

/// A question and what its answer cost.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The question.
    pub question: Uuid,
    /// Its conversation.
    pub conversation: Uuid,
    /// Request it came with.
    pub request: Uuid,
    /// The user.
    pub sub: String,
    /// The agent that answered.
    pub agent: String,
    /// UID of the AgentConfig.
    pub agent_uid: String,
    /// Its revision.
    pub revision: i64,
    /// Tokens that went in.
    pub input_tokens: i64,
    /// Tokens that came out.
    pub output_tokens: i64,
    /// What newer schemas record as well.
    pub details: Option<UsageDetails>,
}

/// What a schema of version [`USAGE_MODEL_SINCE`](crate::domain::migrations) or later records of a request.
#[derive(Clone, Debug)]
pub struct UsageDetails {
    /// The model, as the provider names it; otherwise as it is configured. No zero bytes.
    pub model: String,
    /// The id that the client gave its request.
    pub client_request_id: Option<String>,
}

type Bound = Query<'static, Postgres, PgArguments>;

impl<'c> Connection<'c> {
    pub(super) fn query(self, sql: &'static str) -> (&'c mut PgConnection, Bound) {
        (self.connection, sqlx::query(sql).persistent(self.prepared))
    }
}

/// What the tenant keeps, in bytes, as the beginning of a WITH list.
macro_rules! used {
    () => {
        "used AS (SELECT coalesce(sum(bytes), 0)::int8 AS bytes FROM storage), "
    };
}

/// The agent: the one asked for, else the tenant's own choice, else the default. `$room`: a further condition, without
/// which nothing is stored.
macro_rules! pick {
    ($room:literal) => {
        concat!(
            "pick AS (SELECT a.name, a.revision, a.history \
               FROM unnest($5::text[], $6::int8[], $7::int4[]) AS a (name, revision, history) \
              WHERE a.name = coalesce($8::text, \
                    (SELECT s.value #>> '{}' FROM settings s WHERE s.name = 'DefaultAgent' AND $9::bool \
                        AND s.value #>> '{}' = ANY ($5::text[])), $10::text)",
            $room,
            ")"
        )
    };
}

/// The question's id: a version 7 UUID with the database's time (RFC 9562, 5.7).
macro_rules! stamp {
    () => {
        ", stamp AS (SELECT (substr(h.t, 1, 8) || '-' || substr(h.t, 9, 4) || substr($3::uuid::text, 14))::uuid AS id \
             FROM (SELECT lpad(to_hex(floor(extract(epoch FROM clock_timestamp()) * 1000)::int8), 12, '0') AS t) h)"
    };
}

/// A statement, and the same for a tenant with a limit (`$12`): that one always returns a row, with the used bytes, and
/// without an agent if nothing was stored.
macro_rules! with_and_without_limit {
    ($body:literal, $answer:literal) => {
        [
            concat!("WITH ", pick!(""), stamp!(), $body, $answer, ", NULL::int8, q.id FROM pick p, question q"),
            concat!(
                "WITH ",
                used!(),
                pick!(" AND (SELECT u.bytes FROM used u) < $12::int8"),
                stamp!(),
                $body,
                $answer,
                ", u.bytes, q.id FROM used u LEFT JOIN (pick p CROSS JOIN question q) ON true"
            ),
        ]
    };
}

const BEGIN_CONVERSATION: [&str; 2] = with_and_without_limit!(
    ", conversation AS (INSERT INTO conversations (id, sub) SELECT $1, $2 FROM pick RETURNING id), \
     question AS (INSERT INTO messages (id, conversation_id, sub, role, status, content, agent, revision, request_id) \
       SELECT t.id, c.id, $2, 'user', 'pending', $4, p.name, p.revision, $11 \
         FROM pick p, conversation c, stamp t RETURNING id) ",
    "SELECT p.name, (SELECT coalesce(jsonb_object_agg(s.name, s.value), '{}') FROM settings s) AS settings, \
            '[]'::jsonb AS history"
);

const CONTINUE_CONVERSATION: [&str; 2] = with_and_without_limit!(
    // Locked, as the foreign key would: one that is just erased is none, rather than a key that is violated.
    ", conversation AS (SELECT c.id FROM conversations c WHERE c.id = $1 AND c.sub = $2 FOR KEY SHARE), \
     question AS (INSERT INTO messages (id, conversation_id, sub, role, status, content, agent, revision, request_id) \
       SELECT t.id, c.id, $2, 'user', 'pending', $4, p.name, p.revision, $11 \
         FROM pick p, conversation c, stamp t RETURNING id) ",
    // Where nothing is picked, nothing is read either.
    "SELECT p.name, (SELECT coalesce(jsonb_object_agg(s.name, s.value), '{}') FROM settings s) AS settings, \
            (SELECT coalesce(jsonb_agg(jsonb_build_object('role', h.role, 'content', h.content, 'request', \
                    h.request_id) ORDER BY h.id), '[]') \
               FROM (SELECT r.id, r.role, r.content, r.request_id, sum(octet_length(r.content)) OVER (ORDER BY r.id DESC \
                            ROWS UNBOUNDED PRECEDING) AS bytes \
                       FROM (SELECT m.id, m.role, m.content, m.request_id FROM messages m \
                              WHERE m.conversation_id = $1 AND m.status IN ('answered', 'complete') \
                              ORDER BY m.id DESC LIMIT coalesce((SELECT x.history FROM pick x), 0)) r) h \
              WHERE h.bytes <= 262144) AS history"
);

/// Stores the question, unless the tenant keeps as much as it may; reads the tenant's settings and the conversation so far.
impl Transaction for Question {
    type Output = Reply;

    async fn run(&self, at: Connection<'_>) -> Result<Reply, sqlx::Error> {
        let [plain, limited] = if self.begins { BEGIN_CONVERSATION } else { CONTINUE_CONVERSATION };
        let (connection, query) = at.query(if self.limit.is_some() { limited } else { plain });
        let mut query = query
            .bind(self.conversation)
            .bind(self.sub.clone())
            .bind(self.id)
            .bind(self.content.clone())
            .bind(self.agents.clone())
            .bind(self.revisions.clone())
            .bind(self.history.clone())
            .bind(self.agent.clone())
            .bind(self.default_is_mutable)
            .bind(self.default_agent.clone())
            .bind(self.request);
        if let Some(limit) = self.limit {
            query = query.bind(limit);
        }
        let Some(row) = query.fetch_optional(connection).await? else { return Ok(Reply::NoConversation) };
        let (agent, used): (Option<String>, Option<i64>) = (row.try_get(0)?, row.try_get(3)?);
        let Some(agent) = agent else {
            let full = used.filter(|used| self.limit.is_some_and(|limit| *used >= limit));
            return Ok(full.map_or(Reply::NoConversation, Reply::Full));
        };
        let Json(settings) = row.try_get(1)?;
        let Json(history) = row.try_get(2)?;
        Ok(Reply::Stored(StoredQuestion { id: row.try_get(4)?, agent, settings, history, used }))
    }
}

/// Sets the question's status to `$status`, runs `$more`, and records the usage with outcome `$word`. Where the conversation
/// was erased meanwhile, the usage is recorded under a pseudonym and without the client's request id: an erasure renames the
/// user's usage after it has deleted the conversations. The conversation is locked before the question, in the order of a
/// DELETE; otherwise the two could deadlock. A second run changes nothing: the question isn't pending any more, and the
/// request has its usage. `$columns` and `$values`: what newer schemas record as well.
macro_rules! outcome {
    ($status:literal, $more:literal, $word:literal, $columns:literal, $values:literal) => {
        concat!(
            "WITH conversation AS (SELECT c.id FROM conversations c WHERE c.id = $2 FOR KEY SHARE), \
             question AS (UPDATE messages SET status = '",
            $status,
            "' WHERE id = $1 AND status = 'pending' AND conversation_id = (SELECT c.id FROM conversation c) RETURNING id) ",
            $more,
            " INSERT INTO usage \
               (request_id, sub, agent, agent_uid, revision, input_tokens, output_tokens, outcome",
            $columns,
            ") SELECT $3, CASE WHEN EXISTS (SELECT FROM conversation) THEN $4 ELSE 'erased-' || $3::uuid::text END, \
                    $5, $6, $7, $8, $9, '",
            $word,
            "'",
            $values,
            " ON CONFLICT (request_id) DO NOTHING"
        )
    };
}

/// An answer with its usage: `$10` its id, `$11` its text.
macro_rules! answered {
    ($columns:literal, $values:literal) => {
        outcome!(
            "answered",
            ", answer AS (INSERT INTO messages \
                (id, conversation_id, sub, role, status, content, agent, revision, request_id) \
                SELECT $10, c.id, $4, 'assistant', 'complete', $11, $5, $7, $3 FROM conversation c, question q RETURNING id)",
            "ok",
            $columns,
            $values
        )
    };
}

/// Without and with details.
const ANSWER: [&str; 2] = [
    answered!("", ""),
    answered!(
        ", model, client_request_id",
        ", $12::text, CASE WHEN EXISTS (SELECT FROM conversation) THEN $13::text END"
    ),
];

/// Without and with details.
const NO_ANSWER: [&str; 2] = [
    outcome!("failed", "", "failed", "", ""),
    outcome!(
        "failed",
        "",
        "failed",
        ", model, client_request_id",
        ", $10::text, CASE WHEN EXISTS (SELECT FROM conversation) THEN $11::text END"
    ),
];

/// An answer to store with its usage; the question becomes `answered`. Where the conversation was erased meanwhile only the
/// usage is stored.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The question and what its answer cost.
    pub outcome: Outcome,
    /// The answer's id.
    pub id: Uuid,
    /// Its text.
    pub text: String,
}

impl Transaction for Answer {
    type Output = ();

    async fn run(&self, at: Connection<'_>) -> Result<(), sqlx::Error> {
        let (connection, query) = at.query(self.outcome.choose(ANSWER));
        let query = bind_outcome(query, &self.outcome).bind(self.id).bind(self.text.clone());
        bind_details(query, &self.outcome).execute(connection).await?;
        Ok(())
    }
}

/// That there was no answer; the question becomes `failed`.
#[derive(Clone, Debug)]
pub struct NoAnswer(pub Outcome);

impl Transaction for NoAnswer {
    type Output = ();

    async fn run(&self, at: Connection<'_>) -> Result<(), sqlx::Error> {
        let (connection, query) = at.query(self.0.choose(NO_ANSWER));
        bind_details(bind_outcome(query, &self.0), &self.0).execute(connection).await?;
        Ok(())
    }
}

impl Outcome {
    /// The statement without or with details.
    fn choose(&self, [plain, detailed]: [&'static str; 2]) -> &'static str {
        if self.details.is_some() { detailed } else { plain }
    }
}

fn bind_details(query: Bound, outcome: &Outcome) -> Bound {
    match outcome.details.clone() {
        Some(UsageDetails { model, client_request_id }) => query.bind(model).bind(client_request_id),
        None => query,
    }
}

fn bind_outcome(query: Bound, outcome: &Outcome) -> Bound {
    query
        .bind(outcome.question)
        .bind(outcome.conversation)
        .bind(outcome.request)
        .bind(outcome.sub.clone())
        .bind(outcome.agent.clone())
        .bind(outcome.agent_uid.clone())
        .bind(outcome.revision)
        .bind(outcome.input_tokens)
        .bind(outcome.output_tokens)
}
