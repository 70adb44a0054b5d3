//! The statement that reads a page of a user's messages. Columns are always named, values always bound.

use super::{Connection, Transaction};
use jiff_sqlx::Timestamp;
use sqlx::{Row, postgres::PgRow};
use uuid::Uuid;

/// A message as history shows it.
#[derive(Clone, Debug)]
pub struct StoredMessage {
    /// Its id.
    pub id: Uuid,
    /// Its conversation.
    pub conversation: Uuid,
    /// `user` or `assistant`.
    pub role: String,
    /// `pending`, `answered`, `failed` or `complete`.
    pub status: String,
    /// Its text.
    pub content: String,
    /// Agent that answered or should have.
    pub agent: String,
    /// Its revision.
    pub revision: i64,
    /// When it was stored.
    pub created_at: jiff::Timestamp,
}

/// Which page of the history.
#[derive(Clone, Debug)]
pub struct PageQuery {
    /// The user.
    pub sub: String,
    /// Only of this conversation.
    pub conversation: Option<Uuid>,
    /// Beyond this message.
    pub after: Option<Uuid>,
    /// Newest first.
    pub descending: bool,
    /// Most rows.
    pub limit: i64,
    /// Bytes of content after which messages come without it.
    pub bytes: i64,
}

/// A page of the history.
#[derive(Clone, Debug)]
pub struct Page {
    /// Its messages.
    pub messages: Vec<StoredMessage>,
    /// Whether it ended early because of its bytes.
    pub is_cut: bool,
}

/// The length of a text is known without reading the text: beyond `$4` bytes a message comes without its content.
macro_rules! page {
    ($order:literal, $comparison:literal, $start:literal, $filter:literal) => {
        concat!(
            "SELECT p.id, p.conversation_id, p.role, p.status, CASE WHEN p.before < $4 THEN p.content END, p.agent, \
                    p.revision, p.created_at \
               FROM (SELECT r.id, r.conversation_id, r.role, r.status, r.content, r.agent, r.revision, r.created_at, \
                            sum(octet_length(r.content)) OVER (ORDER BY r.id ",
            $order,
            " ROWS UNBOUNDED PRECEDING) - octet_length(r.content) AS before \
                       FROM (SELECT m.id, m.conversation_id, m.role, m.status, m.content, m.agent, m.revision, m.created_at \
                               FROM messages m WHERE m.sub = $1 AND m.id ",
            $comparison,
            " coalesce($2, '",
            $start,
            "'::uuid)",
            $filter,
            " ORDER BY m.id ",
            $order,
            " LIMIT $3) r) p ORDER BY p.id ",
            $order
        )
    };
}

/// Reads one page of a user's messages.
impl Transaction for PageQuery {
    type Output = Page;

    async fn run(&self, at: Connection<'_>) -> Result<Page, sqlx::Error> {
        // One text per form, so that each can use its index: an optional condition would hide it from the planner.
        let sql = match (self.descending, self.conversation.is_some()) {
            (true, false) => page!("DESC", "<", "ffffffff-ffff-ffff-ffff-ffffffffffff", ""),
            (false, false) => page!("ASC", ">", "00000000-0000-0000-0000-000000000000", ""),
            (true, true) => {
                page!("DESC", "<", "ffffffff-ffff-ffff-ffff-ffffffffffff", " AND m.conversation_id = $5")
            }
            (false, true) => {
                page!("ASC", ">", "00000000-0000-0000-0000-000000000000", " AND m.conversation_id = $5")
            }
        };
        let (connection, query) = at.query(sql);
        let mut query = query.bind(self.sub.clone()).bind(self.after).bind(self.limit).bind(self.bytes);
        if let Some(conversation) = self.conversation {
            query = query.bind(conversation);
        }
        let rows = query.fetch_all(connection).await?;
        let mut messages = Vec::with_capacity(rows.len());
        for row in &rows {
            match message(row)? {
                Some(message) => messages.push(message),
                None => break,
            }
        }
        Ok(Page { is_cut: messages.len() < rows.len(), messages })
    }
}

/// The message of a row, unless it came without its content.
fn message(row: &PgRow) -> Result<Option<StoredMessage>, sqlx::Error> {
    let Some(content) = row.try_get(4)? else { return Ok(None) };
    let created_at: Timestamp = row.try_get(7)?;
    Ok(Some(StoredMessage {
        id: row.try_get(0)?,
        conversation: row.try_get(1)?,
        role: row.try_get(2)?,
        status: row.try_get(3)?,
        content,
        agent: row.try_get(5)?,
        revision: row.try_get(6)?,
        created_at: created_at.to_jiff(),
    }))
}
