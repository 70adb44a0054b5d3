//! From raw specs to values that can't be wrong, or to violations that name the field.

use super::{
    base_url::check_base_url,
    decimal::Decimal,
    entry::{Behaviour, Overrides, Provider},
    ident::{AgentName, ObjectId, TenantId, Uid, is_instance_name},
    keys::{Algorithm, Kid},
    quantity::{LEAST_STORAGE, MOST_STORAGE, parse_bytes},
};
use crate::api::{
    AgentConfigSpec, AgentOverrides, DeletionPolicy, MutableSetting, ProviderType, SecretKeyRef, TenantSpec, names,
};
use std::collections::{BTreeMap, BTreeSet};

/// One broken rule of a spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field, from `spec` or `metadata`.
    pub field: String,
    /// What must hold, as a phrase that follows the path.
    pub rule: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.field, self.rule)
    }
}

fn violation(field: impl Into<String>, rule: impl Into<String>) -> Violation {
    Violation { field: field.into(), rule: rule.into() }
}

/// A valid Tenant.
#[derive(Clone, Debug, PartialEq)]
pub struct DesiredTenant {
    /// The object.
    pub object: ObjectId,
    /// Generation of its spec.
    pub generation: i64,
    /// The tenant's id.
    pub tenant_id: TenantId,
    /// It is to be out of service.
    pub suspend: bool,
    /// Its agents: the AgentConfig's name, and what the Tenant sets differently.
    pub agents: BTreeMap<AgentName, DesiredAgentRef>,
    /// The agent for requests that name none.
    pub default_agent: AgentName,
    /// What the tenant may change itself.
    pub mutable: BTreeSet<MutableSetting>,
    /// What happens to its data in the end.
    pub deletion_policy: DeletionPolicy,
    /// The database instance that holds its data; `None`: any.
    pub instance: Option<String>,
    /// The deleted Tenant whose data it takes over, as long as it has none.
    pub adopt: Option<Uid>,
    /// Most transactions at once in one replica.
    pub max_concurrent_transactions: i32,
    /// Longest statement, seconds.
    pub statement_timeout_seconds: i32,
    /// Most bytes of content, if that is limited.
    pub storage_limit_bytes: Option<i64>,
    /// Required `iss`.
    pub issuer: String,
    /// Required member of `aud`.
    pub audience: String,
    /// Longest token, seconds.
    pub max_token_seconds: i32,
    /// How its keys live.
    pub keys: DesiredKeys,
}

/// How a tenant's keys live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredKeys {
    /// How tokens are signed.
    pub algorithm: Algorithm,
    /// How long a key signs, if that is bounded.
    pub period: Option<jiff::SignedDuration>,
    /// The rotation that is asked for; each new text asks once.
    pub rotate: Option<String>,
    /// Keys that must not verify anything.
    pub revoke: BTreeSet<Kid>,
}

/// One agent of a valid Tenant.
#[derive(Clone, Debug, PartialEq)]
pub struct DesiredAgentRef {
    /// Name of the AgentConfig in the Tenant's namespace.
    pub config: String,
    /// What the Tenant sets differently.
    pub overrides: Overrides,
}

/// A valid AgentConfig.
#[derive(Clone, Debug, PartialEq)]
pub struct DesiredAgent {
    /// The object.
    pub object: ObjectId,
    /// Generation of its spec.
    pub generation: i64,
    /// How it behaves.
    pub behaviour: Behaviour,
    /// Where the provider's key is.
    pub credential: Option<SecretKeyRef>,
}

/// Whether the operator shall not touch an object, by its annotations.
///
/// # Errors
/// The broken rule.
pub fn resolve_paused(annotations: &BTreeMap<String, String>) -> Result<bool, Violation> {
    match annotations.get(names::PAUSED_ANNOTATION).map(String::as_str) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(violation(annotation(names::PAUSED_ANNOTATION), "must be 'true' or 'false'")),
    }
}

fn annotation(name: &str) -> String {
    format!("metadata.annotations[{name}]")
}

/// The tenant id of an object: `spec.tenantId`, else its name.
///
/// # Errors
/// The broken rule, with the path of the field it came from.
pub fn resolve_tenant_id(spec_id: Option<&str>, name: &str) -> Result<TenantId, Violation> {
    let (field, text) = spec_id.map_or(("metadata.name", name), |id| ("spec.tenantId", id));
    TenantId::parse(text).map_err(|e| violation(field, e.to_string()))
}

/// Resolves a Tenant.
///
/// # Errors
/// Every broken rule of the spec.
pub fn resolve_tenant(
    object: ObjectId,
    generation: i64,
    annotations: &BTreeMap<String, String>,
    spec: &TenantSpec,
) -> Result<DesiredTenant, Vec<Violation>> {
    let mut wrong = Vec::new();
    let tenant_id = resolve_tenant_id(spec.tenant_id.as_deref(), &object.name).map_err(|v| wrong.push(v)).ok();

    let mut agents = BTreeMap::new();
    let mut first = None;
    if spec.agents.is_empty() || spec.agents.len() > 16 {
        wrong.push(violation("spec.agents", "must have 1 to 16 items"));
    }
    for (i, agent) in spec.agents.iter().enumerate() {
        let path = format!("spec.agents[{i}]");
        match AgentName::parse(&agent.name) {
            Ok(name) => {
                first.get_or_insert_with(|| name.clone());
                let overrides = resolve_overrides(&agent.overrides, &format!("{path}.overrides"), &mut wrong);
                let reference = DesiredAgentRef { config: agent.config_ref.name.clone(), overrides };
                if agents.insert(name, reference).is_some() {
                    wrong.push(violation(format!("{path}.name"), "must be unique within spec.agents"));
                }
            }
            Err(e) => wrong.push(violation(format!("{path}.name"), e.to_string())),
        }
    }
    let default_agent = match spec.default_agent.as_deref() {
        None => first,
        Some(text) => AgentName::parse(text).ok().filter(|name| agents.contains_key(name)).or_else(|| {
            wrong.push(violation("spec.defaultAgent", "must name one of spec.agents"));
            None
        }),
    };
    let mut within = |field: &str, value: i32, min: i32, max: i32| {
        if !(min..=max).contains(&value) {
            wrong.push(violation(field, format!("must be from {min} to {max}")));
        }
    };
    within("spec.database.maxConcurrentTransactions", spec.database.max_concurrent_transactions, 1, 100);
    within("spec.database.statementTimeoutSeconds", spec.database.statement_timeout_seconds, 1, 300);
    within("spec.auth.maxTokenSeconds", spec.auth.max_token_seconds, 60, 86_400);
    for (field, text) in [("spec.auth.issuer", &spec.auth.issuer), ("spec.auth.audience", &spec.auth.audience)] {
        if text.is_empty() || text.len() > 256 {
            wrong.push(violation(field, "must have 1 to 256 characters"));
        }
    }
    let instance = resolve_instance(spec, &mut wrong);
    let storage_limit_bytes = resolve_storage_limit(spec, &mut wrong);
    let adopt = resolve_adoption(spec, &mut wrong);
    let keys = resolve_keys(spec, annotations, &mut wrong);
    match (tenant_id, default_agent) {
        (Some(tenant_id), Some(default_agent)) if wrong.is_empty() => Ok(DesiredTenant {
            object,
            generation,
            tenant_id,
            suspend: spec.suspend,
            agents,
            default_agent,
            mutable: spec.tenant_mutable.iter().copied().collect(),
            deletion_policy: spec.database.deletion_policy,
            instance,
            adopt,
            max_concurrent_transactions: spec.database.max_concurrent_transactions,
            statement_timeout_seconds: spec.database.statement_timeout_seconds,
            storage_limit_bytes,
            issuer: spec.auth.issuer.clone(),
            audience: spec.auth.audience.clone(),
            max_token_seconds: spec.auth.max_token_seconds,
            keys,
        }),
        _ => Err(wrong),
    }
}

/// Which names there are, the operator's settings say.
fn resolve_instance(spec: &TenantSpec, wrong: &mut Vec<Violation>) -> Option<String> {
    let name = spec.database.instance.as_ref()?;
    if !is_instance_name(name) {
        let rule = "must be 1 to 30 characters of a-z, 0-9 and -, not starting or ending with -";
        wrong.push(violation("spec.database.instance", rule));
    }
    Some(name.clone())
}

fn resolve_storage_limit(spec: &TenantSpec, wrong: &mut Vec<Violation>) -> Option<i64> {
    let text = spec.database.storage_limit.as_deref()?;
    let bytes = parse_bytes(text).filter(|bytes| (LEAST_STORAGE..=MOST_STORAGE).contains(bytes));
    if bytes.is_none() {
        wrong.push(violation("spec.database.storageLimit", "must be a whole number of bytes from 1Mi to 1Pi"));
    }
    bytes
}

/// Whether it looks like a UID is all that can be checked here; the API server makes them.
fn resolve_adoption(spec: &TenantSpec, wrong: &mut Vec<Violation>) -> Option<Uid> {
    let uid = &spec.database.adopt.as_ref()?.previous_uid;
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if uid.is_empty() || uid.len() > 36 || !uid.bytes().all(good) {
        wrong.push(violation("spec.database.adopt.previousUid", "must be the metadata.uid of a deleted Tenant"));
    }
    Some(Uid(uid.clone()))
}

/// Most kids that one annotation revokes: more than a ring holds.
const MAX_REVOKED: usize = 16;

fn resolve_keys(spec: &TenantSpec, annotations: &BTreeMap<String, String>, wrong: &mut Vec<Violation>) -> DesiredKeys {
    let rotate = annotations.get(names::ROTATE_ANNOTATION).cloned();
    if rotate.as_ref().is_some_and(|text| text.is_empty() || text.len() > 64) {
        wrong.push(violation(annotation(names::ROTATE_ANNOTATION), "must have 1 to 64 characters"));
    }
    let listed = annotations.get(names::REVOKE_ANNOTATION).map_or("", String::as_str);
    let listed: Vec<&str> = listed.split(',').map(str::trim).filter(|kid| !kid.is_empty()).collect();
    let revoke: BTreeSet<Kid> = listed.iter().filter_map(|kid| Kid::parse(kid)).collect();
    if revoke.len() != listed.len() || listed.len() > MAX_REVOKED {
        let rule = format!("must be at most {MAX_REVOKED} different key ids, separated by commas");
        wrong.push(violation(annotation(names::REVOKE_ANNOTATION), rule));
    }
    if spec.auth.rotation_period_seconds.is_some_and(|s| !(3_600..=315_360_000).contains(&s)) {
        wrong.push(violation("spec.auth.rotationPeriodSeconds", "must be from 3600 to 315360000"));
    }
    let period = spec.auth.rotation_period_seconds.map(|s| jiff::SignedDuration::from_secs(s.into()));
    DesiredKeys { algorithm: spec.auth.algorithm, period, rotate, revoke }
}

fn resolve_overrides(raw: &AgentOverrides, path: &str, wrong: &mut Vec<Violation>) -> Overrides {
    let AgentOverrides { temperature, top_p, max_output_tokens, instructions } = raw;
    if max_output_tokens.is_some_and(|n| !(1..=1_000_000).contains(&n)) {
        wrong.push(violation(format!("{path}.maxOutputTokens"), "must be from 1 to 1000000"));
    }
    if instructions.as_ref().is_some_and(|t| t.is_empty() || t.chars().count() > 4096) {
        wrong.push(violation(format!("{path}.instructions"), "must have 1 to 4096 characters"));
    }
    Overrides {
        temperature: resolve_decimal(temperature.as_deref(), 2, &format!("{path}.temperature"), wrong),
        top_p: resolve_decimal(top_p.as_deref(), 1, &format!("{path}.topP"), wrong),
        max_output_tokens: *max_output_tokens,
        instructions: instructions.clone(),
    }
}

fn resolve_decimal(raw: Option<&str>, max: u32, path: &str, wrong: &mut Vec<Violation>) -> Option<Decimal> {
    let text = raw?;
    let value = Decimal::parse(text, max);
    if value.is_none() {
        wrong.push(violation(path, format!("must be a decimal from 0 to {max} with at most four places")));
    }
    value
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
    let mut wrong = Vec::new();
    let provider = match (spec.provider.type_, spec.provider.base_url.as_deref()) {
        (ProviderType::Echo, None) if spec.provider.api_key_secret_ref.is_none() => Provider::Echo,
        (ProviderType::Echo, _) => {
            wrong.push(violation("spec.provider", "must set neither baseUrl nor apiKeySecretRef for 'Echo'"));
            Provider::Echo
        }
        (ProviderType::OpenAICompatible, base_url) => {
            let base_url = base_url.unwrap_or_default();
            if let Err(rule) = check_base_url(base_url) {
                wrong.push(violation("spec.provider.baseUrl", rule));
            }
            Provider::OpenAICompatible { base_url: base_url.trim_end_matches('/').to_owned() }
        }
    };
    let mut within = |field: &str, value: i32, min: i32, max: i32| {
        if !(min..=max).contains(&value) {
            wrong.push(violation(field, format!("must be from {min} to {max}")));
        }
    };
    let parameters = &spec.parameters;
    within("spec.parameters.maxOutputTokens", parameters.max_output_tokens, 1, 1_000_000);
    within("spec.context.maxHistoryMessages", spec.context.max_history_messages, 0, 200);
    within("spec.timeouts.totalSeconds", spec.timeouts.total_seconds, 1, 600);
    if spec.model.is_empty() || spec.model.len() > 128 {
        wrong.push(violation("spec.model", "must have 1 to 128 characters"));
    }
    if parameters.stop.len() > 4 || parameters.stop.iter().any(|s| s.is_empty() || s.chars().count() > 64) {
        wrong.push(violation("spec.parameters.stop", "must have at most 4 texts of 1 to 64 characters"));
    }
    let behaviour = Behaviour {
        provider,
        model: spec.model.clone(),
        system_prompt: spec.system_prompt.as_ref().map(|p| p.inline.clone()),
        temperature: resolve_decimal(parameters.temperature.as_deref(), 2, "spec.parameters.temperature", &mut wrong),
        top_p: resolve_decimal(parameters.top_p.as_deref(), 1, "spec.parameters.topP", &mut wrong),
        max_output_tokens: parameters.max_output_tokens,
        stop: parameters.stop.clone(),
        seed: parameters.seed,
        max_history_messages: spec.context.max_history_messages,
        total_timeout_seconds: spec.timeouts.total_seconds,
    };
    if wrong.is_empty() {
        Ok(DesiredAgent { object, generation, behaviour, credential: spec.provider.api_key_secret_ref.clone() })
    } else {
        Err(wrong)
    }
}

/// The oldest of several Tenants that claim one id, then the one with the smallest UID; those being deleted don't count.
pub fn resolve_claim(candidates: impl IntoIterator<Item = Claimant>) -> Option<Claimant> {
    candidates
        .into_iter()
        .filter(|c| !c.deleting)
        .min_by(|a, b| (a.created, &a.object.uid).cmp(&(b.created, &b.object.uid)))
}

/// A Tenant that claims a tenant id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimant {
    /// The Tenant.
    pub object: ObjectId,
    /// When it was created; unknown sorts first, as before every known time.
    pub created: Option<jiff::Timestamp>,
    /// Whether it is being deleted.
    pub deleting: bool,
}

/// Which life of an AgentConfig a name means, as the registry knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentLookup {
    /// No such AgentConfig.
    Missing,
    /// It is being deleted. Who runs it already keeps it, which holds the deletion up; nobody else may start to.
    Leaving(Uid),
    /// It exists, but its entry is not in the registry yet.
    Unpublished(Uid),
    /// Its entry is in the registry.
    Published(Uid),
}

#[cfg(test)]
mod tests;
