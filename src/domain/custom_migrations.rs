//! The platform team's custom migrations: SQL files that every tenant gets in a second schema.

use super::{
    migrations::{Migration, PRIVILEGES},
    statements::find_transaction_control,
};
use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

/// Maximum number of files. A ConfigMap holds at most 1 MiB.
const MOST: usize = 999;

/// The files, in order, without gaps. Clones share them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CustomMigrations(Arc<[Migration]>);

/// Why they can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CustomMigrationsError {
    /// A name that is not `0001_words.sql`.
    #[error("'{0}': a file must be named like 0001_notes.sql: four digits from 0001 on, then words of a-z, 0-9 and _")]
    Name(String),
    /// A number is missing or duplicate.
    #[error("'{name}': this is file number {place}, so its name must start with {place:04}: numbers have no gaps")]
    Gap {
        /// The file.
        name: String,
        /// What its number should be.
        place: i32,
    },
    /// A file is empty.
    #[error("'{0}' is empty")]
    Empty(String),
    /// A file contains a zero byte, which Postgres accepts in no text.
    #[error("'{0}' contains a zero byte")]
    Zero(String),
    /// A file begins or ends a transaction.
    #[error(
        "{name}: line {line}: {word}: the operator runs each file in a transaction of its own (or, with the line \
         '-- no-transaction', as one statement): remove the file's transaction commands"
    )]
    Transaction {
        /// The file.
        name: String,
        /// Number of the line, from 1.
        line: usize,
        /// The command.
        word: String,
    },
    /// A grant does not follow the form.
    #[error("{0}; privileges may be {list}", list = PRIVILEGES.join(", "))]
    Grant(#[from] super::migrations::GrantError),
    /// There are too many files.
    #[error("there may be at most {MOST} files")]
    Many,
}

impl CustomMigrations {
    /// Parses the files of a ConfigMap, by name.
    ///
    /// # Errors
    /// With the name of the first file that breaks a rule.
    pub fn parse(files: &BTreeMap<String, String>) -> Result<Self, CustomMigrationsError> {
        if files.len() > MOST {
            return Err(CustomMigrationsError::Many);
        }
        let mut parsed = Vec::with_capacity(files.len());
        for (place, (name, sql)) in (1..).zip(files) {
            let number = parse_name(name).ok_or_else(|| CustomMigrationsError::Name(name.clone()))?;
            if number != place {
                return Err(CustomMigrationsError::Gap { name: name.clone(), place });
            }
            if sql.trim().is_empty() {
                return Err(CustomMigrationsError::Empty(name.clone()));
            }
            if sql.contains('\0') {
                return Err(CustomMigrationsError::Zero(name.clone()));
            }
            if let Some((line, word)) = find_transaction_control(sql) {
                return Err(CustomMigrationsError::Transaction { name: name.clone(), line, word });
            }
            // The same file with another line ending is the same migration.
            let sql = sql.replace("\r\n", "\n");
            let file = Migration { version: place, name: Cow::Owned(name.clone()), sql: Cow::Owned(sql) };
            file.grants()?;
            parsed.push(file);
        }
        Ok(Self(parsed.into()))
    }

    /// The files, in order.
    pub fn files(&self) -> &[Migration] {
        &self.0
    }

    /// The version of a tenant that has all of them.
    pub fn version(&self) -> i32 {
        self.0.last().map_or(0, |file| file.version)
    }
}

/// Name of the schema for a tenant's custom tables, and of the role that creates them: at most 53 bytes. The
/// last part of a tenant's schema contains no underscore, so it is never the name of another tenant's schema.
pub fn own_name(schema: &str) -> String {
    format!("{schema}_x")
}

fn parse_name(name: &str) -> Option<i32> {
    let (number, words) = name.strip_suffix(".sql")?.split_once('_')?;
    let good = number.len() == 4
        && number.bytes().all(|b| b.is_ascii_digit())
        && !words.is_empty()
        && words.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    good.then(|| number.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(files: &[(&str, &str)]) -> Result<CustomMigrations, String> {
        let files = files.iter().map(|(name, sql)| ((*name).to_owned(), (*sql).to_owned())).collect();
        CustomMigrations::parse(&files).map_err(|error| error.to_string())
    }

    #[test]
    fn files_are_numbered_by_their_names() {
        let all = parse(&[("0002_more.sql", "SELECT 2"), ("0001_notes.sql", "-- grant: SELECT ON notes\nSELECT 1")]);
        let all = all.unwrap();
        let names: Vec<_> = all.files().iter().map(|f| (f.version, f.name.as_ref())).collect();
        assert_eq!((names, all.version()), (vec![(1, "0001_notes.sql"), (2, "0002_more.sql")], 2));
        assert_eq!(parse(&[]).unwrap().version(), 0);
    }

    #[test]
    fn a_line_ending_makes_no_other_migration() {
        let lf = "-- grant: SELECT ON notes\nCREATE TABLE notes ();\n-- no-transaction\n";
        let crlf = lf.replace('\n', "\r\n");
        let (lf, crlf) = (parse(&[("0001_a.sql", lf)]).unwrap(), parse(&[("0001_a.sql", &crlf)]).unwrap());
        assert_eq!(lf, crlf);
    }

    #[test]
    fn an_error_names_the_file() {
        for (files, message) in [
            (&[("notes.sql", "SELECT 1")][..], "'notes.sql': a file must be named like"),
            (&[("0001_Notes.sql", "SELECT 1")], "'0001_Notes.sql': a file must"),
            (&[("0001_notes.txt", "SELECT 1")], "'0001_notes.txt': a file must"),
            (&[("0002_notes.sql", "SELECT 1")], "'0002_notes.sql': this is file number 1"),
            (&[("0001_a.sql", "SELECT 1"), ("0001_b.sql", "SELECT 1")], "'0001_b.sql': this is file number 2"),
            (&[("0001_a.sql", " \n")], "'0001_a.sql' is empty"),
            (&[("0001_a.sql", "SELECT '\0'")], "'0001_a.sql' contains a zero byte"),
            (
                &[("0001_a.sql", "CREATE TABLE a ();\nCOMMIT;")],
                "0001_a.sql: line 2: COMMIT: the operator runs each file",
            ),
            (&[("0001_a.sql", "-- grant: ALL ON notes\nSELECT 1")], "0001_a.sql: line 1 is not"),
        ] {
            let error = parse(files).unwrap_err();
            assert!(error.starts_with(message), "{error}");
        }
    }
}
