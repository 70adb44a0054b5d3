//! Files, make targets and verbs that the documentation names exist.

use std::path::Path;

fn text(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// The parts of `text` between `open` and `close`.
fn between<'t>(text: &'t str, open: &str, close: &str) -> Vec<&'t str> {
    text.split(open).skip(1).filter_map(|rest| rest.split_once(close).map(|(part, _)| part)).collect()
}

#[test]
fn every_link_target_exists() {
    for page in ["README.md", "CONTRIBUTING.md"] {
        let text = text(page);
        for link in between(&text, "](", ")") {
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(link);
            assert!(link.contains("://") || file.exists(), "{page} links to '{link}', which does not exist");
        }
    }
}

#[test]
fn every_path_and_target_named_exists() {
    let makefile = text("Makefile");
    for page in ["README.md", "CONTRIBUTING.md"] {
        let text = text(page);
        for word in between(&text, "`", "`") {
            if let Some(target) = word.strip_prefix("make ") {
                let target = target.split(' ').next().unwrap();
                assert!(makefile.contains(&format!("\n{target}: ")), "{page}: the Makefile has no target '{target}'");
            }
            if ["src/", "tests/", "config/", "crds/", "charts/"].iter().any(|top| word.starts_with(top)) {
                let file = word.split(['<', '*', ' ']).next().unwrap();
                let there = Path::new(env!("CARGO_MANIFEST_DIR")).join(file).exists();
                assert!(there, "{page} names '{word}', which does not exist");
            }
        }
    }
}

#[test]
fn the_plugins_verbs_are_the_documented_ones() {
    let help = std::process::Command::new(env!("CARGO_BIN_EXE_kubectl-tenant")).arg("-h").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let readme = text("README.md");
    let commands = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    for verb in commands.lines().filter_map(|line| line.split_whitespace().next()).filter(|verb| *verb != "help") {
        let forms = [format!("`kubectl tenant {verb} NAME`"), format!("| `kubectl tenant {verb}` |")];
        assert!(forms.iter().any(|form| readme.contains(form)), "README.md does not mention '{verb}'");
    }
}
