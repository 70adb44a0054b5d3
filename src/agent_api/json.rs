//! JSON from outside.

use serde::de::{DeserializeOwned, Error as _};

/// Reads a JSON object. serde alone would also take an array, and assign its items to the fields in their order.
///
/// # Errors
/// When it is no object, or none of this form.
pub(super) fn from_object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'[') => Err(serde_json::Error::custom("must be an object")),
        Some(_) | None => serde_json::from_slice(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Example {
        a: u8,
    }

    #[test]
    fn an_array_is_no_object() {
        assert_eq!(from_object::<Example>(br#" {"a": 1}"#).unwrap(), Example { a: 1 });
        for text in ["[1]", " \n[1]", "[]", "1", "", "null"] {
            assert!(from_object::<Example>(text.as_bytes()).is_err(), "{text}");
        }
    }
}
