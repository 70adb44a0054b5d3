//! The manifest of a Tenant in a request: parsed as the API server would do it, or refused with a sentence that names the
//! field.

use crate::{
    api::{Tenant, TenantSpec, crd, names},
    effects::kubernetes::cache::Key,
};
use serde_json::Value;
use std::{collections::BTreeMap, sync::LazyLock};

/// The used parts of a manifest.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Manifest {
    /// Its namespace and name.
    pub key: Key,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its spec, with the CRD's defaults.
    pub spec: TenantSpec,
}

/// The schema of `spec` in the CRD.
static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let tenants = crd::definitions().into_iter().map(|(_, crd)| crd).find(|crd| crd.spec.names.kind == "Tenant");
    let value = tenants.and_then(|crd| serde_json::to_value(crd).ok()).unwrap_or_default();
    value.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec").cloned().unwrap_or_default()
});

/// Parses a manifest.
///
/// # Errors
/// A sentence that starts with the invalid field.
pub(crate) fn resolve_manifest(body: &[u8]) -> Result<Manifest, String> {
    let mut object: Value = serde_json::from_slice(body).map_err(|error| format!("the body is not JSON: {error}"))?;
    let api_version = format!("{}/{}", names::GROUP, <Tenant as kube::Resource>::version(&()));
    for (field, wanted) in [("apiVersion", api_version.as_str()), ("kind", "Tenant")] {
        if object[field] != wanted {
            return Err(format!("{field}: must be '{wanted}'"));
        }
    }
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    let key = resolve_key(&text("namespace"), &text("name"))?;
    let annotations = serde_path_to_error::deserialize(object["metadata"]["annotations"].take())
        .map(Option::unwrap_or_default)
        .map_err(|error| format!("metadata.annotations.{}: {}", error.path(), error.inner()))?;
    let spec = object["spec"].take();
    if let Some(unknown) = find_unknown("spec", &spec, &SCHEMA) {
        return Err(format!("{unknown}: no such field"));
    }
    let spec = serde_path_to_error::deserialize(spec).map_err(|error| match error.path().iter().next() {
        Some(_) => format!("spec.{}: {}", error.path(), error.inner()),
        None => format!("spec: {}", error.inner()),
    })?;
    Ok(Manifest { key, annotations, spec })
}

/// Checks a namespace and a name.
///
/// # Errors
/// A sentence that starts with the invalid field.
pub(crate) fn resolve_key(namespace: &str, name: &str) -> Result<Key, String> {
    let is_label = |text: &str| {
        let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        let bytes = text.as_bytes();
        bytes.iter().all(|c| inner(*c) || *c == b'-')
            && bytes.first().is_some_and(|c| inner(*c))
            && bytes.last().is_some_and(|c| inner(*c))
    };
    if namespace.len() > 63 || !is_label(namespace) {
        return Err("metadata.namespace: must be the name of a namespace".to_owned());
    }
    if name.len() > 253 || !name.split('.').all(is_label) {
        return Err("metadata.name: must be a valid name of an object".to_owned());
    }
    Ok(Key::new(namespace, name))
}

/// The first unknown field. The API server would drop it, or refuse it (`--validate=strict`).
fn find_unknown(path: &str, value: &Value, schema: &Value) -> Option<String> {
    match value {
        Value::Object(map) => {
            let properties = schema.get("properties")?;
            map.iter().find_map(|(field, value)| {
                let path = format!("{path}.{field}");
                match properties.get(field) {
                    Some(schema) => find_unknown(&path, value, schema),
                    None => Some(path),
                }
            })
        }
        Value::Array(items) => {
            let schema = schema.get("items")?;
            items.iter().enumerate().find_map(|(i, item)| find_unknown(&format!("{path}[{i}]"), item, schema))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn tenant(spec: Value) -> Value {
        json!({
            "apiVersion": "agent-tenancy.dev/v1alpha1", "kind": "Tenant",
            "metadata": { "namespace": "shop", "name": "acme", "labels": { "a": "b" } }, "spec": spec,
        })
    }

    fn wrong(object: &Value) -> String {
        resolve_manifest(object.to_string().as_bytes()).unwrap_err()
    }

    #[test]
    fn a_tenant_gets_the_defaults_of_the_crd() {
        let object = tenant(json!({ "agents": [{ "name": "main", "configRef": { "name": "support" } }] }));
        let manifest = resolve_manifest(object.to_string().as_bytes()).unwrap();
        assert_eq!(manifest.key, Key::new("shop", "acme"));
        assert_eq!(manifest.spec.database, crate::api::TenantDatabase::default());
        assert!(manifest.annotations.is_empty());
    }

    #[test]
    fn an_invalid_field_is_named() {
        let agent = json!({ "name": "main", "configRef": { "name": "support" } });
        for (spec, field) in [
            (json!({ "agents": [agent], "databse": {} }), "spec.databse: no such field"),
            (json!({ "agents": [{ "name": "a", "configRef": { "nam": "x" } }] }), "spec.agents[0].configRef.nam:"),
            (json!({ "agents": [{ "name": "a", "configRef": { "name": 7 } }] }), "spec.agents[0].configRef.name:"),
            (json!({ "agents": [agent], "database": { "deletionPolicy": "Shred" } }), "spec.database.deletionPolicy:"),
            (json!({}), "spec: missing field"),
            (json!(5), "spec: invalid type"),
        ] {
            let found = wrong(&tenant(spec));
            assert!(found.starts_with(field), "{field}: {found}");
        }
        let mut named = tenant(json!({ "agents": [agent] }));
        named["metadata"]["name"] = json!("../secrets/x");
        assert!(wrong(&named).starts_with("metadata.name:"));
        named["metadata"]["namespace"] = json!("a/b");
        assert!(wrong(&named).starts_with("metadata.namespace:"));
        named["kind"] = json!("AgentConfig");
        assert_eq!(wrong(&named), "kind: must be 'Tenant'");
        assert!(resolve_manifest(b"{").unwrap_err().starts_with("the body is not JSON"));
    }
}
