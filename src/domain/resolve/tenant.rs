//! A Tenant's spec and annotations.

use super::{Violation, annotation, overrides::resolve_overrides};
use crate::{
    api::{
        DeletionPolicy, MutableSetting, TenantAdoption, TenantAuth, TenantDatabase, TenantSpec,
        bounds::{OBJECT_NAME, REQUEST},
        names,
    },
    domain::{
        entry::Overrides,
        ident::{AgentName, ObjectId, TenantId, Uid, is_instance_name, is_object_name},
        keys::{Algorithm, Kid},
        limits::DatabaseLimits,
        tokens::TokenRules,
        violation::Violations,
    },
};
use std::collections::{BTreeMap, BTreeSet};

/// A valid Tenant.
#[derive(Clone, Debug, PartialEq)]
pub struct DesiredTenant {
    /// The object.
    pub object: ObjectId,
    /// Generation of its spec.
    pub generation: i64,
    /// The tenant's id.
    pub tenant_id: TenantId,
    /// Whether it is to be out of service.
    pub suspend: bool,
    /// Its agents, by name.
    pub agents: BTreeMap<AgentName, DesiredAgentRef>,
    /// The agent that answers requests which name none.
    pub default_agent: AgentName,
    /// Settings that the tenant may change itself.
    pub mutable: BTreeSet<MutableSetting>,
    /// What happens to its data when the Tenant is deleted.
    pub deletion_policy: DeletionPolicy,
    /// The database instance that holds its data; `None`: any.
    pub instance: Option<String>,
    /// The deleted Tenant that it takes data over from if it has none.
    pub adopt: Option<Uid>,
    /// What it may use of its database.
    pub limits: DatabaseLimits,
    /// What its tokens have to contain.
    pub tokens: TokenRules,
    /// How its keys are rotated.
    pub keys: DesiredKeys,
}

/// How a tenant's keys are rotated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredKeys {
    /// How tokens are signed.
    pub algorithm: Algorithm,
    /// How long a key signs, if that is limited.
    pub period: Option<jiff::SignedDuration>,
    /// The requested rotation. Each new value is one request.
    pub rotate: Option<String>,
    /// Revoked keys.
    pub revoke: BTreeSet<Kid>,
}

/// One agent of a valid Tenant.
#[derive(Clone, Debug, PartialEq)]
pub struct DesiredAgentRef {
    /// Name of the AgentConfig in the Tenant's namespace.
    pub config: String,
    /// Parameters that differ from the AgentConfig.
    pub overrides: Overrides,
}

/// The tenant id of an object: `spec.tenantId`, else its name.
///
/// # Errors
/// The broken rule, with the path of the field it came from.
pub fn resolve_tenant_id(spec_id: Option<&str>, name: &str) -> Result<TenantId, Violation> {
    let (field, text) = spec_id.map_or(("metadata.name", name), |id| ("spec.tenantId", id));
    TenantId::parse(text).map_err(|e| Violation::new(field, e.to_string()))
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
    let mut wrong = Violations::default();
    let tenant_id = resolve_tenant_id(spec.tenant_id.as_deref(), &object.name).map_err(|v| wrong.0.push(v)).ok();
    if let Some(name) = &spec.display_name {
        wrong.check_text("spec.displayName", name, TenantSpec::DISPLAY_NAME);
    }
    let agents = resolve_agents(spec, &mut wrong);
    let default_agent = resolve_default_agent(spec, &agents, &mut wrong);
    let limits = DatabaseLimits::resolve(&spec.database, &mut wrong);
    let tokens = TokenRules::resolve(&spec.auth, &mut wrong);
    let instance = resolve_instance(spec, &mut wrong);
    let adopt = resolve_adoption(spec, &mut wrong);
    let keys = resolve_keys(spec, annotations, &mut wrong);
    match (tenant_id, default_agent) {
        (Some(tenant_id), Some(default_agent)) if wrong.0.is_empty() => Ok(DesiredTenant {
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
            limits,
            tokens,
            keys,
        }),
        _ => Err(wrong.0),
    }
}

fn resolve_agents(spec: &TenantSpec, wrong: &mut Violations) -> BTreeMap<AgentName, DesiredAgentRef> {
    let mut agents = BTreeMap::new();
    if !TenantSpec::AGENTS.allow(&spec.agents.len()) {
        wrong.add("spec.agents", TenantSpec::AGENTS.list_rule());
    }
    for (i, agent) in spec.agents.iter().enumerate() {
        let path = format!("spec.agents[{i}]");
        if !is_object_name(&agent.config_ref.name) {
            wrong.add(format!("{path}.configRef.name"), object_name_rule());
        }
        match AgentName::parse(&agent.name) {
            Ok(name) => {
                let overrides = resolve_overrides(&agent.overrides, &format!("{path}.overrides"), wrong);
                let reference = DesiredAgentRef { config: agent.config_ref.name.clone(), overrides };
                if agents.insert(name, reference).is_some() {
                    wrong.add(format!("{path}.name"), "must be unique within spec.agents");
                }
            }
            Err(e) => wrong.add(format!("{path}.name"), e.to_string()),
        }
    }
    agents
}

/// The rule for the name of another Kubernetes object, as it follows the field's name.
fn object_name_rule() -> String {
    format!("must be a name of 1 to {} characters of 'a-z', '0-9', '-' and '.'", OBJECT_NAME.max)
}

/// The agent for requests that name none: the one that the spec names, else its first.
fn resolve_default_agent(
    spec: &TenantSpec,
    agents: &BTreeMap<AgentName, DesiredAgentRef>,
    wrong: &mut Violations,
) -> Option<AgentName> {
    let Some(text) = &spec.default_agent else {
        return spec.agents.iter().find_map(|agent| AgentName::parse(&agent.name).ok());
    };
    let named = AgentName::parse(text).ok().filter(|name| agents.contains_key(name));
    if named.is_none() {
        wrong.add("spec.defaultAgent", "must name one of spec.agents");
    }
    named
}

/// Checks the grammar only; whether there is an instance of this name depends on the operator's settings.
fn resolve_instance(spec: &TenantSpec, wrong: &mut Violations) -> Option<String> {
    let name = spec.database.instance.as_ref()?;
    if !is_instance_name(name) {
        let most = TenantDatabase::INSTANCE.max;
        let rule = format!("must be 1 to {most} characters of a-z, 0-9 and -, not starting or ending with -");
        wrong.add("spec.database.instance", rule);
    }
    Some(name.clone())
}

/// Checks only the characters and the length: the API server makes UIDs, and their form is not ours to define.
fn resolve_adoption(spec: &TenantSpec, wrong: &mut Violations) -> Option<Uid> {
    let uid = &spec.database.adopt.as_ref()?.previous_uid;
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if uid.is_empty() || uid.len() > TenantAdoption::PREVIOUS_UID.max || !uid.bytes().all(good) {
        wrong.add("spec.database.adopt.previousUid", "must be the metadata.uid of a deleted Tenant");
    }
    Some(Uid(uid.clone()))
}

/// Maximum number of kids in one annotation, at least as many as a keyring holds.
const MAX_REVOKED: usize = 16;

/// The keys that a Tenant's annotation revokes, whatever else is wrong with the Tenant or the annotation.
pub fn resolve_revoked(annotations: &BTreeMap<String, String>) -> BTreeSet<Kid> {
    listed_kids(annotations).iter().filter_map(|kid| Kid::parse(kid)).collect()
}

fn listed_kids(annotations: &BTreeMap<String, String>) -> Vec<&str> {
    let listed = annotations.get(names::REVOKE_ANNOTATION).map_or("", String::as_str);
    listed.split(',').map(str::trim).filter(|kid| !kid.is_empty()).collect()
}

fn resolve_keys(spec: &TenantSpec, annotations: &BTreeMap<String, String>, wrong: &mut Violations) -> DesiredKeys {
    let rotate = annotations.get(names::ROTATE_ANNOTATION).cloned();
    if let Some(text) = &rotate {
        wrong.check_text(annotation(names::ROTATE_ANNOTATION), text, REQUEST);
    }
    let (listed, revoke) = (listed_kids(annotations), resolve_revoked(annotations));
    if revoke.len() != listed.len() || listed.len() > MAX_REVOKED {
        let rule = format!("must be at most {MAX_REVOKED} different key ids, separated by commas");
        wrong.add(annotation(names::REVOKE_ANNOTATION), rule);
    }
    let seconds = spec.auth.rotation_period_seconds;
    if let Some(seconds) = seconds {
        wrong.check_number("spec.auth.rotationPeriodSeconds", seconds, TenantAuth::ROTATION_SECONDS);
    }
    let period = seconds.map(|s| jiff::SignedDuration::from_secs(s.into()));
    DesiredKeys { algorithm: spec.auth.algorithm, period, rotate, revoke }
}
