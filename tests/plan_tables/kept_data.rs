//! Requests to allow the takeover of data that is kept of another namespace's Tenant.

use super::{
    fixtures::{archive, facts, facts_of, installation, object, stranger, tenant_id, untouched},
    takeover::{change, left_in},
};
use agent_tenancy::{
    domain::ident::Uid,
    plan::{
        observed::{Archive, DatabaseView, LedgerRow, ObservedTenant, RowState},
        takeover_request::{Applicant, GrantedData, Permission, TakeoverRefusal, judge_request},
    },
};

fn kept_elsewhere(archived: bool) -> ObservedTenant {
    let mut observed = untouched();
    let state = if archived { RowState::Dropped } else { RowState::Retained };
    let mut kept = facts(Some(LedgerRow { namespace: "b".to_owned(), ..stranger(state) }), false);
    if archived {
        kept.archives = vec![Archive { namespace: "b".to_owned(), ..archive("uid-other") }];
    }
    observed.database = DatabaseView::Facts(kept);
    observed
}

/// The answer to a request for kept data, and what is recorded of it.
fn ask_for_kept(archived: bool, previous: &str, all_namespaces: bool) -> Result<Permission, TakeoverRefusal> {
    let (tenant_id, object, previous) = (tenant_id(), object(), Uid(previous.to_owned()));
    let applicant = Applicant { tenant_id: &tenant_id, object: &object, previous: Some(&previous), all_namespaces };
    let mut observed = kept_elsewhere(archived);
    let (answer, permission) = judge_request(applicant, None, facts_of(&mut observed), &installation())?;
    assert_eq!((answer.done, answer.wait_seconds), (false, 0));
    Ok(permission.unwrap())
}

#[test]
fn kept_data_of_another_namespace_is_given_away_by_a_user_with_the_verb_in_all_namespaces() {
    for archived in [false, true] {
        let permission = ask_for_kept(archived, "uid-other", true).unwrap();
        assert_eq!(permission.data, GrantedData::Kept);
        assert_eq!((permission.previous.0.as_str(), permission.from_cluster_id.as_str()), ("uid-other", "cluster"));
        // A right guess and a wrong one are answered alike.
        for previous in ["uid-other", "uid-guessed"] {
            assert_eq!(ask_for_kept(archived, previous, false), Err(TakeoverRefusal::OtherNamespace), "{previous}");
        }
        let Err(TakeoverRefusal::Unmet(note)) = ask_for_kept(archived, "uid-guessed", true) else { panic!("allowed") };
        assert!(note.contains(if archived { "to nobody" } else { "previousUid to uid-other" }), "{note}");
    }
}

#[test]
fn a_request_without_the_verb_in_all_namespaces_learns_nothing_of_other_owners() {
    for state in [RowState::Active, RowState::Suspended, RowState::Deleting, RowState::Retained] {
        for cluster_id in ["cluster", "other"] {
            let mut observed = untouched();
            left_in(&mut observed, state);
            change(&mut observed, |row| {
                (row.cluster_id, row.namespace) = (cluster_id.to_owned(), "b".to_owned());
            });
            let (tenant_id, object) = (tenant_id(), object());
            let applicant = Applicant { tenant_id: &tenant_id, object: &object, previous: None, all_namespaces: false };
            for from in [None, Some("cluster"), Some("other"), Some("third")] {
                let judged = judge_request(applicant, from, facts_of(&mut observed), &installation());
                assert_eq!(judged, Err(TakeoverRefusal::OtherNamespace), "{state:?} {cluster_id} {from:?}");
            }
        }
    }
}
