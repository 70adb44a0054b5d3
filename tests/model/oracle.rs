//! What must be true once the world rests, computed from the specs alone.

use super::{
    database,
    operator::Operator,
    state::{Key, State},
};
use agent_tenancy::{
    api::{AgentConfig, Condition, Tenant},
    controller::reconcile::{
        reconciled::{Form, Reconciled},
        tenant::tenant_id,
    },
    domain::{
        entry::{Entry, TenantState, agent_entry_name, behaviour_hash, credential_hash},
        ident::Uid,
        resolve::{DesiredTenant, resolve_agent, resolve_tenant},
    },
    plan::observed::{LedgerRow, RowState, render_mark},
};

pub fn status_of<'a>(conditions: &'a [Condition], type_: &str) -> (&'a str, &'a str) {
    conditions.iter().find(|c| c.type_ == type_).map_or(("", ""), |c| (&c.status, &c.reason))
}

fn conditions(tenant: &Tenant) -> &[Condition] {
    tenant.status.as_ref().map_or(&[], |s| &s.conditions)
}

/// The world is what the specs describe, once nothing is broken any more.
pub fn assert_converged(operator: &Operator) {
    let state = operator.state();
    let state = &*state;
    for (key, tenant) in &state.tenants {
        assert!(tenant.metadata.deletion_timestamp.is_none(), "{key:?} is still being deleted: {:#?}", tenant.status);
        check_tenant(state, key, tenant);
    }
    for (key, agent) in &state.agents {
        check_agent(state, key, agent);
    }
    check_leftovers(state);
    check_late_arrivals(state);
    assert!(state.violations.is_empty(), "{:#?}", state.violations);
}

fn check_tenant(state: &State, key: &Key, tenant: &Tenant) {
    let scope = tenant.resolve_scope(Form::Whole);
    let (accepted, ready) = (status_of(conditions(tenant), "Accepted"), status_of(conditions(tenant), "Ready"));
    let generation = tenant.metadata.generation.unwrap_or_default();
    assert_eq!(tenant.status.as_ref().unwrap().observed_generation, Some(generation), "{key:?}");
    let Ok(desired) = resolve_tenant(
        scope.object.clone(),
        generation,
        tenant.metadata.annotations.as_ref().unwrap_or(&std::collections::BTreeMap::new()),
        &tenant.spec,
    ) else {
        assert_eq!(accepted, ("False", "InvalidSpec"), "{key:?}");
        return;
    };
    let row = state.database.rows.get(&desired.tenant_id);
    let Some(row) = row.filter(|r| r.uid == scope.object.uid) else {
        // Another Tenant has the id, or a reference is missing; in both cases nothing was created.
        let why = ["Conflict", "RetainedDataExists", "AdoptionRefused", "AgentConfigNotFound"];
        assert!(accepted.0 == "False" && why.contains(&accepted.1), "{key:?}: {:#?}", tenant.status);
        let free = row.is_none_or(|r| r.state == RowState::Dropped);
        let rivals = state.tenants.values().filter(|t| tenant_id(t).as_ref() == Some(&desired.tenant_id)).count();
        if free && rivals == 1 {
            super::archives::check_refusal(state, key, &desired, accepted.1);
        }
        return;
    };
    // Whatever else is wrong with it: what is to be out of service is, once there is anything that could be served.
    let entry = state.tenant_entry(&desired.tenant_id);
    let out = desired.suspend && entry.is_some();
    // One that was out of service comes back with a spec that can be served.
    let held = accepted.0 == "False" && row.state == RowState::Suspended;
    let wanted = if out || held { RowState::Suspended } else { RowState::Active };
    assert_eq!(row.state, wanted, "{key:?}: {:#?}", tenant.status);
    assert_eq!(state.database.members.contains(&row.role), !(out || held), "{key:?}");
    assert!(!out || entry.is_some_and(|e| e.state == TenantState::Suspended), "{key:?}");
    let configs = desired.agents.values().map(|a| state.agents.get(&(key.0.clone(), a.config.clone())));
    let configs: Vec<Option<&AgentConfig>> = configs.collect();
    if configs.iter().any(|c| c.is_none_or(|c| c.metadata.deletion_timestamp.is_some())) {
        // Missing or leaving; one that runs already keeps a leaving one.
        let why = ["Ready", "Suspended", "AgentConfigNotFound", "AgentConfigNotPublished"];
        assert!(why.contains(&ready.1), "{key:?}: {accepted:?} {ready:?}");
        return;
    }
    let published = |c: &AgentConfig| {
        state.registry.contains_key(&agent_entry_name(&Uid(c.metadata.uid.clone().unwrap_or_default())))
    };
    if configs.iter().flatten().any(|c| !published(c)) {
        let found = status_of(conditions(tenant), "Published");
        assert_eq!(found, ("Unknown", "AgentConfigNotPublished"), "{key:?}");
        return;
    }
    let (reason, suspended) = if desired.suspend { ("Suspended", ("True", "Suspended")) } else { ("Ready", ("", "")) };
    assert_eq!(ready, ("True", reason), "{key:?}: {:#?}", tenant.status);
    assert_eq!(status_of(conditions(tenant), "Suspended"), suspended, "{key:?}");
    check_served(state, tenant, &desired, row);
}

/// A Ready Tenant: row, schema, role, access, keys and entry are there and equal the spec.
fn check_served(state: &State, tenant: &Tenant, desired: &DesiredTenant, row: &LedgerRow) {
    let mark = render_mark(state.database.id, row.incarnation);
    assert_eq!(state.database.schemas.get(&row.schema), Some(&mark));
    assert_eq!(state.database.roles.get(&row.role), Some(&mark));
    assert!(state.database.grants.contains(&row.role));
    assert!(state.database.edited.get(&row.role).is_none_or(|all| all.is_empty()), "{:?}", state.database.edited);
    let entry = state.tenant_entry(&desired.tenant_id).expect("a Ready tenant has an entry");
    assert_eq!((&entry.uid, entry.incarnation), (&desired.object.uid, row.incarnation));
    assert_eq!(entry.state, if desired.suspend { TenantState::Suspended } else { TenantState::Active });
    assert_eq!(entry.auth, desired.tokens);
    assert_eq!(entry.default_agent, desired.default_agent);
    assert_eq!(entry.mutable, desired.mutable);
    assert_eq!((&entry.database.location.schema, &entry.database.location.role), (&row.schema, &row.role));
    assert_eq!(entry.database.location.schema_version, row.schema_version);
    let own = state.own.as_ref().map_or(row.own.version, |own| own.version());
    assert!(!state.rolling || row.schema_version >= state.schema_version && row.own.version == own, "{row:?}");
    assert_eq!(entry.database.limits, desired.limits);
    let names: Vec<_> = desired.agents.keys().collect();
    assert_eq!(entry.agents.keys().collect::<Vec<_>>(), names);
    for (name, agent) in &desired.agents {
        let config = &state.agents[&(desired.object.namespace.clone(), agent.config.clone())];
        assert_eq!(Some(entry.agents[name].config_uid.0.as_str()), config.metadata.uid.as_deref());
        assert_eq!(entry.agents[name].overrides, agent.overrides);
    }
    let status = tenant.status.as_ref().unwrap();
    let secret = &state.secrets[&(desired.object.namespace.clone(), format!("{}-signing-keys", desired.object.name))];
    assert_eq!(secret.owner.as_ref(), Some(&desired.object.uid));
    let keyring = super::secrets::parse(secret).expect("the Secret holds a keyring");
    assert_eq!(
        (keyring.mark(), entry.keyring().mark()),
        (row.keyring.clone(), row.keyring.clone()),
        "Secret, entry and ledger agree"
    );
    let current = keyring.current().expect("a key signs");
    assert!(keyring.standby().is_none(), "no rotation is left half-done");
    assert_eq!(current.verifying.algorithm, desired.keys.algorithm);
    assert!(desired.keys.rotate.is_none() || keyring.handled_request() == desired.keys.rotate.as_deref());
    assert!(keyring.keys().iter().all(|k| !desired.keys.revoke.contains(&k.verifying.kid)), "revoked means gone");
    assert_eq!(status.keys.as_ref().unwrap().current_kid.as_deref(), Some(current.verifying.kid.as_str()));
    let version = state.registry[&desired.tenant_id.entry_name()].version.to_string();
    assert_eq!(status.served.as_ref().unwrap().entry_version, version);
    let database = status.database.as_ref().unwrap();
    assert_eq!(database.incarnation, row.incarnation.to_string());
    assert_eq!(database.database_id, state.database.id.to_string());
    assert!(State::has_finalizer(tenant.metadata.finalizers.as_ref()));
    assert!(state.registry.contains_key(&format!("cell-main-{}", row.cell)), "the login of the cell is published");
}

fn check_agent(state: &State, key: &Key, agent: &AgentConfig) {
    let scope = agent.resolve_scope(Form::Whole);
    let name = agent_entry_name(&scope.object.uid);
    let conditions = agent.status.as_ref().map_or(&[][..], |s| &s.conditions);
    if agent.metadata.deletion_timestamp.is_some() {
        assert!(state.is_referenced(&name), "{key:?} is not used and still there: {conditions:#?}");
        assert_eq!(status_of(conditions, "DeletionBlocked"), ("True", "InUse"));
        return;
    }
    let Ok(desired) = resolve_agent(scope.object.clone(), 1, &agent.spec) else {
        assert_eq!(status_of(conditions, "Accepted"), ("False", "InvalidSpec"));
        return;
    };
    let credential = desired.credential.as_ref().map(|r| state.credentials.get(&(key.0.clone(), r.name.clone())));
    if credential == Some(None) {
        assert_eq!(status_of(conditions, "Accepted"), ("False", "CredentialNotFound"), "{key:?}");
        return;
    }
    assert_eq!(status_of(conditions, "Ready"), ("True", "Ready"), "{key:?}: {conditions:#?}");
    let Some(Entry::Agent(entry)) = &state.registry[&name].entry else { panic!("{name} is damaged") };
    assert_eq!(entry.current.behaviour, desired.behaviour);
    let hash = behaviour_hash(&desired.behaviour);
    assert_eq!(entry.current.hash, hash);
    assert_eq!(state.revisions.get(&(scope.object.uid.clone(), entry.current.number)), Some(&hash));
    let upstream = credential.flatten().map(|k| credential_hash(&key.0, k));
    assert_eq!(entry.current.upstream, upstream);
    if let Some(hash) = &upstream {
        assert!(state.registry.contains_key(&format!("upstream-{hash}")));
    }
}

/// Nothing is left of what is gone.
fn check_leftovers(state: &State) {
    for (name, secret) in &state.registry {
        match &secret.entry {
            Some(Entry::Tenant(e)) => assert!(state.live_tenant(&e.uid).is_some(), "{name} has no Tenant"),
            Some(Entry::Agent(e)) => {
                // One that vanished stays for as long as a tenant runs it.
                let needed = state.live_agent(&e.uid).is_some() || state.is_referenced(name);
                assert!(needed, "{name} has no AgentConfig");
            }
            Some(Entry::Upstream(_)) => {
                let any = !state.agents.is_empty();
                assert!(state.is_referenced(name) || !anybody_could_clean(state) || !any, "{name} is not used");
            }
            Some(Entry::Cell(_)) => {}
            // What an unacceptable spec can't give, replicas keep as they loaded it.
            None => {
                let owner = secret.owner.as_ref().and_then(|uid| state.live_tenant(uid));
                let accepted = owner.map(|t| status_of(conditions(t), "Accepted").0);
                assert_eq!(accepted, Some("False"), "{name} is damaged");
            }
        }
    }
    for (key, secret) in &state.secrets {
        let fine = secret.owner.as_ref().is_none_or(|o| state.live_tenant(o).is_some());
        assert!(fine, "Secret {key:?} has no Tenant");
    }
    for (owner, number) in state.revisions.keys() {
        assert!(state.live_agent(owner).is_some(), "revision {number} of {owner} has no AgentConfig");
    }
    for row in state.database.rows.values() {
        let live = state.live_tenant(&row.uid).is_some();
        let there = state.database.schemas.contains_key(&row.schema);
        match row.state {
            RowState::Active | RowState::Suspended => assert!(live, "{} has no Tenant", row.schema),
            RowState::Deleting => panic!("{} is stuck in deleting", row.schema),
            RowState::Retained => assert!(there && !live && !state.database.members.contains(&row.role)),
            RowState::Dropped => assert!(!live),
        }
    }
    super::archives::check_kept(state);
    let archived = |name: &String| state.database.archives.values().any(|a| a.archive.schema == *name);
    let named = |name: &String| {
        let kept = |r: &LedgerRow| r.state.in_use() || r.state == RowState::Retained;
        archived(name) || state.database.rows.values().any(|r| r.schema == *name && kept(r))
    };
    let foreign = |mark: &String| mark == "foreign";
    for (name, mark) in state.database.schemas.iter().chain(&state.database.roles) {
        assert!(named(name) || foreign(mark) || name.contains("_lost_"), "{name} has no row");
    }
}

/// What was sent for a Tenant that is gone makes nothing, however late it arrives.
fn check_late_arrivals(state: &State) {
    let gone = |uid: &Uid| state.live_tenant(uid).is_none() && !state.stripped.contains(uid);
    for (wanted, owner) in state.sent.iter().filter(|(_, owner)| gone(&owner.uid)) {
        let mut copy = state.clone();
        // Refused, or done before.
        let _ = database::provision(&mut copy, wanted, owner);
        let made = copy.database.rows.get(&wanted.tenant_id) != state.database.rows.get(&wanted.tenant_id);
        assert!(!made, "a late step of {owner} (UID {}) makes {} again", owner.uid, wanted.tenant_id);
    }
    for (wanted, owner) in state.sent_adoptions.iter().filter(|(_, owner)| gone(&owner.uid)) {
        let mut copy = state.clone();
        let _ = super::archives::adopt(&mut copy, wanted, owner);
        let taken = copy.database.rows.get(&wanted.tenant_id) != state.database.rows.get(&wanted.tenant_id);
        assert!(!taken, "a late step of {owner} (UID {}) takes {} over", owner.uid, wanted.tenant_id);
    }
}

/// An AgentConfig that is served clears away credentials that are not used any more.
fn anybody_could_clean(state: &State) -> bool {
    state.agents.values().any(|a| a.status.as_ref().is_some_and(|s| status_of(&s.conditions, "Ready").0 == "True"))
}

/// The world without what is random or counts, for comparison.
pub fn picture(state: &State) -> String {
    let mut text = String::new();
    let mut line = |what: String| {
        text.push_str(&what);
        text.push('\n');
    };
    let rendered = |c: &[Condition]| {
        let mut all: Vec<_> = c.iter().map(|c| format!("{}={}/{}", c.type_, c.status, c.reason)).collect();
        all.sort();
        all.join(" ")
    };
    for (key, tenant) in &state.tenants {
        line(format!("Tenant {key:?} {:?} {}", tenant.metadata.generation, rendered(conditions(tenant))));
    }
    for (key, agent) in &state.agents {
        let status = agent.status.as_ref().unwrap();
        line(format!("AgentConfig {key:?} {:?} {}", status.revision, rendered(&status.conditions)));
    }
    for (name, secret) in &state.registry {
        let detail = match &secret.entry {
            Some(Entry::Tenant(e)) => {
                format!(
                    "{:?} {:?} {:?} {:?} {:?} keys {}",
                    e.state,
                    e.database,
                    e.default_agent,
                    e.auth,
                    e.mutable,
                    e.keys.len()
                )
            }
            Some(Entry::Agent(e)) => format!("{:?}", e.current.number),
            Some(Entry::Upstream(_) | Entry::Cell(_)) | None => String::new(),
        };
        // AgentConfigs' names hold random ids.
        let name = name.split_once('-').filter(|(kind, _)| *kind == "agent").map_or(name.as_str(), |(kind, _)| kind);
        line(format!("{name} {detail}"));
    }
    line(format!("Secrets {:?}", state.secrets.keys()));
    for (id, row) in &state.database.rows {
        let had = (row.schema_version, row.own.version);
        line(format!("row {id} {:?} {} {} {had:?}", row.state, row.cell, row.schema));
    }
    let archives: Vec<_> = state.database.archives.values().map(|a| (&a.tenant_id, a.archive.cell)).collect();
    line(format!("archives {archives:?}"));
    // The names of archives hold random digits, too.
    let known = |n: &&String| !state.database.archives.values().any(|a| a.archive.schema == **n);
    // And of what was kept of a loss.
    let kept = |n: &String| n.split_once("_lost_").map_or(n.clone(), |(name, _)| format!("{name} kept"));
    let schemas: Vec<_> = state.database.schemas.keys().filter(known).map(kept).collect();
    let roles: Vec<_> = state.database.roles.keys().filter(known).collect();
    line(format!("schemas {schemas:?} roles {roles:?}"));
    line(format!("members {:?} cells {:?}", state.database.members, state.database.cells.keys()));
    text
}
