//! AgentConfigs: observed → planned.

use super::fixtures::{installation, now, object_word, read_error, replica};
use agent_tenancy::{
    api::{
        AgentConfigSpec, AgentContext, AgentParameters, AgentProvider, AgentTimeouts, ProviderType, Reason,
        SecretKeyRef,
    },
    domain::{
        entry::credential_hash,
        ident::{ObjectId, Uid, Version},
        keys::KeyBytes,
        resolve::{DesiredAgent, resolve_agent},
    },
    plan::{
        Plan,
        agent_config::{plan_agent, plan_agent_deletion},
        observed::{AgentEntryView, Credential, LastReference, ObservedAgent, Presence, Replicas, RevisionView, Seen},
        step::{AgentStep, EntryStep, RevisionStep, UpstreamStep},
    },
};
use jiff::SignedDuration;
use std::collections::BTreeMap;

fn desired(model: &str) -> DesiredAgent {
    let spec = AgentConfigSpec {
        provider: AgentProvider {
            type_: ProviderType::OpenAICompatible,
            base_url: Some("https://llm.example/v1".to_owned()),
            api_key_secret_ref: Some(SecretKeyRef { name: "provider".to_owned(), key: "key".to_owned() }),
        },
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
    };
    let object = ObjectId { namespace: "a".to_owned(), name: "x".to_owned(), uid: Uid("uid-x".to_owned()) };
    resolve_agent(object, 1, &spec).unwrap()
}

fn credential() -> Credential {
    let api_key = KeyBytes::new(b"CANARY-API".to_vec());
    Credential { hash: credential_hash("a", &api_key), api_key }
}

/// No HTTP header can contain it.
fn two_lines() -> Credential {
    let api_key = KeyBytes::new(b"CANARY\nAPI".to_vec());
    Credential { hash: credential_hash("a", &api_key), api_key }
}

/// The last reference went away so many seconds ago, at a version that replica `r1` has not reached.
fn dropped(seconds: i64) -> LastReference {
    LastReference { version: Version(500), since: now() - SignedDuration::from_secs(seconds) }
}

fn untouched() -> ObservedAgent {
    ObservedAgent {
        object: Presence::Cached,
        finalizer: false,
        served: None,
        entry: Seen::Missing,
        credential: Seen::Ours(credential()),
        unused_upstreams: BTreeMap::new(),
        upstream_published: false,
        revisions: Seen::Missing,
        users: Vec::new(),
        last_reference: LastReference::default(),
        replicas: Replicas { all: vec![replica("r1", 100)], none_wanted: false },
    }
}

fn converged() -> ObservedAgent {
    let mut observed = untouched();
    let plan = plan_agent(&desired("m1"), &observed, &installation(), now());
    for step in plan.steps {
        match step {
            AgentStep::Entry(EntryStep::Put { entry, .. }) => {
                observed.entry = Seen::Ours(AgentEntryView {
                    secret_uid: Uid("s".to_owned()),
                    version: Version(70),
                    entry: Some(*entry),
                });
            }
            AgentStep::Revision(RevisionStep::Create { number, hash, .. }) => {
                observed.revisions = Seen::Ours(vec![RevisionView { name: format!("x-{number}"), number, hash }]);
            }
            _ => {}
        }
    }
    observed.finalizer = true;
    observed.upstream_published = true;
    observed.unused_upstreams.insert(credential().hash, Version(60));
    observed
}

fn words(plan: &Plan<AgentStep>) -> String {
    let word = |step: &AgentStep| match step {
        AgentStep::Object(step) => object_word(step),
        AgentStep::Revision(RevisionStep::Create { .. }) => "CreateRevision",
        AgentStep::Revision(RevisionStep::Delete { .. }) => "DeleteRevision",
        AgentStep::Upstream(UpstreamStep::Put(_)) => "PutUpstream",
        AgentStep::Upstream(UpstreamStep::Delete { .. }) => "DeleteUpstream",
        AgentStep::Entry(EntryStep::Put { .. }) => "PutEntry",
        AgentStep::Entry(EntryStep::Delete { .. }) => "DeleteEntry",
    };
    plan.steps.iter().map(word).collect::<Vec<_>>().join(" ")
}

type Row = (&'static str, fn() -> ObservedAgent, fn(&mut ObservedAgent), &'static str);

#[test]
fn an_agent_that_should_exist() {
    let rows: &[Row] = &[
        ("new", untouched, |_| (), "AddFinalizer PutUpstream CreateRevision PutEntry"),
        ("no credential", untouched, |o| o.credential = Seen::Missing, ""),
        ("a credential of two lines", untouched, |o| o.credential = Seen::Ours(two_lines()), ""),
        ("revisions unreadable", untouched, |o| o.revisions = Seen::Unknown(read_error()), ""),
        ("at rest, its own credential in use", converged, |_| (), ""),
        ("finalizer taken off", converged, |o| o.finalizer = false, "AddFinalizer"),
        (
            "finalizer taken off, no credential",
            converged,
            |o| {
                o.finalizer = false;
                o.credential = Seen::Missing
            },
            "AddFinalizer",
        ),
        ("revisions deleted by hand", converged, |o| o.revisions = Seen::Missing, "CreateRevision"),
        (
            "changed, and the history is full: what is served goes before what is swept",
            converged,
            |o| {
                let old = |number| RevisionView { name: format!("x-{number}"), number, hash: "old".into() };
                o.revisions = Seen::Ours((2..12).map(old).collect());
            },
            "CreateRevision PutEntry DeleteRevision",
        ),
        ("entry deleted by hand", converged, |o| o.entry = Seen::Missing, "PutEntry"),
        ("entry unreadable", converged, |o| o.entry = Seen::Unknown(read_error()), ""),
        (
            "another's credential left over",
            converged,
            |o| {
                o.unused_upstreams.insert("old".into(), Version(5));
            },
            "DeleteUpstream",
        ),
        (
            "left over, a replica behind",
            converged,
            |o| {
                o.unused_upstreams.insert("old".into(), Version(5));
                o.last_reference = dropped(59)
            },
            "",
        ),
        (
            "left over, a replica behind for long",
            converged,
            |o| {
                o.unused_upstreams.insert("old".into(), Version(5));
                o.last_reference = dropped(60)
            },
            "DeleteUpstream RecordEvent",
        ),
    ];
    for (name, start, tweak, steps) in rows {
        let mut observed = start();
        tweak(&mut observed);
        let plan = plan_agent(&desired("m1"), &observed, &installation(), now());
        assert_eq!(words(&plan), *steps, "{name}: {:?}", plan.reports);
        assert_eq!(plan.reports.len(), 3, "{name}: each part is judged once");
        assert!(!format!("{:?}", plan.steps).contains("CANARY"), "{name}");
    }
}

#[test]
fn revision_numbers_go_on() {
    for lose_revisions in [false, true] {
        let mut observed = converged();
        if lose_revisions {
            observed.revisions = Seen::Missing;
        }
        let plan = plan_agent(&desired("m2"), &observed, &installation(), now());
        let made = plan.steps.iter().find_map(|s| match s {
            AgentStep::Revision(RevisionStep::Create { number, .. }) => Some(*number),
            _ => None,
        });
        assert_eq!(made, Some(2));
    }
}

#[test]
fn an_agent_that_should_be_gone() {
    let rows: &[Row] = &[
        ("no finalizer", untouched, |_| (), ""),
        ("nothing made", untouched, |o| o.finalizer = true, "RemoveFinalizer"),
        ("in use", converged, |o| o.users.push("a/alpha".into()), ""),
        ("a replica behind", converged, |o| o.last_reference = dropped(59), ""),
        ("a replica behind for long", converged, |o| o.last_reference = dropped(60), "DeleteEntry RecordEvent"),
        (
            "a replica behind for long, the entry gone",
            converged,
            |o| {
                o.last_reference = dropped(60);
                o.entry = Seen::Missing
            },
            "DeleteUpstream RemoveFinalizer RecordEvent",
        ),
        (
            "a replica behind for long, in use",
            converged,
            |o| {
                o.last_reference = dropped(60);
                o.users.push("a/alpha".into())
            },
            "",
        ),
        ("acknowledged", converged, |_| (), "DeleteEntry"),
        ("entry unreadable", converged, |o| o.entry = Seen::Unknown(read_error()), ""),
        ("entry gone", converged, |o| o.entry = Seen::Missing, "DeleteUpstream RemoveFinalizer"),
        ("taken for gone, but alive", converged, |o| (o.object, o.finalizer) = (Presence::Alive, false), ""),
        ("taken for gone, not to be asked for", converged, |o| o.object = Presence::Unknown(read_error()), ""),
        ("vanished", converged, |o| (o.object, o.finalizer) = (Presence::Gone, false), "DeleteEntry"),
        (
            "vanished, in use",
            converged,
            |o| {
                (o.object, o.finalizer) = (Presence::Gone, false);
                o.users.push("a/alpha".into())
            },
            "",
        ),
        (
            "vanished, its credential left",
            converged,
            |o| {
                (o.object, o.finalizer) = (Presence::Gone, false);
                o.entry = Seen::Missing
            },
            "DeleteUpstream",
        ),
    ];
    for (name, start, tweak, steps) in rows {
        let mut observed = start();
        tweak(&mut observed);
        assert_eq!(words(&plan_agent_deletion(&observed, &installation(), now())), *steps, "{name}");
    }
    let mut observed = converged();
    observed.users.push("a/alpha".into());
    assert_eq!(plan_agent_deletion(&observed, &installation(), now()).reports[0].reason, Reason::InUse);
}
