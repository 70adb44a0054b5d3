//! SCRAM-SHA-256 verifiers. With them, no password in clear text reaches the database server or its log.
//!
//! Form: `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>` (RFC 5803; PostgreSQL stores it in `pg_authid`).

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::{Engine, prelude::BASE64_STANDARD};
use std::num::NonZeroU32;
use zeroize::Zeroize;

/// Iterations: PostgreSQL's default (`scram_iterations`). The passwords are random and 256 bits long, so more
/// iterations would only slow down every login.
const ITERATIONS: NonZeroU32 = NonZeroU32::MIN.saturating_add(4095);

/// The client and the server might normalize the password differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a database password must be 1 to 128 printable ASCII characters")]
pub struct PasswordError;

/// Renders the verifier of a password. The salt must be random.
///
/// # Errors
/// When the password is empty or has characters beyond printable ASCII: SASLprep (RFC 4013) could change those.
pub(crate) fn render_verifier(password: &[u8], salt: &[u8; 16]) -> Result<String, PasswordError> {
    if password.is_empty() || password.len() > 128 || !password.iter().all(|b| (0x21..=0x7e).contains(b)) {
        return Err(PasswordError);
    }
    let mut salted = [0_u8; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ITERATIONS, salt, password, &mut salted);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &salted);
    salted.zeroize();
    let stored = digest::digest(&digest::SHA256, hmac::sign(&key, b"Client Key").as_ref());
    let server = hmac::sign(&key, b"Server Key");
    let [salt, stored, server] = [salt.as_slice(), stored.as_ref(), server.as_ref()].map(|b| BASE64_STANDARD.encode(b));
    Ok(format!("SCRAM-SHA-256${ITERATIONS}:{salt}${stored}:{server}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_agrees_with_the_example_of_rfc_7677() {
        // User "user", password "pencil": salt and ServerSignature's key material of RFC 7677, section 3.
        let salt: Vec<u8> = BASE64_STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let verifier = render_verifier(b"pencil", &salt.try_into().unwrap()).unwrap();
        let expected = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
                        WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
        assert_eq!(verifier, expected);
    }

    #[test]
    fn a_password_that_sasl_would_rewrite_is_refused() {
        for bad in ["", "with space", "smörgås", "tab\t", &"x".repeat(129)] {
            assert_eq!(render_verifier(bad.as_bytes(), &[0; 16]), Err(PasswordError));
        }
    }
}
