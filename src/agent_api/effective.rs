//! Effective values: AgentConfig, then the Tenant's overrides, then what the tenant set itself. Pure.

use super::database::statements::StoredSettings;
use crate::{
    api::{
        MutableSetting,
        bounds::{INSTRUCTIONS, MAX_TEMPERATURE, MAX_TOP_P},
    },
    domain::{
        decimal::Decimal,
        entry::{Behaviour, Overrides},
        ident::AgentName,
    },
};
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum SettingSource {
    /// The AgentConfig.
    AgentConfig,
    /// The Tenant.
    Tenant,
    /// The tenant, through `PUT settings`.
    TenantSetting,
}

/// A value with its source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sourced<T> {
    /// The value; null where no layer sets one.
    pub value: T,
    /// Where it comes from.
    pub source: SettingSource,
    /// Whether the tenant may not change it.
    pub locked: bool,
}

/// What the tenant set itself through `PUT settings`, validated; only mutable settings count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TenantSettings {
    /// Agent for requests that name none.
    pub default_agent: Option<AgentName>,
    /// Sampling temperature.
    pub temperature: Option<Decimal>,
    /// Nucleus sampling.
    pub top_p: Option<Decimal>,
    /// Most tokens of one answer.
    pub max_output_tokens: Option<i32>,
    /// Text after the system prompt.
    pub instructions: Option<String>,
}

/// An agent's parameters for one tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Effective {
    /// Model.
    pub model: Sourced<String>,
    /// Sampling temperature.
    pub temperature: Sourced<Option<Decimal>>,
    /// Nucleus sampling.
    pub top_p: Sourced<Option<Decimal>>,
    /// Most tokens of one answer: the least that any layer says.
    pub max_output_tokens: Sourced<i32>,
    /// Text after the system prompt.
    pub instructions: Sourced<Option<String>>,
}

/// A change the tenant asks for: by field, a value or null.
pub type RequestedSettings = BTreeMap<String, Value>;

/// A change that may be stored.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoredSettingsChange {
    /// To set, by stored name.
    pub set: StoredSettings,
    /// To remove, by stored name.
    pub remove: Vec<String>,
}

/// Why a change is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingRefusal {
    /// The tenant may not change this.
    Locked(String),
    /// No such setting, or a value that it can't have; with the rule.
    Invalid(String, String),
}

/// Every setting with its name in requests.
pub const FIELDS: [(MutableSetting, &str); 5] = [
    (MutableSetting::DefaultAgent, "defaultAgent"),
    (MutableSetting::Temperature, "temperature"),
    (MutableSetting::TopP, "topP"),
    (MutableSetting::MaxOutputTokens, "maxOutputTokens"),
    (MutableSetting::Instructions, "instructions"),
];

/// Its name in the table `settings`: that of the enum, as in `spec.tenantMutable`.
const fn stored_name(setting: MutableSetting) -> &'static str {
    match setting {
        MutableSetting::DefaultAgent => "DefaultAgent",
        MutableSetting::Temperature => "Temperature",
        MutableSetting::TopP => "TopP",
        MutableSetting::MaxOutputTokens => "MaxOutputTokens",
        MutableSetting::Instructions => "Instructions",
    }
}

/// Reads what is stored. A setting that is no longer mutable or no longer valid doesn't count.
pub fn resolve_tenant_settings(stored: &StoredSettings, mutable: &BTreeSet<MutableSetting>) -> TenantSettings {
    let get = |setting: MutableSetting| mutable.contains(&setting).then(|| stored.get(stored_name(setting))).flatten();
    let text = |setting| get(setting).and_then(Value::as_str);
    TenantSettings {
        default_agent: text(MutableSetting::DefaultAgent).and_then(|t| AgentName::parse(t).ok()),
        temperature: text(MutableSetting::Temperature).and_then(|t| Decimal::parse(t, MAX_TEMPERATURE)),
        top_p: text(MutableSetting::TopP).and_then(|t| Decimal::parse(t, MAX_TOP_P)),
        max_output_tokens: get(MutableSetting::MaxOutputTokens)
            .and_then(Value::as_i64)
            .and_then(|n| i32::try_from(n).ok())
            .filter(|n| *n >= 1),
        instructions: text(MutableSetting::Instructions).map(str::to_owned),
    }
}

/// One agent's effective parameters.
pub fn resolve_effective(
    behaviour: &Behaviour,
    overrides: &Overrides,
    own: &TenantSettings,
    mutable: &BTreeSet<MutableSetting>,
) -> Effective {
    let locked = |setting| !mutable.contains(&setting);
    fn pick<T: Clone>(values: [&Option<T>; 3]) -> (Option<T>, SettingSource) {
        let [agent, tenant, own] = values;
        if own.is_some() {
            (own.clone(), SettingSource::TenantSetting)
        } else if tenant.is_some() {
            (tenant.clone(), SettingSource::Tenant)
        } else {
            (agent.clone(), SettingSource::AgentConfig)
        }
    }
    let sourced = |(value, source), setting| Sourced { value, source, locked: locked(setting) };
    // Each layer can only lower the ceiling of the one below.
    let mut tokens = (behaviour.max_output_tokens, SettingSource::AgentConfig);
    let above =
        [(overrides.max_output_tokens, SettingSource::Tenant), (own.max_output_tokens, SettingSource::TenantSetting)];
    for (value, source) in above {
        if let Some(value) = value
            && value < tokens.0
        {
            tokens = (value, source);
        }
    }
    let temperature = pick([&behaviour.temperature, &overrides.temperature, &own.temperature]);
    let top_p = pick([&behaviour.top_p, &overrides.top_p, &own.top_p]);
    let instructions = pick([&None, &overrides.instructions, &own.instructions]);
    Effective {
        model: Sourced { value: behaviour.model.clone(), source: SettingSource::AgentConfig, locked: true },
        temperature: sourced(temperature, MutableSetting::Temperature),
        top_p: sourced(top_p, MutableSetting::TopP),
        max_output_tokens: Sourced {
            value: tokens.0,
            source: tokens.1,
            locked: locked(MutableSetting::MaxOutputTokens),
        },
        instructions: Sourced {
            value: instructions.0,
            source: instructions.1,
            locked: locked(MutableSetting::Instructions),
        },
    }
}

/// The system prompt with the instructions after it.
pub fn resolve_system_prompt(behaviour: &Behaviour, effective: &Effective) -> Option<String> {
    let parts = [behaviour.system_prompt.as_deref(), effective.instructions.value.as_deref()];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join("\n\n"))
}

/// Checks a wanted change. `max_tokens` is the highest ceiling among the tenant's agents.
///
/// # Errors
/// The first field that can't be changed as wanted.
pub fn resolve_change(
    wanted: &RequestedSettings,
    mutable: &BTreeSet<MutableSetting>,
    agents: &BTreeSet<&AgentName>,
    max_tokens: i32,
) -> Result<StoredSettingsChange, SettingRefusal> {
    let mut change = StoredSettingsChange::default();
    for (field, value) in wanted {
        let Some((setting, _)) = FIELDS.into_iter().find(|(_, name)| name == field) else {
            return Err(SettingRefusal::Invalid(field.clone(), "is not a setting".to_owned()));
        };
        if !mutable.contains(&setting) {
            return Err(SettingRefusal::Locked(field.clone()));
        }
        let name = stored_name(setting).to_owned();
        if value.is_null() {
            change.remove.push(name);
        } else {
            let value = resolve_value(setting, value, agents, max_tokens);
            change.set.insert(name, value.map_err(|rule| SettingRefusal::Invalid(field.clone(), rule))?);
        }
    }
    Ok(change)
}

fn resolve_value(
    setting: MutableSetting,
    value: &Value,
    agents: &BTreeSet<&AgentName>,
    max_tokens: i32,
) -> Result<Value, String> {
    let decimal = |max: u32| {
        // A JSON number is accepted for a decimal string.
        let text = match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let parsed = text.and_then(|t| Decimal::parse(&t, max));
        let parsed = parsed.map(|d| Value::String(d.to_string()));
        parsed.ok_or_else(|| format!("must be a decimal from 0 to {max} with at most four places"))
    };
    match setting {
        MutableSetting::Temperature => decimal(MAX_TEMPERATURE),
        MutableSetting::TopP => decimal(MAX_TOP_P),
        MutableSetting::DefaultAgent => {
            let known = value.as_str().filter(|t| agents.iter().any(|a| a.as_str() == *t));
            known.map(|t| Value::String(t.to_owned())).ok_or_else(|| "must name one of the tenant's agents".to_owned())
        }
        MutableSetting::MaxOutputTokens => value
            .as_i64()
            .filter(|n| (1..=i64::from(max_tokens)).contains(n))
            .map(Value::from)
            .ok_or_else(|| format!("must be a whole number from 1 to {max_tokens}")),
        MutableSetting::Instructions => value
            .as_str()
            .filter(|t| INSTRUCTIONS.allow_text(t) && !t.contains('\0'))
            .map(|t| Value::String(t.to_owned()))
            .ok_or_else(|| format!("must be a text of {} to {} characters", INSTRUCTIONS.min, INSTRUCTIONS.max)),
    }
}

#[cfg(test)]
mod tests;
