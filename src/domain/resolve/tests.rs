//! What of a spec is valid, and what is said of the rest.

use super::*;

#[test]
fn a_storage_limit_is_bytes_or_a_violation_of_its_field() {
    let resolve = |limit: Option<&str>| {
        let agents = serde_json::json!([{ "name": "chat", "configRef": { "name": "support" } }]);
        let mut spec: TenantSpec = serde_json::from_value(serde_json::json!({ "agents": agents })).unwrap();
        spec.database.storage_limit = limit.map(str::to_owned);
        let object = ObjectId { namespace: "team".into(), name: "acme".into(), uid: Uid("u".into()) };
        resolve_tenant(object, 1, &BTreeMap::new(), &spec).map(|desired| desired.storage_limit_bytes)
    };
    assert_eq!(resolve(None), Ok(None));
    assert_eq!(resolve(Some("1Mi")), Ok(Some(1 << 20)));
    assert_eq!(resolve(Some("1Pi")), Ok(Some(1 << 50)));
    for wrong in ["1048575", "1125899906842625", "1.5Gi", ""] {
        let rule = "must be a whole number of bytes from 1Mi to 1Pi";
        assert_eq!(resolve(Some(wrong)), Err(vec![violation("spec.database.storageLimit", rule)]), "{wrong}");
    }
}
