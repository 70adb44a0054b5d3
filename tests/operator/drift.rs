//! Manual changes of what the operator made are found, reported and repaired; where it can't, the condition says what to do.

use super::{
    additional_instance::AdditionalInstance,
    cost::sum,
    installation::{Installation, LONG},
    installation_state::settle,
    users::ask_now,
};
use agent_tenancy::api::names;
use anyhow::Context as _;
use devkit::{Component, Environment, PgVersion, Postgres, eventually};
use kube::api::DeleteParams;
use serde_json::json;
use std::time::Duration;

on_each_postgres!(
    manual_changes_are_reported_and_repaired_and_the_operator_is_silent_again,
    lost_data_is_only_recreated_after_manual_confirmation,
    a_lost_database_is_given_up_one_tenant_at_a_time,
    drift_is_found_in_every_instance,
);

/// Waits for an event about a Tenant with all of these in its note.
async fn wait_note(
    installation: &Installation,
    tenant: &str,
    reason: &str,
    words: &[String],
) -> anyhow::Result<String> {
    eventually(LONG, &format!("an event {reason} of {tenant} contains {words:?}"), || async {
        let notes = installation.notes(tenant, reason).await?;
        let found = notes.iter().find(|note| words.iter().all(|word| note.contains(word.as_str())));
        found.cloned().with_context(|| format!("{notes:?}"))
    })
    .await
}

/// Resyncs are rare here, so that drift is found by the query over all tenants.
async fn start(version: PgVersion) -> anyhow::Result<Installation> {
    let mut installation = Installation::new(version).await?;
    installation.set(Component::Operator, "AGENT_TENANCY__DATABASE__DRIFT_SECONDS", "10");
    installation.set(Component::Operator, "AGENT_TENANCY__RESYNC_SECONDS", "3600");
    installation.agent("support", "You help.").await?;
    Ok(installation)
}

async fn manual_changes_are_reported_and_repaired_and_the_operator_is_silent_again(
    version: PgVersion,
) -> anyhow::Result<()> {
    let installation = start(version).await?;
    let operator = installation.operator("one").await?;
    let _replica = installation.replica().await?;
    for name in ["acme", "bystander"] {
        installation.tenant(name, "Delete").await?;
        installation.wait_ready(name).await?;
    }
    let role = installation.schema("acme");
    let prefix = role.trim_end_matches("_acme").to_owned();
    let evil = format!("{prefix}_evil");
    installation
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
    let note = wait_note(&installation, "acme", "DriftRepaired", &words).await?;
    println!("{note}");
    installation.wait_ready("acme").await?;

    // A registry entry is deleted by hand.
    installation.registry.delete("tenant-acme", &DeleteParams::default()).await?;
    wait_note(&installation, "acme", "DriftRepaired", &["registry entry was deleted by hand".to_owned()]).await?;
    eventually(LONG, "the entry is back and served", || async {
        let served = installation.tenants.get("acme").await?.status.and_then(|s| s.served).context("a proof")?;
        let version = installation.registry.get("tenant-acme").await?.metadata.resource_version;
        anyhow::ensure!(version == Some(served.entry_version), "{version:?}");
        Ok(())
    })
    .await?;

    // With an invalid spec the entry can't be written again, which the condition says. The database is still repaired.
    installation.annotate("acme", names::PAUSED_ANNOTATION, "perhaps").await?;
    installation.wait_condition("acme", "Accepted", "False", "InvalidSpec").await?;
    installation.registry.delete("tenant-acme", &DeleteParams::default()).await?;
    installation.wait_condition("acme", "Published", "False", "EntryChanged").await?;
    wait_note(&installation, "acme", "EntryChanged", &["deleted by hand".to_owned()]).await?;
    installation.execute(&format!("GRANT INSERT ON {role}.usage TO PUBLIC")).await?;
    wait_note(&installation, "acme", "DriftRepaired", &["INSERT on table usage given to PUBLIC".to_owned()]).await?;
    installation.annotate("acme", names::PAUSED_ANNOTATION, None).await?;
    installation.wait_ready("acme").await?;

    // For a change that only a superuser can undo, the message contains the statement.
    installation.execute(&format!("ALTER ROLE {role} BYPASSRLS")).await?;
    installation.wait_condition("acme", "DatabaseReady", "False", "DriftNotRepairable").await?;
    let message = installation.message("acme", "DatabaseReady").await?;
    let (_, remedy) = message.split_once("run: ").context("a remedy")?;
    installation.execute(remedy).await?;
    installation.wait_ready("acme").await?;

    // Silent again: nothing is written, and the only SQL is the drift query.
    settle(&installation).await?;
    let versions = installation.version_of_all().await?;
    let (before, trips) = (operator.metrics().await?, operator.round_trips().await?);
    tokio::time::sleep(Duration::from_secs(13)).await;
    let requests = operator.requests_since(&before).await?;
    assert_eq!(sum(&requests, &["create", "update", "patch", "delete"]), 0, "{requests:?}");
    assert_eq!(installation.version_of_all().await?, versions);
    let trips = operator.round_trips().await? - trips;
    assert!((1..=2).contains(&trips), "{trips} round trips while drift was checked");
    assert_eq!(operator.metrics().await?.get("tenant_operator_drifted_tenants{instance=\"main\"}"), Some(&0.0));
    Ok(())
}

async fn lost_data_is_only_recreated_after_manual_confirmation(version: PgVersion) -> anyhow::Result<()> {
    let installation = start(version).await?;
    let _operator = installation.operator("one").await?;
    let _replica = installation.replica().await?;
    installation.tenant("acme", "Delete").await?;
    installation.wait_ready("acme").await?;
    let incarnation = async || installation.incarnation("acme").await;
    let lost = incarnation().await?;
    let role = installation.schema("acme");
    installation.execute(&format!("DROP SCHEMA {role} CASCADE")).await?;
    installation.wait_condition("acme", "DatabaseReady", "False", "DataLost").await?;
    installation.wait_condition("acme", "Stalled", "True", "DataLost").await?;
    let message = installation.message("acme", "DatabaseReady").await?;
    assert!(message.contains(&format!("{}={lost}", names::ACCEPT_LOSS_ANNOTATION)), "{message}");

    installation.annotate("acme", names::ACCEPT_LOSS_ANNOTATION, "yes").await?;
    settle(&installation).await?;
    assert_eq!(installation.condition("acme", "DatabaseReady").await?, ("False".to_owned(), "DataLost".to_owned()));
    assert_eq!(installation.schemas().await?, Vec::<String>::new(), "another value creates nothing");

    installation.annotate("acme", names::ACCEPT_LOSS_ANNOTATION, lost.as_str()).await?;
    installation.wait_ready("acme").await?;
    assert_ne!(incarnation().await?, lost);
    assert_eq!(installation.schemas().await?, std::slice::from_ref(&role));
    wait_note(&installation, "acme", "LossAccepted", &[lost]).await?;

    // The annotation confirms that loss and not the next one. Where only the row is gone, the data is kept.
    let second = incarnation().await?;
    installation.execute("DELETE FROM agent_tenancy.tenants WHERE tenant_id = 'acme'").await?;
    installation.execute(&format!("INSERT INTO {role}.conversations VALUES (gen_random_uuid(), 'me')")).await?;
    // Without its row the drift query does not find the tenant; its own reconcile does.
    installation.annotate("acme", "agent-tenancy.dev/touch", "1").await?;
    installation.wait_condition("acme", "DatabaseReady", "False", "DataLost").await?;
    installation.annotate("acme", names::ACCEPT_LOSS_ANNOTATION, second.as_str()).await?;
    installation.wait_ready("acme").await?;
    let note = wait_note(&installation, "acme", "LossAccepted", &["is kept as".to_owned(), second]).await?;
    let kept = note.rsplit('\'').nth(1).context("the name of what is kept")?;
    let rows = installation.column(format!("SELECT sub FROM {kept}.conversations")).await?;
    assert_eq!(rows, ["me"]);
    Ok(())
}

async fn a_lost_database_is_given_up_one_tenant_at_a_time(version: PgVersion) -> anyhow::Result<()> {
    let server = Postgres::start(version).await?;
    let mut installation = Installation::on(Environment::shared().await?, &server).await?;
    let replica = installation.replica().await?;
    let url = replica.url.clone();
    let operator = installation.operator("one").await?;
    installation.agent("support", "You help.").await?;
    for name in ["acme", "globex"] {
        installation.tenant(name, "Delete").await?;
        installation.wait_ready(name).await?;
        assert_eq!(ask_now(&installation, name, &url, Some("before")).await?.0, 200);
    }
    let lost =
        installation.tenants.get("acme").await?.status.and_then(|s| s.database).context("a database")?.database_id;

    // Another database in its place: nothing is created in it, and each Tenant reports that when it is reconciled.
    server.replace_with_empty_cluster().await?;
    installation.database.create_again(&server).await?;
    for name in ["acme", "globex"] {
        installation.annotate(name, "agent-tenancy.dev/touch", "1").await?;
        installation.wait_condition(name, "DatabaseReady", "False", "DatabaseChanged").await?;
    }
    // The annotation has no effect as long as the settings do not name the lost database.
    installation.annotate("acme", names::ACCEPT_LOSS_ANNOTATION, lost.as_str()).await?;
    settle(&installation).await?;
    assert_eq!(installation.condition("acme", "DatabaseReady").await?.1, "DatabaseChanged");
    installation.annotate("acme", names::ACCEPT_LOSS_ANNOTATION, None).await?;
    assert_eq!(installation.schemas().await?, Vec::<String>::new());

    // The settings give it up: the new database is taken into use, and the tenants of the old one still wait.
    operator.process.kill_9().await?;
    installation.set(Component::Operator, "AGENT_TENANCY__DATABASE__LOST_DATABASE_ID", &lost);
    let _operator = installation.operator("one").await?;
    for name in ["acme", "globex"] {
        eventually(LONG, "the message says how to start with an empty database", || async {
            let message = installation.message(name, "DatabaseReady").await?;
            anyhow::ensure!(message.contains(&format!("{}={lost}", names::ACCEPT_LOSS_ANNOTATION)), "{message}");
            Ok(())
        })
        .await?;
        assert_eq!(installation.condition(name, "Stalled").await?, ("True".to_owned(), "DatabaseChanged".to_owned()));
    }
    assert_eq!(installation.schemas().await?, Vec::<String>::new());

    // One tenant is given up: it starts empty, with its old keys. The other one still waits.
    installation.annotate("acme", names::ACCEPT_LOSS_ANNOTATION, lost.as_str()).await?;
    installation.wait_ready("acme").await?;
    let found =
        installation.tenants.get("acme").await?.status.and_then(|s| s.database).context("a database")?.database_id;
    assert_ne!(found, lost);
    let (status, history) = ask_now(&installation, "acme", &url, Some("after")).await?;
    assert!(status == 200 && !history.contains("before"), "{status} {history}");
    let (_, history) = ask_now(&installation, "acme", &url, None).await?;
    assert!(history.contains("after") && !history.contains("before"), "{history}");
    assert_eq!(
        installation.condition("globex", "DatabaseReady").await?,
        ("False".to_owned(), "DatabaseChanged".to_owned())
    );
    assert_eq!(installation.ledger("active").await?, ["acme"]);
    assert_eq!(installation.schemas().await?, [installation.schema("acme")]);
    Ok(())
}

async fn drift_is_found_in_every_instance(version: PgVersion) -> anyhow::Result<()> {
    let mut installation = start(version).await?;
    let beside = AdditionalInstance::new(&Postgres::shared(version).await?, "beside").await?;
    let mut settings = beside.settings(&installation);
    settings["driftSeconds"] = json!(10);
    installation.set_instances(&[settings]);
    let operator = installation.operator("one").await?;
    let _replica = installation.replica().await?;
    for (name, instance) in [("here", "main"), ("there", "beside"), ("gone", "beside")] {
        installation
            .tenant_with(name, json!({ "database": { "instance": instance, "deletionPolicy": "Delete" } }))
            .await?;
        installation.wait_ready(name).await?;
    }
    settle(&installation).await?;
    let before = installation.version_of_all().await?;
    let (role, lost) = (beside.schema("there"), beside.schema("gone"));
    beside.execute(&format!("GRANT SELECT ON {role}.messages TO PUBLIC; DROP SCHEMA {lost} CASCADE")).await?;
    wait_note(&installation, "there", "DriftRepaired", &["SELECT on table messages given to PUBLIC".to_owned()])
        .await?;
    installation.wait_condition("gone", "DatabaseReady", "False", "DataLost").await?;
    installation.wait_ready("there").await?;
    let open = format!("SELECT has_table_privilege('public', '{role}.messages', 'SELECT')::text");
    assert_eq!(beside.column(open).await?, ["false"]);
    let after = installation.version_of_all().await?;
    let changed: Vec<_> = after.iter().filter(|(object, version)| before.get(*object) != Some(*version)).collect();
    assert!(
        changed.iter().all(|(object, _)| object.contains("gone")),
        "only the Tenant with lost data is written: {changed:?}"
    );
    // Each database has its own drift query.
    for instance in ["main", "beside"] {
        let name = format!("tenant_operator_drift_check_seconds{{instance=\"{instance}\"}}");
        eventually(LONG, &format!("drift is checked in {instance}"), || async {
            let metrics = operator.metrics().await?;
            anyhow::ensure!(metrics.get(&name).is_some_and(|seconds| *seconds > 0.0), "{metrics:?}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}
