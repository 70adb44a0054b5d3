//! The one place where key bytes, kids, incarnations and passwords are made.

use crate::{
    domain::{
        class::ErrorClass,
        ident::{Incarnation, LoginId},
        keyring::NewKey,
        keys::{Algorithm, HS256_KEY_BYTES, KeyBytes, Kid},
    },
    effects::error::EffectError,
    plan::observed::Fresh,
};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use zeroize::Zeroize;

/// Draws material for one reconcile from the operating system's generator, with a key for `algorithm`. With an error it is
/// all zeros and must not be used.
pub fn draw_or_nothing(algorithm: Algorithm) -> (Fresh, Option<EffectError>) {
    let mut raw = Raw::default();
    let drawn = raw.fill().and_then(|()| draw_pair(algorithm, &raw));
    let (pair, error) = match drawn {
        Ok(pair) => (pair, None),
        Err(error) => (Pair { verifying: KeyBytes::new(Vec::new()), private: None }, Some(error)),
    };
    let kid = Kid::of_base64url(&BASE64_URL_SAFE_NO_PAD.encode(raw.kid));
    let fresh = Fresh {
        incarnation: Incarnation(uuid::Builder::from_random_bytes(raw.incarnation).into_uuid()),
        key: NewKey { kid, algorithm, verifying: pair.verifying, private: pair.private },
        password: raw.password(),
    };
    raw.zeroize();
    (fresh, error)
}

/// A name for a new password of a cell's login.
pub fn draw_login_id() -> LoginId {
    LoginId(uuid::Uuid::new_v4())
}

/// A new password of a cell's login.
///
/// # Errors
/// `Transient` when the operating system gives no random bytes.
pub fn draw_password() -> Result<KeyBytes, EffectError> {
    let mut raw = Raw::default();
    let drawn = raw.fill().map(|()| raw.password());
    raw.zeroize();
    drawn
}

struct Pair {
    verifying: KeyBytes,
    private: Option<KeyBytes>,
}

fn draw_pair(algorithm: Algorithm, raw: &Raw) -> Result<Pair, EffectError> {
    let failed = |e| EffectError::from_source(ErrorClass::Transient, "no key pair could be made", e);
    match algorithm {
        Algorithm::HS256 => Ok(Pair { verifying: KeyBytes::new(raw.key.to_vec()), private: None }),
        Algorithm::EdDSA => {
            let pair = Ed25519KeyPair::generate().map_err(failed)?;
            let private = pair.to_pkcs8v1().map_err(failed)?;
            Ok(of(pair.public_key().as_ref(), private.as_ref()))
        }
        Algorithm::ES256 => {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(failed)?;
            let private = pair.to_pkcs8v1().map_err(failed)?;
            Ok(of(pair.public_key().as_ref(), private.as_ref()))
        }
    }
}

fn of(public: &[u8], private: &[u8]) -> Pair {
    Pair { verifying: KeyBytes::new(public.to_vec()), private: Some(KeyBytes::new(private.to_vec())) }
}

#[derive(Default, Zeroize)]
struct Raw {
    incarnation: [u8; 16],
    kid: [u8; 16],
    key: [u8; HS256_KEY_BYTES],
    password: [u8; 24],
}

impl Raw {
    fn password(&self) -> KeyBytes {
        KeyBytes::new(BASE64_URL_SAFE_NO_PAD.encode(self.password).into_bytes())
    }

    fn fill(&mut self) -> Result<(), EffectError> {
        for part in [&mut self.incarnation[..], &mut self.kid, &mut self.key, &mut self.password] {
            getrandom::fill(part).map_err(|e| {
                EffectError::from_source(ErrorClass::Transient, "the operating system gives no random bytes", e)
            })?;
        }
        Ok(())
    }
}
