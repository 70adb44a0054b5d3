//! Token rules, row by row.

use super::*;
use crate::agent_api::fixtures::{IndexFixture, secret, tenant};
use jsonwebtoken::{EncodingKey, Header as JwtHeader, encode};
use serde_json::{Value, json};

const NOW: i64 = 1_800_000_000;

fn snapshot() -> Snapshot {
    let mut fixture = IndexFixture::new();
    let mut acme = tenant("acme");
    acme.revoked_kids = [(Kid::parse("acme-revoked").unwrap(), jiff::Timestamp::UNIX_EPOCH)].into();
    let mut revoked = acme.keys[1].clone();
    revoked.kid = Kid::parse("acme-revoked").unwrap();
    revoked.key = crate::domain::keys::KeyBytes::new(secret("acme-revoked"));
    acme.keys.push(revoked);
    fixture.apply_tenant(&acme);
    fixture.apply_tenant(&tenant("beta"));
    fixture.index.snapshot().clone()
}

fn claims() -> Value {
    json!({"iss": "https://issuer", "aud": "agents", "sub": "ann", "exp": NOW + 600, "iat": NOW, "tenant_id": "acme"})
}

fn part(value: &Value) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(value.to_string())
}

/// Signs whatever header and claims with a key's bytes.
fn sign(header: &Value, claims: &Value, bytes: &[u8]) -> String {
    let signed = format!("{}.{}", part(header), part(claims));
    let key = EncodingKey::from_secret(bytes);
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, jsonwebtoken::Algorithm::HS256).unwrap();
    format!("{signed}.{signature}")
}

fn token(kid: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut claims = claims();
    change(&mut claims);
    sign(&json!({"alg": "HS256", "kid": kid}), &claims, &secret(kid))
}

fn with_header(change: impl FnOnce(&mut Value)) -> String {
    let mut header = json!({"alg": "HS256", "kid": "acme-current"});
    change(&mut header);
    sign(&header, &claims(), &secret("acme-current"))
}

/// A key pair of each asymmetric algorithm: its public half as the registry carries it, and a token signed with it.
fn pair(algorithm: Algorithm) -> (Vec<u8>, String) {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
    let (public, key, alg) = match algorithm {
        Algorithm::EdDSA => {
            let pair = Ed25519KeyPair::generate().unwrap();
            let key = EncodingKey::from_ed_der(pair.to_pkcs8v1().unwrap().as_ref());
            (pair.public_key().as_ref().to_vec(), key, jsonwebtoken::Algorithm::EdDSA)
        }
        Algorithm::ES256 | Algorithm::HS256 => {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
            let key = EncodingKey::from_ec_der(pair.to_pkcs8v1().unwrap().as_ref());
            (pair.public_key().as_ref().to_vec(), key, jsonwebtoken::Algorithm::ES256)
        }
    };
    let header = JwtHeader { kid: Some("acme-public".into()), ..JwtHeader::new(alg) };
    (public, encode(&header, &claims(), &key).unwrap())
}

#[test]
fn a_public_key_verifies_its_own_algorithm_and_nothing_else() {
    for algorithm in [Algorithm::EdDSA, Algorithm::ES256] {
        let (public, token) = pair(algorithm);
        let mut fixture = IndexFixture::new();
        let mut acme = tenant("acme");
        acme.keys[1].kid = Kid::parse("acme-public").unwrap();
        acme.keys[1].algorithm = algorithm;
        acme.keys[1].key = crate::domain::keys::KeyBytes::new(public.clone());
        fixture.apply_tenant(&acme);
        let snapshot = fixture.index.snapshot().clone();
        assert!(verify(&token, &snapshot, NOW).is_ok(), "{algorithm:?}");
        assert_eq!(verify(&pair(algorithm).1, &snapshot, NOW), Err(TokenError::Signature));
        // The classic: the public key taken for an HMAC secret.
        let header = json!({"alg": "HS256", "kid": "acme-public"});
        assert_eq!(verify(&sign(&header, &claims(), &public), &snapshot, NOW), Err(TokenError::Algorithm));
    }
}

#[test]
fn a_token_made_by_a_common_library_passes() {
    let mut header = JwtHeader::new(jsonwebtoken::Algorithm::HS256);
    header.kid = Some("acme-current".into());
    let token = encode(&header, &claims(), &EncodingKey::from_secret(&secret("acme-current"))).unwrap();
    let wanted = VerifiedClaims { tenant: TenantId::parse("acme").unwrap(), sub: "ann".into(), scope: None };
    assert_eq!(verify(&token, &snapshot(), NOW), Ok(wanted));
}

#[test]
fn every_row_of_the_table() {
    type Row = (&'static str, String, Result<(), TokenError>);
    let ok = |name, token| (name, token, Ok(()));
    let bad = |name, token, error| (name, token, Err(error));
    let set = |field: &'static str, value: Value| token("acme-current", move |c| c[field] = value);
    let without = |field: &'static str| {
        token("acme-current", move |c| {
            c.as_object_mut().unwrap().remove(field);
        })
    };
    use TokenError::{Algorithm, Audience, ForeignKey, Header, Malformed, Signature, Time, UnknownKey};
    let good = token("acme-current", |_| {});
    let (signed, _) = good.rsplit_once('.').unwrap();
    let padded = format!("{good}=");
    let rows: Vec<Row> = vec![
        // Keys.
        ok("current key", good.clone()),
        ok("standby key", token("acme-standby", |_| {})),
        ok("previous key", token("acme-previous", |_| {})),
        bad("revoked key", token("acme-revoked", |_| {}), UnknownKey),
        bad("unknown key", token("nobody", |_| {}), UnknownKey),
        bad("no kid", sign(&json!({"alg": "HS256"}), &claims(), &secret("acme-current")), Malformed),
        bad("kid as a number", with_header(|h| h["kid"] = json!(7)), Malformed),
        bad("kid with a path", with_header(|h| h["kid"] = json!("../../dev/null")), Malformed),
        bad(
            "another tenant's key, our kid",
            sign(&json!({"alg": "HS256", "kid": "acme-current"}), &claims(), &secret("beta-current")),
            Signature,
        ),
        bad("another tenant's key and kid", token("beta-current", |_| {}), ForeignKey),
        // Algorithm and signature.
        bad("alg none", with_header(|h| h["alg"] = json!("none")), Algorithm),
        bad(
            "alg none, unsigned",
            format!("{}.{}.", part(&json!({"alg": "none", "kid": "acme-current"})), part(&claims())),
            Algorithm,
        ),
        bad("alg in lower case", with_header(|h| h["alg"] = json!("hs256")), Algorithm),
        bad("alg HS512", with_header(|h| h["alg"] = json!("HS512")), Algorithm),
        bad("alg RS256", with_header(|h| h["alg"] = json!("RS256")), Algorithm),
        bad("no signature", format!("{signed}."), Signature),
        bad("padded signature", padded, Signature),
        bad("changed claims", swap_payload(&good), Signature),
        // Headers.
        ok("typ JWT", with_header(|h| h["typ"] = json!("JWT"))),
        ok("typ at+jwt", with_header(|h| h["typ"] = json!("at+jwt"))),
        ok("typ application/at+JWT", with_header(|h| h["typ"] = json!("application/at+JWT"))),
        bad("typ dpop+jwt", with_header(|h| h["typ"] = json!("dpop+jwt")), Header),
        bad("crit", with_header(|h| h["crit"] = json!(["exp"])), Header),
        bad("crit null", with_header(|h| h["crit"] = json!(null)), Header),
        bad("jku", with_header(|h| h["jku"] = json!("https://evil")), Header),
        bad("jwk", with_header(|h| h["jwk"] = json!({"kty": "oct", "k": "AA"})), Header),
        bad("x5u", with_header(|h| h["x5u"] = json!("https://evil")), Header),
        bad("x5c", with_header(|h| h["x5c"] = json!(["AA"])), Header),
        // Issuer, audience, subject, tenant.
        bad("other iss", set("iss", json!("https://other")), Audience),
        bad("no iss", without("iss"), Malformed),
        ok("aud in a list", set("aud", json!(["x", "agents"]))),
        bad("other aud", set("aud", json!("x")), Audience),
        bad("empty aud list", set("aud", json!([])), Audience),
        bad("no aud", without("aud"), Malformed),
        bad("no sub", without("sub"), Malformed),
        bad("empty sub", set("sub", json!("")), Malformed),
        bad("sub with a zero byte", set("sub", json!("a\u{0}b")), Malformed),
        ok("scope as a text", set("scope", json!("chat:read"))),
        ok("empty scope", set("scope", json!(""))),
        bad("scope null", set("scope", json!(null)), Malformed),
        bad("scope as a list", set("scope", json!(["chat:read"])), Malformed),
        bad("no tenant_id", without("tenant_id"), Malformed),
        bad("other tenant_id", set("tenant_id", json!("beta")), ForeignKey),
        // Time.
        bad("no exp", without("exp"), Malformed),
        bad("no iat", without("iat"), Malformed),
        bad("exp as a text", set("exp", json!("2100")), Malformed),
        ok("expired 29 s ago", token("acme-current", |c| (c["iat"], c["exp"]) = (json!(NOW - 100), json!(NOW - 29)))),
        bad(
            "expired 31 s ago",
            token("acme-current", |c| (c["iat"], c["exp"]) = (json!(NOW - 100), json!(NOW - 31))),
            Time,
        ),
        ok("made 29 s in the future", set("iat", json!(NOW + 29))),
        bad("made 31 s in the future", set("iat", json!(NOW + 31)), Time),
        ok("as long as allowed", set("exp", json!(NOW + 3600))),
        bad("longer than allowed", set("exp", json!(NOW + 3601)), Time),
        bad("ends before it begins", set("exp", json!(NOW)), Time),
        bad("exp beyond all numbers", set("exp", json!(1e300)), Malformed),
        ok("nbf 29 s ahead", set("nbf", json!(NOW + 29))),
        bad("nbf 31 s ahead", set("nbf", json!(NOW + 31)), Time),
        ok("fractions of seconds", set("exp", json!(NOW as f64 + 10.5))),
        // Shape.
        bad("empty", String::new(), Malformed),
        bad("two parts", "a.b".into(), Malformed),
        bad("claims as an array", token("acme-current", as_array), Malformed),
        bad("header as an array", with_header(as_array), Malformed),
        bad("four parts", format!("{good}.x"), Malformed),
        bad("too long", format!("{}{}", "A".repeat(MAX_TOKEN_BYTES), good), Malformed),
    ];
    let snapshot = snapshot();
    for (name, token, wanted) in rows {
        assert_eq!(verify(&token, &snapshot, NOW).map(|_| ()), wanted, "{name}");
    }
}

/// The values alone, in the order in which serde would assign them.
fn as_array(object: &mut Value) {
    let order = ["alg", "kid", "iss", "aud", "sub", "exp", "iat", "tenant_id"];
    *object = order.iter().filter_map(|name| object.get(name).cloned()).collect();
}

/// Puts other claims under the same signature.
fn swap_payload(token: &str) -> String {
    let parts: Vec<_> = token.split('.').collect();
    let mut claims = claims();
    claims["sub"] = json!("root");
    format!("{}.{}.{}", parts[0], part(&claims), parts[2])
}

#[test]
fn without_scope_a_token_allows_its_users_chat_alone() {
    let snapshot = snapshot();
    let read = |scope: Option<&str>| {
        let token = token("acme-current", |c| {
            if let Some(scope) = scope {
                c["scope"] = json!(scope);
            }
        });
        verify(&token, &snapshot, NOW).unwrap()
    };
    assert!(read(None).allows(Scope::ChatRead) && read(None).allows(Scope::ChatWrite));
    assert!(read(Some("chat:read settings:write")).allows(Scope::SettingsWrite));
    assert!(!read(Some("chat:read settings:writer")).allows(Scope::SettingsWrite));
    assert!(!read(Some("")).allows(Scope::ChatRead));
    for scope in [Scope::SettingsRead, Scope::SettingsWrite, Scope::DataExport, Scope::DataErase] {
        assert!(!read(None).allows(scope), "a user's token must not reach the whole tenant");
        assert!(read(Some("chat:read settings:read settings:write data:export data:erase")).allows(scope));
    }
}
