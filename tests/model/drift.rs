//! What people change of roles, schemas and tables in the model's database, and how a repair undoes it.

use super::state::{Database, Key, State};
use agent_tenancy::{
    api::names::ACCEPT_LOSS_ANNOTATION,
    domain::{
        ident::TenantId,
        migrations::{Grant, tenant_grants},
    },
    effects::error::EffectError,
    plan::{
        drift::{AccessFacts, Drift, MembershipFacts, SettingFacts, judge_access},
        observed::{LedgerRow, RowState, render_mark},
        step::{Done, Remains},
        tenant::loss::kept_name,
    },
};

const OWNER: &str = "at_own";
const ACCESS: &str = "at_acc";

/// One change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ManualEdit {
    Public,
    SchemaOwner,
    TableOwner,
    SearchPath,
    Member,
    MemberOptions,
    Login,
    Superuser,
}

impl ManualEdit {
    pub const ALL: [Self; 8] = [
        Self::Public,
        Self::SchemaOwner,
        Self::TableOwner,
        Self::SearchPath,
        Self::Member,
        Self::MemberOptions,
        Self::Login,
        Self::Superuser,
    ];

    fn apply(self, facts: &mut AccessFacts) {
        let schema = |facts: &mut AccessFacts, item: &str| facts.schema.acl.as_mut().unwrap().push(item.to_owned());
        match self {
            Self::Public => schema(facts, "=U/at_own"),
            Self::SchemaOwner => facts.schema.owner = "evil".to_owned(),
            Self::TableOwner => facts.tables[0].object.owner = "evil".to_owned(),
            Self::SearchPath => {
                facts.settings.push(SettingFacts { name: "search_path".into(), database: None, ordinary: true });
            }
            Self::Member => facts.members.push(MembershipFacts {
                role: "evil".to_owned(),
                superuser: false,
                grantor: OWNER.to_owned(),
                admin: false,
                inherit: true,
                set: true,
            }),
            Self::MemberOptions => {
                facts.members.iter_mut().filter(|m| m.role == ACCESS).for_each(|m| m.inherit = true);
            }
            Self::Login => facts.role.login = true,
            Self::Superuser => facts.role.superuser = true,
        }
    }
}

fn grants(version: i32) -> Vec<Grant> {
    tenant_grants(version).unwrap()
}

/// What the catalogs say of a role and schema of this name, with tables of this version.
pub fn access_facts(database: &Database, name: &str, version: i32) -> AccessFacts {
    let mut facts = AccessFacts::intact(180_000, OWNER, ACCESS, name, &grants(version));
    if !database.members.contains(name) {
        facts.members.retain(|member| member.role != ACCESS);
    }
    if !database.grants.contains(name) {
        facts.schema.acl.as_mut().unwrap().pop();
    }
    for edit in database.edited.get(name).into_iter().flatten() {
        edit.apply(&mut facts);
    }
    facts
}

/// Undoes what was found, and nothing else.
pub fn repair_edits(database: &mut Database, row: &LedgerRow, found: &[Drift]) {
    let name = row.role.clone();
    for drift in found {
        match drift {
            Drift::MemberLost => drop(database.members.insert(name.clone())),
            Drift::MemberAdded { member, .. } if member == ACCESS => drop(database.members.remove(&name)),
            Drift::PrivilegeLost { .. } => drop(database.grants.insert(name.clone())),
            _ => {}
        }
    }
    let in_service = row.state == RowState::Active;
    let undone = |edit: &ManualEdit| {
        let mut facts = AccessFacts::intact(180_000, OWNER, ACCESS, &name, &grants(row.schema_version));
        edit.apply(&mut facts);
        let made = judge_access(&facts, &name, in_service, &grants(row.schema_version)).unwrap();
        made.iter().filter(|f| !matches!(f.drift, Drift::MemberAdded { ref member, .. } if member == ACCESS)).all(|f| {
            assert!(
                f.repairable || !found.contains(&f.drift),
                "a repair of what can't be repaired was requested: {:?}",
                f.drift
            );
            found.contains(&f.drift)
        })
    };
    if let Some(edited) = database.edited.get_mut(&name) {
        edited.retain(|edit| !undone(edit));
    }
}

/// What is left of a lost tenant makes way.
pub fn set_aside(state: &mut State, tenant: &TenantId, name: &str, remains: &Remains) -> Result<Done, EffectError> {
    let mark = render_mark(state.database.id, remains.incarnation);
    let foreign = |found: Option<&String>| found.is_some_and(|found| *found != mark);
    if foreign(state.database.roles.get(name)) || foreign(state.database.schemas.get(name)) {
        return Err(super::database::conflict("role or schema carries another mark"));
    }
    let given_up = state.tenants.values().any(|t| {
        let word = t.metadata.annotations.as_ref().and_then(|a| a.get(ACCEPT_LOSS_ANNOTATION));
        word.is_some_and(|word| *word == remains.incarnation.to_string())
    });
    if !given_up && !state.stale {
        state.violation(format!("{tenant} was given up without a user's consent"));
    }
    match &remains.row {
        Some(row) => {
            let held = super::database::hold(&mut state.database, row, &[row.state, RowState::Dropped])?;
            held.state = RowState::Dropped;
        }
        None if state.database.rows.contains_key(tenant) => {
            return Err(super::state::transient("there is a row by now"));
        }
        None => {}
    }
    let database = &mut state.database;
    if let Some(mark) = database.schemas.remove(name) {
        database.schemas.insert(kept_name(name, remains.incarnation), mark);
    }
    database.roles.remove(name);
    database.members.remove(name);
    database.grants.remove(name);
    database.edited.remove(name);
    state.wrote();
    Ok(Done::Plain)
}

impl State {
    pub fn edit_by_hand(&mut self, name: &str, edit: ManualEdit) {
        if self.database.roles.contains_key(name) {
            self.database.edited.entry(name.to_owned()).or_default().insert(edit);
        }
    }

    /// The schema, the role or the row goes.
    pub fn lose(&mut self, id: &TenantId, what: u8) {
        let name = format!("{}_{id}", super::state::PREFIX);
        match what {
            0 => drop(self.database.schemas.remove(&name)),
            1 => {
                self.database.roles.remove(&name);
                self.database.members.remove(&name);
                self.database.grants.remove(&name);
                self.database.edited.remove(&name);
            }
            _ => drop(self.database.rows.remove(id)),
        }
    }

    /// The annotation that accepts the loss that the status names.
    pub fn accept_loss(&mut self, key: &Key) {
        let Some(tenant) = self.tenants.get(key) else { return };
        let recorded = tenant.status.as_ref().and_then(|s| s.database.as_ref()).map(|d| d.incarnation.clone());
        if let Some(incarnation) = recorded {
            self.annotate(key, ACCEPT_LOSS_ANNOTATION, incarnation);
        }
    }

    /// What only people can undo.
    pub fn take_superuser_away(&mut self) {
        for edited in self.database.edited.values_mut() {
            edited.remove(&ManualEdit::Superuser);
        }
    }
}
