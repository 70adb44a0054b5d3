//! Valid specs, and the violations of invalid ones.

use super::*;
use crate::api::TenantSpec;

fn object() -> ObjectId {
    ObjectId { namespace: "team".into(), name: "acme".into(), uid: Uid("u".into()) }
}

fn tenant() -> TenantSpec {
    let agents = serde_json::json!([{ "name": "chat", "configRef": { "name": "support" } }]);
    serde_json::from_value(serde_json::json!({ "agents": agents })).unwrap()
}

#[test]
fn a_storage_limit_is_bytes_or_a_violation_of_its_field() {
    let resolve = |limit: Option<&str>| {
        let mut spec = tenant();
        spec.database.storage_limit = limit.map(str::to_owned);
        resolve_tenant(object(), 1, &BTreeMap::new(), &spec).map(|desired| desired.limits.storage_limit_bytes)
    };
    assert_eq!(resolve(None), Ok(None));
    assert_eq!(resolve(Some("1Mi")), Ok(Some(1 << 20)));
    assert_eq!(resolve(Some("1Pi")), Ok(Some(1 << 50)));
    for wrong in ["1048575", "1125899906842625", "1.5Gi", ""] {
        let rule = "must be a whole number of bytes from 1Mi to 1Pi";
        assert_eq!(resolve(Some(wrong)), Err(vec![Violation::new("spec.database.storageLimit", rule)]), "{wrong}");
    }
}

#[test]
fn the_length_of_a_text_counts_characters_and_not_bytes() {
    let resolve = |audience: String, request: String| {
        let mut spec = tenant();
        spec.auth.audience = audience;
        let annotations = BTreeMap::from([(names::ROTATE_ANNOTATION.to_owned(), request)]);
        resolve_tenant(object(), 1, &annotations, &spec).map(|desired| desired.tokens.audience)
    };
    assert_eq!(resolve("ü".repeat(256), "ü".repeat(64)), Ok("ü".repeat(256)));
    let wrong = vec![
        Violation::new("spec.auth.audience", "must have 1 to 256 characters"),
        Violation::new("metadata.annotations[agent-tenancy.dev/rotate-keys]", "must have 1 to 64 characters"),
    ];
    assert_eq!(resolve("ü".repeat(257), "ü".repeat(65)), Err(wrong.clone()));
    assert_eq!(resolve(String::new(), String::new()), Err(wrong));
}
