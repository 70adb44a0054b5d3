//! The one place where key bytes, kids, incarnations and passwords are made.

use crate::{
    domain::{
        class::ErrorClass,
        ident::Incarnation,
        keys::{HS256_KEY_BYTES, KeyBytes, Kid},
    },
    effects::error::EffectError,
    plan::observed::Fresh,
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use zeroize::Zeroize;

/// Draws material for one pass from the operating system's generator. With an error it is all zeros and must not be
/// used.
pub fn draw_or_nothing() -> (Fresh, Option<EffectError>) {
    let mut raw = Raw::default();
    let error = raw.fill().err();
    let kid = BASE64_URL_SAFE_NO_PAD.encode(raw.kid);
    let fresh = Fresh {
        incarnation: Incarnation(uuid::Builder::from_random_bytes(raw.incarnation).into_uuid()),
        kid: Kid::of_base64url(&kid),
        key: KeyBytes::new(raw.key.to_vec()),
        password: KeyBytes::new(BASE64_URL_SAFE_NO_PAD.encode(raw.password).into_bytes()),
    };
    raw.zeroize();
    (fresh, error)
}

#[derive(Default, Zeroize)]
struct Raw {
    incarnation: [u8; 16],
    kid: [u8; 16],
    key: [u8; HS256_KEY_BYTES],
    password: [u8; 24],
}

impl Raw {
    fn fill(&mut self) -> Result<(), EffectError> {
        for part in [&mut self.incarnation[..], &mut self.kid, &mut self.key, &mut self.password] {
            getrandom::fill(part).map_err(|e| {
                EffectError::from_source(ErrorClass::Transient, "the operating system gives no random bytes", e)
            })?;
        }
        Ok(())
    }
}
