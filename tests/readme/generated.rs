//! The tables of conditions and reasons equal the closed lists in `src/api`; `make generate` writes them.

use agent_tenancy::api::{ConditionType, Reason};
use std::{fmt::Write as _, path::Path};

fn table(head: &str, rows: impl Iterator<Item = (&'static str, &'static str)>) -> String {
    let mut text = format!("| {head} | meaning |\n| --- | --- |\n");
    for (word, meaning) in rows {
        writeln!(text, "| `{word}` | {} |", meaning.trim().replace('|', "\\|")).unwrap();
    }
    text
}

/// `text` with that table between the marks of that name.
fn put(text: &str, name: &str, table: &str) -> String {
    let (begin, end) = (format!("<!-- {name}: begin -->\n"), format!("<!-- {name}: end -->"));
    let from = text.find(&begin).unwrap_or_else(|| panic!("README.md has no '{}'", begin.trim())) + begin.len();
    let to = from + text[from..].find(&end).unwrap_or_else(|| panic!("README.md has no '{end}'"));
    format!("{}{table}{}", &text[..from], &text[to..])
}

#[test]
fn generated_tables_equal_the_code() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let committed = std::fs::read_to_string(&file).unwrap();
    let conditions = table("condition", ConditionType::ALL.iter().map(|c| (c.as_str(), c.meaning())));
    let reasons = table("reason", Reason::ALL.iter().map(|r| (r.as_str(), r.meaning())));
    let generated = put(&put(&committed, "conditions", &conditions), "reasons", &reasons);
    if std::env::var_os("UPDATE").is_some() {
        return std::fs::write(&file, generated).unwrap();
    }
    assert!(committed == generated, "README.md is not what is generated; run `make generate`");
}
