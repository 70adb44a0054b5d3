//! Hostile names and values: the server reads a quoted text as the original one, and quotes it in the same way.

use super::setup::on_both;
use agent_tenancy::domain::sql::{quote_ident, quote_literal};
use devkit::{PgVersion, Postgres};
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

on_both!(the_server_agrees);

const HOSTILE: &[&str] = &[
    "'",
    "''",
    "\\",
    "\\'",
    "'; DROP TABLE x; --",
    "\"",
    "\"\"",
    "$$",
    "E'",
    "/*",
    "--",
    "\n",
    "\u{feff}",
    "Ünï",
    "select",
    "a\"b'c\\d",
    "\\\\'",
    "\t",
    "%",
    "😀",
    " ",
    ";",
    "U&'\\0041'",
];

async fn the_server_agrees(version: PgVersion) {
    let server = Postgres::shared(version).await.unwrap();
    let mut connection = PgConnection::connect(&server.superuser_url("postgres")).await.unwrap();
    let mut texts: Vec<String> = HOSTILE.iter().map(|t| (*t).to_owned()).collect();
    let strategy = proptest::collection::vec(
        prop_oneof![proptest::sample::select(HOSTILE).prop_map(str::to_owned), "[^\\x00]{0,6}"],
        0..6,
    );
    let mut runner = TestRunner::deterministic();
    texts.extend((0..400).map(|_| strategy.new_tree(&mut runner).unwrap().current().concat()));
    for conforming in ["on", "off"] {
        let set = format!("SET standard_conforming_strings = {conforming}; SET backslash_quote = on;");
        sqlx::raw_sql(AssertSqlSafe(set)).execute(&mut connection).await.unwrap();
        for text in &texts {
            let literal = quote_literal(text).unwrap();
            let rows = sqlx::raw_sql(AssertSqlSafe(format!(
                "SELECT {literal}::text, quote_literal({literal}) = quote_literal($q${text}$q$)"
            )));
            // A text that contains the dollar-quote tag can't be dollar-quoted; then only the value is compared.
            let rows = if text.contains("$q$") {
                sqlx::raw_sql(AssertSqlSafe(format!("SELECT {literal}::text")))
            } else {
                rows
            };
            let row = rows.fetch_one(&mut connection).await.unwrap_or_else(|e| panic!("{text:?}: {e}"));
            assert_eq!(row.get::<String, _>(0), *text);
            if text.is_empty() || text.len() > 63 {
                assert!(quote_ident(text).is_err());
                continue;
            }
            let ident = quote_ident(text).unwrap();
            let row =
                sqlx::raw_sql(AssertSqlSafe(format!("SELECT 1 AS {ident}"))).fetch_one(&mut connection).await.unwrap();
            assert_eq!(sqlx::Column::name(&sqlx::Row::columns(&row)[0]), text);
            let own: String =
                sqlx::query("SELECT quote_ident($1)").bind(text).fetch_one(&mut connection).await.unwrap().get(0);
            assert!(own == ident || format!("\"{own}\"") == ident, "{own} and {ident}");
        }
    }
}
