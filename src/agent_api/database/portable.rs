//! The statements for taking a tenant's data out, and for erasing one user's. Columns are always named, values always
//! bound; each function is one statement.

use super::Connection;
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

    /// `$1`: rows beyond this key, as text; `$2`: of this user only, or NULL; `$3`: most rows.
    const fn sql(self) -> &'static str {
        match self {
            Self::Conversations => {
                "SELECT c.id::text, json_build_object('type', 'conversation', 'id', c.id, 'sub', c.sub, 'createdAt', \
                   to_char(c.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'))::text \
                   FROM conversations c WHERE c.id > $1::text::uuid AND ($2::text IS NULL OR c.sub = $2) \
                   ORDER BY c.id LIMIT $3"
            }
            Self::Messages => {
                "SELECT m.id::text, json_build_object('type', 'message', 'id', m.id, 'conversationId', \
                   m.conversation_id, 'sub', m.sub, 'role', m.role, 'status', m.status, 'content', m.content, \
                   'agent', m.agent, 'revision', m.revision, 'requestId', m.request_id, 'createdAt', \
                   to_char(m.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'))::text \
                   FROM messages m WHERE m.id > $1::text::uuid AND ($2::text IS NULL OR m.sub = $2) \
                   ORDER BY m.id LIMIT $3"
            }
            Self::Usage => {
                "SELECT u.request_id::text, json_build_object('type', 'usage', 'requestId', u.request_id, 'sub', \
                   u.sub, 'agent', u.agent, 'agentUid', u.agent_uid, 'revision', u.revision, 'inputTokens', \
                   u.input_tokens, 'outputTokens', u.output_tokens, 'outcome', u.outcome, 'createdAt', \
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
}

/// Rows of a part by key: the key, and the row as one line of JSON.
pub async fn slice(at: Connection<'_>, slice: &Slice) -> Result<Vec<(String, String)>, sqlx::Error> {
    let (connection, query) = at.query(slice.part.sql());
    let after = slice.after.clone().unwrap_or_else(|| slice.part.beginning().to_owned());
    let rows = query.bind(after).bind(slice.sub.clone()).bind(slice.limit).fetch_all(connection).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
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

/// Deletes some of a user's messages.
pub async fn erase_messages(at: Connection<'_>, sub: &str, most: i64) -> Result<Erased, sqlx::Error> {
    let (connection, query) = at.query(
        "WITH gone AS (DELETE FROM messages WHERE id IN \
           (SELECT m.id FROM messages m WHERE m.sub = $1 ORDER BY m.id LIMIT $2) RETURNING 1) \
         SELECT count(*) FROM gone",
    );
    let row = query.bind(sub.to_owned()).bind(most).fetch_one(connection).await?;
    Ok(Erased { messages: row.try_get(0)?, ..Erased::default() })
}

/// Deletes some of a user's conversations with all that came to them meanwhile.
pub async fn erase_conversations(at: Connection<'_>, sub: &str, most: i64) -> Result<Erased, sqlx::Error> {
    // A statement sees the tables as they were before: the messages are still there to be counted.
    let (connection, query) = at.query(
        "WITH gone AS (DELETE FROM conversations WHERE id IN \
           (SELECT c.id FROM conversations c WHERE c.sub = $1 ORDER BY c.id LIMIT $2) RETURNING id) \
         SELECT (SELECT count(*) FROM gone), \
                (SELECT count(*) FROM messages m WHERE m.conversation_id IN (SELECT g.id FROM gone g))",
    );
    let row = query.bind(sub.to_owned()).bind(most).fetch_one(connection).await?;
    Ok(Erased { conversations: row.try_get(0)?, messages: row.try_get(1)?, renamed: 0 })
}

/// Puts a name that says nothing in place of a user's, where rows have to stay: usage is what the tenant is billed by.
/// All of the settings, and at most so many rows of the usage.
pub async fn rename_user(at: Connection<'_>, sub: &str, pseudonym: Uuid, most: i64) -> Result<Erased, sqlx::Error> {
    let (connection, query) = at.query(
        "WITH used AS (UPDATE usage SET sub = $2 WHERE request_id IN \
                (SELECT u.request_id FROM usage u WHERE u.sub = $1 LIMIT $3) RETURNING 1), \
              set_by AS (UPDATE settings SET updated_by = $2 WHERE updated_by = $1 RETURNING 1) \
         SELECT (SELECT count(*) FROM used) + (SELECT count(*) FROM set_by)",
    );
    let row = query.bind(sub.to_owned()).bind(format!("erased-{pseudonym}")).bind(most).fetch_one(connection).await?;
    Ok(Erased { renamed: row.try_get(0)?, ..Erased::default() })
}
