//! No circles: of the modules that lie side by side in one folder, none imports another one that imports it, directly or
//! through others.
//!
//! A module and its parent may use each other, and test modules may use everything. An item that a folder's `mod.rs`
//! re-exports counts for the file that defines it.

use super::source::{Source, code, sources};
use std::collections::{BTreeMap, BTreeSet};

/// A module's path inside the crate: `["plan", "step"]`.
type Path = Vec<String>;

/// A module: its code without inline modules, and the names that it re-exports, each with the path of the item.
struct ModuleFile {
    code: String,
    reexports: BTreeMap<String, Path>,
}

/// The files of `src/` by module path.
struct Crate(BTreeMap<Path, ModuleFile>);

/// `a` imports from `b`, both directly in `folder`; `evidence` is one file that does it, and the module that it uses.
type Imports = BTreeMap<Path, BTreeMap<(String, String), String>>;

/// The module path of a file, or `None` for programs, the crate's root and tests.
fn module_path(file: &str) -> Option<Path> {
    let inside = file.strip_prefix("src/")?.strip_suffix(".rs")?;
    let mut path: Path = inside.split('/').map(str::to_owned).collect();
    if path.last().is_some_and(|name| name == "mod") {
        path.pop();
    }
    let skipped = path.iter().any(|name| name == "tests") || matches!(path[0].as_str(), "bin" | "lib" | "main");
    (!skipped).then_some(path)
}

/// The code without inline modules (`mod tests { … }`).
fn without_inline_modules(code: &str) -> String {
    let (mut out, mut hidden) = (String::new(), 0_usize);
    for line in code.lines() {
        let (opened, closed) = (line.matches('{').count(), line.matches('}').count());
        let words: Vec<&str> = line.split_whitespace().collect();
        let starts = words.contains(&"mod") && words.last() == Some(&"{");
        if hidden > 0 || starts {
            hidden = (hidden + opened).saturating_sub(closed);
        } else {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

/// Every path in a `use` tree, with the name that it gets: `a::{b, c as d}` is `a::b` and `a::c` named `d`.
fn expand(tree: &str, before: &[String], found: &mut Vec<(String, Path)>) {
    let tree = tree.trim();
    if let Some((head, rest)) = tree.split_once('{') {
        let mut path = before.to_vec();
        path.extend(head.split("::").map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned));
        let inner = rest.trim_end().strip_suffix('}').unwrap_or(rest);
        let (mut depth, mut start) = (0_i32, 0);
        for (at, c) in inner.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    expand(&inner[start..at], &path, found);
                    start = at + 1;
                }
                _ => {}
            }
        }
        expand(&inner[start..], &path, found);
    } else if !tree.is_empty() {
        let (names, alias) = tree.split_once(" as ").map_or((tree, None), |(names, alias)| (names, Some(alias)));
        let mut path = before.to_vec();
        path.extend(names.split("::").map(|name| name.trim().to_owned()).filter(|name| name != "self"));
        let name = alias.map_or_else(|| path.last().cloned().unwrap_or_default(), |alias| alias.trim().to_owned());
        found.push((name, path));
    }
}

/// The `use` statements: visible outside or not, name and path.
fn uses(code: &str) -> Vec<(bool, String, Path)> {
    let mut found = Vec::new();
    for statement in code.split(';') {
        let Some(line) = statement.lines().position(|line| {
            let line = line.trim_start();
            line.starts_with("use ") || (line.starts_with("pub") && line.contains(" use "))
        }) else {
            continue;
        };
        let text = statement.lines().skip(line).collect::<Vec<_>>().join(" ");
        let Some((visibility, tree)) = text.split_once("use ") else { continue };
        let mut paths = Vec::new();
        expand(tree, &[], &mut paths);
        found.extend(paths.into_iter().map(|(name, path)| (!visibility.trim().is_empty(), name, path)));
    }
    found
}

/// Paths that stand in code rather than in `use`: `crate::plan::Plan`, `super::render`.
fn inline_paths(code: &str) -> Vec<Path> {
    let mut found = Vec::new();
    for root in ["crate::", "super::"] {
        for (at, _) in code.match_indices(root) {
            if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let path = code[at..].split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).next().unwrap();
            found.push(path.split("::").filter(|name| !name.is_empty()).map(str::to_owned).collect());
        }
    }
    found
}

impl Crate {
    fn read(files: &[Source]) -> Self {
        let mut modules = BTreeMap::new();
        for file in files {
            let Some(path) = module_path(&file.path) else { continue };
            let code = without_inline_modules(&code(&file.text));
            let reexports =
                uses(&code).into_iter().filter(|(visible, ..)| *visible).map(|(_, name, path)| (name, path));
            modules.insert(path, ModuleFile { reexports: reexports.collect(), code });
        }
        Self(modules)
    }

    /// A path as it is written in a module, from the crate's root; `None` for another crate's.
    fn absolute(&self, module: &Path, written: &[String]) -> Option<Path> {
        let mut base = module.clone();
        let mut rest = written;
        match written.first()?.as_str() {
            "crate" => (base, rest) = (Path::new(), &written[1..]),
            "self" => rest = &written[1..],
            "super" => {
                while rest.first().is_some_and(|name| name == "super") {
                    base.pop()?;
                    rest = &rest[1..];
                }
            }
            child => {
                let path: Path = module.iter().cloned().chain([child.to_owned()]).collect();
                self.0.get(&path)?;
            }
        }
        base.extend(rest.iter().cloned());
        Some(base)
    }

    /// The module that defines what a path names; re-exports are followed.
    fn defining(&self, path: &Path, depth: usize) -> Option<Path> {
        let length = (1..=path.len()).rev().find(|length| self.0.contains_key(&path[..*length]))?;
        let module = path[..length].to_vec();
        let target = path.get(length).and_then(|name| self.0[&module].reexports.get(name));
        match target.and_then(|target| self.absolute(&module, target)) {
            Some(target) if depth < 8 && target != *path => self.defining(&target, depth + 1),
            _ => Some(module),
        }
    }

    fn imports(&self) -> Imports {
        let mut imports = Imports::new();
        for (module, file) in &self.0 {
            let used = uses(&file.code).into_iter().map(|(_, _, path)| path).chain(inline_paths(&file.code));
            for target in used.filter_map(|path| self.defining(&self.absolute(module, &path)?, 0)) {
                let common = module.iter().zip(&target).take_while(|(a, b)| a == b).count();
                let (Some(from), Some(to)) = (module.get(common), target.get(common)) else { continue };
                let evidence = format!("{} uses {}", module.join("::"), target.join("::"));
                let folder = imports.entry(module[..common].to_vec()).or_default();
                folder.entry((from.clone(), to.clone())).or_insert(evidence);
            }
        }
        imports
    }
}

/// One circle for each set of modules of one folder that import each other.
fn circles(files: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for (folder, edges) in Crate::read(files).imports() {
        let mut named = BTreeSet::new();
        for start in edges.keys().map(|(from, _)| from) {
            if let Some(circle) = way_back(start, &edges).filter(|circle| named.insert(sorted(circle))) {
                let steps: Vec<&str> = circle
                    .iter()
                    .zip(circle.iter().cycle().skip(1))
                    .map(|(a, b)| edges[&(a.clone(), b.clone())].as_str())
                    .collect();
                found.push(format!("src/{}: {}: {}", folder.join("/"), circle.join(" → "), steps.join("; ")));
            }
        }
    }
    found
}

fn sorted(circle: &[String]) -> Vec<String> {
    let mut names = circle.to_vec();
    names.sort();
    names
}

/// The shortest way from a module back to itself.
fn way_back(start: &String, edges: &BTreeMap<(String, String), String>) -> Option<Vec<String>> {
    let mut ways = vec![vec![start.clone()]];
    let mut reached = BTreeSet::new();
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in ways {
            for (_, to) in edges.keys().filter(|(from, _)| Some(from) == way.last()) {
                if to == start {
                    return Some(way);
                }
                if reached.insert(to.clone()) {
                    longer.push(way.iter().cloned().chain([to.clone()]).collect::<Vec<_>>());
                }
            }
        }
        ways = longer;
    }
    None
}

#[test]
fn no_modules_import_each_other_in_a_circle() {
    let files = sources(&["src"], |path| path.ends_with(".rs"));
    assert!(files.len() > 100, "the source was not found");
    let found = circles(&files);
    assert!(found.is_empty(), "{} circles:\n{}", found.len(), found.join("\n"));
}

#[test]
fn each_kind_of_circle_is_found() {
    let of = |files: &[(&str, &str)]| {
        let files: Vec<Source> =
            files.iter().map(|(path, text)| Source { path: (*path).to_owned(), text: (*text).to_owned() }).collect();
        circles(&files)
    };
    let direct =
        of(&[("src/a/x.rs", "use super::y::Y;"), ("src/a/y.rs", "use crate::a::{x::X};"), ("src/a/mod.rs", "")]);
    assert_eq!(direct, ["src/a: x → y: a::x uses a::y; a::y uses a::x"]);
    let inline = [("src/a/x.rs", "fn f() { super::y::f() }"), ("src/a/y.rs", "fn f() -> crate::a::x::X {}")];
    assert_eq!(of(&inline).len(), 1);
    let three = [("src/a.rs", "use crate::b::B;"), ("src/b.rs", "use crate::c::C;"), ("src/c.rs", "use crate::a::A;")];
    assert_eq!(of(&three).len(), 1);
    let folders =
        [("src/a/p/x.rs", "use crate::a::q::y::Y;"), ("src/a/p/z.rs", ""), ("src/a/q/y.rs", "use crate::a::p::z;")];
    let folders = of(&[&folders[..], &[("src/a/q/mod.rs", "mod y;"), ("src/a/p/mod.rs", "")]].concat());
    assert_eq!(folders.len(), 1, "{folders:?}");
    let reexported =
        [("src/a/mod.rs", "pub use y::Y;"), ("src/a/x.rs", "use super::Y;"), ("src/a/y.rs", "use super::x::X;")];
    assert_eq!(of(&reexported).len(), 1);
    let fine = [
        ("src/a/mod.rs", "pub use x::X;\npub struct Own;"),
        ("src/a/x.rs", "use super::{Own, y::Y};"),
        ("src/a/y.rs", "use super::Own;\n#[cfg(test)]\nmod tests {\n    use super::super::x::X;\n}"),
        ("src/a/tests.rs", "use super::x::X;"),
    ];
    assert_eq!(of(&fine), Vec::<String>::new());
}
