//! Scenarios of data that is put aside and taken over.

use super::{
    archives::kept_uids,
    operator::Operator,
    run::settle,
    scenarios::{Scenario, alpha, created, id, run_for},
    state::{ARCHIVE_SECONDS, CLUSTER, FORMER, Key, STRANGER},
    user::{agent_spec, key, tenant_spec},
};
use agent_tenancy::{
    api::{
        DeletionPolicy::{self, Archive, Delete, Retain},
        TenantAdoption, TenantSpec,
    },
    domain::ident::{Incarnation, Uid},
    plan::observed::RowState,
};

fn uid_of(op: &Operator, key: &Key) -> Uid {
    Uid(op.state().tenants[key].metadata.uid.clone().unwrap())
}

fn incarnation(op: &Operator) -> Incarnation {
    op.state().database.rows[&id("alpha")].incarnation
}

fn adopting(previous: &Uid, policy: DeletionPolicy) -> TenantSpec {
    let mut spec = tenant_spec(&["x"], policy);
    spec.database.adopt = Some(TenantAdoption { previous_uid: previous.0.clone() });
    spec
}

/// Creates the tenant, deletes it, and returns its UID.
fn left(op: &mut Operator, policy: DeletionPolicy) -> (Uid, Incarnation) {
    created(op, policy);
    let was = (uid_of(op, &alpha()), incarnation(op));
    op.state().delete_tenant(&alpha());
    settle(op);
    assert!(op.state().tenants.is_empty());
    was
}

fn taken_over(op: &mut Operator, policy: DeletionPolicy) {
    let (previous, data) = left(op, policy);
    op.state().apply_tenant(&alpha(), adopting(&previous, Archive));
    settle(op);
    assert_eq!(incarnation(op), data, "the data survives");
    // Means nothing any more.
    op.state().apply_tenant(&alpha(), adopting(&Uid("nobody".to_owned()), Archive));
    settle(op);
    let second = uid_of(op, &alpha());
    op.state().delete_tenant(&alpha());
    settle(op);
    assert_eq!(kept_uids(&op.state(), &id("alpha")), std::slice::from_ref(&second));
    // The first Tenant's UID is not the data's any more.
    op.state().apply_tenant(&alpha(), adopting(&previous, Delete));
    settle(op);
    op.state().apply_tenant(&alpha(), adopting(&second, Delete));
    settle(op);
    assert_eq!(incarnation(op), data);
}

/// A fresh one in its place; the old one's time is over; the new one is left alone.
fn fresh_in_place(op: &mut Operator) {
    let (_, first) = left(op, Archive);
    let (_, second) = left(op, Archive);
    created(op, Archive);
    let third = incarnation(op);
    assert!(first != second && second != third && first != third, "nothing is inherited");
    assert_eq!(op.state().database.archives.len(), 2);
    op.state().advance(ARCHIVE_SECONDS + 1);
    settle(op);
    let state = op.state();
    assert!(state.database.archives.is_empty());
    assert_eq!(state.database.schemas.keys().collect::<Vec<_>>(), ["at_alpha"]);
    assert_eq!(state.database.rows[&id("alpha")].incarnation, third);
}

/// A Tenant of the same id in another namespace, which asks for the data of this one.
fn asked_for_elsewhere(op: &mut Operator, previous: &Uid) -> Key {
    op.state().apply_agent(&key("b", "x"), agent_spec("m1", false));
    let mut spec = adopting(previous, Retain);
    spec.tenant_id = Some("alpha".to_owned());
    op.state().apply_tenant(&key("b", "next"), spec);
    settle(op);
    key("b", "next")
}

/// A Tenant of another namespace asks for kept data: only a grant gives it, once, and to this Tenant.
fn kept_for_another_namespace(op: &mut Operator, policy: DeletionPolicy) {
    let kept = |op: &mut Operator| kept_uids(&op.state(), &id("alpha"));
    let (previous, data) = left(op, policy);
    let next = asked_for_elsewhere(op, &previous);
    assert_eq!(kept(op), std::slice::from_ref(&previous));
    // A grant is for one Tenant, not for the next one of its name.
    op.state().allow_kept(&next, data);
    op.state().delete_tenant(&next);
    settle(op);
    asked_for_elsewhere(op, &previous);
    if kept(op).contains(&previous) {
        op.state().allow_kept(&next, data);
        settle(op);
        let uid = uid_of(op, &next);
        assert_eq!((incarnation(op), op.state().database.rows[&id("alpha")].uid.clone()), (data, uid.clone()));
        assert!(op.state().database.permissions.iter().all(|(_, granted)| *granted != uid), "the grant is used up");
    }
}

/// A Tenant asks for data that is still in use by a Tenant with a slow deletion.
fn asked_for_too_early(op: &mut Operator) {
    created(op, Archive);
    let (previous, data) = (uid_of(op, &alpha()), incarnation(op));
    op.state().advance(1);
    let mut spec = adopting(&previous, Retain);
    spec.tenant_id = Some("alpha".to_owned());
    op.state().apply_tenant(&key("a", "next"), spec);
    settle(op);
    op.state().replicas[0].stuck = true;
    op.state().database.open.insert("at_alpha".to_owned(), 1);
    op.state().delete_tenant(&alpha());
    settle(op);
    op.state().replicas[0].stuck = false;
    settle(op);
    assert_eq!(
        (incarnation(op), uid_of(op, &key("a", "next"))),
        (data, op.state().database.rows[&id("alpha")].uid.clone())
    );
}

fn nothing_to_take(op: &mut Operator) {
    let (gone, _) = left(op, Delete);
    op.state().apply_tenant(&alpha(), adopting(&gone, Delete));
    settle(op);
    {
        let state = op.state();
        assert!(state.database.schemas.is_empty() && state.secrets.is_empty(), "not even an empty tenant");
        assert!(state.tenants[&alpha()].metadata.finalizers.as_ref().is_none_or(Vec::is_empty));
    }
    created(op, Delete);
    let fresh = incarnation(op);
    op.state().apply_tenant(&alpha(), adopting(&gone, Delete));
    settle(op);
    assert_eq!(incarnation(op), fresh);
}

/// The same manifests in a rebuilt cluster; data of a deletion that stopped half-way is taken over too.
fn rebuilt(op: &mut Operator, policy: DeletionPolicy, before: impl Fn(&mut Operator)) {
    created(op, policy);
    let (previous, data) = (uid_of(op, &alpha()), incarnation(op));
    before(op);
    let ended = op.state().database.rows[&id("alpha")].state == RowState::Dropped;
    op.state().rebuild_cluster(FORMER);
    created(op, policy);
    let state = op.state();
    let row = &state.database.rows[&id("alpha")];
    assert_eq!((row.incarnation == data, row.cluster_id.as_str(), row.state.in_use()), (!ended, "cluster", true));
    assert_ne!(row.uid, previous);
    assert!(state.database.members.contains(&row.role) && state.secrets.len() == 1);
}

/// The same where the settings don't name the lost cluster: a grant lets this Tenant take over, and no later one.
fn rebuilt_by_permission(op: &mut Operator, before: impl Fn(&mut Operator)) {
    created(op, Retain);
    let data = incarnation(op);
    before(op);
    // Kept data of a deleted Tenant goes to a Tenant that names its UID.
    let kept = op.state().database.rows[&id("alpha")].state == RowState::Retained;
    op.state().rebuild_cluster(STRANGER);
    created(op, Retain);
    {
        let state = op.state();
        let row = &state.database.rows[&id("alpha")];
        assert_eq!((row.incarnation, row.cluster_id.as_str()), (data, STRANGER), "nothing is taken unasked");
        assert!(state.secrets.is_empty() && state.database.permissions.is_empty());
    }
    op.state().allow_takeover(&alpha(), &id("alpha"));
    // For the Tenant that is there, and not for one of its name.
    op.state().delete_tenant(&alpha());
    settle(op);
    created(op, Retain);
    assert_eq!(op.state().database.rows[&id("alpha")].cluster_id, STRANGER);
    op.state().allow_takeover(&alpha(), &id("alpha"));
    settle(op);
    let state = op.state();
    let row = &state.database.rows[&id("alpha")];
    let owner = if kept { STRANGER } else { CLUSTER };
    assert_eq!((row.incarnation, row.cluster_id.as_str(), row.state.in_use()), (data, owner, !kept));
    assert_eq!((state.database.members.contains(&row.role), state.secrets.len()), (!kept, usize::from(!kept)));
}

/// The data expires just when a Tenant asks for it.
fn asked_for_too_late(op: &mut Operator) {
    let (previous, _) = left(op, Archive);
    op.state().advance(ARCHIVE_SECONDS);
    op.state().apply_tenant(&alpha(), adopting(&previous, Delete));
    settle(op);
}

/// A Tenant is deleted after so many effects of taking data over; the data is kept in every case.
fn gone_after<const EFFECTS: usize>(op: &mut Operator, policy: DeletionPolicy) -> (Vec<Uid>, Incarnation) {
    let (previous, data) = left(op, policy);
    op.state().apply_tenant(&alpha(), adopting(&previous, Retain));
    run_for(op, EFFECTS);
    op.state().delete_tenant(&alpha());
    settle(op);
    let kept = kept_uids(&op.state(), &id("alpha"));
    assert_eq!(kept.len(), 1);
    (kept, data)
}

/// And given to the next one.
fn deleted_after<const EFFECTS: usize>(op: &mut Operator, policy: DeletionPolicy) {
    let (kept, data) = gone_after::<EFFECTS>(op, policy);
    op.state().apply_tenant(&alpha(), adopting(&kept[0], Retain));
    settle(op);
    assert_eq!(incarnation(op), data);
}

/// Its request for the data may still be under way when it is gone.
fn asked_and_gone(op: &mut Operator, policy: DeletionPolicy) {
    gone_after::<1>(op, policy);
}

const fn stage<const EFFECTS: usize>() -> [Scenario; 2] {
    let kept = Scenario::new("deleted while it takes kept data over", |op| deleted_after::<EFFECTS>(op, Retain));
    let aside = Scenario::new("deleted while it takes an archive over", |op| deleted_after::<EFFECTS>(op, Archive));
    [Scenario { one_end: false, ..kept }, Scenario { one_end: false, ..aside }]
}

pub fn scenarios() -> Vec<Scenario> {
    let mut all = vec![
        Scenario::new("archived, then taken over", |op| taken_over(op, Archive)),
        Scenario::new("retained, then taken over", |op| taken_over(op, Retain)),
        Scenario::new("archived, then the same name again", fresh_in_place),
        Scenario::new("asked for while in use", asked_for_too_early),
        Scenario {
            one_end: false,
            ..Scenario::new("retained, and asked for by another namespace", |op| kept_for_another_namespace(op, Retain))
        },
        Scenario {
            one_end: false,
            ..Scenario::new("archived, and asked for by another namespace", |op| {
                kept_for_another_namespace(op, Archive)
            })
        },
        Scenario::new("nothing to take over", nothing_to_take),
        Scenario { one_end: false, ..Scenario::new("a rebuilt cluster", |op| rebuilt(op, Archive, |_| {})) },
        Scenario {
            one_end: false,
            ..Scenario::new("a rebuilt cluster in the middle of a deletion", |op| {
                rebuilt(op, Delete, |op| {
                    op.state().delete_tenant(&alpha());
                    run_for(op, 2);
                })
            })
        },
        Scenario::new("allowed to take over", |op| rebuilt_by_permission(op, |_| {})),
        Scenario {
            one_end: false,
            ..Scenario::new("allowed to take over what was on its way out", |op| {
                rebuilt_by_permission(op, |op| {
                    op.state().delete_tenant(&alpha());
                    run_for(op, 2);
                })
            })
        },
        Scenario { one_end: false, ..Scenario::new("asked for at the last moment", asked_for_too_late) },
        Scenario::new("archived while edited, lost and away", |op| {
            created(op, Archive);
            op.state().database.up = false;
            op.state().hand_damage_entry(&id("alpha"));
            op.state().delete_tenant(&alpha());
            settle(op);
            op.state().database.up = true;
            settle(op);
            assert_eq!(op.state().database.archives.len(), 1);
        }),
    ];
    for play in [|op: &mut Operator| asked_and_gone(op, Retain), |op: &mut Operator| asked_and_gone(op, Archive)] {
        all.push(Scenario { one_end: false, ..Scenario::new("asked for, and gone before it is taken", play) });
    }
    all.extend([stage::<1>(), stage::<2>(), stage::<4>()].into_iter().flatten());
    all
}
