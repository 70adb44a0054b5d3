//! What people do in the model: apply and delete objects, edit things by hand, take databases and replicas away.

use super::state::{CANARY, Database, FakeReplica, Key, NewSecret, State};
use agent_tenancy::{
    api::{
        AgentConfig, AgentConfigRef, AgentConfigSpec, AgentContext, AgentOverrides, AgentParameters, AgentProvider,
        AgentTimeouts, DeletionPolicy, ProviderType, SecretKeyRef, Tenant, TenantAgent, TenantAuth, TenantDatabase,
        TenantSpec, names,
    },
    domain::{
        entry::Entry,
        ident::{Incarnation, TenantId, Uid},
        keys::KeyBytes,
        migrations::tenant_checksums,
    },
    plan::observed::RowState,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub fn key(namespace: &str, name: &str) -> Key {
    (namespace.to_owned(), name.to_owned())
}

/// A valid spec that refers to these AgentConfigs.
pub fn tenant_spec(configs: &[&str], policy: DeletionPolicy) -> TenantSpec {
    TenantSpec {
        tenant_id: None,
        display_name: None,
        suspend: false,
        agents: configs
            .iter()
            .enumerate()
            .map(|(i, config)| TenantAgent {
                name: format!("agent{i}"),
                config_ref: AgentConfigRef { name: (*config).to_owned() },
                overrides: AgentOverrides::default(),
            })
            .collect(),
        default_agent: None,
        tenant_mutable: Vec::new(),
        database: TenantDatabase { deletion_policy: policy, ..TenantDatabase::default() },
        auth: TenantAuth::default(),
    }
}

/// A valid spec; with `credential` its provider needs the key in the Secret `provider`.
pub fn agent_spec(model: &str, credential: bool) -> AgentConfigSpec {
    let provider = if credential {
        AgentProvider {
            type_: ProviderType::OpenAICompatible,
            base_url: Some("https://llm.example/v1".to_owned()),
            api_key_secret_ref: Some(SecretKeyRef { name: "provider".to_owned(), key: "key".to_owned() }),
        }
    } else {
        AgentProvider { type_: ProviderType::Echo, base_url: None, api_key_secret_ref: None }
    };
    AgentConfigSpec {
        provider,
        model: model.to_owned(),
        system_prompt: None,
        parameters: AgentParameters {
            temperature: None,
            top_p: None,
            max_output_tokens: 100,
            stop: Vec::new(),
            seed: None,
        },
        context: AgentContext::default(),
        timeouts: AgentTimeouts::default(),
    }
}

impl State {
    /// `kubectl apply`: creates, or changes the spec. The tenant id never changes.
    pub fn apply_tenant(&mut self, key: &Key, mut spec: TenantSpec) {
        let version = self.bump().to_string();
        if let Some(tenant) = self.tenants.get_mut(key) {
            spec.tenant_id = tenant.spec.tenant_id.clone();
            if tenant.spec != spec {
                tenant.spec = spec;
                tenant.metadata.generation = tenant.metadata.generation.map(|g| g + 1);
                tenant.metadata.resource_version = Some(version);
            }
        } else {
            let mut tenant = Tenant::new(&key.1, spec);
            let uid = self.uid("tenant");
            tenant.metadata.namespace = Some(key.0.clone());
            tenant.metadata.uid = Some(uid.0);
            tenant.metadata.generation = Some(1);
            tenant.metadata.resource_version = Some(version);
            tenant.metadata.creation_timestamp = Some(Time(self.now));
            tenant.status = Some(serde_json::from_value(serde_json::json!({ "observedGeneration": -1 })).unwrap());
            self.tenants.insert(key.clone(), tenant);
        }
        let tenant = &self.tenants[key];
        if tenant.spec.database.deletion_policy == DeletionPolicy::Delete {
            self.droppable.insert(Uid(tenant.metadata.uid.clone().unwrap()));
        }
        if tenant.spec.database.deletion_policy == DeletionPolicy::Archive {
            self.archivable.insert(Uid(tenant.metadata.uid.clone().unwrap()));
        }
    }

    /// The object vanishes without a finalizer being run, as when an older state of the cluster is restored.
    pub fn vanish_tenant(&mut self, key: &Key) {
        let Some(tenant) = self.tenants.remove(key) else { return };
        self.bump();
        self.stripped.extend(tenant.metadata.uid.map(Uid));
    }

    /// The cluster is rebuilt: only the rows of its Tenants are left, and these belong to the former cluster.
    pub fn rebuild_cluster(&mut self, former: &str) {
        self.tenants.clear();
        self.secrets.clear();
        self.kids.clear();
        let gone: Vec<String> = self
            .registry
            .iter()
            .filter(|(_, secret)| matches!(secret.entry, Some(Entry::Tenant(_) | Entry::Cell(_))))
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            self.set_registry(&name, None);
        }
        for row in self.database.rows.values_mut() {
            row.cluster_id = former.to_owned();
        }
        self.bump();
    }

    /// A user allows this Tenant to take over the data with its tenant id; the operator records the grant if there is an owner.
    pub fn allow_takeover(&mut self, key: &Key, id: &TenantId) {
        let uid = self.tenants[key].metadata.uid.clone().map(Uid).unwrap();
        let row = &self.database.rows[id];
        if row.state.in_use() || row.state == RowState::Deleting {
            self.database.permissions.insert((row.incarnation, uid));
        }
        self.bump();
    }

    /// A user of all namespaces lets this Tenant have the kept data that it asks for.
    pub fn allow_kept(&mut self, key: &Key, data: Incarnation) {
        let uid = self.tenants[key].metadata.uid.clone().map(Uid).unwrap();
        self.database.permissions.insert((data, uid));
        self.bump();
    }

    pub fn vanish_agent(&mut self, key: &Key) {
        let Some(agent) = self.agents.remove(key) else { return };
        self.bump();
        self.stripped.extend(agent.metadata.uid.map(Uid));
    }

    pub fn delete_tenant(&mut self, key: &Key) {
        let now = self.now;
        let version = self.bump().to_string();
        let Some(tenant) = self.tenants.get_mut(key) else { return };
        if tenant.metadata.finalizers.as_ref().is_none_or(Vec::is_empty) {
            self.tenants.remove(key);
        } else if tenant.metadata.deletion_timestamp.is_none() {
            tenant.metadata.deletion_timestamp = Some(Time(now));
            tenant.metadata.resource_version = Some(version);
            tenant.metadata.generation = tenant.metadata.generation.map(|g| g + 1);
        }
    }

    pub fn apply_agent(&mut self, key: &Key, spec: AgentConfigSpec) {
        let version = self.bump().to_string();
        if let Some(agent) = self.agents.get_mut(key) {
            if agent.spec != spec {
                agent.spec = spec;
                agent.metadata.generation = agent.metadata.generation.map(|g| g + 1);
                agent.metadata.resource_version = Some(version);
            }
            return;
        }
        let mut agent = AgentConfig::new(&key.1, spec);
        let uid = self.uid("agent");
        agent.metadata.namespace = Some(key.0.clone());
        agent.metadata.uid = Some(uid.0);
        agent.metadata.generation = Some(1);
        agent.metadata.resource_version = Some(version);
        agent.metadata.creation_timestamp = Some(Time(self.now));
        agent.status = Some(serde_json::from_value(serde_json::json!({ "observedGeneration": -1 })).unwrap());
        self.agents.insert(key.clone(), agent);
    }

    pub fn delete_agent(&mut self, key: &Key) {
        let now = self.now;
        let version = self.bump().to_string();
        let Some(agent) = self.agents.get_mut(key) else { return };
        if agent.metadata.finalizers.as_ref().is_none_or(Vec::is_empty) {
            let uid = Uid(agent.metadata.uid.clone().unwrap());
            self.agents.remove(key);
            self.revisions.retain(|(owner, _), _| *owner != uid);
        } else if agent.metadata.deletion_timestamp.is_none() {
            agent.metadata.deletion_timestamp = Some(Time(now));
            agent.metadata.resource_version = Some(version);
            agent.metadata.generation = agent.metadata.generation.map(|g| g + 1);
        }
    }

    /// Takes our finalizer off an object that is not being deleted.
    pub fn strip_finalizer(&mut self, key: &Key) {
        let version = self.bump().to_string();
        if let Some(tenant) = self.tenants.get_mut(key).filter(|t| t.metadata.deletion_timestamp.is_none()) {
            tenant.metadata.finalizers = None;
            tenant.metadata.resource_version = Some(version);
            self.stripped.extend(tenant.metadata.uid.clone().map(Uid));
        }
    }

    pub fn set_credential(&mut self, namespace: &str, value: Option<u8>) {
        let key = key(namespace, "provider");
        match value {
            Some(n) => self.credentials.insert(key, KeyBytes::new(format!("{CANARY}-API-{n}").into_bytes())),
            None => self.credentials.remove(&key),
        };
    }

    pub fn join(&mut self) {
        let name = format!("replica-{}", self.id());
        let replica = FakeReplica {
            name,
            running: true,
            ready: true,
            stuck: false,
            applied: None,
            quarantined: std::collections::BTreeMap::new(),
        };
        self.replicas.push(replica);
        if self.replicas.len() > 3 {
            self.replicas.remove(0);
        }
    }

    /// Puts an empty database in place of the real one, if the installation can tell.
    pub fn replace_database(&mut self) {
        let known = self.registry.values().any(|s| matches!(s.entry, Some(Entry::Cell(_))));
        if self.real.is_none() && known {
            let id = 0xbad + self.id();
            let empty = Database::new(id, false);
            self.real = Some(std::mem::replace(&mut self.database, empty));
        }
    }

    pub fn restore_database(&mut self) {
        if let Some(real) = self.real.take() {
            self.database = real;
        }
    }

    pub fn hand_delete_entry(&mut self, id: &TenantId) {
        if self.registry.contains_key(&id.entry_name()) {
            self.set_registry(&id.entry_name(), None);
            self.forget_lost_kids();
        }
    }

    pub fn hand_damage_entry(&mut self, id: &TenantId) {
        if let Some(secret) = self.registry.get(&id.entry_name()).cloned() {
            let damaged = NewSecret { uid: secret.uid, owner: secret.owner, entry: None };
            self.set_registry(&id.entry_name(), Some(damaged));
            self.forget_lost_kids();
        }
    }

    pub fn hand_edit_entry(&mut self, id: &TenantId) {
        let Some(secret) = self.registry.get(&id.entry_name()).cloned() else { return };
        let Some(Entry::Tenant(mut entry)) = secret.entry else { return };
        entry.auth.issuer = "somebody-else".to_owned();
        entry.database.limits.statement_timeout_seconds += 1;
        let edited = NewSecret { uid: secret.uid, owner: secret.owner, entry: Some(Entry::Tenant(entry)) };
        self.set_registry(&id.entry_name(), Some(edited));
    }

    /// Asks to try a migration again that failed.
    pub fn ask_migration(&mut self, tenant: &Key, value: &str) {
        self.annotate(tenant, names::RETRY_MIGRATION_ANNOTATION, value.to_owned());
    }

    /// As if another operator had been here, with other files.
    pub fn set_schema_version(&mut self, id: &TenantId, version: i32) {
        if let Some(row) = self.database.rows.get_mut(id) {
            (row.schema_version, row.schema_checksums) = (version, tenant_checksums(version));
        }
    }

    pub fn tenant_id(&self, key: &Key) -> Option<TenantId> {
        let tenant = self.tenants.get(key)?;
        TenantId::parse(tenant.spec.tenant_id.as_deref().unwrap_or(&key.1)).ok()
    }

    pub fn has_finalizer(finalizers: Option<&Vec<String>>) -> bool {
        finalizers.is_some_and(|f| f.iter().any(|f| f == names::TENANT_FINALIZER || f == names::AGENT_CONFIG_FINALIZER))
    }
}
