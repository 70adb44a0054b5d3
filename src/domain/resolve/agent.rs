//! An AgentConfig's spec.

use super::{
    Violation,
    overrides::{resolve_temperature, resolve_top_p},
};
use crate::{
    api::{
        AgentConfigSpec, AgentContext, AgentParameters, AgentProvider, AgentTimeouts, ProviderType, SecretKeyRef,
        SystemPrompt,
        bounds::{OBJECT_NAME, OUTPUT_TOKENS},
    },
    domain::{
        base_url::check_base_url,
        entry::{Behaviour, Provider},
        ident::{ObjectId, is_object_name, is_secret_key},
        violation::Violations,
    },
};

/// A valid AgentConfig.
#[derive(Clone, Debug, PartialEq)]
pub struct DesiredAgent {
    /// The object.
    pub object: ObjectId,
    /// Generation of its spec.
    pub generation: i64,
    /// How the agent behaves.
    pub behaviour: Behaviour,
    /// Reference to the provider's key.
    pub credential: Option<SecretKeyRef>,
}

/// Resolves an AgentConfig.
///
/// # Errors
/// Every broken rule of the spec.
pub fn resolve_agent(
    object: ObjectId,
    generation: i64,
    spec: &AgentConfigSpec,
) -> Result<DesiredAgent, Vec<Violation>> {
    let mut wrong = Violations::default();
    let provider = resolve_provider(&spec.provider, &mut wrong);
    let credential = spec.provider.api_key_secret_ref.clone();
    if credential.as_ref().is_some_and(|r| !is_object_name(&r.name) || !is_secret_key(&r.key)) {
        let rule = format!("must have the name and a key of a Secret, of 1 to {} characters each", OBJECT_NAME.max);
        wrong.add("spec.provider.apiKeySecretRef", rule);
    }
    let AgentParameters { temperature, top_p, max_output_tokens, stop, seed } = &spec.parameters;
    wrong.check_number("spec.parameters.maxOutputTokens", *max_output_tokens, OUTPUT_TOKENS);
    let AgentContext { max_history_messages } = spec.context;
    wrong.check_number("spec.context.maxHistoryMessages", max_history_messages, AgentContext::HISTORY_MESSAGES);
    let AgentTimeouts { total_seconds } = spec.timeouts;
    wrong.check_number("spec.timeouts.totalSeconds", total_seconds, AgentTimeouts::TOTAL_SECONDS);
    wrong.check_text("spec.model", &spec.model, AgentConfigSpec::MODEL);
    if let Some(prompt) = &spec.system_prompt {
        wrong.check_text("spec.systemPrompt.inline", &prompt.inline, SystemPrompt::INLINE);
    }
    let (most, length) = (AgentParameters::MAX_STOP, AgentParameters::STOP);
    if stop.len() > most || !stop.iter().all(|text| length.allow_text(text)) {
        let rule = format!("must have at most {most} texts of {} to {} characters", length.min, length.max);
        wrong.add("spec.parameters.stop", rule);
    }
    if let Some(seed) = seed {
        wrong.check_number("spec.parameters.seed", *seed, AgentParameters::SEED);
    }
    let behaviour = Behaviour {
        provider,
        model: spec.model.clone(),
        system_prompt: spec.system_prompt.as_ref().map(|p| p.inline.clone()),
        temperature: resolve_temperature(temperature.as_deref(), "spec.parameters", &mut wrong),
        top_p: resolve_top_p(top_p.as_deref(), "spec.parameters", &mut wrong),
        max_output_tokens: *max_output_tokens,
        stop: stop.clone(),
        seed: *seed,
        max_history_messages,
        total_timeout_seconds: total_seconds,
    };
    if wrong.0.is_empty() { Ok(DesiredAgent { object, generation, behaviour, credential }) } else { Err(wrong.0) }
}

fn resolve_provider(spec: &AgentProvider, wrong: &mut Violations) -> Provider {
    match (spec.type_, spec.base_url.as_deref()) {
        (ProviderType::Echo, None) if spec.api_key_secret_ref.is_none() => Provider::Echo,
        (ProviderType::Echo, _) => {
            wrong.add("spec.provider", "must set neither baseUrl nor apiKeySecretRef for 'Echo'");
            Provider::Echo
        }
        (ProviderType::OpenAICompatible, base_url) => {
            let base_url = base_url.unwrap_or_default();
            match check_base_url(base_url) {
                Ok(()) => wrong.check_text("spec.provider.baseUrl", base_url, AgentProvider::BASE_URL),
                Err(rule) => wrong.add("spec.provider.baseUrl", rule),
            }
            Provider::OpenAICompatible { base_url: base_url.trim_end_matches('/').to_owned() }
        }
    }
}
