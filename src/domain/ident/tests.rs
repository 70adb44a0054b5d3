//! The grammar of tenant ids, and the names that are derived from them.

use super::*;
use proptest::{prop_assert, prop_assert_eq, proptest};

fn id(text: &str) -> TenantId {
    TenantId::parse(text).unwrap()
}

#[test]
fn ids_that_platforms_have_are_tenant_ids() {
    let longest = format!("a{}Z", "_".repeat(61));
    for text in ["a", "7", "acme", "tenant_123", "cus_NffrFeUfNV2Hib", "Acme", "acme.com", "a1.b_2-c", "a--b", &longest]
    {
        assert_eq!(TenantId::parse(text).map(|id| id.to_string()), Ok(text.to_owned()));
    }
    let too_long = "a".repeat(64);
    let wrong = ["", "_a", "a_", ".", "..", "-a", "a.", "a/b", "a b", "a%5Fb", "a\0b", "a\nb", "ä", "аcme", &too_long];
    for text in wrong {
        assert_eq!(TenantId::parse(text), Err(IdentError::TenantId { max: 63 }), "{text:?}");
    }
    assert_eq!(TenantId::parse("kube-system"), Err(IdentError::Reserved("kube-system".to_owned())));
}

#[test]
fn an_agents_name_keeps_its_grammar() {
    assert!(AgentName::parse(&"a".repeat(40)).is_ok());
    for text in ["Acme", "a_b", "a.b", &"a".repeat(41)] {
        assert_eq!(AgentName::parse(text), Err(IdentError::Grammar { max: 40 }), "{text}");
    }
}

/// Recorded in databases and registries: these names must never change.
#[test]
fn names_of_ids_are_fixed() {
    let prefix = NamePrefix::standard();
    let longest = "a".repeat(40);
    for plain in ["acme", "a", "0", "a--b", "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d", "xaaa", longest.as_str()] {
        let names = (id(plain).database_name(&prefix), id(plain).entry_name());
        assert_eq!(names, (format!("at_{plain}"), format!("tenant-{plain}")));
    }
    for (text, hash) in [
        ("tenant_123", "xqrepue2dabktamh454k7skt5ry"),
        ("Acme", "xg4bwzwhzorwtguby5sus7cttvz"),
        ("acme.com", "xcgkcfdni7w6657jgdpl3mwk47v"),
        ("A_B", "xnqmqr6j7rxxeimkaj332iwbdxr"),
        ("a_b", "xmsh2tmy3y77x5oiu46trqdyh4d"),
        ("org_01HZX3V9Q2B7K4M8N6P5R0S1T2", "xlnnmgtulxhbdwbtkopmmwgdukd"),
        ("9B1DEB4D-3B7D-4BAD-9BDD-2B0D7B3DCB6D", "xcigljdfggnzt3qump7wtxqmynn"),
        // It looks like a hash, so it is hashed: no id may have another one's names.
        ("xaaaaaaaaaaaaaaaaaaaaaaaaaa", "xdzc7wommnkx5h5frcdfg724mly"),
    ] {
        let names = (id(text).database_name(&prefix), id(text).entry_name());
        assert_eq!(names, (format!("at_{hash}"), format!("tenant-{hash}")), "{text}");
    }
}

#[test]
fn an_id_that_is_the_hash_of_another_has_other_names() {
    let taken = id("tenant_123");
    let rival = id(&taken.name());
    assert_ne!(rival.entry_name(), taken.entry_name());
    assert_eq!(rival.earlier_entry_name(), Some(taken.entry_name()), "an earlier version has named it so");
    assert_eq!(taken.earlier_entry_name(), None);
}

proptest! {
    /// What the grammar of earlier versions accepted keeps its names, but for ids that look like a hash.
    #[test]
    fn earlier_ids_keep_their_names(text in "[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?") {
        if let Ok(id) = TenantId::parse(&text) {
            prop_assert!(id.is_plain() || is_hashed_name(&text));
            prop_assert_eq!(id.entry_name() == format!("tenant-{text}"), !is_hashed_name(&text));
        }
    }

    #[test]
    fn names_fit_and_tell_ids_apart(
        one in "[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?",
        other in "[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?|x[a-z2-7]{26}",
    ) {
        if let (Ok(one), Ok(other)) = (TenantId::parse(&one), TenantId::parse(&other)) {
            prop_assert!(is_label(&one.name(), bounds::ID.max), "{}", one.name());
            prop_assert_eq!(one == other, one.entry_name() == other.entry_name());
            let names = [one.as_str().to_uppercase(), one.as_str().to_lowercase()];
            for text in names.iter().filter(|text| *text != one.as_str()) {
                prop_assert!(TenantId::parse(text).is_ok_and(|folded| folded != one && folded.entry_name() != one.entry_name())
                    || RESERVED_TENANT_IDS.contains(&text.as_str()));
            }
        }
    }
}
