//! The bytes of every kind of entry. Replicas and operators of other versions read and compare them.

use super::*;

/// Every field of a tenant's entry, in the order in which it is written.
const TENANT: &str = concat!(
    r#"{"format":1,"tenantId":"acme","incarnation":"00000000-0000-4000-8000-000000000001","uid":"u1","#,
    r#""namespace":"team","name":"acme-object","generation":7,"epoch":3,"state":"suspended","#,
    r#""stateSince":"2030-01-02T03:04:05Z","database":{"instance":"main","cell":2,"schema":"at_acme","#,
    r#""role":"at_acme_role","schemaVersion":4,"maxConcurrentTransactions":8,"statementTimeoutSeconds":10,"#,
    r#""storageLimitBytes":1125899906842624},"agents":{"chat":{"configUid":"a1","overrides":{"temperature":"0.7","#,
    r#""topP":"1","maxOutputTokens":500,"instructions":"Be brief."}},"sales":{"configUid":"a2","overrides":{}}},"#,
    r#""defaultAgent":"chat","mutable":["DefaultAgent","Temperature","TopP","MaxOutputTokens","Instructions"],"#,
    r#""auth":{"issuer":"https://issuer","audience":"agents","maxTokenSeconds":3600},"#,
    r#""keys":[{"kid":"k2","algorithm":"EdDSA","state":"Current","since":"2030-01-01T00:00:00Z","#,
    r#""longestTokenSeconds":3600,"key":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="},{"kid":"k1","#,
    r#""algorithm":"HS256","state":"Previous","since":"2029-01-01T00:00:00Z","longestTokenSeconds":60,"#,
    r#""verifiesUntil":"2030-01-01T01:00:00Z","key":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}],"#,
    r#""revokedKids":{"k0":"2028-01-01T00:00:00Z"},"ringVersion":5,"ringRequest":"again"}"#,
);

/// A tenant's entry without optional fields, as it is written for a damaged tenant that is being deleted.
const BARE_TENANT: &str = concat!(
    r#"{"format":1,"tenantId":"acme","incarnation":"00000000-0000-4000-8000-000000000001","uid":"u1","#,
    r#""namespace":"team","name":"acme","generation":0,"epoch":3,"state":"deleting","#,
    r#""stateSince":"2030-01-02T03:04:05Z","database":{"instance":"main","cell":1,"schema":"at_acme","#,
    r#""role":"at_acme","schemaVersion":4,"maxConcurrentTransactions":1,"statementTimeoutSeconds":1},"#,
    r#""agents":{},"defaultAgent":"none","mutable":[],"auth":{"issuer":"","audience":"","maxTokenSeconds":0},"#,
    r#""keys":[],"revokedKids":{},"ringVersion":0}"#,
);

const AGENT: &str = concat!(
    r#"{"format":1,"uid":"a1","namespace":"team","name":"support","epoch":3,"current":{"number":2,"hash":"00ff","#,
    r#""behaviour":{"provider":{"type":"OpenAICompatible","baseUrl":"https://models.example/v1"},"model":"m","#,
    r#""systemPrompt":"Be kind.","temperature":"0.7","topP":"1","maxOutputTokens":1000,"stop":["END"],"seed":7,"#,
    r#""maxHistoryMessages":20,"totalTimeoutSeconds":60},"upstream":"00aa"}}"#,
);

const BARE_AGENT: &str = concat!(
    r#"{"format":1,"uid":"a1","namespace":"team","name":"support","epoch":3,"current":{"number":2,"hash":"00ff","#,
    r#""behaviour":{"provider":{"type":"Echo"},"model":"m","maxOutputTokens":1000,"maxHistoryMessages":20,"#,
    r#""totalTimeoutSeconds":60}}}"#,
);

const UPSTREAM: &str = r#"{"format":1,"hash":"00aa","apiKey":"c2stMQ=="}"#;

const CELL: &str = concat!(
    r#"{"format":1,"instance":"main","databaseId":"00000000-0000-4000-8000-000000000002","cell":2,"#,
    r#""host":"db.example","port":5432,"database":"app","sslMode":"verify-full","user":"at_acc_2_a","#,
    r#""password":"cHc=","login":{"id":"00000000-0000-4000-8000-000000000003","since":"2030-01-01T00:00:00Z","#,
    r#""revokes":true}}"#,
);

const BARE_CELL: &str = concat!(
    r#"{"format":1,"instance":"main","databaseId":"00000000-0000-4000-8000-000000000002","cell":2,"#,
    r#""host":"db.example","port":5432,"database":"app","sslMode":"disable","user":"at_acc_2_a","password":"cHc="}"#,
);

fn rewritten(kind: EntryKind, text: &str) -> String {
    String::from_utf8(Entry::parse(kind, text.as_bytes()).unwrap().render()).unwrap()
}

#[test]
fn a_parsed_entry_renders_to_the_same_bytes() {
    for (kind, text) in [
        (EntryKind::Tenant, TENANT),
        (EntryKind::Tenant, BARE_TENANT),
        (EntryKind::Agent, AGENT),
        (EntryKind::Agent, BARE_AGENT),
        (EntryKind::Upstream, UPSTREAM),
        (EntryKind::Cell, CELL),
        (EntryKind::Cell, BARE_CELL),
    ] {
        assert_eq!(rewritten(kind, text), text);
    }
}

#[test]
fn an_entry_of_another_version_is_read() {
    // Fields that an earlier version did not write.
    let old = TENANT
        .replace(r#","storageLimitBytes":1125899906842624"#, "")
        .replace(r#","overrides":{}"#, "")
        .replace(r#""longestTokenSeconds":60,"#, "")
        .replace(r#","revokedKids":{"k0":"2028-01-01T00:00:00Z"},"ringVersion":5,"ringRequest":"again""#, "");
    let read = TENANT
        .replace(r#","storageLimitBytes":1125899906842624"#, "")
        .replace(r#""longestTokenSeconds":60"#, r#""longestTokenSeconds":0"#)
        .replace(r#""k0":"2028-01-01T00:00:00Z""#, "")
        .replace(r#""ringVersion":5,"ringRequest":"again""#, r#""ringVersion":0"#);
    assert_eq!(rewritten(EntryKind::Tenant, &old), read);
    // Fields that a later version may write, and another order.
    let new = TENANT
        .replace(r#""format":1"#, r#""later":{"a":[1]},"format":1"#)
        .replace(r#""instance":"main","#, r#""later":null,"#)
        .replace(r#""schemaVersion":4"#, r#""schemaVersion":4,"instance":"main""#)
        .replace(r#""issuer""#, r#""later":[],"issuer""#);
    assert_eq!(rewritten(EntryKind::Tenant, &new), TENANT);
}

#[test]
fn a_missing_duplicate_or_mistyped_field_is_malformed() {
    let members = [
        r#""instance":"main""#,
        r#""cell":2"#,
        r#""schema":"at_acme""#,
        r#""role":"at_acme_role""#,
        r#""schemaVersion":4"#,
        r#""maxConcurrentTransactions":8"#,
        r#""statementTimeoutSeconds":10"#,
        r#""issuer":"https://issuer""#,
        r#""audience":"agents""#,
    ];
    let malformed = |text: &str| matches!(Entry::parse(EntryKind::Tenant, text.as_bytes()), Err(EntryError::Malformed { line: 1, column }) if column > 0);
    for member in members {
        let (name, _) = member.split_once(':').unwrap();
        let missing = TENANT.replace(&format!("{member},"), "");
        let twice = TENANT.replace(member, &format!("{member},{member}"));
        let wrong = TENANT.replace(member, &format!("{name}:[]"));
        for text in [missing, twice, wrong] {
            assert!(text != TENANT && malformed(&text), "{text}");
        }
    }
}

#[test]
fn the_format_follows_from_the_id_and_never_decreases() {
    let id = |text: &str| TenantId::parse(text).unwrap();
    for recorded in [None, Some(1), Some(2)] {
        assert_eq!(TenantEntry::resolve_format(&id("acme"), recorded), 1, "every replica reads it");
        assert_eq!(TenantEntry::resolve_format(&id("tenant_123"), recorded), 2);
    }
    let looks_like_a_hash = id("xaaaaaaaaaaaaaaaaaaaaaaaaaa");
    for (recorded, format) in [(None, 2), (Some(1), 1), (Some(2), 2)] {
        assert_eq!(TenantEntry::resolve_format(&looks_like_a_hash, recorded), format);
    }
}

#[test]
fn an_entry_of_a_hashed_name_is_refused_by_earlier_replicas() {
    let text =
        TENANT.replace(r#""tenantId":"acme""#, r#""tenantId":"tenant_123""#).replace(r#""format":1"#, r#""format":2"#);
    let entry = Entry::parse(EntryKind::Tenant, text.as_bytes()).unwrap();
    assert_eq!(entry.name(), "tenant-xqrepue2dabktamh454k7skt5ry");
    assert_eq!(rewritten(EntryKind::Tenant, &text), text);
    let next = text.replace(r#""format":2"#, r#""format":3"#);
    assert_eq!(Entry::parse(EntryKind::Tenant, next.as_bytes()), Err(EntryError::Format { found: 3 }));
}
