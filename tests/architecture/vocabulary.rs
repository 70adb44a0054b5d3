//! The project uses the words of Kubernetes, Postgres, Rust and HTTP; words that it once made up don't come back.

use super::source::{Source, sources};

/// A word or phrase that is not used, and what is written instead. It is found in prose (`look around`), in snake case
/// (`look_around`) and in camel case (`LookAround`).
const REPLACED: &[(&str, &str)] = &[
    ("aboard", "in the batch"),
    ("look around", "search"),
    ("rehearsal", "dry run"),
    ("rehearse", "dry run"),
    ("rehearsing", "dry run"),
    ("unaware", "unacknowledged"),
    ("unplayable", "dry-run error"),
    ("until a person acts", "manual intervention required"),
];

/// Files that are stored in databases, byte for byte, or that have to name the words.
const EXEMPT: &[&str] = &["config/migrations/", "config/sql/control/", "tests/architecture/vocabulary.rs"];

/// The words of a text in lower case, each with its line; `snake_case` and `CamelCase` are taken apart.
fn words(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let mut word = String::new();
        let mut before = ' ';
        for c in line.chars().chain([' ']) {
            let starts = c.is_uppercase() && before.is_lowercase();
            if (starts || !c.is_alphanumeric()) && !word.is_empty() {
                found.push((number + 1, std::mem::take(&mut word)));
            }
            if c.is_alphanumeric() {
                word.extend(c.to_lowercase());
            }
            before = c;
        }
    }
    found
}

/// Every replaced word in a file.
fn faults(source: &Source) -> Vec<String> {
    if EXEMPT.iter().any(|path| source.path.starts_with(path)) {
        return Vec::new();
    }
    let words = words(&source.text);
    let mut faults = Vec::new();
    for (phrase, instead) in REPLACED {
        let phrase: Vec<&str> = phrase.split(' ').collect();
        for window in words.windows(phrase.len()) {
            if window.iter().map(|(_, word)| word.as_str()).eq(phrase.iter().copied()) {
                faults.push(format!("{}:{}: '{}': write {instead}", source.path, window[0].0, phrase.join(" ")));
            }
        }
    }
    faults
}

#[test]
fn replaced_words_do_not_come_back() {
    let folders = ["src", "tests", "charts", "crds", "config", "README.md", "CONTRIBUTING.md", "Makefile"];
    let found: Vec<String> = sources(&folders, |_| true).iter().flat_map(faults).collect();
    assert!(found.is_empty(), "{} faults:\n{}", found.len(), found.join("\n"));
}

#[test]
fn words_are_found_in_prose_and_in_names() {
    let of = |text: &str| faults(&Source { path: "src/x.rs".to_owned(), text: text.to_owned() }).len();
    for text in ["// to look\n// around", "fn look_around()", "Reason::LookAround", "LOOK_AROUND", "lookAround: 1"] {
        assert_eq!(of(text), 1, "{text}");
    }
    for text in ["overlook around", "look. turn around", "looks around", "rehearsals"] {
        assert_eq!(of(text), 0, "{text}");
    }
}
