//! Rules for every node of every schema, without exceptions.

use serde_json::Value;

/// Everything in a schema that breaks a rule, as `path: rule`. `path` names the node (`Tenant.spec.agents[]`).
pub fn faults(path: &str, schema: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    walk(path, path, schema, &mut faults);
    faults
}

fn walk(path: &str, name: &str, schema: &Value, faults: &mut Vec<String>) {
    let Some(node) = schema.as_object() else {
        faults.push(format!("{path}: must be a schema"));
        return;
    };
    let mut must = |holds: bool, rule: &str| {
        if !holds {
            faults.push(format!("{path}: must {rule}"));
        }
    };
    let text = |key: &str| node.get(key).and_then(Value::as_str).unwrap_or_default();
    let has = |key: &str| node.contains_key(key);
    let format = text("format");

    must(text("description").trim().len() >= 3, "have a description");
    must(!text("description").contains('\n'), "have a description without line breaks");
    must(!has("$ref"), "be inlined: no $ref");
    must(!has("nullable"), "not be nullable");
    must(!has("x-kubernetes-preserve-unknown-fields"), "not preserve unknown fields");
    must(!has("x-kubernetes-int-or-string"), "not be an int-or-string");
    must(!format.starts_with("uint") && !matches!(format, "float" | "double"), "not have an unsigned or float format");
    must(format != "duration", "give durations as integers with a unit");
    for combinator in ["allOf", "anyOf", "oneOf", "not"] {
        must(!has(combinator), &format!("not use {combinator}: say it in CEL"));
    }
    match text("type") {
        "string" => {
            must(has("maxLength") || has("enum"), "have a maxLength or an enum");
            for word in node.get("enum").and_then(Value::as_array).into_iter().flatten() {
                let camel = word.as_str().is_some_and(is_camel_case);
                must(camel, &format!("spell its enum in CamelCase with an initial capital, not {word}"));
            }
            let is_time = format == "date-time";
            must(is_time == name.ends_with("Time"), "end in 'Time' exactly if it is a date-time");
            must(!name.ends_with("Timestamp"), "be named …Time, not …Timestamp");
        }
        "integer" => {
            must(has("minimum") && has("maximum"), "have a minimum and a maximum");
            must(matches!(format, "int32" | "int64"), "have the format int32 or int64");
            must(!is_duration(name) || name.ends_with("Seconds"), "end in 'Seconds', being a duration");
        }
        "boolean" => {}
        "array" => {
            must(has("maxItems"), "have maxItems");
            let kind = text("x-kubernetes-list-type");
            must(matches!(kind, "atomic" | "set" | "map"), "have x-kubernetes-list-type");
            let objects = node.get("items").and_then(|items| items.get("type")).is_some_and(|t| t == "object");
            must(!objects || kind == "map", "be a list-map, having objects as items");
            must((kind == "map") == has("x-kubernetes-list-map-keys"), "name its keys exactly if it is a list-map");
            match node.get("items") {
                Some(items) => walk(&format!("{path}[]"), "", items, faults),
                None => must(false, "have items"),
            }
        }
        "object" => walk_object(path, name, node, faults),
        "number" => must(false, "not be a floating-point number"),
        other => must(false, &format!("have a known type, not '{other}'")),
    }
}

fn walk_object(path: &str, name: &str, node: &serde_json::Map<String, Value>, faults: &mut Vec<String>) {
    let properties = node.get("properties").and_then(Value::as_object);
    match (properties, node.get("additionalProperties")) {
        (Some(properties), None) => {
            let is_reference = properties.contains_key("name")
                && properties.keys().all(|key| matches!(key.as_str(), "name" | "key" | "namespace"));
            if is_reference != name.ends_with("Ref") && !path.ends_with("[]") {
                faults.push(format!("{path}: must end in 'Ref' exactly if it is a reference"));
            }
            for (child, schema) in properties {
                if !is_lower_camel_case(child) {
                    faults.push(format!("{path}.{child}: must be named in camelCase"));
                }
                walk(&format!("{path}.{child}"), child, schema, faults);
            }
            for required in node.get("required").and_then(Value::as_array).into_iter().flatten() {
                let known = required.as_str().is_some_and(|key| properties.contains_key(key));
                if !known {
                    faults.push(format!("{path}: must not require {required}, which it does not describe"));
                }
            }
        }
        (None, Some(value)) if value.is_object() => {
            if !node.contains_key("maxProperties") {
                faults.push(format!("{path}: must have maxProperties"));
            }
            walk(&format!("{path}{{}}"), "", value, faults);
        }
        _ => faults.push(format!("{path}: must have either properties or a schema for additionalProperties")),
    }
}

fn is_camel_case(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_uppercase()) && word.chars().all(|c| c.is_ascii_alphanumeric())
}

fn is_lower_camel_case(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_lowercase()) && word.chars().all(|c| c.is_ascii_alphanumeric())
}

fn is_duration(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["timeout", "duration", "period", "interval", "delay", "grace", "ttl", "deadline", "seconds"]
        .iter()
        .any(|word| name.contains(word))
}
