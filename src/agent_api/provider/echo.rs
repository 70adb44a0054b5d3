//! The built-in provider: no network, no key, same question, same answer. Its answer shows what a model would be given,
//! so that one sees each tenant's configuration work.

use super::{Call, Completion};
use std::fmt::Write;

/// Longest part of the system prompt that is shown, in characters.
const SHOWN: usize = 200;

/// The answer to a call.
pub(super) fn resolve_answer(call: &Call<'_>) -> Completion {
    let Call { revision, effective, system_prompt, history, message, credential: _, max_bytes: _ } = call;
    let behaviour = &revision.behaviour;
    let mut text = format!(
        "echo: {message}\nmodel: {}\nrevision: {}\nhistory: {} messages\n",
        behaviour.model,
        revision.number,
        history.len()
    );
    let optional =
        |value: &Option<crate::domain::decimal::Decimal>| value.map_or_else(|| "default".to_owned(), |v| v.to_string());
    // Writing into a String can't fail.
    let _ = write!(
        text,
        "parameters: temperature={} topP={} maxOutputTokens={}",
        optional(&effective.temperature.value),
        optional(&effective.top_p.value),
        effective.max_output_tokens.value,
    );
    if let Some(prompt) = system_prompt {
        let shown: String = prompt.chars().take(SHOWN).collect();
        let more = if shown.len() < prompt.len() { "…" } else { "" };
        let _ = write!(text, "\nsystem: {shown}{more}");
    }
    let input =
        words(message) + system_prompt.map_or(0, words) + history.iter().map(|m| words(&m.content)).sum::<i64>();
    let limit = i64::from(effective.max_output_tokens.value);
    if words(&text) > limit {
        text = text.split_inclusive(char::is_whitespace).take(usize::try_from(limit).unwrap_or(usize::MAX)).collect();
        text.truncate(text.trim_end().len());
    }
    Completion { output_tokens: words(&text), text, model: behaviour.model.clone(), input_tokens: input }
}

/// Our token count: words.
fn words(text: &str) -> i64 {
    i64::try_from(text.split_whitespace().count()).unwrap_or(i64::MAX)
}
