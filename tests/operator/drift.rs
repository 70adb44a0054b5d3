//! Somebody changes by hand what the operator made: found, told and put right, or said with what a person has to do.

use super::{
    clients::ask_now,
    fleet::{Fleet, LONG},
    further::Further,
    stories::{settle, sum},
};
use agent_tenancy::api::names;
use anyhow::Context as _;
use devkit::{Component, Environment, PgVersion, Postgres, eventually};
use kube::api::DeleteParams;
use serde_json::json;
use std::time::Duration;

on_each_postgres!(
    what_people_change_is_told_and_put_right_and_the_fleet_is_silent_again,
    what_is_lost_waits_for_a_persons_word,
    a_lost_database_is_given_up_tenant_by_tenant,
    drift_is_found_in_every_instance,
);

/// Waits for an event about a Tenant whose note holds all of these.
async fn told(fleet: &Fleet, tenant: &str, reason: &str, words: &[String]) -> anyhow::Result<String> {
    eventually(LONG, &format!("{reason} of {tenant} tells {words:?}"), || async {
        let notes = fleet.notes(tenant, reason).await?;
        let found = notes.iter().find(|note| words.iter().all(|word| note.contains(word.as_str())));
        found.cloned().with_context(|| format!("{notes:?}"))
    })
    .await
}

/// Resyncs are far away: what is found is found by the look at the whole fleet.
async fn start(version: PgVersion) -> anyhow::Result<Fleet> {
    let mut fleet = Fleet::new(version).await?;
    fleet.set(Component::Operator, "AGENT_TENANCY__DATABASE__DRIFT_SECONDS", "10");
    fleet.set(Component::Operator, "AGENT_TENANCY__RESYNC_SECONDS", "3600");
    fleet.agent("support", "You help.").await?;
    Ok(fleet)
}

async fn what_people_change_is_told_and_put_right_and_the_fleet_is_silent_again(
    version: PgVersion,
) -> anyhow::Result<()> {
    let fleet = start(version).await?;
    let operator = fleet.operator("one").await?;
    let _replica = fleet.replica().await?;
    for name in ["acme", "bystander"] {
        fleet.tenant(name, "Delete").await?;
        fleet.wait_ready(name).await?;
    }
    let role = fleet.schema("acme");
    let prefix = role.trim_end_matches("_acme").to_owned();
    let evil = format!("{prefix}_evil");
    fleet
        .execute(&format!(
            "CREATE ROLE {evil}; GRANT SELECT ON {role}.messages TO PUBLIC; ALTER TABLE {role}.usage OWNER TO {role}; \
             ALTER ROLE {role} SET search_path = public; SET ROLE {prefix}_own_1; GRANT {role} TO {evil}"
        ))
        .await?;
    let words = [
        "SELECT on table messages given to PUBLIC".to_owned(),
        format!("table usage owned by '{role}'"),
        format!("'{evil}' made a member of the role"),
        "search_path set for the role".to_owned(),
    ];
    let note = told(&fleet, "acme", "DriftRepaired", &words).await?;
    println!("{note}");
    fleet.wait_ready("acme").await?;

    // The registry entry: deleted, and edited.
    fleet.registry.delete("tenant-acme", &DeleteParams::default()).await?;
    told(&fleet, "acme", "DriftRepaired", &["registry entry was deleted by hand".to_owned()]).await?;
    eventually(LONG, "the entry is back, and proved", || async {
        let served = fleet.tenants.get("acme").await?.status.and_then(|s| s.served).context("a proof")?;
        let version = fleet.registry.get("tenant-acme").await?.metadata.resource_version;
        anyhow::ensure!(version == Some(served.entry_version), "{version:?}");
        Ok(())
    })
    .await?;

    // With a spec that can't be had the entry can't be made again, and that is said; the database is kept in order.
    fleet.annotate("acme", names::PAUSED_ANNOTATION, "perhaps").await?;
    fleet.wait_condition("acme", "Accepted", "False", "InvalidSpec").await?;
    fleet.registry.delete("tenant-acme", &DeleteParams::default()).await?;
    fleet.wait_condition("acme", "Published", "False", "EntryChanged").await?;
    told(&fleet, "acme", "EntryChanged", &["deleted by hand".to_owned()]).await?;
    fleet.execute(&format!("GRANT INSERT ON {role}.usage TO PUBLIC")).await?;
    told(&fleet, "acme", "DriftRepaired", &["INSERT on table usage given to PUBLIC".to_owned()]).await?;
    fleet.annotate("acme", names::PAUSED_ANNOTATION, None).await?;
    fleet.wait_ready("acme").await?;

    // What only a superuser can undo is said with the statement that does.
    fleet.execute(&format!("ALTER ROLE {role} BYPASSRLS")).await?;
    fleet.wait_condition("acme", "DatabaseReady", "False", "DriftNotRepairable").await?;
    let message = fleet.message("acme", "DatabaseReady").await?;
    let (_, remedy) = message.split_once("run: ").context("a remedy")?;
    fleet.execute(remedy).await?;
    fleet.wait_ready("acme").await?;

    // Silent again: nothing is written, and the database is asked by the look at the fleet alone.
    settle(&fleet).await?;
    let versions = fleet.version_of_all().await?;
    let (before, trips) = (operator.metrics().await?, operator.round_trips().await?);
    tokio::time::sleep(Duration::from_secs(13)).await;
    let requests = operator.requests_since(&before).await?;
    assert_eq!(sum(&requests, &["create", "update", "patch", "delete"]), 0, "{requests:?}");
    assert_eq!(fleet.version_of_all().await?, versions);
    let trips = operator.round_trips().await? - trips;
    assert!((1..=2).contains(&trips), "{trips} round trips in which the fleet was looked at");
    assert_eq!(operator.metrics().await?.get("tenant_operator_drifted_tenants{instance=\"main\"}"), Some(&0.0));
    Ok(())
}

async fn what_is_lost_waits_for_a_persons_word(version: PgVersion) -> anyhow::Result<()> {
    let fleet = start(version).await?;
    let _operator = fleet.operator("one").await?;
    let _replica = fleet.replica().await?;
    fleet.tenant("acme", "Delete").await?;
    fleet.wait_ready("acme").await?;
    let incarnation = async || fleet.incarnation("acme").await;
    let lost = incarnation().await?;
    let role = fleet.schema("acme");
    fleet.execute(&format!("DROP SCHEMA {role} CASCADE")).await?;
    fleet.wait_condition("acme", "DatabaseReady", "False", "Lost").await?;
    fleet.wait_condition("acme", "Stalled", "True", "Lost").await?;
    let message = fleet.message("acme", "DatabaseReady").await?;
    assert!(message.contains(&format!("{}={lost}", names::ACCEPT_LOSS_ANNOTATION)), "{message}");

    fleet.annotate("acme", names::ACCEPT_LOSS_ANNOTATION, "yes").await?;
    settle(&fleet).await?;
    assert_eq!(fleet.condition("acme", "DatabaseReady").await?, ("False".to_owned(), "Lost".to_owned()));
    assert_eq!(fleet.schemas().await?, Vec::<String>::new(), "another word makes nothing");

    fleet.annotate("acme", names::ACCEPT_LOSS_ANNOTATION, lost.as_str()).await?;
    fleet.wait_ready("acme").await?;
    assert_ne!(incarnation().await?, lost);
    assert_eq!(fleet.schemas().await?, std::slice::from_ref(&role));
    told(&fleet, "acme", "LossAccepted", &[lost]).await?;

    // The word was for that loss, and not for the next one. A row that is gone leaves data, which is kept.
    let second = incarnation().await?;
    fleet.execute("DELETE FROM agent_tenancy.tenants WHERE tenant_id = 'acme'").await?;
    fleet.execute(&format!("INSERT INTO {role}.conversations VALUES (gen_random_uuid(), 'me')")).await?;
    // Without its row the look at the fleet does not meet it; its own look does.
    fleet.annotate("acme", "agent-tenancy.dev/look", "1").await?;
    fleet.wait_condition("acme", "DatabaseReady", "False", "Lost").await?;
    fleet.annotate("acme", names::ACCEPT_LOSS_ANNOTATION, second.as_str()).await?;
    fleet.wait_ready("acme").await?;
    let note = told(&fleet, "acme", "LossAccepted", &["is kept as".to_owned(), second]).await?;
    let kept = note.rsplit('\'').nth(1).context("the name of what is kept")?;
    let rows = fleet.column(format!("SELECT sub FROM {kept}.conversations")).await?;
    assert_eq!(rows, ["me"]);
    Ok(())
}

async fn a_lost_database_is_given_up_tenant_by_tenant(version: PgVersion) -> anyhow::Result<()> {
    let server = Postgres::start(version).await?;
    let mut fleet = Fleet::on(Environment::shared().await?, &server).await?;
    let replica = fleet.replica().await?;
    let url = replica.url.clone();
    let operator = fleet.operator("one").await?;
    fleet.agent("support", "You help.").await?;
    for name in ["acme", "globex"] {
        fleet.tenant(name, "Delete").await?;
        fleet.wait_ready(name).await?;
        assert_eq!(ask_now(&fleet, name, &url, Some("before")).await?.0, 200);
    }
    let lost = fleet.tenants.get("acme").await?.status.and_then(|s| s.database).context("a database")?.database_id;

    // Another one in its place: nothing is made in it, and each Tenant says so when it is looked at.
    server.replace_with_empty_cluster().await?;
    fleet.database.create_again(&server).await?;
    for name in ["acme", "globex"] {
        fleet.annotate(name, "agent-tenancy.dev/look", "1").await?;
        fleet.wait_condition(name, "DatabaseReady", "False", "DatabaseChanged").await?;
    }
    // A word about a database that nobody named in the settings makes nothing.
    fleet.annotate("acme", names::ACCEPT_LOSS_ANNOTATION, lost.as_str()).await?;
    settle(&fleet).await?;
    assert_eq!(fleet.condition("acme", "DatabaseReady").await?.1, "DatabaseChanged");
    fleet.annotate("acme", names::ACCEPT_LOSS_ANNOTATION, None).await?;
    assert_eq!(fleet.schemas().await?, Vec::<String>::new());

    // The settings give it up: the new one is taken into use, and who was in the old one still waits.
    operator.process.kill_9().await?;
    fleet.set(Component::Operator, "AGENT_TENANCY__DATABASE__LOST_DATABASE_ID", &lost);
    let _operator = fleet.operator("one").await?;
    for name in ["acme", "globex"] {
        eventually(LONG, "the way to begin anew is told", || async {
            let message = fleet.message(name, "DatabaseReady").await?;
            anyhow::ensure!(message.contains(&format!("{}={lost}", names::ACCEPT_LOSS_ANNOTATION)), "{message}");
            Ok(())
        })
        .await?;
        assert_eq!(fleet.condition(name, "Stalled").await?, ("True".to_owned(), "DatabaseChanged".to_owned()));
    }
    assert_eq!(fleet.schemas().await?, Vec::<String>::new());

    // One is given up: it begins with nothing, under its old keys. The other one waits on.
    fleet.annotate("acme", names::ACCEPT_LOSS_ANNOTATION, lost.as_str()).await?;
    fleet.wait_ready("acme").await?;
    let found = fleet.tenants.get("acme").await?.status.and_then(|s| s.database).context("a database")?.database_id;
    assert_ne!(found, lost);
    let (status, history) = ask_now(&fleet, "acme", &url, "anew").await?;
    assert!(status == 200 && !history.contains("before"), "{status} {history}");
    let (_, history) = ask_now(&fleet, "acme", &url, None).await?;
    assert!(history.contains("anew") && !history.contains("before"), "{history}");
    assert_eq!(fleet.condition("globex", "DatabaseReady").await?, ("False".to_owned(), "DatabaseChanged".to_owned()));
    assert_eq!(fleet.ledger("active").await?, ["acme"]);
    assert_eq!(fleet.schemas().await?, [fleet.schema("acme")]);
    Ok(())
}

async fn drift_is_found_in_every_instance(version: PgVersion) -> anyhow::Result<()> {
    let mut fleet = start(version).await?;
    let beside = Further::new(&Postgres::shared(version).await?, "beside").await?;
    let mut settings = beside.settings(&fleet);
    settings["driftSeconds"] = json!(10);
    fleet.set_instances(&[settings]);
    let operator = fleet.operator("one").await?;
    let _replica = fleet.replica().await?;
    for (name, instance) in [("here", "main"), ("there", "beside"), ("gone", "beside")] {
        fleet.tenant_with(name, json!({ "database": { "instance": instance, "deletionPolicy": "Delete" } })).await?;
        fleet.wait_ready(name).await?;
    }
    settle(&fleet).await?;
    let before = fleet.version_of_all().await?;
    let (role, lost) = (beside.schema("there"), beside.schema("gone"));
    beside.execute(&format!("GRANT SELECT ON {role}.messages TO PUBLIC; DROP SCHEMA {lost} CASCADE")).await?;
    told(&fleet, "there", "DriftRepaired", &["SELECT on table messages given to PUBLIC".to_owned()]).await?;
    fleet.wait_condition("gone", "DatabaseReady", "False", "Lost").await?;
    fleet.wait_ready("there").await?;
    let open = format!("SELECT has_table_privilege('public', '{role}.messages', 'SELECT')::text");
    assert_eq!(beside.column(open).await?, ["false"]);
    let after = fleet.version_of_all().await?;
    let changed: Vec<_> = after.iter().filter(|(object, version)| before.get(*object) != Some(*version)).collect();
    assert!(changed.iter().all(|(object, _)| object.contains("gone")), "only what is lost is written: {changed:?}");
    // Each database has its own look.
    for instance in ["main", "beside"] {
        let look = format!("tenant_operator_drift_look_seconds{{instance=\"{instance}\"}}");
        eventually(LONG, &format!("a look at {instance}"), || async {
            let metrics = operator.metrics().await?;
            anyhow::ensure!(metrics.get(&look).is_some_and(|seconds| *seconds > 0.0), "{metrics:?}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}
