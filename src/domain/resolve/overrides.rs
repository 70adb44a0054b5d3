//! The parameters of an agent, in an AgentConfig and in a Tenant.

use crate::{
    api::{
        AgentOverrides,
        bounds::{INSTRUCTIONS, MAX_TEMPERATURE, MAX_TOP_P, OUTPUT_TOKENS},
    },
    domain::{decimal::Decimal, entry::Overrides, violation::Violations},
};

pub(super) fn resolve_overrides(raw: &AgentOverrides, path: &str, wrong: &mut Violations) -> Overrides {
    let AgentOverrides { temperature, top_p, max_output_tokens, instructions } = raw;
    if let Some(tokens) = max_output_tokens {
        wrong.check_number(format!("{path}.maxOutputTokens"), *tokens, OUTPUT_TOKENS);
    }
    if let Some(text) = instructions {
        wrong.check_text(format!("{path}.instructions"), text, INSTRUCTIONS);
    }
    Overrides {
        temperature: resolve_temperature(temperature.as_deref(), path, wrong),
        top_p: resolve_top_p(top_p.as_deref(), path, wrong),
        max_output_tokens: *max_output_tokens,
        instructions: instructions.clone(),
    }
}

pub(super) fn resolve_temperature(raw: Option<&str>, path: &str, wrong: &mut Violations) -> Option<Decimal> {
    resolve_decimal(raw?, MAX_TEMPERATURE, format!("{path}.temperature"), wrong)
}

pub(super) fn resolve_top_p(raw: Option<&str>, path: &str, wrong: &mut Violations) -> Option<Decimal> {
    resolve_decimal(raw?, MAX_TOP_P, format!("{path}.topP"), wrong)
}

fn resolve_decimal(text: &str, max: u32, path: String, wrong: &mut Violations) -> Option<Decimal> {
    let value = Decimal::parse(text, max);
    if value.is_none() {
        wrong.add(path, format!("must be a decimal from 0 to {max} with at most four places"));
    }
    value
}
