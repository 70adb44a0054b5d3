//! Tenants that are taken out of service: observed → planned → reported, row by row.

use super::{
    deletions::in_state,
    fixtures::{
        Tweak, all_done, converged, edit_entry, facts_of, now, out_of_service, present, project, read_error, replica,
        set_member, untouched, words,
    },
};
use agent_tenancy::{
    api::{Reason, TenantStatus},
    domain::entry::TenantState,
    plan::observed::{DatabaseView, ObservedTenant, RowState, Seen},
};
use jiff::SignedDuration;

/// The replicas know.
fn refused() -> ObservedTenant {
    let mut observed = converged();
    edit_entry(&mut observed, |e| (e.state, e.state_since) = (TenantState::Suspended, now()));
    observed
}

/// And the access is revoked.
fn suspended() -> ObservedTenant {
    let mut observed = refused();
    in_state(&mut observed, RowState::Suspended);
    set_member(&mut observed, false);
    observed
}

const LATER: SignedDuration = SignedDuration::from_secs(61);

/// Name, start, what is different, the steps that are planned, what `Suspended` says.
type Row = (&'static str, fn() -> ObservedTenant, Tweak, &'static str, Reason);

#[test]
fn a_tenant_that_should_be_out_of_service() {
    use Reason::{DrainingTransactions, Pending, Suspended, WaitingForReplicas};
    let behind = |o: &mut ObservedTenant| o.replicas.all.push(replica("r3", 3));
    let rows: &[Row] = &[
        ("served", converged, |_| (), "PutEntry", WaitingForReplicas),
        (
            "served, no database",
            converged,
            |o| o.database = DatabaseView::Unknown(read_error()),
            "PutEntry",
            WaitingForReplicas,
        ),
        ("served, no AgentConfig", converged, |o| o.agents.clear(), "PutEntry", WaitingForReplicas),
        ("nothing is there yet", untouched, |o| o.agents.clear(), "", Pending),
        ("a replica behind", refused, behind, "", WaitingForReplicas),
        (
            "a replica behind for long",
            refused,
            |o| {
                o.replicas.all.push(replica("r3", 3));
                edit_entry(o, |e| e.state_since -= LATER)
            },
            "SuspendAccess RecordEvent",
            DrainingTransactions,
        ),
        ("known everywhere", refused, |_| (), "SuspendAccess", DrainingTransactions),
        ("known, no database", refused, |o| o.database = DatabaseView::Unknown(read_error()), "", Pending),
        ("open transactions", suspended, |o| facts_of(o).open_transactions = 2, "", DrainingTransactions),
        (
            "open transactions, long after",
            suspended,
            |o| {
                facts_of(o).open_transactions = 2;
                facts_of(o).row.as_mut().unwrap().state_since -= LATER
            },
            "",
            Suspended,
        ),
        ("suspended", suspended, |_| (), "", Suspended),
        ("suspended, access came back", suspended, |o| set_member(o, true), "RepairDatabase", Suspended),
        ("suspended, entry lost", suspended, |o| o.entry = Seen::Missing, "PutEntry RecordEvent", WaitingForReplicas),
    ];
    for (name, start, tweak, steps, reason) in rows {
        let mut world = start();
        tweak(&mut world);
        let plan = out_of_service(&world);
        assert_eq!(&words(&plan), steps, "{name}");
        let status = project(Some(&world), &plan, &all_done(&plan), &TenantStatus::default(), false);
        let suspended = status.conditions.iter().find(|c| c.type_ == "Suspended").expect(name);
        let wanted = if *reason == Suspended { "True" } else { "Unknown" };
        assert_eq!((suspended.status.as_str(), suspended.reason.as_str()), (wanted, reason.as_str()), "{name}");
        let ready = status.conditions.iter().find(|c| c.type_ == "Ready").unwrap();
        let out = *reason == Suspended && steps.is_empty();
        assert!(!out || (ready.status == "True" && ready.reason == "Suspended"), "{name}: {ready:?}");
    }
}

#[test]
fn a_tenant_that_comes_back() {
    type Row = (&'static str, fn() -> ObservedTenant, &'static str);
    let rows: &[Row] = &[
        ("suspended", suspended, "ResumeAccess PutEntry"),
        ("only the replicas know", refused, "PutEntry"),
        (
            "access is back",
            || {
                let mut o = suspended();
                in_state(&mut o, RowState::Active);
                set_member(&mut o, true);
                o
            },
            "PutEntry",
        ),
        ("in service", converged, ""),
    ];
    for (name, start, steps) in rows {
        let plan = present(&start());
        assert_eq!(&words(&plan), steps, "{name}");
    }
}
