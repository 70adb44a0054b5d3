//! The statements of an SQL file, as far as it matters which of them begin or end a transaction.

/// The first command that begins or ends a transaction: the number of its line, from 1, and the command. Comments, texts,
/// quoted names and the bodies of functions are skipped.
pub(crate) fn find_transaction_control(sql: &str) -> Option<(usize, String)> {
    let chars: Vec<char> = sql.chars().collect();
    let mut statement = Statement::default();
    let (mut i, mut line) = (0, 1);
    while let Some(&c) = chars.get(i) {
        let next = match c {
            '-' if chars.get(i + 1) == Some(&'-') => end_of_line(&chars, i),
            '/' if chars.get(i + 1) == Some(&'*') => end_of_comment(&chars, i),
            '\'' => end_of_text(&chars, i, '\'', i > 0 && matches!(chars[i - 1], 'e' | 'E')),
            '"' => end_of_text(&chars, i, '"', false),
            '$' => end_of_dollar_text(&chars, i),
            ';' => {
                if let Some(found) = statement.find() {
                    return Some(found);
                }
                if statement.depth == 0 {
                    statement = Statement::default();
                }
                i + 1
            }
            c if c.is_alphabetic() || c == '_' => {
                let end = (i..chars.len()).find(|at| !is_part_of_word(chars[*at])).unwrap_or(chars.len());
                statement.add(chars[i..end].iter().collect::<String>().to_uppercase(), line);
                end
            }
            _ => i + 1,
        };
        line += chars[i..next.min(chars.len())].iter().filter(|c| **c == '\n').count();
        i = next;
    }
    statement.find()
}

#[derive(Default)]
struct Statement {
    /// Its first words, in upper case.
    words: Vec<String>,
    last: String,
    line: usize,
    /// Open `BEGIN ATOMIC` and `CASE` in the body of a function in standard SQL.
    depth: usize,
}

impl Statement {
    fn add(&mut self, word: String, line: usize) {
        if self.words.is_empty() {
            self.line = line;
        }
        match (word.as_str(), self.depth) {
            ("ATOMIC", 0) if self.last == "BEGIN" && self.words.len() > 1 => self.depth = 1,
            ("CASE", 1..) => self.depth += 1,
            ("END", 1..) => self.depth -= 1,
            _ => {}
        }
        if self.words.len() < 3 {
            self.words.push(word.clone());
        }
        self.last = word;
    }

    fn find(&self) -> Option<(usize, String)> {
        let word = |at: usize| self.words.get(at).map(String::as_str).unwrap_or_default();
        let controls = match word(0) {
            "BEGIN" | "COMMIT" | "ABORT" | "END" => true,
            "START" | "PREPARE" => word(1) == "TRANSACTION",
            // To a savepoint of the same file.
            "ROLLBACK" => word(1) != "TO" && word(2) != "TO",
            _ => false,
        };
        controls.then(|| (self.line, word(0).to_owned()))
    }
}

fn is_part_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

fn end_of_line(chars: &[char], start: usize) -> usize {
    (start..chars.len()).find(|at| chars[*at] == '\n').unwrap_or(chars.len())
}

fn end_of_comment(chars: &[char], start: usize) -> usize {
    let (mut i, mut depth) = (start, 0);
    while i + 1 < chars.len() {
        match (chars[i], chars[i + 1]) {
            ('/', '*') => (i, depth) = (i + 2, depth + 1),
            ('*', '/') if depth == 1 => return i + 2,
            ('*', '/') => (i, depth) = (i + 2, depth - 1),
            _ => i += 1,
        }
    }
    chars.len()
}

/// A doubled quote inside ends one text and begins the next, which is skipped as well.
fn end_of_text(chars: &[char], start: usize, quote: char, has_escapes: bool) -> usize {
    let mut i = start + 1;
    while i < chars.len() && chars[i] != quote {
        i += if has_escapes && chars[i] == '\\' { 2 } else { 1 };
    }
    i + 1
}

/// `$$…$$` or `$tag$…$tag$`; anything else that begins so is one character.
fn end_of_dollar_text(chars: &[char], start: usize) -> usize {
    let tag = (start + 1..chars.len()).find(|at| !(chars[*at].is_alphanumeric() || chars[*at] == '_'));
    let Some(tag_end) = tag.filter(|at| chars[*at] == '$') else { return start + 1 };
    if chars[start + 1].is_ascii_digit() {
        return start + 1;
    }
    let tag = &chars[start..=tag_end];
    let body = tag_end + 1;
    (body..chars.len()).find(|at| chars[*at..].starts_with(tag)).map_or(chars.len(), |at| at + tag.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transaction_commands_are_found_with_their_line() {
        for (sql, line, word) in [
            ("BEGIN;\nCREATE TABLE a ();\nCOMMIT;", 1, "BEGIN"),
            ("CREATE TABLE a ();\n\ncommit", 3, "COMMIT"),
            ("SELECT 1; start transaction read only;", 1, "START"),
            ("/* a\n/* b */ */ ROLLBACK;", 2, "ROLLBACK"),
            ("SELECT ';COMMIT;' ;\n-- BEGIN;\nEND;", 3, "END"),
            ("SELECT E'\\'', 'it''s';\r\nABORT;", 2, "ABORT"),
            ("PREPARE TRANSACTION 'x'", 1, "PREPARE"),
            ("CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; END; COMMIT;", 1, "COMMIT"),
        ] {
            assert_eq!(find_transaction_control(sql), Some((line, word.to_owned())), "{sql}");
        }
    }

    #[test]
    fn other_statements_are_not_taken_for_them() {
        for sql in [
            "",
            "DO $$ BEGIN PERFORM 1; EXCEPTION WHEN others THEN NULL; END $$;",
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $body$ BEGIN RETURN new; END; $body$;",
            "CREATE FUNCTION f(a int) RETURNS int BEGIN ATOMIC SELECT CASE WHEN a > $1 THEN 1 ELSE 2 END; SELECT 2; END;",
            "CREATE TABLE \"BEGIN\" (\"; COMMIT;\" text); COMMENT ON TABLE a IS '; COMMIT;';",
            "SAVEPOINT a; ROLLBACK TO a; ROLLBACK TO SAVEPOINT a; ROLLBACK WORK TO a; RELEASE a;",
            "PREPARE p AS SELECT $1; SELECT beginning, commit_id FROM starts;",
            "-- COMMIT;\n/* ROLLBACK; */",
            "SELECT $1$; SELECT 'unfinished",
        ] {
            assert_eq!(find_transaction_control(sql), None, "{sql}");
        }
    }
}
