//! Manifests as kubectl reads them: YAML 1.1 with merge keys, several documents, lists, or JSON.

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};
use serde_json::{Map, Number, Value};
use std::{borrow::Cow, collections::BTreeMap};

/// Most levels of a document; `serde_json` reads 128.
const MAX_DEPTH: usize = 100;
/// Most values of a file with all aliases expanded.
const MAX_VALUES: usize = 1_000_000;

/// The objects of a file, the items of lists among them.
///
/// # Errors
/// A sentence that names the document or the line.
pub(super) fn resolve_manifests(text: &str) -> Result<Vec<Value>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let documents = match text.trim_start().starts_with('{') {
        // As kubectl: a file that begins as JSON may still be YAML.
        true => parse_json(text).or_else(|_| parse_yaml(text))?,
        false => parse_yaml(text)?,
    };
    let mut objects = Vec::new();
    for document in documents {
        match document {
            Value::Null => {}
            Value::Object(mut list) if list.get("items").is_some_and(Value::is_array) => {
                if let Some(Value::Array(items)) = list.remove("items") {
                    objects.extend(items);
                }
            }
            object => objects.push(object),
        }
    }
    Ok(objects)
}

fn parse_json(text: &str) -> Result<Vec<Value>, serde_json::Error> {
    serde_json::Deserializer::from_str(text).into_iter().collect()
}

fn parse_yaml(text: &str) -> Result<Vec<Value>, String> {
    let mut reader = Reader { events: Parser::new_from_str(text), anchors: BTreeMap::new(), values: 0, document: 0 };
    let mut documents = Vec::new();
    loop {
        match reader.next()? {
            Event::DocumentStart(_) => {
                reader.document += 1;
                reader.anchors.clear();
                let first = reader.next()?;
                documents.push(reader.node(first, 0)?);
            }
            Event::StreamEnd => return Ok(documents),
            _ => {}
        }
    }
}

struct Reader<'a> {
    events: Parser<'a, StrInput<'a>>,
    /// The values of the document's anchors.
    anchors: BTreeMap<usize, Value>,
    /// Values so far, those of aliases among them.
    values: usize,
    /// Number of the document, from 1.
    document: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Event<'a>, String> {
        let next: Option<Result<(Event<'a>, Span), ScanError>> = self.events.next();
        match next {
            Some(Ok((event, _))) => Ok(event),
            Some(Err(error)) => Err(self.wrong(error)),
            None => Ok(Event::StreamEnd),
        }
    }

    fn wrong(&self, error: impl std::fmt::Display) -> String {
        format!("document {}: {error}", self.document.max(1))
    }

    fn count(&mut self, values: usize) -> Result<(), String> {
        self.values += values;
        if self.values > MAX_VALUES { Err(self.wrong(format!("more than {MAX_VALUES} values"))) } else { Ok(()) }
    }

    fn node(&mut self, event: Event<'a>, depth: usize) -> Result<Value, String> {
        if depth > MAX_DEPTH {
            return Err(self.wrong(format!("more than {MAX_DEPTH} levels")));
        }
        self.count(1)?;
        let (value, anchor) = match event {
            Event::Alias(anchor) => {
                let value = self.anchors.get(&anchor).cloned();
                let value = value.ok_or_else(|| self.wrong("an alias of an unfinished value"))?;
                self.count(size(&value))?;
                (value, 0)
            }
            Event::Scalar(text, style, anchor, tag) => {
                let value = resolve_scalar(&text, style, tag.as_ref()).map_err(|error| self.wrong(error))?;
                (value, anchor)
            }
            Event::SequenceStart(anchor, _) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        Event::SequenceEnd => break,
                        event => items.push(self.node(event, depth + 1)?),
                    }
                }
                (Value::Array(items), anchor)
            }
            Event::MappingStart(anchor, _) => (Value::Object(self.mapping(depth)?), anchor),
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::SequenceEnd
            | Event::MappingEnd => (Value::Null, 0),
        };
        if anchor > 0 {
            self.anchors.insert(anchor, value.clone());
        }
        Ok(value)
    }

    /// A mapping to its end. As in kubectl a merge replaces what stands before it, and what follows replaces the merge.
    fn mapping(&mut self, depth: usize) -> Result<Map<String, Value>, String> {
        let mut map = Map::new();
        loop {
            let key = match self.next()? {
                Event::MappingEnd => return Ok(map),
                event => event,
            };
            let merges = matches!(&key, Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<");
            let key = self.node(key, depth + 1)?;
            let event = self.next()?;
            let value = self.node(event, depth + 1)?;
            if merges {
                let sources = match value {
                    Value::Array(sources) => sources,
                    one => vec![one],
                };
                // The first one wins.
                for source in sources.into_iter().rev() {
                    let Value::Object(source) = source else {
                        return Err(self.wrong("map merge requires map or sequence of maps as the value"));
                    };
                    map.extend(source);
                }
                continue;
            }
            let name = match key {
                Value::String(text) => text,
                Value::Bool(_) | Value::Number(_) => key.to_string(),
                Value::Null | Value::Array(_) | Value::Object(_) => {
                    return Err(self.wrong("a key must be text, a number or a boolean"));
                }
            };
            map.insert(name, value);
        }
    }
}

/// Number of values in a value.
fn size(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Object(map) => 1 + map.values().map(size).sum::<usize>(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 1,
    }
}

fn resolve_scalar(text: &str, style: ScalarStyle, tag: Option<&Cow<'_, Tag>>) -> Result<Value, String> {
    let plain = match tag {
        None => style == ScalarStyle::Plain,
        Some(tag) if tag.is_yaml_core_schema() && matches!(tag.suffix.as_str(), "bool" | "int" | "float" | "null") => {
            true
        }
        Some(tag) if tag.is_yaml_core_schema() && matches!(tag.suffix.as_str(), "str" | "timestamp") => false,
        Some(tag) => return Err(format!("the tag {}{} is not supported", tag.handle, tag.suffix)),
    };
    if plain { resolve_plain(text) } else { Ok(Value::String(text.to_owned())) }
}

/// A scalar without quotes, by YAML 1.1 as Go reads it.
fn resolve_plain(text: &str) -> Result<Value, String> {
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Value::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Value::Bool(false),
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf"
        | "-.INF" => {
            return Err(format!("'{text}' can't be written as JSON"));
        }
        _ => resolve_number(&text.replace('_', "")).map_or_else(|| Value::String(text.to_owned()), Value::Number),
    })
}

fn resolve_number(text: &str) -> Option<Number> {
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return None;
    }
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (radix, number) = match digits.get(..2).map(str::to_ascii_lowercase).as_deref() {
        Some("0x") => (16, &digits[2..]),
        Some("0b") => (2, &digits[2..]),
        Some("0o") => (8, &digits[2..]),
        _ if digits.len() > 1 && digits.starts_with('0') => (8, &digits[1..]),
        _ => (10, digits),
    };
    if !number.starts_with(['+', '-'])
        && let Ok(whole) = u64::from_str_radix(number, radix)
    {
        return match (negative, i64::try_from(whole)) {
            (false, _) => Some(whole.into()),
            (true, Ok(whole)) => Some((-whole).into()),
            (true, Err(_)) => Number::from_f64(-(whole as f64)),
        };
    }
    let decimal = digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'))
        && digits.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let float = decimal.then(|| text.parse::<f64>().ok()).flatten()?;
    // JSON has one kind of number, and Go writes 1e3 as 1000.
    let whole = float as i64;
    if float.abs() < 9.0e15 && whole as f64 == float { Some(whole.into()) } else { Number::from_f64(float) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn one(text: &str) -> Value {
        let mut all = resolve_manifests(text).unwrap();
        assert_eq!(all.len(), 1, "{text}: {all:?}");
        all.remove(0)
    }

    #[test]
    fn scalars_are_read_by_yaml_1_1() {
        let text = "{a: on, b: 'on', c: yes, d: \"no\", e: off, f: 017, g: 0o17, h: 0x1F, i: 1_000, j: 1e3, k: 0.5, \
                    l: 2001-01-01, m: ~, n: 08, o: !!str 1, p: -5, q: 1.2.3, r: +1, on: 1, 5: five}";
        let expected = json!({
            "a": true, "b": "on", "c": true, "d": "no", "e": false, "f": 15, "g": 15, "h": 31, "i": 1000, "j": 1000,
            "k": 0.5, "l": "2001-01-01", "m": null, "false": 8, "o": "1", "p": -5, "q": "1.2.3", "r": 1, "true": 1,
            "5": "five",
        });
        assert_eq!(one(text), expected);
    }

    #[test]
    fn merge_keys_and_aliases_are_expanded() {
        let text =
            "base: &base {a: 1, b: 2}\nmore: &more {b: 3, c: 4}\none: {<<: *base, b: 5}\ntwo: {<<: [*base, *more]}\n";
        let value = one(text);
        assert_eq!((&value["one"], &value["two"]), (&json!({"a": 1, "b": 5}), &json!({"a": 1, "b": 2, "c": 4})));
        assert!(resolve_manifests("a: {<<: 5}").is_err());
    }

    #[test]
    fn files_have_documents_lists_a_bom_and_any_line_ending() {
        let text = "\u{feff}# a comment\r\n---\r\na: 1\r\n---\r\n---\r\nkind: List\r\nitems:\r\n- b: |\r\n    x\r\n    y\r\n- c: 3\r\n";
        assert_eq!(resolve_manifests(text).unwrap(), [json!({"a": 1}), json!({"b": "x\ny\n"}), json!({"c": 3})]);
        assert_eq!(resolve_manifests("{\"a\": 1}\n{\"a\": 2}\n").unwrap().len(), 2, "JSON");
        assert_eq!(resolve_manifests("\t{\"a\":\t1}").unwrap().len(), 1, "JSON");
        assert_eq!(resolve_manifests("").unwrap(), Vec::<Value>::new());
        let error = resolve_manifests("a: 1\n---\nb: [").unwrap_err();
        assert!(error.starts_with("document 2:"), "{error}");
    }

    #[test]
    fn a_file_that_explodes_is_refused() {
        let mut text = "a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n".to_owned();
        for n in 1..9 {
            text += &format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(","));
        }
        assert!(resolve_manifests(&text).unwrap_err().contains("values"));
        assert!(resolve_manifests(&"[".repeat(200)).is_err());
    }
}
