//! Rules for every file: short, with a head comment, finished, and without paths of one machine.

use super::source::{Source, code, sources};

/// Longest source file.
const MOST_LINES: usize = 400;

/// Violations in one Rust file.
fn rust_faults(source: &Source) -> Vec<String> {
    let Source { path, text } = source;
    let mut faults = Vec::new();
    let lines = text.lines().count();
    if lines > MOST_LINES {
        faults.push(format!("{path}: has {lines} lines, more than {MOST_LINES}"));
    }
    if !text.starts_with("//! ") {
        faults.push(format!("{path}: must open with a sentence of purpose (//!)"));
    }
    let code = code(text);
    for macro_name in ["todo", "unimplemented", "dbg"] {
        if code.contains(&format!("{macro_name}!(")) {
            faults.push(format!("{path}: must not contain {macro_name}!"));
        }
    }
    faults
}

/// Paths of one machine. They are concatenated here, so that this file does not contain them.
fn machine_faults(source: &Source) -> Vec<String> {
    let home = |name: &str| format!("/{name}/");
    [home("work"), home("root"), home("home"), home("Users"), format!("CARGO_TARGET_DIR{}", "=/")]
        .iter()
        .filter(|part| source.text.contains(part.as_str()))
        .map(|part| format!("{}: must not name '{part}', a path of one machine", source.path))
        .collect()
}

#[test]
fn rust_files_are_short_introduced_and_finished() {
    let sources = sources(&["src", "tests", "build.rs"], |path| path.ends_with(".rs"));
    assert!(sources.len() > 30, "the source was not found");
    let found: Vec<String> = sources.iter().flat_map(rust_faults).collect();
    assert!(found.is_empty(), "{} faults:\n{}", found.len(), found.join("\n"));
}

#[test]
fn no_file_names_a_path_of_one_machine() {
    let folders = [
        "src",
        "tests",
        "config",
        "crds",
        "charts",
        ".ci",
        ".cargo",
        "Cargo.toml",
        "Makefile",
        "README.md",
        "CONTRIBUTING.md",
        "rustfmt.toml",
        "clippy.toml",
        ".gitattributes",
        ".gitignore",
        ".gitattributes",
    ];
    let found: Vec<String> = sources(&folders, |_| true).iter().flat_map(machine_faults).collect();
    assert!(found.is_empty(), "{} faults:\n{}", found.len(), found.join("\n"));
}

#[test]
fn each_kind_of_fault_is_found() {
    let of = |text: &str| Source { path: "src/x.rs".to_owned(), text: text.to_owned() };
    let long = format!("//! Long.\n{}", "\n".repeat(MOST_LINES));
    for (text, part) in [
        (long.as_str(), "lines"),
        ("fn f() {}", "sentence of purpose"),
        ("//! A.\nfn f() { todo!() }", "todo!"),
        ("//! A.\nfn f() { unimplemented!(\"later\") }", "unimplemented!"),
    ] {
        let found = rust_faults(&of(text));
        assert!(found.iter().any(|fault| fault.contains(part)), "{part}: {found:?}");
    }
    let path = ["let p = \"/", "home", "/someone/x\";"].concat();
    assert_eq!(machine_faults(&of(&path)).len(), 1);
    assert_eq!(rust_faults(&of("//! A sentence.\nconst T: &str = \"todo!()\"; // todo!()\n")), Vec::<String>::new());
}
