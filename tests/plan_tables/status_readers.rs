//! How readers of the conditions understand them: kstatus (Flux, Helm), `kubectl wait`, Argo CD.

use super::fixtures::{absent, all_done, converged, facts, present, project, read_error, row, untouched};
use agent_tenancy::{
    api::{Condition, DeletionPolicy, TenantStatus},
    domain::{class::ErrorClass, ident::Uid, resolve::Violation},
    plan::{
        Plan,
        observed::{DatabaseView, LedgerRow, RowState},
        step::{Execution, Failure},
    },
    status::project_rejection,
};

/// An object as a reader sees it.
struct Seen<'a> {
    generation: i64,
    deleting: bool,
    status: &'a TenantStatus,
}

impl Seen<'_> {
    fn condition(&self, type_: &str) -> Option<&Condition> {
        self.status.conditions.iter().find(|c| c.type_ == type_)
    }

    fn is(&self, type_: &str, status: &str) -> bool {
        self.condition(type_).is_some_and(|c| c.status == status)
    }

    /// cli-utils' kstatus: what Flux, `helm --wait` and kpt ask.
    fn kstatus(&self) -> &'static str {
        if self.deleting {
            return "Terminating";
        }
        if self.status.observed_generation.is_some_and(|g| g != self.generation) || self.is("Reconciling", "True") {
            return "InProgress";
        }
        if self.is("Stalled", "True") {
            return "Failed";
        }
        match self.condition("Ready") {
            Some(ready) if ready.status != "True" => "InProgress",
            Some(_) | None => "Current",
        }
    }

    /// `kubectl wait --for=condition=Ready`.
    fn waited(&self) -> bool {
        self.condition("Ready").is_some_and(|ready| {
            let seen = ready.observed_generation.or(self.status.observed_generation);
            ready.status == "True" && seen.is_none_or(|g| g >= self.generation)
        })
    }

    /// A health check of Argo CD in the usual form (cert-manager, external-secrets).
    fn argo(&self) -> &'static str {
        if self.deleting || self.status.observed_generation != Some(self.generation) {
            return "Progressing";
        }
        if self.is("Stalled", "True") || self.is("Ready", "False") {
            return "Degraded";
        }
        if self.is("Ready", "True") { "Healthy" } else { "Progressing" }
    }
}

fn untouched_status() -> TenantStatus {
    TenantStatus { observed_generation: Some(-1), ..TenantStatus::default() }
}

fn provisioning() -> TenantStatus {
    let (observed, previous) = (untouched(), untouched_status());
    let plan = present(&observed);
    project(Some(&observed), &plan, &all_done(&plan), &previous, false)
}

fn ready() -> TenantStatus {
    let observed = converged();
    let plan = present(&observed);
    project(Some(&observed), &plan, &all_done(&plan), &provisioning(), false)
}

fn retrying() -> TenantStatus {
    let observed = untouched();
    let plan = present(&observed);
    let mut execution = all_done(&plan);
    let (step, _) = execution.done.split_off(1).swap_remove(0);
    execution.failed =
        Some((step, Failure { class: ErrorClass::Transient, note: "connection refused".to_owned(), reason: None }));
    project(Some(&observed), &plan, &execution, &untouched_status(), false)
}

fn without_database() -> TenantStatus {
    let mut observed = untouched();
    observed.database = DatabaseView::Unknown(read_error());
    let plan = present(&observed);
    project(Some(&observed), &plan, &all_done(&plan), &untouched_status(), false)
}

fn terminal() -> TenantStatus {
    let mut observed = untouched();
    let other = LedgerRow { uid: Uid("other".to_owned()), ..row(RowState::Active) };
    observed.database = DatabaseView::Facts(facts(Some(other), true));
    let plan = present(&observed);
    project(Some(&observed), &plan, &all_done(&plan), &untouched_status(), false)
}

fn rejected() -> TenantStatus {
    let wrong = Violation { field: "spec.agents".to_owned(), rule: "must have 1 to 16 items".to_owned() };
    let plan = Plan::nothing(project_rejection(&[wrong]));
    project(None, &plan, &Execution::default(), &ready(), false)
}

fn deleting() -> TenantStatus {
    let observed = converged();
    let plan = absent(&observed, DeletionPolicy::Retain);
    project(Some(&observed), &plan, &all_done(&plan), &ready(), true)
}

#[test]
fn every_reader_reads_the_right_state() {
    let rows = [
        ("never reconciled", 1, false, untouched_status(), ("InProgress", false, "Progressing")),
        ("provisioning", 1, false, provisioning(), ("InProgress", false, "Progressing")),
        ("ready", 1, false, ready(), ("Current", true, "Healthy")),
        ("ready, spec changed since", 2, false, ready(), ("InProgress", false, "Progressing")),
        ("retrying", 1, false, retrying(), ("InProgress", false, "Degraded")),
        ("without a database", 1, false, without_database(), ("InProgress", false, "Degraded")),
        ("terminal", 1, false, terminal(), ("Failed", false, "Degraded")),
        ("rejected after it was ready", 1, false, rejected(), ("Failed", false, "Degraded")),
        ("deleting", 1, true, deleting(), ("Terminating", false, "Progressing")),
    ];
    for (name, generation, deleting, status, expected) in rows {
        let seen = Seen { generation, deleting, status: &status };
        assert_eq!((seen.kstatus(), seen.waited(), seen.argo()), expected, "{name}: {status:#?}");
    }
}

fn condition<'a>(status: &'a TenantStatus, type_: &str) -> (&'a str, &'a str) {
    let found = status.conditions.iter().find(|c| c.type_ == type_);
    found.map_or(("", ""), |c| (c.status.as_str(), c.reason.as_str()))
}

#[test]
fn conditions_say_which_part_is_to_blame() {
    let status = retrying();
    assert_eq!(condition(&status, "Accepted"), ("True", "Accepted"));
    assert_eq!(condition(&status, "DatabaseReady"), ("False", "Retrying"));
    for later in ["SigningKeysReady", "Published", "Served"] {
        assert_eq!(condition(&status, later), ("Unknown", "Pending"), "{later} was not reached");
    }
    assert_eq!(condition(&status, "Ready"), ("False", "Retrying"));
    let status = rejected();
    assert_eq!(condition(&status, "Accepted"), ("False", "InvalidSpec"));
    assert_eq!(condition(&status, "Served"), ("True", "Served"), "the last good state stays in service");
    assert_eq!(condition(&deleting(), "Ready"), ("Unknown", "Deleting"));
}

#[test]
fn a_ready_tenant_stays_as_it_is_while_the_database_is_away() {
    let before = ready();
    for finalizer in [true, false] {
        let mut observed = converged();
        observed.database = DatabaseView::Unknown(read_error());
        observed.finalizer = finalizer;
        let plan = present(&observed);
        assert_eq!(project(Some(&observed), &plan, &all_done(&plan), &before, false), before);
    }
}
