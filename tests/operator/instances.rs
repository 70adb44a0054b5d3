//! Several databases: tenants spread over them, each stays where it is, and what goes wrong with one stays with that one.

use super::{
    chance::Chance,
    clients::{ask_now, plugin},
    fleet::{Fleet, LONG},
    further::Further,
    stories::{kill_at_random, settle},
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
    tenants_spread_and_an_outage_stays_where_it_is,
    an_instance_that_is_taken_out_of_the_settings_and_put_back_loses_nobody,
    kept_data_is_found_wherever_it_is,
    an_upgrade_reaches_the_tenants_of_every_instance,
    an_operator_killed_while_it_places_tenants_puts_none_into_two,
);

const IN_USE: &str = "'active', 'suspended'";

impl Fleet {
    async fn instance_of(&self, name: &str) -> anyhow::Result<String> {
        let status = self.tenants.get(name).await?.status.context("no status")?;
        Ok(status.database.context("no database")?.instance)
    }

    async fn tables_of(&self, name: &str) -> anyhow::Result<i32> {
        let status = self.tenants.get(name).await?.status.context("no status")?;
        Ok(status.database.context("no database")?.schema_version)
    }

    /// Waits until it is ready, and says in which instance it is.
    async fn wait_placed(&self, name: &str) -> anyhow::Result<String> {
        self.wait_ready(name).await?;
        self.instance_of(name).await
    }
}

/// Asks the agent API as a user of a tenant; the status.
async fn chat(fleet: &Fleet, url: &str, tenant: &str) -> anyhow::Result<u16> {
    Ok(ask_now(fleet, tenant, url, Some("hello")).await?.0)
}

async fn tenants_spread_and_an_outage_stays_where_it_is(version: PgVersion) -> anyhow::Result<()> {
    // Two databases on one server, and one on a server of the other version that can be stopped.
    let near = Postgres::shared(version).await?;
    let far_version = if version == PgVersion::OLDEST { PgVersion::NEWEST } else { PgVersion::OLDEST };
    let far_server = Postgres::start(far_version).await?;
    let mut fleet = Fleet::new(version).await?;
    let (beside, far) = (Further::new(&near, "beside").await?, Further::new(&far_server, "far").await?);
    fleet.set_instances(&[beside.settings(&fleet), far.settings(&fleet)]);
    let operator = fleet.operator("one").await?;
    let replica = fleet.replica().await?;
    let url = replica.url.clone();
    fleet.agent("support", "You help.").await?;

    let names = ["t0", "t1", "t2", "t3", "t4", "t5"];
    for name in names {
        fleet.tenant(name, "Delete").await?;
    }
    let mut homes: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for name in names {
        homes.entry(fleet.wait_placed(name).await?).or_default().insert(name);
        assert_eq!(chat(&fleet, &url, name).await?, 200);
    }
    let counts: Vec<_> = homes.iter().map(|(home, names)| (home.as_str(), names.len())).collect();
    assert_eq!(counts, [("beside", 2), ("far", 2), ("main", 2)]);
    let of = |home: &str| homes[home].iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(fleet.ledger("active").await?, of("main"));
    assert_eq!((beside.ledger(IN_USE).await?, far.ledger(IN_USE).await?), (of("beside"), of("far")));

    // Whoever names one goes there; two more instances cost a new tenant two more looks.
    settle(&fleet).await?;
    let trips = operator.round_trips().await?;
    fleet.tenant_with("named", json!({ "database": { "instance": "far", "deletionPolicy": "Delete" } })).await?;
    assert_eq!(fleet.wait_placed("named").await?, "far");
    settle(&fleet).await?;
    let spent = operator.round_trips().await? - trips;
    println!("a new tenant, beside two more instances: {spent} SQL round trips");
    assert!(spent <= 5, "{spent}");
    let namespace = fleet.tenants_namespace.clone();
    let shown = plugin(&["status", "named", "-n", &namespace]).await?.text();
    assert!(shown.contains("instance far"), "{shown}");
    let moved = json!({ "spec": { "database": { "instance": "main" } } });
    let refused = fleet.tenants.patch("named", &PatchParams::default(), &Patch::Merge(&moved)).await;
    let refused = refused.err().context("it was moved")?;
    assert!(refused.to_string().contains("instance must not change"), "{refused}");

    // At rest, and after a restart: not one write.
    let versions = fleet.version_of_all().await?;
    operator.process.kill_9().await?;
    let operator = fleet.operator("one").await?;
    let up = |name: &str| format!("tenant_operator_database_up{{instance=\"{name}\"}}");
    eventually(LONG, "it has read what each of them holds", || async {
        let metrics = operator.metrics().await?;
        let open = ["main", "beside", "far"].map(|name| metrics.get(&up(name)).copied());
        anyhow::ensure!(open == [Some(1.0); 3], "{open:?}");
        Ok(())
    })
    .await?;
    settle(&fleet).await?;
    assert_eq!(fleet.version_of_all().await?, versions);

    far_server.stop_immediate().await?;
    fleet.tenant("new", "Delete").await?;
    assert_ne!(fleet.wait_placed("new").await?, "far");
    fleet.tenant_with("waits", json!({ "database": { "instance": "far", "deletionPolicy": "Delete" } })).await?;
    fleet.wait_condition("waits", "DatabaseReady", "Unknown", "DatabaseUnavailable").await?;
    let [stays, goes] = of("far").try_into().map_err(|_| anyhow::anyhow!("two in it"))?;
    assert_eq!(fleet.condition(&stays, "Ready").await?.0, "True", "an outage changes no word about what was ready");
    fleet.delete(&goes).await?;
    fleet.wait_condition(&goes, "DeletionBlocked", "True", "DatabaseUnavailable").await?;
    let gone = &of("main")[0];
    fleet.delete(gone).await?;
    fleet.wait_gone(gone).await?;
    assert_eq!(chat(&fleet, &url, &of("beside")[0]).await?, 200);
    let metrics = operator.metrics().await?;
    let ups = ["main", "beside", "far"].map(|name| metrics.get(&up(name)).copied());
    assert_eq!(ups, [Some(1.0), Some(1.0), Some(0.0)]);

    // A new operator has never read what the dead one holds.
    operator.process.kill_9().await?;
    let _operator = fleet.operator("one").await?;
    fleet.tenant("careful", "Delete").await?;
    eventually(LONG, "it is said for which one it waits", || async {
        let why = fleet.message("careful", "DatabaseReady").await?;
        anyhow::ensure!(why.contains("instance 'far' has not answered"), "{why}");
        Ok(())
    })
    .await?;
    fleet.tenant_with("bold", json!({ "database": { "instance": "beside", "deletionPolicy": "Delete" } })).await?;
    assert_eq!(fleet.wait_placed("bold").await?, "beside");

    far_server.start_again().await?;
    fleet.wait_gone(&goes).await?;
    assert_eq!(fleet.wait_placed("waits").await?, "far");
    fleet.wait_ready("careful").await?;
    for name in [stays.as_str(), "named", "new", "waits", "careful", "bold"] {
        assert_eq!(chat(&fleet, &url, name).await?, 200, "{name}");
    }
    Ok(())
}

async fn an_instance_that_is_taken_out_of_the_settings_and_put_back_loses_nobody(
    version: PgVersion,
) -> anyhow::Result<()> {
    let server = Postgres::shared(version).await?;
    let mut fleet = Fleet::new(version).await?;
    let second = Further::new(&server, "second").await?;
    let known = second.settings(&fleet);
    fleet.set_instances(std::slice::from_ref(&known));
    fleet.set(Component::Operator, "AGENT_TENANCY__DATABASE__ACCEPTS_NEW_TENANTS", "false");
    let operator = fleet.operator("one").await?;
    let replica = fleet.replica().await?;
    let url = replica.url.clone();
    fleet.agent("support", "You help.").await?;
    for name in ["acme", "globex"] {
        fleet.tenant(name, "Delete").await?;
        assert_eq!(fleet.wait_placed(name).await?, "second", "the other one takes none");
    }
    fleet.tenant_with("closed", json!({ "database": { "instance": "main" } })).await?;
    fleet.wait_condition("closed", "DatabaseReady", "False", "InstanceClosed").await?;

    operator.process.kill_9().await?;
    fleet.set_instances(&[]);
    let operator = fleet.operator("one").await?;
    fleet.wait_condition("acme", "DatabaseReady", "False", "InstanceUnknown").await?;
    fleet.wait_condition("acme", "Stalled", "True", "InstanceUnknown").await?;
    let why = fleet.message("acme", "DatabaseReady").await?;
    assert!(why.contains("instance 'second'") && why.contains("main") && !why.contains("127.0.0.1"), "{why}");
    assert_eq!(chat(&fleet, &url, "acme").await?, 200, "it is served as before");
    fleet.tenant_with("early", json!({ "database": { "instance": "second", "deletionPolicy": "Delete" } })).await?;
    fleet.wait_condition("early", "DatabaseReady", "False", "InstanceUnknown").await?;
    fleet.tenant("anywhere", "Delete").await?;
    fleet.wait_condition("anywhere", "DatabaseReady", "False", "InstanceClosed").await?;
    fleet.delete("globex").await?;
    fleet.wait_condition("globex", "DeletionBlocked", "True", "InstanceUnknown").await?;
    assert_eq!(second.ledger(IN_USE).await?, ["acme", "globex"], "nothing was deleted");
    assert_eq!(fleet.ledger("active").await?, Vec::<String>::new(), "nor made");

    operator.process.kill_9().await?;
    fleet.set_instances(&[known]);
    let _operator = fleet.operator("one").await?;
    for name in ["acme", "early", "anywhere"] {
        assert_eq!(fleet.wait_placed(name).await?, "second");
        assert_eq!(chat(&fleet, &url, name).await?, 200);
    }
    fleet.wait_gone("globex").await?;
    assert_eq!(second.ledger(IN_USE).await?, ["acme", "anywhere", "early"]);
    assert_eq!(second.ledger("'dropped'").await?, ["globex"]);
    Ok(())
}

async fn kept_data_is_found_wherever_it_is(version: PgVersion) -> anyhow::Result<()> {
    let server = Postgres::shared(version).await?;
    let mut fleet = Fleet::new(version).await?;
    let second = Further::new(&server, "second").await?;
    fleet.set_instances(&[second.settings(&fleet)]);
    let _operator = fleet.operator("one").await?;
    let _replica = fleet.replica().await?;
    fleet.agent("support", "You help.").await?;
    // Both kinds of kept data in the second instance, which is then not the emptiest.
    let mut uids = BTreeMap::new();
    for (name, policy) in [("kept", "Retain"), ("aside", "Archive")] {
        let tenant =
            fleet.tenant_with(name, json!({ "database": { "instance": "second", "deletionPolicy": policy } })).await?;
        uids.insert(name, tenant.uid().context("a UID")?);
        fleet.wait_ready(name).await?;
        fleet.delete(name).await?;
        fleet.wait_gone(name).await?;
    }
    fleet.tenant_with("fills", json!({ "database": { "instance": "second" } })).await?;
    fleet.wait_ready("fills").await?;
    let adopting = |name: &str| json!({ "adopt": { "previousUid": uids[name] }, "deletionPolicy": "Archive" });

    // Nothing begins over kept data because another instance knows nothing of it.
    fleet.tenant_with("kept", json!({ "database": {} })).await?;
    fleet.wait_condition("kept", "Accepted", "False", "Retained").await?;
    fleet.delete("kept").await?;
    fleet.wait_gone("kept").await?;
    fleet.tenant_with("kept", json!({ "database": { "instance": "main" } })).await?;
    fleet.wait_condition("kept", "Accepted", "False", "Conflict").await?;
    let why = fleet.message("kept", "Accepted").await?;
    assert!(why.contains("instance 'second' holds data of this tenant id"), "{why}");
    fleet.delete("kept").await?;
    fleet.wait_gone("kept").await?;

    for name in ["kept", "aside"] {
        fleet.tenant_with(name, json!({ "database": adopting(name) })).await?;
        assert_eq!(fleet.wait_placed(name).await?, "second", "{name}");
    }
    // An archive leaves the id free: who asks for nothing begins with nothing, in the emptiest.
    fleet.delete("aside").await?;
    fleet.wait_gone("aside").await?;
    assert_eq!(fleet.ledger("active").await?, Vec::<String>::new());
    fleet.tenant_with("aside", json!({ "database": {} })).await?;
    assert_eq!(fleet.wait_placed("aside").await?, "main");
    Ok(())
}

async fn an_upgrade_reaches_the_tenants_of_every_instance(version: PgVersion) -> anyhow::Result<()> {
    let server = Postgres::start(version).await?;
    let mut fleet = Fleet::new(version).await?;
    let second = Further::new(&server, "second").await?;
    fleet.set_instances(&[second.settings(&fleet)]);
    fleet.set(Component::Operator, "AGENT_TENANCY__MIGRATIONS__VERSION", "1");
    fleet.set(Component::Operator, "AGENT_TENANCY__MIGRATIONS__HOLD_SECONDS", "0");
    let operator = fleet.operator("one").await?;
    let _replica = fleet.replica().await?;
    fleet.agent("support", "You help.").await?;
    let names = ["t0", "t1", "t2", "t3"];
    for name in names {
        fleet.tenant(name, "Delete").await?;
    }
    let mut homes = BTreeMap::new();
    for name in names {
        homes.insert(name, fleet.wait_placed(name).await?);
        assert_eq!(fleet.tables_of(name).await?, 1);
    }
    operator.process.kill_9().await?;
    server.stop_immediate().await?;
    fleet.set(Component::Operator, "AGENT_TENANCY__MIGRATIONS__VERSION", "2");
    let _operator = fleet.operator("one").await?;
    let upgraded = async |home: &str| {
        for (name, _) in homes.iter().filter(|(_, there)| *there == home) {
            eventually(LONG, &format!("{name} has the new tables"), || async {
                anyhow::ensure!(fleet.tables_of(name).await? == 2);
                Ok(())
            })
            .await?;
        }
        anyhow::Ok(())
    };
    upgraded("main").await?;
    let waits = homes.iter().find(|(_, home)| *home == "second").context("one in the second")?.0;
    assert_eq!(fleet.tables_of(waits).await?, 1);
    server.start_again().await?;
    upgraded("second").await
}

async fn an_operator_killed_while_it_places_tenants_puts_none_into_two(version: PgVersion) -> anyhow::Result<()> {
    let server = Postgres::shared(version).await?;
    let mut fleet = Fleet::new(version).await?;
    let second = Further::new(&server, "second").await?;
    fleet.set_instances(&[second.settings(&fleet)]);
    let _replica = fleet.replica().await?;
    fleet.agent("support", "You help.").await?;
    let mut chance = Chance::new("KILL_SEED")?;
    let names: Vec<String> = (0..16).map(|n| format!("t{n:02}")).collect();
    let mut operator = fleet.operator("one").await?;
    let (mut kills, mut round) = (0, 0);
    for pair in names.chunks(2) {
        for name in pair {
            fleet.tenant(name, "Delete").await?;
        }
        kills += kill_at_random(&fleet, &mut operator, &mut chance, round).await?;
        round += 1;
    }
    for name in &names {
        fleet.wait_ready(name).await?;
    }
    println!("killed {kills} times");
    let (here, there) = (fleet.ledger("active").await?, second.ledger(IN_USE).await?);
    let all: BTreeSet<&String> = here.iter().chain(&there).collect();
    assert_eq!((all.len(), here.len() + there.len()), (names.len(), names.len()), "{here:?} {there:?}");
    assert!(here.len().abs_diff(there.len()) <= 6, "{here:?} {there:?}");
    for name in &names {
        let home = if here.contains(name) { "main" } else { "second" };
        assert_eq!(fleet.instance_of(name).await?, home);
        fleet.delete(name).await?;
    }
    kill_at_random(&fleet, &mut operator, &mut chance, round).await?;
    eventually(LONG, "all are gone", || async {
        let left =
            (fleet.ledger("active").await?, second.ledger("'active', 'suspended', 'deleting', 'retained'").await?);
        anyhow::ensure!(left == (Vec::new(), Vec::new()), "{left:?}");
        Ok(())
    })
    .await?;
    fleet.wait_no_tenants().await?;
    assert_eq!(fleet.key_secrets().await?, Vec::<String>::new());
    Ok(())
}
