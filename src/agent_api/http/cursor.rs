//! Cursors of the history: opaque to clients, good for one tenant's life, one direction and one filter only.

use crate::domain::ident::Incarnation;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use uuid::Uuid;

const VERSION: u8 = 1;
const BYTES: usize = 1 + 1 + 16 + 16 + 16;

/// Where a page ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    /// Identity of the tenant's data: a cursor of an earlier tenant with the same id means nothing.
    pub incarnation: Incarnation,
    /// Newest first.
    pub descending: bool,
    /// Filter.
    pub conversation: Option<Uuid>,
    /// Last message of the page.
    pub last: Uuid,
}

impl Cursor {
    /// Its text.
    pub(super) fn render(&self) -> String {
        let mut bytes = Vec::with_capacity(BYTES);
        bytes.extend([VERSION, u8::from(self.descending)]);
        bytes.extend(self.incarnation.0.as_bytes());
        bytes.extend(self.conversation.unwrap_or_default().as_bytes());
        bytes.extend(self.last.as_bytes());
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a text; `None` if it is no cursor.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok().filter(|b| b.len() == BYTES)?;
        let id = |from: usize| Uuid::from_slice(bytes.get(from..from + 16)?).ok();
        let (version, direction) = (bytes.first()?, bytes.get(1)?);
        if *version != VERSION || *direction > 1 {
            return None;
        }
        Some(Self {
            incarnation: Incarnation(id(2)?),
            descending: *direction == 1,
            conversation: id(18).filter(|c| !c.is_nil()),
            last: id(34)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_its_text() {
        for (descending, conversation) in [(true, None), (false, Some(Uuid::from_u128(7)))] {
            let last = Uuid::from_u128(9);
            let cursor = Cursor { incarnation: Incarnation(Uuid::from_u128(5)), descending, conversation, last };
            assert_eq!(Cursor::parse(&cursor.render()), Some(cursor));
        }
        for bad in ["", "AAAA", "!!", "AgAA"] {
            assert_eq!(Cursor::parse(bad), None);
        }
    }
}
