//! The tables of conditions and reasons equal the closed lists in `src/api`; `make generate` writes them.

use agent_tenancy::api::{ConditionType, Reason};
use std::{fmt::Write as _, path::Path};

fn conditions() -> String {
    let mut text = "| condition | meaning |\n| --- | --- |\n".to_owned();
    for condition in ConditionType::ALL {
        writeln!(text, "| `{condition}` | {} |", condition.meaning().trim()).unwrap();
    }
    text
}

fn reasons() -> String {
    let mut text =
        "| reason | what it means | what the operator does | what you can do |\n| --- | --- | --- | --- |\n".to_owned();
    let cell = |text: &'static str| if text.is_empty() { "–" } else { text };
    for reason in Reason::ALL {
        let advice = reason.advice();
        let (operator, user) = (cell(advice.operator), cell(advice.user));
        writeln!(text, "| `{reason}` | {} | {operator} | {user} |", reason.meaning().trim()).unwrap();
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
    let generated = put(&put(&committed, "conditions", &conditions()), "reasons", &reasons());
    if std::env::var_os("UPDATE").is_some() {
        return std::fs::write(&file, generated).unwrap();
    }
    assert!(committed == generated, "README.md differs from the generated text; run `make generate`");
}
