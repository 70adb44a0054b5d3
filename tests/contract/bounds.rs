//! Every bound of the specs' schemas, with a value at each end and one beyond: what the schema says must be what
//! `resolve` says. The API server's answers to the same values are in `server`.

use super::{
    cases::{agent, tenant},
    samples::object_id,
    support::schemas,
};
use agent_tenancy::{
    api::{AgentConfig, Tenant},
    domain::resolve::{resolve_agent, resolve_tenant},
};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// An object with one value at the end of a bound, or one beyond.
pub struct Probe {
    /// The bound and the value, for messages.
    pub name: String,
    /// The object.
    pub object: Value,
    /// Whether the schema allows the value.
    pub allowed: bool,
}

/// Bounds that are not probed here, with the reason.
const EXEMPT: [(&str, &str); 3] = [
    ("Tenant.spec.tenantMutable", "a set of five words can't have more than eight"),
    ("Tenant.spec.database.storageLimit", "a rule bounds the quantity; its length only bounds the cost of the rule"),
    ("Tenant.spec.database.adopt.previousUid minLength", "the form of a UID is the API server's business"),
];

/// Where the name of the default agent stands.
const DEFAULT_AGENT: [&str; 2] = ["/spec/defaultAgent", "/spec/agents/0/name"];

/// Every probe.
pub fn probes() -> Vec<Probe> {
    let mut probes = Vec::new();
    for (kind, schema) in schemas() {
        let object = match kind.as_str() {
            "Tenant" => whole_tenant(),
            "AgentConfig" => whole_agent(),
            // Nothing is written in its spec.
            _ => continue,
        };
        let mut walk = Walk { kind: &kind, object: &object, probes: &mut probes };
        walk.visit(&format!("{kind}.spec"), "/spec", &schema["properties"]["spec"]);
    }
    for (limit, allowed) in [("1048575", false), ("1Mi", true), ("1Pi", true), ("1125899906842625", false)] {
        let name = format!("Tenant.spec.database.storageLimit {limit}");
        probes.push(Probe { name, object: tenant("acme", json!({ "database": { "storageLimit": limit } })), allowed });
    }
    probes
}

/// A Tenant that sets every field.
fn whole_tenant() -> Value {
    let overrides = json!({ "temperature": "1", "topP": "1", "maxOutputTokens": 1, "instructions": "x" });
    let patch = json!({
        "tenantId": "acme", "displayName": "Acme", "suspend": true, "defaultAgent": "chat",
        "agents": [{ "name": "chat", "configRef": { "name": "support" }, "overrides": overrides }],
        "tenantMutable": ["TopP"],
        "database": {
            "instance": "main", "deletionPolicy": "Archive", "maxConcurrentTransactions": 8,
            "statementTimeoutSeconds": 10, "storageLimit": "1Gi",
            "adopt": { "previousUid": "0b9a4c9e-0000-4000-8000-000000000001" },
        },
        "auth": {
            "algorithm": "EdDSA", "rotationPeriodSeconds": 3600, "issuer": "i", "audience": "a", "maxTokenSeconds": 60,
        },
    });
    tenant("acme", patch)
}

/// An AgentConfig that sets every field.
fn whole_agent() -> Value {
    let key = json!({ "name": "models", "key": "token" });
    let patch = json!({
        "provider": { "type": "OpenAICompatible", "baseUrl": "https://models/v1", "apiKeySecretRef": key },
        "systemPrompt": { "inline": "x" },
        "parameters": { "temperature": "1", "topP": "1", "maxOutputTokens": 1, "stop": ["x"], "seed": 1 },
        "context": { "maxHistoryMessages": 1 },
        "timeouts": { "totalSeconds": 1 },
    });
    agent("support", patch)
}

struct Walk<'a> {
    kind: &'a str,
    object: &'a Value,
    probes: &'a mut Vec<Probe>,
}

impl Walk<'_> {
    /// Probes the bounds of a node and of everything in it. `path` names the node, `pointer` is where its value stands.
    fn visit(&mut self, path: &str, pointer: &str, schema: &Value) {
        assert!(self.object.pointer(pointer).is_some(), "{path} is not set in the {} of this test", self.kind);
        if schema.get("enum").is_some() {
            return;
        }
        for (low, high) in [("minLength", "maxLength"), ("minimum", "maximum"), ("minItems", "maxItems")] {
            if let Some(least) = schema.get(low).and_then(Value::as_i64) {
                self.probe(path, pointer, low, [(least - 1, false), (least, true)]);
            }
            if let Some(most) = schema.get(high).and_then(Value::as_i64) {
                self.probe(path, pointer, high, [(most, true), (most + 1, false)]);
            }
        }
        let empty = Map::new();
        for (name, child) in schema.get("properties").and_then(Value::as_object).unwrap_or(&empty) {
            self.visit(&format!("{path}.{name}"), &format!("{pointer}/{name}"), child);
        }
        if let Some(items) = schema.get("items") {
            self.visit(&format!("{path}[]"), &format!("{pointer}/0"), items);
        }
    }

    fn probe(&mut self, path: &str, pointer: &str, bound: &str, sizes: [(i64, bool); 2]) {
        let name = format!("{path} {bound}");
        if EXEMPT.iter().any(|(exempt, _)| *exempt == path || *exempt == name) {
            return;
        }
        for (size, allowed) in sizes {
            let value = match bound {
                "minLength" | "maxLength" => Value::from(text(path, usize::try_from(size).unwrap())),
                "minimum" | "maximum" => Value::from(size),
                _ => (0..size).map(|n| item(path, n)).collect(),
            };
            let mut object = self.object.clone();
            // The default agent has to be one of the agents.
            let pointers = if DEFAULT_AGENT.contains(&pointer) { &DEFAULT_AGENT[..] } else { &[pointer] };
            for pointer in pointers {
                *object.pointer_mut(pointer).unwrap() = value.clone();
            }
            self.probes.push(Probe { name: format!("{name} {size}"), object, allowed });
        }
    }
}

/// A text of so many characters that fits the node's pattern; of two bytes each where there is none.
fn text(path: &str, length: usize) -> String {
    let (_, field) = path.rsplit_once('.').unwrap();
    match field {
        "temperature" | "topP" if length < 2 => "0".repeat(length),
        "temperature" | "topP" => format!("0.{}", "1".repeat(length - 2)),
        "baseUrl" => format!("http://{}", "a".repeat(length - 7)),
        "previousUid" => format!("0b9a4c9e-0000-4000-8000-{}", "0".repeat(length - 24)),
        "tenantId" | "defaultAgent" | "name" | "key" | "instance" => "a".repeat(length),
        _ => "ü".repeat(length),
    }
}

/// An item of a list that differs from the others.
fn item(path: &str, number: i64) -> Value {
    if path == "Tenant.spec.agents" {
        let name = if number == 0 { "chat".to_owned() } else { format!("agent-{number}") };
        json!({ "name": name, "configRef": { "name": "support" } })
    } else {
        Value::from(format!("text {number}"))
    }
}

/// Whether the operator takes the object.
fn resolve(object: &Value) -> Result<(), String> {
    let shown = |violations| format!("{violations:?}");
    if object["kind"] == "Tenant" {
        let tenant: Tenant = serde_json::from_value(object.clone()).map_err(|error| error.to_string())?;
        resolve_tenant(object_id(object), 1, &BTreeMap::new(), &tenant.spec).map(drop).map_err(shown)
    } else {
        let agent: AgentConfig = serde_json::from_value(object.clone()).map_err(|error| error.to_string())?;
        resolve_agent(object_id(object), 1, &agent.spec).map(drop).map_err(shown)
    }
}

#[test]
fn the_operator_has_the_bounds_of_the_schema() {
    let probes = probes();
    let wrong: Vec<String> = probes
        .iter()
        .map(|probe| (probe, resolve(&probe.object)))
        .filter(|(probe, answer)| answer.is_ok() != probe.allowed)
        .map(|(probe, answer)| format!("{}: the schema allows it: {}, resolve: {answer:?}", probe.name, probe.allowed))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(probes.len(), 124, "a bound came or went");
}
