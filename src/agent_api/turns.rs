//! The earlier part of a conversation, as a provider gets it: whole turns, each a question with its answer, in the order in
//! which the questions were stored. Pure.
//!
//! Providers refuse a conversation that begins with an assistant's message, has two messages of one role in a row, or has an
//! empty one; and with it all that follow. Two questions at once in one conversation are stored as question, question,
//! answer, answer.

use super::database::statements::{HistoryMessage, PastMessage};
use std::collections::HashMap;
use uuid::Uuid;

/// The role of a question.
const USER: &str = "user";

/// The last whole turns that have at most this many messages. `messages` are in the order of storing.
pub fn resolve_turns(messages: Vec<HistoryMessage>, most_messages: i32) -> Vec<PastMessage> {
    let most = usize::try_from(most_messages).unwrap_or_default() / 2;
    let (mut questions, mut answers) = (Vec::new(), HashMap::<Uuid, String>::new());
    for HistoryMessage { role, content, request } in messages {
        if content.is_empty() {
            continue;
        }
        if role == USER {
            questions.push((request, content));
        } else {
            answers.insert(request, content);
        }
    }
    let mut turns: Vec<_> = questions
        .into_iter()
        .filter_map(|(request, question)| answers.remove(&request).map(|answer| (question, answer)))
        .collect();
    turns.drain(..turns.len().saturating_sub(most));
    turns.into_iter().flat_map(|(question, answer)| [message(USER, question), message("assistant", answer)]).collect()
}

fn message(role: &str, content: String) -> PastMessage {
    PastMessage { role: role.to_owned(), content }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages like `u1 u2 a1 a2`: role, request, and the same as their text. A `-` means an empty text.
    fn turns(text: &str, most: i32) -> String {
        let messages = text.split_whitespace().map(|word| {
            let (role, rest) = word.split_at(1);
            let number = rest.trim_end_matches('-');
            HistoryMessage {
                role: if role == "u" { "user".to_owned() } else { "assistant".to_owned() },
                content: if rest.ends_with('-') { String::new() } else { word.to_owned() },
                request: Uuid::from_u128(number.parse().unwrap()),
            }
        });
        let turns = resolve_turns(messages.collect(), most);
        for pair in turns.chunks(2) {
            assert_eq!((pair[0].role.as_str(), pair[1].role.as_str()), ("user", "assistant"));
        }
        turns.iter().map(|m| m.content.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_provider_gets_whole_alternating_turns() {
        for (stored, most, wanted) in [
            ("", 10, ""),
            ("u1 a1 u2 a2", 10, "u1 a1 u2 a2"),
            ("u1 u2 a1 a2", 10, "u1 a1 u2 a2"),
            ("u1 u2 a2 a1 u3 a3", 10, "u1 a1 u2 a2 u3 a3"),
            // Half a turn at the beginning, an odd limit, or none.
            ("a1 u2 a2", 10, "u2 a2"),
            ("u1 a1 u2 a2", 3, "u2 a2"),
            ("u1 a1", 1, ""),
            ("u1 a1", 0, ""),
            // A question without an answer yet, and an empty answer.
            ("u1 a1 u2", 10, "u1 a1"),
            ("u1 a1- u2 a2", 10, "u2 a2"),
        ] {
            assert_eq!(turns(stored, most), wanted, "{stored} {most}");
        }
    }
}
