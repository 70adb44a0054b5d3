//! Imports between the modules of `src/`, and words that must not occur in a module.

use super::source::{Source, code, has_word, sources};

/// A module of the crate: what it may import from the crate, and words that must not occur in it.
struct Module {
    name: &'static str,
    imports: &'static [&'static str],
    banned: &'static [&'static str],
}

/// No I/O, no clock, no randomness, no waiting.
const PURE: &[&str] = &[
    "async",
    "await",
    "tokio",
    "sqlx",
    "reqwest",
    "axum",
    "getrandom",
    "new_v4",
    "new_v7",
    "Timestamp::now",
    "Zoned::now",
    "Instant",
    "SystemTime",
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "TcpStream",
    "kube::Client",
    "kube_runtime",
];

/// Pure folders inside a module that is not pure.
const PURE_FOLDERS: &[&str] = &["src/effects/postgres/render/"];

/// The map in `src/lib.rs`.
const MODULES: &[Module] = &[
    Module { name: "api", imports: &[], banned: PURE },
    Module { name: "domain", imports: &["api"], banned: PURE },
    Module { name: "plan", imports: &["domain", "api"], banned: PURE },
    Module { name: "status", imports: &["plan", "domain", "api"], banned: PURE },
    Module { name: "effects", imports: &["plan", "domain", "api", "clock", "settings", "telemetry"], banned: &[] },
    Module {
        name: "controller",
        imports: &["effects", "status", "plan", "domain", "api", "clock", "settings", "telemetry"],
        banned: &["sqlx", "serde_yaml"],
    },
    Module {
        name: "agent_api",
        imports: &["api", "domain", "settings", "telemetry", "clock"],
        banned: &["kube_runtime::Controller", "runtime::Controller", "kube_runtime::controller", "runtime::controller"],
    },
    Module {
        name: "kubectl_tenant",
        imports: &["api", "domain", "clock"],
        banned: &["sqlx", "axum", "std::os", "tokio::signal"],
    },
    Module { name: "clock", imports: &["domain"], banned: &["sqlx", "kube"] },
    Module { name: "settings", imports: &["domain"], banned: &["sqlx", "kube"] },
    // `settings` describes the log, `telemetry` writes it: the one import within their row of the map.
    Module { name: "telemetry", imports: &["domain", "settings"], banned: &["sqlx"] },
];

/// Everything in one file that violates the map.
fn faults(source: &Source) -> Vec<String> {
    let inside = source.path.trim_start_matches("src/");
    let name = inside.split(['/', '.']).next().unwrap();
    // Programs and the crate's root compose the modules.
    if matches!(name, "bin" | "lib") {
        return Vec::new();
    }
    let Some(module) = MODULES.iter().find(|module| module.name == name) else {
        return vec![format!("{}: '{name}' is not in the map", source.path)];
    };
    let code = code(&source.text);
    let mut faults = Vec::new();
    for import in crate_imports(&code) {
        if import != module.name && !module.imports.contains(&import.as_str()) {
            faults.push(format!("{}: '{name}' must not import '{import}'", source.path));
        }
    }
    if leaves_module(inside, &code) {
        faults.push(format!("{}: 'super::…' must not leave the module", source.path));
    }
    let pure = PURE_FOLDERS.iter().any(|folder| source.path.starts_with(folder));
    for word in module.banned.iter().chain(PURE.iter().filter(|_| pure)) {
        if has_word(&code, word) {
            faults.push(format!("{}: '{word}' must not occur in '{name}'", source.path));
        }
    }
    faults
}

/// The first segment of each path that starts at `crate::`, also in `crate::{a, b::{c}}`.
fn crate_imports(code: &str) -> Vec<String> {
    let compact: String = code.chars().filter(|c| !c.is_whitespace()).collect();
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut found = Vec::new();
    for (at, _) in compact.match_indices("crate::") {
        let rest = &compact[at + "crate::".len()..];
        let Some(tree) = rest.strip_prefix('{') else {
            found.push(word(rest));
            continue;
        };
        let (mut depth, mut fresh) = (0_usize, true);
        for (i, c) in tree.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => fresh = true,
                _ if fresh => {
                    found.push(word(&tree[i..]));
                    fresh = false;
                }
                _ => {}
            }
        }
    }
    found.retain(|import| !import.is_empty());
    found
}

/// Whether a chain of `super::` reaches the crate's root. Inline modules may use one more.
fn leaves_module(inside: &str, code: &str) -> bool {
    let depth = inside.trim_end_matches("/mod.rs").split('/').count();
    let has_inline = code.lines().any(|line| {
        let line = line.trim_start().trim_start_matches("pub ").trim_start_matches("pub(crate) ");
        line.starts_with("mod ") && line.contains('{')
    });
    let limit = depth + usize::from(has_inline);
    code.contains(&"super::".repeat(limit))
}

#[test]
fn every_module_imports_only_what_the_map_allows() {
    let sources = sources(&["src"], |path| path.ends_with(".rs"));
    assert!(sources.len() > 20, "the source was not found");
    let found: Vec<String> = sources.iter().flat_map(faults).collect();
    assert!(found.is_empty(), "{} faults:\n{}", found.len(), found.join("\n"));
}

#[test]
fn each_kind_of_fault_is_found() {
    let of = |path: &str, text: &str| faults(&Source { path: path.to_owned(), text: text.to_owned() });
    let caught = |path: &str, text: &str, part: &str| {
        let found = of(path, text);
        assert!(found.iter().any(|fault| fault.contains(part)), "{text} in {path}: {found:?}");
    };
    caught("src/domain/x.rs", "use crate::plan::Step;", "must not import 'plan'");
    caught("src/domain/x.rs", "use crate::{api::Tenant, effects::{world, perform}};", "must not import 'effects'");
    caught("src/api/x.rs", "fn f() -> crate::domain::X {}", "must not import 'domain'");
    caught("src/agent_api/x.rs", "use crate::effects::database;", "must not import 'effects'");
    caught("src/plan/x.rs", "pub async fn f() {}", "'async' must not occur");
    caught("src/status/x.rs", "let now = jiff::Timestamp::now();", "'Timestamp::now' must not occur");
    caught("src/domain/x.rs", "let id = Uuid::new_v4();", "'new_v4' must not occur");
    caught("src/controller/x.rs", "use sqlx::PgPool;", "'sqlx' must not occur");
    caught("src/effects/postgres/render/x.rs", "pub async fn f() {}", "'async' must not occur");
    caught("src/domain/x.rs", "use super::super::plan::Step;", "must not leave the module");
    caught("src/domain/mod.rs", "use super::plan::Step;", "must not leave the module");
    caught("src/helpers/x.rs", "fn f() {}", "is not in the map");
    let fine = "//! Not async, no crate::effects.\nuse crate::{api::{Tenant, names::KEYRING}, domain::ident::Uid};\n\
                const TEXT: &str = \"async crate::effects\";\nmod tests { use super::super::ident; }";
    assert_eq!(of("src/domain/x.rs", fine), Vec::<String>::new());
    assert_eq!(of("src/bin/x.rs", "async fn main() {}"), Vec::<String>::new());
}
