//! The walker finds no fault in the CRDs, and finds each kind of fault in a broken schema.

use super::{support::schemas, walker::faults};
use serde_json::{Value, json};

#[test]
fn every_node_of_every_schema_keeps_the_rules() {
    let found: Vec<String> = schemas().iter().flat_map(|(kind, schema)| faults(kind, schema)).collect();
    assert!(found.is_empty(), "{} faults:\n{}", found.len(), found.join("\n"));
}

/// Each rule, broken once.
#[test]
fn the_walker_catches_each_fault() {
    let string = || json!({ "type": "string", "description": "A text.", "maxLength": 8 });
    let table: Vec<(&str, Value, &str)> = vec![
        ("a", json!({ "type": "string", "maxLength": 8 }), "description"),
        ("a", json!({ "type": "string", "description": "A\ntext.", "maxLength": 8 }), "line breaks"),
        ("a", json!({ "type": "string", "description": "A text." }), "maxLength"),
        ("a", json!({ "type": "string", "description": "A text.", "maxLength": 8, "nullable": true }), "nullable"),
        ("a", json!({ "type": "string", "description": "A text.", "enum": ["retain"] }), "CamelCase"),
        ("a", json!({ "type": "string", "description": "A time.", "maxLength": 40, "format": "date-time" }), "'Time'"),
        ("aTimestamp", string(), "…Timestamp"),
        ("a", json!({ "type": "string", "description": "A wait.", "maxLength": 8, "format": "duration" }), "integers"),
        ("a", json!({ "type": "integer", "description": "A number.", "format": "int32", "minimum": 0 }), "maximum"),
        ("a", json!({ "type": "integer", "description": "A number.", "minimum": 0, "maximum": 1 }), "int32 or int64"),
        (
            "a",
            json!({ "type": "integer", "description": "A number.", "format": "uint32", "minimum": 0, "maximum": 1 }),
            "unsigned",
        ),
        (
            "timeout",
            json!({ "type": "integer", "description": "A wait.", "format": "int32", "minimum": 0, "maximum": 1 }),
            "'Seconds'",
        ),
        ("a", json!({ "type": "number", "description": "A number." }), "floating-point"),
        ("a", json!({ "description": "Anything." }), "known type"),
        ("a", json!({ "$ref": "#/definitions/A" }), "$ref"),
        ("a", json!({ "description": "Either.", "anyOf": [] }), "anyOf"),
        (
            "a",
            json!({ "type": "array", "description": "A list.", "maxItems": 1, "items": string() }),
            "x-kubernetes-list-type",
        ),
        (
            "a",
            json!({ "type": "array", "description": "A list.", "x-kubernetes-list-type": "set", "items": string() }),
            "maxItems",
        ),
        (
            "a",
            json!({
                "type": "array", "description": "A list.", "x-kubernetes-list-type": "atomic", "maxItems": 1,
                "items": { "type": "object", "description": "An item.", "properties": { "b": string() } }
            }),
            "list-map",
        ),
        (
            "a",
            json!({
                "type": "array", "description": "A list.", "x-kubernetes-list-type": "map", "maxItems": 1,
                "items": string()
            }),
            "name its keys",
        ),
        ("a", json!({ "type": "object", "description": "A map.", "additionalProperties": string() }), "maxProperties"),
        ("a", json!({ "type": "object", "description": "Anything." }), "either properties"),
        (
            "a",
            json!({ "type": "object", "description": "All.", "x-kubernetes-preserve-unknown-fields": true }),
            "unknown fields",
        ),
        (
            "secret",
            json!({ "type": "object", "description": "A secret.", "properties": { "name": string() } }),
            "'Ref'",
        ),
        ("a", json!({ "type": "object", "description": "A.", "properties": { "b_c": string() } }), "camelCase"),
        (
            "a",
            json!({ "type": "object", "description": "A.", "properties": { "b": string() }, "required": ["c"] }),
            "require",
        ),
    ];
    for (name, node, rule) in table {
        let root = json!({ "type": "object", "description": "The root.", "properties": { name: node } });
        let found = faults("root", &root);
        assert!(found.iter().any(|fault| fault.contains(rule)), "{rule} was not caught in {node}: {found:?}");
    }
    let good = json!({ "type": "object", "description": "The root.", "properties": { "a": string() } });
    assert_eq!(faults("root", &good), Vec::<String>::new());
}
