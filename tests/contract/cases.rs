//! Objects and changes of objects, with the API server's answer to each: one table for schema and CEL.

use super::support::schemas;
use serde_json::{Value, json};

/// The expected answer of the API server.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// It accepts the object.
    Accepted,
    /// It refuses it, and its message contains this.
    Refused(&'static str),
}
use Answer::{Accepted, Refused};

/// One object, or one change, with the expected answer.
#[derive(Clone, Debug)]
pub struct Case {
    /// Which rule the case is about: the CEL rule's message, or the schema keyword.
    pub rule: &'static str,
    /// The object that exists before; `None` for a creation.
    pub before: Option<Value>,
    /// The object that is sent.
    pub object: Value,
    /// The expected answer.
    pub answer: Answer,
}

const NAME: &str = "metadata.name must be a valid tenant id (at most 63 characters) when spec.tenantId is not set; set \
                    spec.tenantId, or choose a shorter name";
const RESERVED: &str = "the tenant id must not be one of the reserved words";
const ID_CHANGED: &str = "tenantId must not change";
const ID_ADDED_OR_REMOVED: &str = "spec.tenantId must not be added or removed after creation";
const INSTANCE_CHANGED: &str = "instance must not change";
const INSTANCE_ADDED_OR_REMOVED: &str = "spec.database.instance must not be added or removed after creation";
const DEFAULT_AGENT: &str = "defaultAgent must name one of agents";
const PROVIDER: &str =
    "baseUrl must be set for 'OpenAICompatible'; baseUrl and apiKeySecretRef must not be set for 'Echo'";
const STORAGE: &str = "storageLimit must be from 1Mi to 1Pi";

/// A Tenant with one agent, and these changes to its spec (JSON merge patch).
pub fn tenant(name: &str, patch: Value) -> Value {
    object("Tenant", name, json!({ "agents": [{ "name": "chat", "configRef": { "name": "support" } }] }), patch)
}

/// An AgentConfig with the Echo provider, and these changes to its spec (JSON merge patch).
pub fn agent(name: &str, patch: Value) -> Value {
    let spec = json!({ "provider": { "type": "Echo" }, "model": "m", "parameters": { "maxOutputTokens": 10 } });
    object("AgentConfig", name, spec, patch)
}

fn object(kind: &str, name: &str, mut spec: Value, patch: Value) -> Value {
    merge(&mut spec, patch);
    json!({ "apiVersion": "agent-tenancy.dev/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec })
}

fn merge(target: &mut Value, patch: Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (key, value) in patch {
                if value.is_null() {
                    target.remove(&key);
                } else {
                    merge(target.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (target, patch) => *target = patch,
    }
}

/// Every case.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut create = |rule, object, answer| cases.push(Case { rule, before: None, object, answer });
    let (long, longest) = ("a".repeat(64), "a".repeat(63));

    create(NAME, tenant("acme", json!({})), Accepted);
    create(NAME, tenant(&longest, json!({})), Accepted);
    create(NAME, tenant(&long, json!({ "tenantId": "acme" })), Accepted);
    create(NAME, tenant("acme.example", json!({ "tenantId": "acme" })), Accepted);
    create(NAME, tenant(&long, json!({})), Refused(NAME));
    create(NAME, tenant("acme.example", json!({})), Accepted);
    for id in
        ["tenant_123", "Acme", "acme.com", "cus_NffrFeUfNV2Hib", "a1.b_2-c", "9B1DEB4D-3B7D-4BAD-9BDD-2B0D7B3DCB6D"]
    {
        create("pattern", tenant("acme", json!({ "tenantId": id })), Accepted);
    }
    create(RESERVED, tenant("administration", json!({})), Accepted);
    create(RESERVED, tenant("system", json!({ "tenantId": "acme" })), Accepted);
    create(RESERVED, tenant("system", json!({})), Refused(RESERVED));
    create(RESERVED, tenant("acme", json!({ "tenantId": "kube-system" })), Refused(RESERVED));
    create(DEFAULT_AGENT, tenant("acme", json!({ "defaultAgent": "chat" })), Accepted);
    create(DEFAULT_AGENT, tenant("acme", json!({ "defaultAgent": "other" })), Refused(DEFAULT_AGENT));
    let open_ai = json!({ "type": "OpenAICompatible", "baseUrl": "https://models.example/v1" });
    let key = json!({ "name": "models", "key": "token" });
    let with = |provider: &Value, patch: Value| {
        let mut provider = provider.clone();
        merge(&mut provider, patch);
        agent("support", json!({ "provider": provider }))
    };
    create(PROVIDER, agent("support", json!({})), Accepted);
    create(PROVIDER, with(&open_ai, json!({})), Accepted);
    create(PROVIDER, with(&open_ai, json!({ "apiKeySecretRef": key })), Accepted);
    create(PROVIDER, with(&open_ai, json!({ "baseUrl": null })), Refused(PROVIDER));
    create(PROVIDER, with(&open_ai, json!({ "type": "Echo" })), Refused(PROVIDER));
    create(PROVIDER, with(&json!({ "type": "Echo" }), json!({ "apiKeySecretRef": key })), Refused(PROVIDER));

    let limited = |limit: &str| tenant("acme", json!({ "database": { "storageLimit": limit } }));
    for limit in ["1Mi", "1048576", "1049k", "500M", "1125899906842624", "1Pi"] {
        create(STORAGE, limited(limit), Accepted);
    }
    for limit in ["1048575", "1048k", "1", "2Pi", "1126P", "9999999999999999Pi"] {
        create(STORAGE, limited(limit), Refused(STORAGE));
    }

    schema_cases(&mut create);
    cases.extend(transitions());
    cases
}

/// Wrong types, formats and sizes.
fn schema_cases(create: &mut impl FnMut(&'static str, Value, Answer)) {
    let mut refuse = |rule, object, message| create(rule, object, Refused(message));
    let of_tenant = |patch| tenant("acme", patch);
    refuse("type", of_tenant(json!({ "displayName": 7 })), "must be of type string");
    refuse("type", of_tenant(json!({ "agents": "chat" })), "must be of type array");
    refuse("type", of_tenant(json!({ "database": { "statementTimeoutSeconds": "10s" } })), "must be of type integer");
    refuse(
        "maximum",
        of_tenant(json!({ "database": { "statementTimeoutSeconds": 301 } })),
        "less than or equal to 300",
    );
    for limit in ["1.5Gi", "1e9", "1gi", "0", "-1Gi", "01Gi", "lots"] {
        refuse("pattern", of_tenant(json!({ "database": { "storageLimit": limit } })), "should match");
    }
    refuse("type", of_tenant(json!({ "database": { "storageLimit": 1_048_576 } })), "must be of type string");
    refuse("minimum", of_tenant(json!({ "auth": { "maxTokenSeconds": 59 } })), "greater than or equal to 60");
    refuse(
        "enum",
        of_tenant(json!({ "database": { "deletionPolicy": "Drop" } })),
        "supported values: \"Retain\", \"Archive\", \"Delete\"",
    );
    refuse("enum", of_tenant(json!({ "tenantMutable": ["Model"] })), "Unsupported value: \"Model\"");
    refuse("set", of_tenant(json!({ "tenantMutable": ["TopP", "TopP"] })), "Duplicate value: \"TopP\"");
    refuse("maxLength", of_tenant(json!({ "displayName": "x".repeat(129) })), "Too long");
    for id in ["-acme", "acme_", ".", "a/b", "a b", "a%5Fb", "ä"] {
        refuse("pattern", of_tenant(json!({ "tenantId": id })), "should match");
    }
    refuse("maxLength", of_tenant(json!({ "tenantId": "a".repeat(64) })), "Too long");
    refuse("pattern", of_tenant(json!({ "database": { "instance": "Main" } })), "should match");
    refuse("maxLength", of_tenant(json!({ "database": { "instance": "a".repeat(31) } })), "Too long");
    refuse("required", of_tenant(json!({ "agents": null })), "spec.agents: Required value");
    refuse("minItems", of_tenant(json!({ "agents": [] })), "should have at least 1 items");
    refuse("required", of_tenant(json!({ "agents": [{ "name": "chat" }] })), "configRef: Required value");
    let item = |name: String| json!({ "name": name, "configRef": { "name": "support" } });
    let many: Vec<_> = (0..17).map(|i| item(format!("agent-{i}"))).collect();
    refuse("maxItems", of_tenant(json!({ "agents": many })), "must have at most 16 items");
    let twice = [item("chat".to_owned()), item("chat".to_owned())];
    refuse("map", of_tenant(json!({ "agents": twice })), "Duplicate value");
    let adopting = |uid: &str| tenant("acme", json!({ "database": { "adopt": { "previousUid": uid } } }));
    refuse("pattern", adopting("0B9A4C9E-0000-4000-8000-000000000001"), "should match");
    refuse("minLength", adopting("acme"), "should be at least 36 chars long");
    refuse("required", of_tenant(json!({ "database": { "adopt": {} } })), "previousUid: Required value");
    let of_agent = |patch| agent("support", patch);
    refuse("type", of_agent(json!({ "parameters": { "temperature": 0.2 } })), "must be of type string");
    refuse("pattern", of_agent(json!({ "parameters": { "temperature": "2.1" } })), "should match");
    refuse("pattern", of_agent(json!({ "parameters": { "topP": "1.01" } })), "should match");
    refuse(
        "required",
        of_agent(json!({ "parameters": { "maxOutputTokens": null } })),
        "maxOutputTokens: Required value",
    );
    refuse("maxItems", of_agent(json!({ "parameters": { "stop": ["a", "b", "c", "d", "e"] } })), "at most 4 items");
    refuse("maxLength", of_agent(json!({ "systemPrompt": { "inline": "x".repeat(32_769) } })), "Too long");
    refuse("enum", of_agent(json!({ "provider": { "type": "echo" } })), "Unsupported value: \"echo\"");
    let ftp = json!({ "type": "OpenAICompatible", "baseUrl": "ftp://models.example" });
    refuse("pattern", of_agent(json!({ "provider": ftp })), "should match");
    refuse("maximum", of_agent(json!({ "timeouts": { "totalSeconds": 601 } })), "less than or equal to 600");
    create("pattern", adopting("0b9a4c9e-0000-4000-8000-000000000001"), Accepted);
    create("enum", tenant("acme", json!({ "database": { "deletionPolicy": "Archive" } })), Accepted);
    for temperature in ["0", "0.5", "1.2345", "2", "2.0"] {
        create("pattern", agent("support", json!({ "parameters": { "temperature": temperature } })), Accepted);
    }
}

/// Allowed and refused changes of an object.
fn transitions() -> Vec<Case> {
    let given = |id: &str| tenant("given", json!({ "tenantId": id }));
    let change = |rule, before, object, answer| Case { rule, before: Some(before), object, answer };
    let named = |patch| tenant("named", patch);
    let placed = |name: &str| tenant("placed", json!({ "database": { "instance": name } }));
    let timed = |seconds: i32| tenant("placed", json!({ "database": { "statementTimeoutSeconds": seconds } }));
    let both = json!({ "database": { "instance": "main", "statementTimeoutSeconds": 7 } });
    let stays = INSTANCE_ADDED_OR_REMOVED;
    vec![
        change(INSTANCE_CHANGED, placed("main"), tenant("placed", both), Accepted),
        change(INSTANCE_CHANGED, placed("main"), placed("other"), Refused(INSTANCE_CHANGED)),
        change(stays, tenant("placed", json!({})), timed(7), Accepted),
        change(stays, timed(7), tenant("placed", json!({})), Accepted),
        change(stays, tenant("placed", json!({})), placed("main"), Refused(stays)),
        change(stays, timed(7), placed("main"), Refused(stays)),
        change(stays, placed("main"), timed(7), Refused(stays)),
        change(stays, placed("main"), tenant("placed", json!({})), Refused(stays)),
        change(ID_CHANGED, given("one"), tenant("given", json!({ "tenantId": "one", "displayName": "One" })), Accepted),
        change(ID_CHANGED, given("one"), given("two"), Refused(ID_CHANGED)),
        change(ID_ADDED_OR_REMOVED, named(json!({})), named(json!({ "displayName": "Named" })), Accepted),
        change(
            ID_ADDED_OR_REMOVED,
            named(json!({})),
            named(json!({ "tenantId": "named" })),
            Refused(ID_ADDED_OR_REMOVED),
        ),
        change(ID_ADDED_OR_REMOVED, given("one"), tenant("given", json!({})), Refused(ID_ADDED_OR_REMOVED)),
        change(
            DEFAULT_AGENT,
            named(json!({ "defaultAgent": "chat" })),
            named(
                json!({ "agents": [{ "name": "other", "configRef": { "name": "support" } }], "defaultAgent": "chat" }),
            ),
            Refused(DEFAULT_AGENT),
        ),
        change(
            PROVIDER,
            agent("support", json!({})),
            agent("support", json!({ "provider": { "type": "OpenAICompatible", "baseUrl": "http://models/v1" } })),
            Accepted,
        ),
    ]
}

/// Every rule is tried with an object that it accepts and with one that it refuses.
#[test]
fn every_cel_rule_has_a_positive_and_a_negative_case() {
    fn messages(node: &Value, found: &mut Vec<String>) {
        match node {
            Value::Object(map) => {
                for rule in map.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten() {
                    found.push(rule["message"].as_str().expect("every rule has a message").to_owned());
                }
                map.values().for_each(|child| messages(child, found));
            }
            Value::Array(items) => items.iter().for_each(|child| messages(child, found)),
            _ => {}
        }
    }
    let mut rules = Vec::new();
    schemas().iter().for_each(|(_, schema)| messages(schema, &mut rules));
    assert_eq!(rules.len(), 9, "{rules:#?}");
    let cases = cases();
    for rule in &rules {
        let about: Vec<_> = cases.iter().filter(|case| rule.starts_with(case.rule)).collect();
        assert!(about.iter().any(|case| case.answer == Accepted), "no positive case for: {rule}");
        assert!(about.iter().any(|case| case.answer == Refused(case.rule)), "no negative case for: {rule}");
    }
}
