//! Registry entries for unit tests.

use super::registry::{RawEntry, index::RegistryIndex, tenant::TenantCaps};
use crate::domain::{
    entry::{
        AgentEntry, AgentRevision, Behaviour, CellEntry, Entry, EntryAgent, EntryDatabase, FIRST_FORMAT, Overrides,
        Provider, TenantEntry, TenantState, UpstreamEntry,
    },
    ident::{AgentName, CellNumber, DatabaseId, Epoch, Incarnation, TenantId, Uid, Version},
    keys::{Algorithm, KeyBytes, KeyState, Kid, VerificationKey},
    limits::DatabaseLimits,
    location::DataLocation,
    tokens::TokenRules,
};
use std::collections::BTreeMap;
use uuid::Uuid;
use zeroize::Zeroizing;

/// The bytes of a key that only this name has.
pub(crate) fn secret(name: &str) -> Vec<u8> {
    format!("{name:-<32}").into_bytes()
}

pub(crate) fn key(kid: &str, state: KeyState) -> VerificationKey {
    VerificationKey {
        kid: Kid::parse(kid).unwrap(),
        algorithm: Algorithm::HS256,
        state,
        since: jiff::Timestamp::UNIX_EPOCH,
        longest_token_seconds: 3600,
        verifies_until: None,
        key: KeyBytes::new(secret(kid)),
    }
}

/// A tenant with a standby, a current and a previous key, in cell 1, with the agent `support` of AgentConfig `a1`.
pub(crate) fn tenant(id: &str) -> TenantEntry {
    let agent = EntryAgent { config_uid: Uid("a1".into()), overrides: Overrides::default() };
    TenantEntry {
        format: TenantEntry::resolve_format(&TenantId::parse(id).unwrap(), None),
        tenant_id: TenantId::parse(id).unwrap(),
        incarnation: Incarnation(Uuid::new_v4()),
        uid: Uid(id.into()),
        namespace: "team".into(),
        name: id.into(),
        generation: 1,
        epoch: Epoch(1),
        state: TenantState::Active,
        state_since: jiff::Timestamp::UNIX_EPOCH,
        database: EntryDatabase {
            location: DataLocation {
                instance: "main".into(),
                cell: CellNumber(1),
                schema: format!("at_{id}"),
                role: format!("at_{id}"),
                schema_version: 1,
            },
            limits: DatabaseLimits {
                max_concurrent_transactions: 4,
                statement_timeout_seconds: 10,
                ..DatabaseLimits::UNKNOWN
            },
        },
        agents: BTreeMap::from([(AgentName::parse("support").unwrap(), agent)]),
        default_agent: AgentName::parse("support").unwrap(),
        mutable: [].into(),
        auth: TokenRules { issuer: "https://issuer".into(), audience: "agents".into(), max_token_seconds: 3600 },
        keys: vec![
            key(&format!("{id}-standby"), KeyState::Standby),
            key(&format!("{id}-current"), KeyState::Current),
            key(&format!("{id}-previous"), KeyState::Previous),
        ],
        revoked_kids: [].into(),
        ring_version: 1,
        ring_request: None,
    }
}

pub(crate) fn behaviour() -> Behaviour {
    Behaviour {
        provider: Provider::Echo,
        model: "echo-1".into(),
        system_prompt: Some("Be kind.".into()),
        temperature: None,
        top_p: None,
        max_output_tokens: 1000,
        stop: vec![],
        seed: None,
        max_history_messages: 10,
        total_timeout_seconds: 30,
    }
}

pub(crate) fn agent(uid: &str, upstream: Option<&str>) -> Entry {
    Entry::Agent(Box::new(AgentEntry {
        format: FIRST_FORMAT,
        uid: Uid(uid.into()),
        namespace: "team".into(),
        name: uid.into(),
        epoch: Epoch(1),
        current: AgentRevision {
            number: 1,
            hash: "00".into(),
            behaviour: behaviour(),
            upstream: upstream.map(str::to_owned),
        },
    }))
}

pub(crate) fn upstream(hash: &str) -> Entry {
    Entry::Upstream(UpstreamEntry { format: FIRST_FORMAT, hash: hash.into(), api_key: KeyBytes::new(b"sk-1".to_vec()) })
}

pub(crate) fn cell(number: i32, password: &str) -> Entry {
    Entry::Cell(CellEntry {
        format: FIRST_FORMAT,
        instance: "main".into(),
        database_id: DatabaseId(Uuid::nil()),
        cell: CellNumber(number),
        host: "localhost".into(),
        port: 5432,
        database: "app".into(),
        ssl_mode: "disable".into(),
        user: format!("at_acc_{number}_a"),
        password: KeyBytes::new(password.as_bytes().to_vec()),
        login: None,
    })
}

pub(crate) fn raw_entry(entry: &Entry, version: u64) -> RawEntry {
    let content = Zeroizing::new(entry.render());
    RawEntry { name: entry.name(), kind: entry.kind(), version: Version(version), content }
}

/// An index in which every login succeeds at once.
pub(crate) struct IndexFixture {
    pub index: RegistryIndex,
    pub version: u64,
}

impl IndexFixture {
    /// With the AgentConfig `a1` and cell 1.
    pub(crate) fn new() -> Self {
        let mut fixture = Self {
            index: RegistryIndex::new(TenantCaps {
                transactions: 16,
                idle_in_transaction: std::time::Duration::from_secs(10),
            }),
            version: 0,
        };
        fixture.apply(&agent("a1", None));
        fixture.apply(&cell(1, "pw"));
        fixture.settle_logins(&Ok(()));
        fixture
    }

    pub(crate) fn apply(&mut self, entry: &Entry) -> u64 {
        self.version += 1;
        self.index.apply(&raw_entry(entry, self.version));
        self.version
    }

    pub(crate) fn apply_tenant(&mut self, entry: &TenantEntry) -> u64 {
        self.apply(&Entry::Tenant(Box::new(entry.clone())))
    }

    pub(crate) fn apply_text(&mut self, name: &str, kind: crate::domain::entry::EntryKind, text: &str) {
        self.version += 1;
        let content = Zeroizing::new(text.as_bytes().to_vec());
        self.index.apply(&RawEntry { name: name.into(), kind, version: Version(self.version), content });
    }

    pub(crate) fn delete(&mut self, name: &str) {
        self.version += 1;
        self.index.delete(name, Version(self.version));
    }

    pub(crate) fn settle_logins(&mut self, outcome: &Result<(), String>) {
        for login in self.index.take_logins() {
            self.index.login(&login.name, login.version, outcome.clone());
        }
    }

    /// The tenant's reason for quarantine.
    pub(crate) fn reason(&self, id: &str) -> Option<&str> {
        self.index.quarantined().get(&format!("tenant-{id}")).map(|q| q.reason.as_str())
    }
}
