//! Source files, and their code without comments and string literals.

use std::path::{Path, PathBuf};

/// One file of the repository.
pub struct Source {
    /// Path from the repository's root, with `/`.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// Every file below these folders for which `wanted` is true.
pub fn sources(folders: &[&str], wanted: impl Fn(&str) -> bool) -> Vec<Source> {
    let top = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = folders.iter().map(|folder| top.join(folder)).collect();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            if !path.ends_with("target") && !path.ends_with("node_modules") {
                open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
        } else if path.exists() {
            let name = relative(&top, &path);
            if wanted(&name) {
                // A binary file is no source.
                let Ok(text) = std::fs::read_to_string(&path) else { continue };
                found.push(Source { path: name, text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn relative(top: &Path, path: &Path) -> String {
    path.strip_prefix(top).unwrap().to_str().unwrap().replace('\\', "/")
}

/// The code with comments removed and string and character literals emptied.
pub fn code(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut out = String::with_capacity(text.len());
    let mut i = 0;
    while i < chars.len() {
        let after_word = i > 0 && (at(i - 1).is_alphanumeric() || at(i - 1) == '_');
        if at(i) == '/' && at(i + 1) == '/' {
            while i < chars.len() && at(i) != '\n' {
                i += 1;
            }
        } else if at(i) == '/' && at(i + 1) == '*' {
            i = end_of_comment(&at, i, chars.len());
        } else if at(i) == 'r' && !after_word && matches!(at(i + 1), '"' | '#') && raw_hashes(&at, i + 1).is_some() {
            let hashes = raw_hashes(&at, i + 1).unwrap();
            i += 2 + hashes;
            while i < chars.len() && !(at(i) == '"' && (1..=hashes).all(|n| at(i + n) == '#')) {
                i += 1;
            }
            i += 1 + hashes;
            out.push_str("\"\"");
        } else if at(i) == '"' {
            i = end_of_text(&at, i, '"', chars.len());
            out.push_str("\"\"");
        } else if at(i) == '\'' && (at(i + 1) == '\\' || at(i + 2) == '\'') {
            i = end_of_text(&at, i, '\'', chars.len());
            out.push_str("''");
        } else {
            out.push(at(i));
            i += 1;
        }
    }
    out
}

fn end_of_comment(at: &impl Fn(usize) -> char, start: usize, len: usize) -> usize {
    let (mut i, mut depth) = (start, 0);
    while i < len {
        match (at(i), at(i + 1)) {
            ('/', '*') => (i, depth) = (i + 2, depth + 1),
            ('*', '/') if depth == 1 => return i + 2,
            ('*', '/') => (i, depth) = (i + 2, depth - 1),
            _ => i += 1,
        }
    }
    len
}

fn end_of_text(at: &impl Fn(usize) -> char, start: usize, quote: char, len: usize) -> usize {
    let mut i = start + 1;
    while i < len && at(i) != quote {
        i += if at(i) == '\\' { 2 } else { 1 };
    }
    i + 1
}

fn raw_hashes(at: &impl Fn(usize) -> char, start: usize) -> Option<usize> {
    let hashes = (0..).take_while(|n| at(start + n) == '#').count();
    (at(start + hashes) == '"').then_some(hashes)
}

/// Whether a word or path (`tokio`, `Timestamp::now`) occurs in code, not as a part of a longer word.
pub fn has_word(code: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word)
        .any(|(at, _)| !code[..at].ends_with(is_part) && !code[at + word.len()..].starts_with(is_part))
}

#[test]
fn comments_and_texts_are_no_code() {
    let text = r##"let a = "async // x"; // async
        /* async /* nested */ async */ let b = r#"async "quoted" "#; let c = 'a'; fn f<'a>(x: &'a str) {} let d = '\''; async {}"##;
    assert_eq!(code(text).matches("async").count(), 1, "{}", code(text));
    assert!(code(text).contains("fn f<'a>(x: &'a str) {}"));
    assert!(has_word("tokio::spawn", "tokio") && !has_word("tokio_util::x", "tokio"));
}
