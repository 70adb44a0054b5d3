//! Several database instances: tenants are placed in all of them, never move, and an outage of one affects only its tenants.

use super::{
    additional_instance::AdditionalInstance,
    crashes::kill_at_random,
    installation::{Installation, LONG},
    installation_state::settle,
    randomness::Randomness,
    users::{ask_now, plugin},
};
use anyhow::Context as _;
use devkit::{Component, PgVersion, Postgres, eventually};
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

on_each_postgres!(
    tenants_are_spread_over_instances_and_an_outage_affects_one_instance,
    an_instance_that_is_removed_from_the_settings_and_added_again_loses_no_tenant,
    kept_data_is_found_in_every_instance,
    an_upgrade_reaches_the_tenants_of_every_instance,
    an_operator_killed_while_it_places_tenants_places_none_twice,
);

const IN_USE: &str = "'active', 'suspended'";

impl Installation {
    async fn instance_of(&self, name: &str) -> anyhow::Result<String> {
        let status = self.tenants.get(name).await?.status.context("no status")?;
        Ok(status.database.context("no database")?.instance)
    }

    async fn tables_of(&self, name: &str) -> anyhow::Result<i32> {
        let status = self.tenants.get(name).await?.status.context("no status")?;
        Ok(status.database.context("no database")?.schema_version)
    }

    /// Waits until a Tenant is Ready; returns its instance.
    async fn wait_placed(&self, name: &str) -> anyhow::Result<String> {
        self.wait_ready(name).await?;
        self.instance_of(name).await
    }
}

/// Chats as a user of a tenant; the status of the answer.
async fn chat(installation: &Installation, url: &str, tenant: &str) -> anyhow::Result<u16> {
    Ok(ask_now(installation, tenant, url, Some("hello")).await?.0)
}

async fn tenants_are_spread_over_instances_and_an_outage_affects_one_instance(
    version: PgVersion,
) -> anyhow::Result<()> {
    // Two databases on one server, and one on a server of the other version that can be stopped.
    let near = Postgres::shared(version).await?;
    let far_version = if version == PgVersion::OLDEST { PgVersion::NEWEST } else { PgVersion::OLDEST };
    let far_server = Postgres::start(far_version).await?;
    let mut installation = Installation::new(version).await?;
    let (beside, far) =
        (AdditionalInstance::new(&near, "beside").await?, AdditionalInstance::new(&far_server, "far").await?);
    installation.set_instances(&[beside.settings(&installation), far.settings(&installation)]);
    let operator = installation.operator("one").await?;
    let replica = installation.replica().await?;
    let url = replica.url.clone();
    installation.agent("support", "You help.").await?;

    let names = ["t0", "t1", "t2", "t3", "t4", "t5"];
    for name in names {
        installation.tenant(name, "Delete").await?;
    }
    let mut placement: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for name in names {
        placement.entry(installation.wait_placed(name).await?).or_default().insert(name);
        assert_eq!(chat(&installation, &url, name).await?, 200);
    }
    let counts: Vec<_> = placement.iter().map(|(instance, names)| (instance.as_str(), names.len())).collect();
    assert_eq!(counts, [("beside", 2), ("far", 2), ("main", 2)]);
    let of = |instance: &str| placement[instance].iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(installation.ledger("active").await?, of("main"));
    assert_eq!((beside.ledger(IN_USE).await?, far.ledger(IN_USE).await?), (of("beside"), of("far")));

    // A Tenant that names an instance is placed there. Each additional instance costs a new tenant one more query.
    settle(&installation).await?;
    let trips = operator.round_trips().await?;
    installation.tenant_with("named", json!({ "database": { "instance": "far", "deletionPolicy": "Delete" } })).await?;
    assert_eq!(installation.wait_placed("named").await?, "far");
    settle(&installation).await?;
    let spent = operator.round_trips().await? - trips;
    println!("a new tenant, with two additional instances: {spent} SQL round trips");
    assert!(spent <= 5, "{spent}");
    let namespace = installation.tenants_namespace.clone();
    let shown = plugin(&["status", "named", "-n", &namespace]).await?.text();
    assert!(shown.contains("instance far"), "{shown}");
    let moved = json!({ "spec": { "database": { "instance": "main" } } });
    let refused = installation.tenants.patch("named", &PatchParams::default(), &Patch::Merge(&moved)).await;
    let refused = refused.err().context("the change was accepted")?;
    assert!(refused.to_string().contains("instance must not change"), "{refused}");

    // Nothing is written when converged, nor after a restart.
    let versions = installation.version_of_all().await?;
    operator.process.kill_9().await?;
    let operator = installation.operator("one").await?;
    let up = |name: &str| format!("tenant_operator_database_up{{instance=\"{name}\"}}");
    eventually(LONG, "it has read the ledger of each instance", || async {
        let metrics = operator.metrics().await?;
        let open = ["main", "beside", "far"].map(|name| metrics.get(&up(name)).copied());
        anyhow::ensure!(open == [Some(1.0); 3], "{open:?}");
        Ok(())
    })
    .await?;
    settle(&installation).await?;
    assert_eq!(installation.version_of_all().await?, versions);

    far_server.stop_immediate().await?;
    installation.tenant("new", "Delete").await?;
    assert_ne!(installation.wait_placed("new").await?, "far");
    installation.tenant_with("waits", json!({ "database": { "instance": "far", "deletionPolicy": "Delete" } })).await?;
    installation.wait_condition("waits", "DatabaseReady", "Unknown", "DatabaseUnavailable").await?;
    let [stays, goes] = of("far").try_into().map_err(|_| anyhow::anyhow!("two in it"))?;
    assert_eq!(
        installation.condition(&stays, "Ready").await?.0,
        "True",
        "an outage does not change the conditions of a ready tenant"
    );
    installation.delete(&goes).await?;
    installation.wait_condition(&goes, "DeletionBlocked", "True", "DatabaseUnavailable").await?;
    let gone = &of("main")[0];
    installation.delete(gone).await?;
    installation.wait_gone(gone).await?;
    assert_eq!(chat(&installation, &url, &of("beside")[0]).await?, 200);
    let metrics = operator.metrics().await?;
    let ups = ["main", "beside", "far"].map(|name| metrics.get(&up(name)).copied());
    assert_eq!(ups, [Some(1.0), Some(1.0), Some(0.0)]);

    // A new operator has not read the ledger of the instance that is down.
    operator.process.kill_9().await?;
    let _operator = installation.operator("one").await?;
    installation.tenant("careful", "Delete").await?;
    eventually(LONG, "the message says which instance it waits for", || async {
        let why = installation.message("careful", "DatabaseReady").await?;
        anyhow::ensure!(why.contains("instance 'far' has not answered"), "{why}");
        Ok(())
    })
    .await?;
    installation
        .tenant_with("bold", json!({ "database": { "instance": "beside", "deletionPolicy": "Delete" } }))
        .await?;
    assert_eq!(installation.wait_placed("bold").await?, "beside");

    far_server.start_again().await?;
    installation.wait_gone(&goes).await?;
    assert_eq!(installation.wait_placed("waits").await?, "far");
    installation.wait_ready("careful").await?;
    for name in [stays.as_str(), "named", "new", "waits", "careful", "bold"] {
        assert_eq!(chat(&installation, &url, name).await?, 200, "{name}");
    }
    Ok(())
}

async fn an_instance_that_is_removed_from_the_settings_and_added_again_loses_no_tenant(
    version: PgVersion,
) -> anyhow::Result<()> {
    let server = Postgres::shared(version).await?;
    let mut installation = Installation::new(version).await?;
    let second = AdditionalInstance::new(&server, "second").await?;
    let known = second.settings(&installation);
    installation.set_instances(std::slice::from_ref(&known));
    installation.set(Component::Operator, "AGENT_TENANCY__DATABASE__ACCEPTS_NEW_TENANTS", "false");
    let operator = installation.operator("one").await?;
    let replica = installation.replica().await?;
    let url = replica.url.clone();
    installation.agent("support", "You help.").await?;
    for name in ["acme", "globex"] {
        installation.tenant(name, "Delete").await?;
        assert_eq!(installation.wait_placed(name).await?, "second", "the other instance accepts no new tenants");
    }
    installation.tenant_with("closed", json!({ "database": { "instance": "main" } })).await?;
    installation.wait_condition("closed", "DatabaseReady", "False", "InstanceClosed").await?;

    operator.process.kill_9().await?;
    installation.set_instances(&[]);
    let operator = installation.operator("one").await?;
    installation.wait_condition("acme", "DatabaseReady", "False", "InstanceUnknown").await?;
    installation.wait_condition("acme", "Stalled", "True", "InstanceUnknown").await?;
    let why = installation.message("acme", "DatabaseReady").await?;
    assert!(why.contains("instance 'second'") && why.contains("main") && !why.contains("127.0.0.1"), "{why}");
    assert_eq!(chat(&installation, &url, "acme").await?, 200, "it is served as before");
    installation
        .tenant_with("early", json!({ "database": { "instance": "second", "deletionPolicy": "Delete" } }))
        .await?;
    installation.wait_condition("early", "DatabaseReady", "False", "InstanceUnknown").await?;
    installation.tenant("anywhere", "Delete").await?;
    installation.wait_condition("anywhere", "DatabaseReady", "False", "InstanceClosed").await?;
    installation.delete("globex").await?;
    installation.wait_condition("globex", "DeletionBlocked", "True", "InstanceUnknown").await?;
    assert_eq!(second.ledger(IN_USE).await?, ["acme", "globex"], "nothing was deleted");
    assert_eq!(installation.ledger("active").await?, Vec::<String>::new(), "nothing was created");

    operator.process.kill_9().await?;
    installation.set_instances(&[known]);
    let _operator = installation.operator("one").await?;
    for name in ["acme", "early", "anywhere"] {
        assert_eq!(installation.wait_placed(name).await?, "second");
        assert_eq!(chat(&installation, &url, name).await?, 200);
    }
    installation.wait_gone("globex").await?;
    assert_eq!(second.ledger(IN_USE).await?, ["acme", "anywhere", "early"]);
    assert_eq!(second.ledger("'dropped'").await?, ["globex"]);
    Ok(())
}

async fn kept_data_is_found_in_every_instance(version: PgVersion) -> anyhow::Result<()> {
    let server = Postgres::shared(version).await?;
    let mut installation = Installation::new(version).await?;
    let second = AdditionalInstance::new(&server, "second").await?;
    installation.set_instances(&[second.settings(&installation)]);
    let _operator = installation.operator("one").await?;
    let _replica = installation.replica().await?;
    installation.agent("support", "You help.").await?;
    // Both kinds of kept data in the second instance, which then has more tenants than the other.
    let mut uids = BTreeMap::new();
    for (name, policy) in [("kept", "Retain"), ("aside", "Archive")] {
        let tenant = installation
            .tenant_with(name, json!({ "database": { "instance": "second", "deletionPolicy": policy } }))
            .await?;
        uids.insert(name, tenant.uid().context("a UID")?);
        installation.wait_ready(name).await?;
        installation.delete(name).await?;
        installation.wait_gone(name).await?;
    }
    installation.tenant_with("fills", json!({ "database": { "instance": "second" } })).await?;
    installation.wait_ready("fills").await?;
    let adopting = |name: &str| json!({ "adopt": { "previousUid": uids[name] }, "deletionPolicy": "Archive" });

    // No Tenant starts empty only because another instance has no data of its id.
    installation.tenant_with("kept", json!({ "database": {} })).await?;
    installation.wait_condition("kept", "Accepted", "False", "Retained").await?;
    installation.delete("kept").await?;
    installation.wait_gone("kept").await?;
    installation.tenant_with("kept", json!({ "database": { "instance": "main" } })).await?;
    installation.wait_condition("kept", "Accepted", "False", "Conflict").await?;
    let why = installation.message("kept", "Accepted").await?;
    assert!(why.contains("instance 'second' holds data of this tenant id"), "{why}");
    installation.delete("kept").await?;
    installation.wait_gone("kept").await?;

    for name in ["kept", "aside"] {
        installation.tenant_with(name, json!({ "database": adopting(name) })).await?;
        assert_eq!(installation.wait_placed(name).await?, "second", "{name}");
    }
    // An archive leaves the tenant id free: a Tenant that adopts nothing starts empty, in the instance with the fewest tenants.
    installation.delete("aside").await?;
    installation.wait_gone("aside").await?;
    assert_eq!(installation.ledger("active").await?, Vec::<String>::new());
    installation.tenant_with("aside", json!({ "database": {} })).await?;
    assert_eq!(installation.wait_placed("aside").await?, "main");
    Ok(())
}

async fn an_upgrade_reaches_the_tenants_of_every_instance(version: PgVersion) -> anyhow::Result<()> {
    let server = Postgres::start(version).await?;
    let mut installation = Installation::new(version).await?;
    let second = AdditionalInstance::new(&server, "second").await?;
    installation.set_instances(&[second.settings(&installation)]);
    installation.set(Component::Operator, "AGENT_TENANCY__MIGRATIONS__VERSION", "1");
    installation.set(Component::Operator, "AGENT_TENANCY__MIGRATIONS__HOLD_SECONDS", "0");
    let operator = installation.operator("one").await?;
    let _replica = installation.replica().await?;
    installation.agent("support", "You help.").await?;
    let names = ["t0", "t1", "t2", "t3"];
    for name in names {
        installation.tenant(name, "Delete").await?;
    }
    let mut placement = BTreeMap::new();
    for name in names {
        placement.insert(name, installation.wait_placed(name).await?);
        assert_eq!(installation.tables_of(name).await?, 1);
    }
    operator.process.kill_9().await?;
    server.stop_immediate().await?;
    installation.set(Component::Operator, "AGENT_TENANCY__MIGRATIONS__VERSION", "2");
    let _operator = installation.operator("one").await?;
    let upgraded = async |instance: &str| {
        for (name, _) in placement.iter().filter(|(_, there)| *there == instance) {
            eventually(LONG, &format!("{name} has the new tables"), || async {
                anyhow::ensure!(installation.tables_of(name).await? == 2);
                Ok(())
            })
            .await?;
        }
        anyhow::Ok(())
    };
    upgraded("main").await?;
    let waits = placement.iter().find(|(_, instance)| *instance == "second").context("one in the second")?.0;
    assert_eq!(installation.tables_of(waits).await?, 1);
    server.start_again().await?;
    upgraded("second").await
}

async fn an_operator_killed_while_it_places_tenants_places_none_twice(version: PgVersion) -> anyhow::Result<()> {
    let server = Postgres::shared(version).await?;
    let mut installation = Installation::new(version).await?;
    let second = AdditionalInstance::new(&server, "second").await?;
    installation.set_instances(&[second.settings(&installation)]);
    let _replica = installation.replica().await?;
    installation.agent("support", "You help.").await?;
    let mut random = Randomness::new("KILL_SEED")?;
    let names: Vec<String> = (0..16).map(|n| format!("t{n:02}")).collect();
    let mut operator = installation.operator("one").await?;
    let (mut kills, mut round) = (0, 0);
    for pair in names.chunks(2) {
        for name in pair {
            installation.tenant(name, "Delete").await?;
        }
        kills += kill_at_random(&installation, &mut operator, &mut random, round).await?;
        round += 1;
    }
    for name in &names {
        installation.wait_ready(name).await?;
    }
    println!("killed {kills} times");
    let (here, there) = (installation.ledger("active").await?, second.ledger(IN_USE).await?);
    let all: BTreeSet<&String> = here.iter().chain(&there).collect();
    assert_eq!((all.len(), here.len() + there.len()), (names.len(), names.len()), "{here:?} {there:?}");
    assert!(here.len().abs_diff(there.len()) <= 6, "{here:?} {there:?}");
    for name in &names {
        let instance = if here.contains(name) { "main" } else { "second" };
        assert_eq!(installation.instance_of(name).await?, instance);
        installation.delete(name).await?;
    }
    kill_at_random(&installation, &mut operator, &mut random, round).await?;
    eventually(LONG, "all are gone", || async {
        let left = (
            installation.ledger("active").await?,
            second.ledger("'active', 'suspended', 'deleting', 'retained'").await?,
        );
        anyhow::ensure!(left == (Vec::new(), Vec::new()), "{left:?}");
        Ok(())
    })
    .await?;
    installation.wait_no_tenants().await?;
    assert_eq!(installation.key_secrets().await?, Vec::<String>::new());
    Ok(())
}
