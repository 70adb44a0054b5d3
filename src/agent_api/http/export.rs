//! `GET export`: all of a tenant's data, or of one user's, as JSON Lines in pages. A client that breaks off
//! continues from the last page's cursor.

use super::{
    page,
    request::{CheckedQuery, resolve_limit},
};
use crate::{
    agent_api::{
        auth::{Admission, Caller, scope::DataExport},
        database::portable::{ExportedRow, Part, Slice},
        json::from_object,
        problem::{Code, Problem},
    },
    domain::ident::Incarnation,
};
use axum::response::Response;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

const DEFAULT_LIMIT: i64 = 200;
const MAX_LIMIT: i64 = 1000;
/// A page ends early rather than being larger than this, but always holds one row.
const MAX_BYTES: usize = 4 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ExportQuery {
    #[serde(default)]
    limit: Option<i64>,
    #[serde(default)]
    cursor: Option<String>,
    #[serde(default)]
    sub: Option<String>,
}

/// Where a page ended; good for one life of the tenant and one filter.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct ExportCursor {
    incarnation: Incarnation,
    sub: Option<String>,
    part: usize,
    after: Option<String>,
}

impl ExportCursor {
    fn render(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    fn parse(text: &str) -> Option<Self> {
        from_object(&BASE64_URL_SAFE_NO_PAD.decode(text).ok()?).ok()
    }
}

/// The last line of each page.
#[derive(Serialize)]
struct PageEnd {
    r#type: &'static str,
    next: Option<String>,
}

pub(super) async fn read(
    caller: Caller<DataExport>,
    CheckedQuery(query): CheckedQuery<ExportQuery>,
) -> Result<Response, Problem> {
    let ExportQuery { limit, cursor, sub } = query;
    let limit = resolve_limit(limit, DEFAULT_LIMIT, MAX_LIMIT)?;
    let mut slice = resolve_slice(&caller, cursor.as_deref(), sub, limit)?;
    let (share, bytes) = caller.reserve_page(MAX_BYTES)?;
    slice.bytes = bytes;
    let slice = Arc::new(slice);
    let rows = caller.transact(Arc::clone(&slice)).await?;
    let body = render_page(&slice, caller.access.tenant.incarnation, rows)?;
    page("application/x-ndjson", body.into_bytes(), share)
}

fn resolve_slice(caller: &Admission, cursor: Option<&str>, sub: Option<String>, limit: i64) -> Result<Slice, Problem> {
    let abandoned_seconds = caller.context.abandoned_seconds();
    let Some(text) = cursor else {
        return Ok(Slice { part: Part::Conversations, after: None, sub, limit, bytes: MAX_BYTES, abandoned_seconds });
    };
    let wrong = || Problem::field("cursor", "must be a 'next' of this very export");
    let cursor = ExportCursor::parse(text).ok_or_else(wrong)?;
    let part = Part::ALL.get(cursor.part).copied().ok_or_else(wrong)?;
    let keyed = match part {
        Part::Conversations | Part::Messages | Part::Usage => {
            cursor.after.as_deref().is_none_or(|key| uuid::Uuid::parse_str(key).is_ok())
        }
        Part::Settings => cursor.after.as_deref().is_none_or(|key| !key.contains('\0')),
    };
    if cursor.incarnation != caller.access.tenant.incarnation || cursor.sub != sub || !keyed {
        return Err(wrong());
    }
    Ok(Slice { part, after: cursor.after, sub, limit, bytes: MAX_BYTES, abandoned_seconds })
}

/// The rows, as many as fit, and where to continue.
fn render_page(slice: &Slice, incarnation: Incarnation, rows: Vec<ExportedRow>) -> Result<String, Problem> {
    let full = usize::try_from(slice.limit).is_ok_and(|limit| rows.len() >= limit);
    let (mut body, mut last, mut cut) = (String::new(), None, false);
    for ExportedRow { key, line } in rows {
        // Beyond the page's bytes a row comes without its line.
        let Some(line) = line.filter(|line| last.is_none() || body.len() + line.len() <= slice.bytes) else {
            cut = true;
            break;
        };
        body.push_str(&line);
        body.push('\n');
        last = Some(key);
    }
    let index = |part: Part| Part::ALL.iter().position(|p| *p == part).unwrap_or_default();
    let next = match (full || cut, slice.part.next()) {
        (true, _) => Some((index(slice.part), last)),
        (false, Some(part)) => Some((index(part), None)),
        (false, None) => None,
    };
    let next = next.map(|(part, after)| ExportCursor { incarnation, sub: slice.sub.clone(), part, after }.render());
    body.push_str(&serde_json::to_string(&PageEnd { r#type: "page", next }).map_err(|_| Problem::new(Code::Internal))?);
    body.push('\n');
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_cursor_survives_its_text() {
        let incarnation = Incarnation(Uuid::from_u128(5));
        for (sub, after) in [(None, None), (Some("ann".to_owned()), Some("x".to_owned()))] {
            let cursor = ExportCursor { incarnation, sub, part: 1, after };
            assert_eq!(ExportCursor::parse(&cursor.render()), Some(cursor));
        }
        assert_eq!(ExportCursor::parse("AAAA"), None);
    }
}
