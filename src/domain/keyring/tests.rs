//! Changes of keyrings, and errors for damaged ones.

use super::*;
use crate::domain::keys::HS256_KEY_BYTES;

const RULES: KeyringRules = KeyringRules { max_token_seconds: 3600, grace_seconds: 300 };

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_900_000_000 + seconds).unwrap()
}

fn new_key(kid: &str) -> NewKey {
    let verifying = KeyBytes::new(format!("{kid:-<HS256_KEY_BYTES$}").into_bytes());
    NewKey { kid: Kid::parse(kid).unwrap(), algorithm: Algorithm::HS256, verifying, private: None }
}

fn keyring() -> Keyring {
    Keyring::first(1, new_key("k1"), 3600, None, at(0)).unwrap()
}

fn kids(keyring: &Keyring, state: KeyState) -> Vec<&str> {
    keyring.in_state(state).map(|k| k.verifying.kid.as_str()).collect()
}

fn read(data: &BTreeMap<String, Vec<u8>>) -> Result<Keyring, KeyringError> {
    Keyring::parse_secret(|k| data.get(k).map(Vec::as_slice))
}

#[test]
fn a_keyring_survives_its_secret() {
    let rotated = keyring().with_standby(new_key("k2"), at(1)).unwrap();
    let rotated = rotated.promoted(Some("now".to_owned()), &RULES, at(2)).unwrap();
    let rotated = rotated.revoking(&[Kid::parse("k1").unwrap()].into(), new_key("k3"), at(3)).unwrap();
    assert_eq!(read(&rotated.render_secret()).unwrap(), rotated);

    // Operators of other versions read and compare these bytes and this hash.
    let stored = concat!(
        r#"{"version":4,"handledRequest":"now","revoked":{"k1":"2030-03-17T17:46:43Z"},"keys":[{"kid":"k2","#,
        r#""algorithm":"HS256","state":"Current","since":"2030-03-17T17:46:42Z","longestTokenSeconds":3600,"#,
        r#""key":"azItLS0tLS0tLS0tLS0tLS0tLS0tLS0tLS0tLS0tLS0="}]}"#,
    );
    let secret = rotated.render_secret();
    assert_eq!(secret.keys().collect::<Vec<_>>(), ["current.alg", "current.key", "current.kid", "ring.json"]);
    assert_eq!(std::str::from_utf8(&secret["ring.json"]).unwrap(), stored);
    assert_eq!(rotated.mark().digest, "ddc9655bed74b8ce6cad671d2f9805aa");
}

#[test]
fn the_error_for_an_edited_secret_names_the_part_and_quotes_nothing() {
    let mut data = keyring().render_secret();
    data.insert("current.key".into(), b"swapped-by-hand-swapped-by-hand-".to_vec());
    assert_eq!(read(&data).unwrap_err(), KeyringError::Mismatch);
    data.insert("ring.json".into(), br#"{"version":1,"keys":[{"kid":"!!canary!!"}]}"#.to_vec());
    assert!(!read(&data).unwrap_err().to_string().contains("canary"));
}

#[test]
fn a_key_verifies_before_and_after_it_signs() {
    let waiting = keyring().with_standby(new_key("k2"), at(10)).unwrap();
    assert_eq!((kids(&waiting, KeyState::Current), kids(&waiting, KeyState::Standby)), (vec!["k1"], vec!["k2"]));
    let done = waiting.promoted(Some("r1".into()), &RULES, at(20)).unwrap();
    assert_eq!((kids(&done, KeyState::Current), kids(&done, KeyState::Previous)), (vec!["k2"], vec!["k1"]));
    assert_eq!((done.version(), done.handled_request()), (3, Some("r1")));
    // Promotion + longest token + leeway + signers that read their Secret late.
    assert_eq!(done.next_tidying(), Some(at(20 + 3600 + 30 + 300)));
    assert!(done.tidied(&RULES, at(3949)).is_none());
    let later = done.tidied(&RULES, at(3950)).unwrap();
    assert_eq!(later.published().len(), 1);
}

#[test]
fn a_previous_key_verifies_until_its_longest_token_has_expired() {
    let short = KeyringRules { max_token_seconds: 60, ..RULES };
    let long = KeyringRules { max_token_seconds: 7200, ..RULES };
    assert!(keyring().tidied(&short, at(1)).is_none());
    let longer = keyring().tidied(&long, at(1)).unwrap();
    let done = longer.with_standby(new_key("k2"), at(2)).unwrap().promoted(None, &short, at(2)).unwrap();
    assert_eq!(done.next_tidying(), Some(at(2 + 7200 + 330)));
}

#[test]
fn a_revoked_key_is_not_published_and_stays_until_its_successor_signs() {
    let kid: BTreeSet<Kid> = [Kid::parse("k1").unwrap()].into();
    let revoked = keyring().revoking(&kid, new_key("k2"), at(5)).unwrap();
    assert!(revoked.current_is_revoked());
    assert_eq!(revoked.published().iter().map(|k| k.kid.as_str()).collect::<Vec<_>>(), ["k2"]);
    let done = revoked.promoted(None, &RULES, at(6)).unwrap();
    assert_eq!((kids(&done, KeyState::Current), kids(&done, KeyState::Previous)), (vec!["k2"], vec![]));
    assert!(done.revoked().contains_key(&Kid::parse("k1").unwrap()));
    assert!(done.tidied(&RULES, at(6 + 48 * 3600)).unwrap().revoked().is_empty());
}

#[test]
fn a_full_keyring_refuses_a_promotion() {
    let mut full = keyring();
    for i in 0..MAX_PREVIOUS {
        full = full.with_standby(new_key(&format!("n{i}")), at(1)).unwrap().promoted(None, &RULES, at(1)).unwrap();
    }
    let waiting = full.with_standby(new_key("last"), at(2)).unwrap();
    assert!(waiting.promoted(None, &RULES, at(2)).is_err());
}

#[test]
fn secret_and_entry_of_a_keyring_have_the_same_mark() {
    let one = keyring();
    let keys = one.published();
    let published = PublishedKeyring { version: 1, request: None, revoked: one.revoked(), keys: &keys };
    assert_eq!(published.mark(), one.mark());
    let other = Keyring::first(1, new_key("k9"), 3600, None, at(0)).unwrap();
    assert_ne!(other.mark(), one.mark());
    let restored = Keyring::restored(1, &published, |_| None, new_key("k2"), 300, at(9)).unwrap();
    assert_eq!(restored, one);
}

#[test]
fn a_key_without_its_private_part_still_verifies_and_is_replaced() {
    let public = KeyBytes::new(vec![3; 32]);
    let new = NewKey {
        kid: Kid::parse("e1").unwrap(),
        algorithm: Algorithm::EdDSA,
        verifying: public,
        private: Some(KeyBytes::new(vec![9; 48])),
    };
    let keyring = Keyring::first(1, new, 3600, None, at(0)).unwrap();
    assert!(keyring.render_secret()["current.key"].starts_with(b"-----BEGIN PRIVATE KEY-----\n"));
    let keys = keyring.published();
    assert!(!serde_json::to_string(&keys).unwrap().contains("private"));
    let published = PublishedKeyring { version: 1, request: None, revoked: keyring.revoked(), keys: &keys };
    let restored = Keyring::restored(2, &published, |_| None, new_key("k2"), 300, at(9)).unwrap();
    assert!(restored.current().is_none() && !restored.render_secret().contains_key("current.kid"));
    assert_eq!((kids(&restored, KeyState::Standby), kids(&restored, KeyState::Previous)), (vec!["k2"], vec!["e1"]));
}
