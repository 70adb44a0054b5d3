//! A tenant id that earlier replicas can't read: its entry waits for them, and only at first.

use super::fixtures::{converged, desired, installation, now, tenant_id, untouched, words};
use agent_tenancy::{
    api::{ConditionType as Part, Reason},
    domain::{ident::TenantId, resolve::DesiredTenant},
    plan::{
        Plan,
        observed::{ObservedTenant, Seen},
        report::{PartReport, PartState},
        step::{DatabaseStep, EntryStep, TenantStep},
        tenant::present::plan_tenant,
    },
};
use jiff::SignedDuration;

fn plan(id: &str, observed: &ObservedTenant) -> Plan<TenantStep> {
    let desired = DesiredTenant { tenant_id: TenantId::parse(id).unwrap(), ..desired() };
    plan_tenant(&desired, observed, &installation(), now())
}

fn published(plan: &Plan<TenantStep>) -> &PartReport {
    plan.reports.iter().find(|report| report.part == Part::Published).unwrap()
}

fn update(observed: &mut ObservedTenant, replica: usize) {
    observed.replicas.all[replica].acknowledged.as_mut().unwrap().format = 2;
}

#[test]
fn a_new_kind_of_id_waits_until_every_ready_replica_reads_it() {
    let mut observed = untouched();
    let waiting = plan("tenant_123", &observed);
    assert_eq!(words(&waiting), "AddFinalizer Provision CreateKeys");
    let report = published(&waiting);
    assert_eq!((report.state, report.reason), (PartState::Waiting, Reason::WaitingForReplicas));
    assert_eq!(report.note, "r1, r2 must be updated: this tenant id needs entry format 2");
    assert_eq!(waiting.wake_at, Some(now() + SignedDuration::from_secs(10)));

    update(&mut observed, 0);
    assert!(published(&plan("tenant_123", &observed)).note.starts_with("r2 must be updated"));
    // A replica that takes no requests is not waited for.
    observed.replicas.all[1].ready = false;
    assert_eq!(words(&plan("tenant_123", &observed)), "AddFinalizer Provision CreateKeys PutEntry");
    observed.replicas.all[1].ready = true;
    update(&mut observed, 1);
    let written = plan("tenant_123", &observed);
    let names = written.steps.iter().find_map(|step| match step {
        TenantStep::Database(DatabaseStep::Provision(made)) => Some((made.schema.clone(), made.role.clone())),
        _ => None,
    });
    let name = "at_xqrepue2dabktamh454k7skt5ry".to_owned();
    assert_eq!(names, Some((name.clone(), name)));
    let entry = written.steps.iter().find_map(|step| match step {
        TenantStep::Entry(EntryStep::Put { entry, .. }) => Some(entry),
        _ => None,
    });
    let entry = entry.unwrap();
    assert_eq!((entry.format, entry.entry_name().as_str()), (2, "tenant-xqrepue2dabktamh454k7skt5ry"));
    assert_eq!(entry.tenant_id.as_str(), "tenant_123");
}

#[test]
fn a_plain_id_waits_for_no_update() {
    assert_eq!(words(&plan(tenant_id().as_str(), &untouched())), "AddFinalizer Provision CreateKeys PutEntry");
}

#[test]
fn an_entry_that_was_served_is_written_again_beside_an_earlier_replica() {
    let mut observed = converged();
    observed.entry = Seen::Missing;
    assert!(words(&plan("tenant_123", &observed)).contains("PutEntry"));
}
