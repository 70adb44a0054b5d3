//! What a model accepts of OpenAI's parameters. A refusal says what it doesn't accept; that is remembered, so that only the
//! first call pays for it. Pure.

use super::refusal::{RefusalKind, UpstreamRefusal};
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Most models that are remembered.
const MAX_MODELS: usize = 1024;

/// How to ask a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a difference of its own")]
pub(super) struct Dialect {
    /// `max_completion_tokens` instead of `max_tokens`.
    pub(super) completion_tokens: bool,
    /// The system prompt stands at the beginning of the first question, because there is no role for it.
    pub(super) no_system_role: bool,
    pub(super) no_temperature: bool,
    pub(super) no_top_p: bool,
    pub(super) no_seed: bool,
    pub(super) no_stop: bool,
}

impl Dialect {
    /// How to ask again after a refusal; `None` if it is about something else, or that was tried.
    pub(super) fn adapted(self, refusal: &UpstreamRefusal) -> Option<Self> {
        match refusal.kind {
            RefusalKind::Request => {}
            RefusalKind::ContextLength
            | RefusalKind::ContentFilter
            | RefusalKind::RateLimit
            | RefusalKind::Quota
            | RefusalKind::ModelNotFound
            | RefusalKind::Credential
            | RefusalKind::Failed => return None,
        }
        let about = |name: &str| refusal.parameter.as_deref() == Some(name);
        let says = |phrase: &str| refusal.text.contains(phrase);
        let both = says("temperature") && says("top_p");
        let next = if about("max_tokens") || says("max_completion_tokens") {
            Self { completion_tokens: true, ..self }
        } else if both || about("top_p") {
            Self { no_top_p: true, ..self }
        } else if about("temperature") || says("temperature") {
            Self { no_temperature: true, ..self }
        } else if about("seed") {
            Self { no_seed: true, ..self }
        } else if about("stop") {
            Self { no_stop: true, ..self }
        } else if says("system") && (says("role") || says("instruction") || says("not supported")) {
            Self { no_system_role: true, ..self }
        } else if says("top_p") {
            Self { no_top_p: true, ..self }
        } else {
            self
        };
        (next != self).then_some(next)
    }
}

/// What is known of each model, by base URL and name.
#[derive(Default)]
pub(super) struct Dialects(Mutex<HashMap<(String, String), Dialect>>);

impl Dialects {
    fn all(&self) -> MutexGuard<'_, HashMap<(String, String), Dialect>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How to ask a model.
    pub(super) fn get(&self, base_url: &str, model: &str) -> Dialect {
        self.all().get(&(base_url.to_owned(), model.to_owned())).copied().unwrap_or_default()
    }

    /// Remembers how to ask a model.
    pub(super) fn set(&self, base_url: &str, model: &str, dialect: Dialect) {
        let mut all = self.all();
        if all.len() >= MAX_MODELS {
            all.clear();
        }
        all.insert((base_url.to_owned(), model.to_owned()), dialect);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(parameter: &str, text: &str) -> UpstreamRefusal {
        let parameter = (!parameter.is_empty()).then(|| parameter.to_owned());
        UpstreamRefusal { kind: RefusalKind::Request, status: 400, retry_after: None, parameter, text: text.to_owned() }
    }

    #[test]
    fn a_refused_parameter_is_asked_otherwise_once() {
        let plain = Dialect::default();
        for (parameter, text, wanted) in [
            (
                "max_tokens",
                "unsupported parameter: 'max_tokens' is not supported with this model. use 'max_completion_tokens' instead.",
                Dialect { completion_tokens: true, ..plain },
            ),
            ("temperature", "unsupported value", Dialect { no_temperature: true, ..plain }),
            ("", "`temperature` and `top_p` cannot both be specified", Dialect { no_top_p: true, ..plain }),
            ("", "system role not supported", Dialect { no_system_role: true, ..plain }),
            (
                "",
                "developer instruction is not enabled for this model: system",
                Dialect { no_system_role: true, ..plain },
            ),
            ("seed", "no", Dialect { no_seed: true, ..plain }),
        ] {
            let refusal = refusal(parameter, text);
            assert_eq!(plain.adapted(&refusal), Some(wanted), "{text}");
            assert_eq!(wanted.adapted(&refusal), None, "{text}");
        }
        assert_eq!(plain.adapted(&refusal("messages", "messages must not be empty")), None);
        let limited = UpstreamRefusal { kind: RefusalKind::RateLimit, ..refusal("temperature", "") };
        assert_eq!(plain.adapted(&limited), None);
    }
}
