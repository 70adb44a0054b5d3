//! Quoting: the only two functions that put names and values into the text of a multi-statement query.
//!
//! Everywhere else values are bound. Rules: PostgreSQL manual, 4.1.1 (identifiers: 63 bytes, silently cut beyond) and
//! 4.1.2.1 (string constants; `standard_conforming_strings` is on since 9.1, backslashes are plain).

/// Why a text can't be written into a statement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuoteError {
    /// Empty, or longer than Postgres allows.
    #[error("an SQL identifier must have 1 to 63 bytes")]
    IdentifierLength,
    /// Postgres accepts no text with a zero byte.
    #[error("an SQL text must not hold a zero byte")]
    ZeroByte,
}

/// Quotes an identifier: `acme` becomes `"acme"`.
///
/// # Errors
/// When Postgres would truncate or refuse it.
pub fn quote_ident(name: &str) -> Result<String, QuoteError> {
    if name.is_empty() || name.len() > 63 {
        return Err(QuoteError::IdentifierLength);
    }
    if name.contains('\0') {
        return Err(QuoteError::ZeroByte);
    }
    Ok(format!("\"{}\"", name.replace('"', "\"\"")))
}

/// Quotes a string constant: `it's` becomes `'it''s'`. A text with a backslash becomes an escape string, so the result
/// does not depend on `standard_conforming_strings`.
///
/// # Errors
/// When the text holds a zero byte.
pub fn quote_literal(text: &str) -> Result<String, QuoteError> {
    if text.contains('\0') {
        return Err(QuoteError::ZeroByte);
    }
    let doubled = text.replace('\'', "''");
    Ok(if doubled.contains('\\') { format!(" E'{}'", doubled.replace('\\', "\\\\")) } else { format!("'{doubled}'") })
}
