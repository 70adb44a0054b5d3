//! Revoking keys from the standing entry alone.

use super::fixtures::{converged, now, present};
use agent_tenancy::{
    domain::{ident::Epoch, keys::Kid},
    plan::{
        observed::{EntryView, Seen},
        step::{EntryStep, TenantStep},
        tenant::revocation::plan_revocation,
    },
};
use std::collections::BTreeSet;

fn entry() -> (EntryView, Kid) {
    let Seen::Ours(view) = converged().entry else { panic!("no entry") };
    let kid = view.entry.as_ref().unwrap().keys[0].kid.clone();
    (view, kid)
}

fn asked(kid: &Kid) -> BTreeSet<Kid> {
    [kid.clone()].into()
}

#[test]
fn a_revoked_key_leaves_the_entry_and_is_listed_and_nothing_else_changes() {
    let (view, kid) = entry();
    let before = view.entry.clone().unwrap();
    let step = plan_revocation(&asked(&kid), &Seen::Ours(view.clone()), Epoch(9), now());
    let Some(TenantStep::Entry(EntryStep::Put { entry, replace })) = step else { panic!("{step:?}") };
    assert_eq!(replace, Some(view.version));
    assert!(entry.keys.iter().all(|key| key.kid != kid));
    assert_eq!(entry.revoked_kids.get(&kid), Some(&now()));
    let restored = agent_tenancy::domain::entry::TenantEntry {
        keys: before.keys.clone(),
        revoked_kids: before.revoked_kids.clone(),
        epoch: before.epoch,
        ..(*entry).clone()
    };
    assert_eq!(restored, before);
    // Once it is done there is nothing to do.
    let done = EntryView { entry: Some(*entry), ..view };
    assert_eq!(plan_revocation(&asked(&kid), &Seen::Ours(done), Epoch(9), now()), None);
}

#[test]
fn only_a_readable_entry_of_the_tenant_itself_with_that_key_is_changed() {
    let (view, kid) = entry();
    let other = Kid::parse("another-key").unwrap();
    for (name, entry, kid) in [
        ("another key", Seen::Ours(view.clone()), &other),
        ("another Tenant's entry", Seen::Foreign("taken".to_owned()), &kid),
        ("no entry", Seen::Missing, &kid),
        ("a damaged entry", Seen::Ours(EntryView { entry: None, ..view }), &kid),
    ] {
        assert_eq!(plan_revocation(&asked(kid), &entry, Epoch(9), now()), None, "{name}");
    }
}

/// An earlier step of the keyring is finished first: the key that is revoked does not come back with it.
#[test]
fn an_entry_is_never_written_with_a_key_that_is_to_be_revoked() {
    let mut observed = converged();
    let (view, kid) = entry();
    observed.entry = Seen::Missing;
    let mut desired = super::fixtures::desired();
    desired.keys.revoke = asked(&kid);
    let plan =
        agent_tenancy::plan::tenant::present::plan_tenant(&desired, &observed, &super::fixtures::installation(), now());
    let written = plan.steps.iter().find_map(|step| match step {
        TenantStep::Entry(EntryStep::Put { entry, .. }) => Some(entry),
        _ => None,
    });
    let written = written.unwrap_or_else(|| panic!("{plan:?}"));
    assert!(written.keys.iter().all(|key| key.kid != kid) && written.revoked_kids.contains_key(&kid));
    assert!(view.entry.is_some() && present(&converged()).steps.is_empty());
}
