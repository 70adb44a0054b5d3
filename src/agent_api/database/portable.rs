//! The statements for taking a tenant's data out, and for erasing one user's. Columns are always named, values always
//! bound; each function is one statement.

use super::{Connection, Transaction};
use sqlx::Row;
use uuid::Uuid;

/// The tables, in the order in which they are exported: nothing comes before what it refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Conversations.
    Conversations,
    /// Messages.
    Messages,
    /// What requests cost.
    Usage,
    /// What the tenant changed itself.
    Settings,
}

impl Part {
    /// Every part, in order.
    pub const ALL: [Self; 4] = [Self::Conversations, Self::Messages, Self::Usage, Self::Settings];

    /// The part after this one.
    pub fn next(self) -> Option<Self> {
        Self::ALL.into_iter().skip_while(|part| *part != self).nth(1)
    }

    /// `$1`: rows beyond this key, as text; `$2`: of this user only, or NULL; `$3`: most rows; `$4`, of `Messages` only: bytes of
    /// content after which rows come without their line; `$5`, of `Messages` only: seconds after which a pending question
    /// counts as failed.
    const fn sql(self) -> &'static str {
        match self {
            Self::Conversations => {
                "SELECT c.id::text, json_build_object('type', 'conversation', 'id', c.id, 'sub', c.sub, 'createdAt', \
                   to_char(c.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'))::text \
                   FROM conversations c WHERE c.id > $1::text::uuid AND ($2::text IS NULL OR c.sub = $2) \
                   ORDER BY c.id LIMIT $3"
            }
            // The length of a text is known without reading the text.
            Self::Messages => {
                "SELECT m.id::text, CASE WHEN m.before < $4 THEN json_build_object('type', 'message', 'id', m.id, \
                   'conversationId', m.conversation_id, 'sub', m.sub, 'role', m.role, 'status', \
                   CASE WHEN m.status = 'pending' AND m.created_at < now() - $5::int8 * interval '1 second' THEN \
                   'failed' ELSE m.status END, 'content', \
                   m.content, 'agent', m.agent, 'revision', m.revision, 'requestId', m.request_id, 'createdAt', \
                   to_char(m.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'))::text END \
                   FROM (SELECT p.id, p.conversation_id, p.sub, p.role, p.status, p.content, p.agent, p.revision, \
                          p.request_id, p.created_at, sum(octet_length(p.content)) OVER (ORDER BY p.id ROWS UNBOUNDED \
                          PRECEDING) - octet_length(p.content) AS before FROM (SELECT r.id, r.conversation_id, r.sub, \
                            r.role, r.status, r.content, r.agent, r.revision, r.request_id, r.created_at \
                            FROM messages r WHERE r.id > $1::text::uuid AND ($2::text IS NULL OR r.sub = $2) \
                            ORDER BY r.id LIMIT $3) p) m ORDER BY m.id"
            }
            // By way of JSON: an older schema doesn't have the columns.
            Self::Usage => {
                "SELECT u.request_id::text, json_build_object('type', 'usage', 'requestId', u.request_id, 'sub', \
                   u.sub, 'agent', u.agent, 'agentUid', u.agent_uid, 'revision', u.revision, 'inputTokens', \
                   u.input_tokens, 'outputTokens', u.output_tokens, 'outcome', u.outcome, 'model', to_jsonb(u) -> 'model', \
                   'clientRequestId', to_jsonb(u) -> 'client_request_id', 'createdAt', \
                   to_char(u.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'))::text \
                   FROM usage u WHERE u.request_id > $1::text::uuid AND ($2::text IS NULL OR u.sub = $2) \
                   ORDER BY u.request_id LIMIT $3"
            }
            Self::Settings => {
                "SELECT s.name, json_build_object('type', 'setting', 'name', s.name, 'value', s.value, 'updatedBy', \
                   s.updated_by, 'updatedAt', \
                   to_char(s.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'))::text \
                   FROM settings s WHERE s.name > $1::text AND ($2::text IS NULL OR s.updated_by = $2) \
                   ORDER BY s.name LIMIT $3"
            }
        }
    }

    /// Before the first key.
    fn beginning(self) -> &'static str {
        match self {
            Self::Conversations | Self::Messages | Self::Usage => "00000000-0000-0000-0000-000000000000",
            Self::Settings => "",
        }
    }
}

/// Which rows of a part.
#[derive(Clone, Debug)]
pub struct Slice {
    /// The part.
    pub part: Part,
    /// Beyond the row with this key.
    pub after: Option<String>,
    /// Of this user only.
    pub sub: Option<String>,
    /// Most rows.
    pub limit: i64,
    /// Bytes of content after which rows come without their line.
    pub bytes: usize,
    /// After how many seconds a pending question counts as failed.
    pub abandoned_seconds: i64,
}

/// A row of a part.
#[derive(Clone, Debug)]
pub struct ExportedRow {
    /// Its key.
    pub key: String,
    /// The row as one line of JSON; none beyond the slice's bytes.
    pub line: Option<String>,
}

/// Reads rows of a part by key.
impl Transaction for Slice {
    type Output = Vec<ExportedRow>;

    async fn run(&self, at: Connection<'_>) -> Result<Vec<ExportedRow>, sqlx::Error> {
        let (connection, query) = at.query(self.part.sql());
        let after = self.after.clone().unwrap_or_else(|| self.part.beginning().to_owned());
        let query = query.bind(after).bind(self.sub.clone()).bind(self.limit);
        let query = match self.part {
            Part::Messages => query.bind(i64::try_from(self.bytes).unwrap_or(i64::MAX)).bind(self.abandoned_seconds),
            Part::Conversations | Part::Usage | Part::Settings => query,
        };
        let rows = query.fetch_all(connection).await?;
        rows.iter().map(|row| Ok(ExportedRow { key: row.try_get(0)?, line: row.try_get(1)? })).collect()
    }
}

/// What one erasing statement took away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// Conversations.
    pub conversations: i64,
    /// Their messages.
    pub messages: i64,
    /// Usage and settings that no longer name the user.
    pub renamed: i64,
}

/// The statement of [`ErasureStep::Names`]; `$changes`: to usage.
macro_rules! names {
    ($changes:literal) => {
        concat!(
            "WITH used AS (UPDATE usage SET ",
            $changes,
            " WHERE request_id IN \
                    (SELECT u.request_id FROM usage u WHERE u.sub = $1 LIMIT $2) RETURNING 1), \
                  set_by AS (UPDATE settings SET updated_by = $3 WHERE updated_by = $1 RETURNING 1) \
             SELECT 0::int8, 0::int8, (SELECT count(*) FROM used) + (SELECT count(*) FROM set_by)"
        )
    };
}

/// One step of erasing a user, repeated until it finds nothing more. The usage of an answer
/// without a conversation any more is recorded under a pseudonym, so the names come last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErasureStep {
    /// Deletes messages.
    Messages,
    /// Deletes conversations with all that came to them meanwhile.
    Conversations,
    /// Replaces the user's name with a pseudonym in rows that have to stay: the tenant is billed by usage. All of the
    /// settings, and some of the usage.
    Names,
}

impl ErasureStep {
    /// Every step, in order.
    pub const ALL: [Self; 3] = [Self::Messages, Self::Conversations, Self::Names];

    /// Most rows of one transaction: each has to end within the tenant's statement timeout.
    const fn rows(self) -> i64 {
        match self {
            Self::Messages | Self::Names => 5000,
            Self::Conversations => 50,
        }
    }

    /// Whether a transaction that changed so much left nothing.
    pub const fn is_done(self, erased: &Erased) -> bool {
        let changed = match self {
            Self::Messages => erased.messages,
            Self::Conversations => erased.conversations,
            Self::Names => erased.renamed,
        };
        changed < self.rows()
    }

    /// `$1`: the user; `$2`: most rows; `$3`, of `Names` only: the pseudonym. Returns conversations, messages, renamed rows.
    /// `clears_ids`: whether usage has request ids of the client's choice, which may name the user too.
    const fn sql(self, clears_ids: bool) -> &'static str {
        match self {
            Self::Messages => {
                "WITH gone AS (DELETE FROM messages WHERE id IN \
                   (SELECT m.id FROM messages m WHERE m.sub = $1 ORDER BY m.id LIMIT $2) RETURNING 1) \
                 SELECT 0::int8, count(*), 0::int8 FROM gone"
            }
            // A statement sees the tables as they were before: the messages are still there to be counted.
            Self::Conversations => {
                "WITH gone AS (DELETE FROM conversations WHERE id IN \
                   (SELECT c.id FROM conversations c WHERE c.sub = $1 ORDER BY c.id LIMIT $2) RETURNING id) \
                 SELECT (SELECT count(*) FROM gone), \
                        (SELECT count(*) FROM messages m WHERE m.conversation_id IN (SELECT g.id FROM gone g)), \
                        0::int8"
            }
            Self::Names if clears_ids => names!("sub = $3, client_request_id = NULL"),
            Self::Names => names!("sub = $3"),
        }
    }
}

/// A step of erasing one user.
#[derive(Clone, Debug)]
pub struct Erasure {
    /// The step.
    pub step: ErasureStep,
    /// The user.
    pub sub: String,
    /// Part of the name that replaces the user's.
    pub pseudonym: Uuid,
    /// Whether usage has request ids of the client's choice.
    pub clears_ids: bool,
}

impl Transaction for Erasure {
    type Output = Erased;

    async fn run(&self, at: Connection<'_>) -> Result<Erased, sqlx::Error> {
        let (connection, query) = at.query(self.step.sql(self.clears_ids));
        let mut query = query.bind(self.sub.clone()).bind(self.step.rows());
        if self.step == ErasureStep::Names {
            query = query.bind(format!("erased-{}", self.pseudonym));
        }
        let row = query.fetch_one(connection).await?;
        Ok(Erased { conversations: row.try_get(0)?, messages: row.try_get(1)?, renamed: row.try_get(2)? })
    }
}
