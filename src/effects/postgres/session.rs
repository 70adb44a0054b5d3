//! The session that applies a custom migration: a separate connection with a separate login, for one file.

use super::{
    Database, PgError, PgErrorKind,
    render::{Session, session_seconds},
};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row, postgres::PgErrorPosition};
use std::time::Duration;
use tokio::time::timeout;

impl Database {
    /// Applies a file unless it was applied before.
    pub(super) async fn run_session(&self, name: &'static str, session: Session) -> Result<(), PgError> {
        let mut connection = self.pool.connect_as(name, &session.login, session.password.expose()).await?;
        let limit = Duration::from_secs(session_seconds(&self.settings));
        let done = timeout(limit, apply_file(&mut connection, name, session)).await;
        if let Ok(Ok(())) = done {
            // The file is committed. An error of closing the connection does not matter.
            drop(timeout(Duration::from_secs(1), connection.close()).await);
            return Ok(());
        }
        // Dropping the connection ends a running statement.
        done.unwrap_or_else(|_| Err(PgError::interrupted(name, "the server did not answer in time")))
    }
}

async fn apply_file(connection: &mut PgConnection, name: &'static str, session: Session) -> Result<(), PgError> {
    let rows = sqlx::raw_sql(AssertSqlSafe(session.ask)).fetch_all(&mut *connection).await;
    let rows = rows.map_err(|error| PgError::from_sqlx(name, &error, true))?;
    if rows.last().is_some_and(|row| row.try_get(0).unwrap_or_default()) {
        return Ok(());
    }
    for text in session.messages {
        send(connection, name, text, &session.file).await?;
    }
    Ok(())
}

/// Sends statements that contain the file. An error names the line of the file.
async fn send(connection: &mut PgConnection, name: &'static str, text: String, file: &str) -> Result<(), PgError> {
    let sent = sqlx::raw_sql(AssertSqlSafe(text.clone())).execute(&mut *connection).await;
    sent.map(drop).map_err(|error| match &error {
        sqlx::Error::Database(refusal) => {
            let classified = PgError::from_sqlx(name, &error, true);
            let server = refusal.try_downcast_ref::<sqlx::postgres::PgDatabaseError>();
            let at = server.and_then(|s| match s.position() {
                Some(PgErrorPosition::Original(at)) => find_line(&text, file, at),
                Some(PgErrorPosition::Internal { .. }) | None => None,
            });
            let line = at.map(|line| format!("line {line}: ")).unwrap_or_default();
            // Such messages quote values of rows, which only the server's log may contain.
            let message = match classified.code() {
                code if code.starts_with("22") => "a value does not fit; the server's log has it".to_owned(),
                _ => refusal.message().to_owned(),
            };
            // The file may have made its own transaction read-only, which says nothing about the server.
            let kind = match classified.kind {
                PgErrorKind::Unwritable => PgErrorKind::Refused,
                kind => kind,
            };
            PgError { note: format!("{line}{message} (SQLSTATE {})", classified.code()), kind, ..classified }
        }
        _ => PgError::from_sqlx(name, &error, true),
    })
}

/// The line of the file at a position in the message. Both start at 1; positions count characters.
fn find_line(text: &str, file: &str, position: usize) -> Option<usize> {
    let start = text.find(file)?;
    let at = text.char_indices().nth(position.checked_sub(1)?).map(|(at, _)| at)?;
    let within = text.get(start..at)?;
    (within.len() <= file.len()).then(|| within.matches('\n').count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_in_the_message_is_a_line_of_the_file() {
        let file = "-- ä\nCREATE TABLE a ();\nCREATE TABEL b ();\n";
        let text = format!("BEGIN;\n{file}\n;COMMIT;");
        let position =
            text.chars().position(|c| c == 'T').map(|_| text.split("TABEL").next().unwrap().chars().count() + 1);
        assert_eq!(find_line(&text, file, position.unwrap()), Some(3));
        assert_eq!(find_line(&text, file, 1), None);
        assert_eq!(find_line(&text, file, text.chars().count()), None);
        assert_eq!(find_line(&text, "another", 9), None);
    }
}
