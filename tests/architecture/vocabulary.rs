//! The project uses the words of Kubernetes, Postgres, Rust and HTTP; words that it once made up don't come back.

use super::source::{Source, sources};

/// A word or phrase that is not used.
struct Replaced {
    /// It is found in prose (`look around`), in snake case (`look_around`) and in camel case (`LookAround`).
    phrase: &'static str,
    /// What is written instead.
    instead: &'static str,
    /// Paths (or their beginnings) in which it stands for something else, each with the reason.
    except: &'static [(&'static str, &'static str)],
}

const fn replaced(phrase: &'static str, instead: &'static str) -> Replaced {
    Replaced { phrase, instead, except: &[] }
}

const fn replaced_except(
    phrase: &'static str,
    instead: &'static str,
    except: &'static [(&'static str, &'static str)],
) -> Replaced {
    Replaced { phrase, instead, except }
}

const REPLACED: &[Replaced] = &[
    // Reconciling.
    replaced("a pass", "a reconcile"),
    replaced("each pass", "each reconcile"),
    replaced("every pass", "every reconcile"),
    replaced("own pass", "own reconcile"),
    replaced("the pass", "the reconcile"),
    replaced("this pass", "this reconcile"),
    replaced("tenant pass", "reconcile of a tenant"),
    replaced("agent pass", "reconcile of an AgentConfig"),
    replaced("all passes", "all reconciles"),
    replaced("later passes", "later reconciles"),
    replaced("look again", "requeue"),
    replaced("looked again", "requeued"),
    replaced("looks again", "requeues"),
    replaced("look around", "search"),
    replaced("looked after", "maintained"),
    replaced("looked at", "read"),
    replaced("a look", "a read"),
    replaced("each look", "each read"),
    replaced("next look", "next read"),
    replaced("one look", "one read"),
    replaced("the look", "the read"),
    // The admin API and the dry run.
    replaced("door", "admin API"),
    replaced("doors", "admin API"),
    replaced("posted", "manifest"),
    replaced("rehearsal", "dry run"),
    replaced("rehearse", "dry run"),
    replaced("rehearsed", "dry run"),
    replaced("rehearsing", "dry run"),
    replaced("unplayable", "dry-run error"),
    // Observations and reports.
    replaced("told", "reported"),
    replaced("unseen", "unread"),
    replaced("verdict", "part report"),
    replaced("heir", "takeover grant"),
    // Placement.
    replaced("seeker", "placement request"),
    replaced("sight", "a struct named by what it holds"),
    // The registry, effective settings.
    replaced("book", "registry index"),
    replaced("ripple", "propagate"),
    replaced("ripples", "propagates"),
    replaced("contested", "conflicting"),
    replaced("layered", "effective"),
    replaced("layers", "effective settings"),
    // Batches, rollouts, errors.
    replaced("aboard", "in the batch"),
    replaced("depart", "start a batch"),
    replaced("departs", "starts a batch"),
    replaced("board", "replica tracker"),
    replaced("its turn", "its slot"),
    replaced("urgency", "priority"),
    replaced("trouble", "error class"),
    replaced("news", "change"),
    // Timeouts and heartbeats.
    replaced("patience", "timeout"),
    replaced_except(
        "silence",
        "heartbeat timeout",
        &[
            ("charts/agent-tenancy/templates/_helpers.tpl", "refuses the earlier name of a value"),
            ("charts/agent-tenancy/values.schema.json", "has the earlier name of a value"),
            ("src/settings/operator.rs", "refuses the earlier name of a setting"),
            ("tests/chart/", "test that earlier names are refused"),
        ],
    ),
    replaced("beat", "heartbeat"),
    replaced("beats", "heartbeats"),
    replaced("sign of life", "heartbeat"),
    replaced("passed over", "timed out"),
    replaced("unaware", "unacknowledged"),
    // Permissions, certificates, keys, custom migrations.
    replaced("rights", "permissions, privileges"),
    replaced("the right to", "the permission to"),
    replaced("authorities", "CA certificates"),
    replaced("own migration", "custom migration"),
    replaced("own migrations", "custom migrations"),
    replaced("migrations of your own", "custom migrations"),
    replaced("the ring", "the keyring"),
    replaced_except("a ring", "a keyring", &[("src/effects/postgres/ledger.rs", "the column `ring_version`")]),
    replaced("its ring", "its keyring"),
    replaced("rings", "keyrings"),
    // Tests.
    replaced("story", "scenario"),
    replaced("stories", "scenarios"),
    replaced("said", "reported"),
    // Outcomes.
    replaced("anew", "recreated, again"),
    replaced("mend", "fix"),
    replaced("mended", "fixed"),
    replaced("mends", "fixes"),
    replaced("put right", "repaired"),
    replaced("everything holds", "all conditions are met"),
    replaced("until a person acts", "manual intervention required"),
    // People.
    replaced_except("he", "they", &[("tests/controlplane/go.sum", "a checksum")]),
    replaced("him", "them"),
    replaced("his", "their"),
    replaced("whose", "with, of which"),
    replaced("whom", "a shorter sentence"),
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
    for Replaced { phrase, instead, except } in REPLACED {
        if except.iter().any(|(path, _)| source.path.starts_with(path)) {
            continue;
        }
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
