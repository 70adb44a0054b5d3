//! A storm: tenants are made, changed, rotated, suspended, resumed and deleted in any order while the operator is killed
//! over and over. Then an audit of everything outside: exactly what the specs say, nothing less and nothing more. Then the
//! cluster is lost, another one gets the same manifests, takes everything over under more kills, and is audited as well.

use super::{
    chance::Chance,
    fleet::{Fleet, LONG},
    stories::{kill_at_random, settle},
};
use agent_tenancy::api::{Tenant, names};
use anyhow::Context as _;
use devkit::{Component, PgVersion, RunningOperator, eventually};
use kube::{ResourceExt, api::ListParams};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Tenants; `STORM=200` for the whole of it.
fn tenants() -> usize {
    std::env::var("STORM").ok().and_then(|n| n.parse().ok()).unwrap_or(12)
}

/// What was asked for last.
#[derive(Clone, Debug)]
struct Wanted {
    suspend: bool,
    audience: String,
    policy: &'static str,
}

/// Those that were deleted under the policy `Archive`: UID, and the incarnation where the status told one by then.
type Archived = BTreeMap<String, Option<String>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_storm_everything_is_as_the_specs_say() -> anyhow::Result<()> {
    let mut fleet = Fleet::new(PgVersion::NEWEST).await?;
    for (name, value) in [("CLUSTER_ID", "first"), ("CLUSTER_SILENCE_SECONDS", "10")] {
        fleet.set(Component::Operator, &format!("AGENT_TENANCY__{name}"), value);
    }
    let replicas = [fleet.replica().await?, fleet.replica().await?];
    fleet.agent("support", "You help.").await?;
    let mut chance = Chance::new("KILL_SEED")?;
    let mut operator = fleet.operator("one").await?;
    let all: Vec<String> = (0..tenants()).map(|n| format!("t{n:03}")).collect();
    let (mut wanted, mut archived) = (BTreeMap::<String, Wanted>::new(), Archived::new());
    let (mut kills, mut deeds) = (0, BTreeMap::<&str, usize>::new());
    for step in 0..all.len() * 4 {
        let name = &all[chance.below(all.len() as u64) as usize];
        let deed = act(&fleet, name, (&mut wanted, &mut archived), &mut chance, step).await?;
        *deeds.entry(deed).or_default() += 1;
        if step % 4 == 3 {
            kills += kill_at_random(&fleet, &mut operator, &mut chance, step / 4).await?;
        }
    }
    println!("{kills} kills; {deeds:?}");
    calm(&fleet, &wanted).await?;
    settle(&fleet).await?;
    audit(&fleet, &wanted, &archived).await?;

    let data = identities(&fleet, &wanted).await?;
    operator.process.kill_9().await?;
    for replica in replicas {
        replica.process.kill_9().await?;
    }
    fleet.lose_the_cluster().await?;
    fleet.execute("UPDATE agent_tenancy.heartbeats SET seen_at = now() - interval '11 s'").await?;
    for (name, value) in [("CLUSTER_ID", "second"), ("PREVIOUS_CLUSTER_IDS", "[first]")] {
        fleet.set(Component::Operator, &format!("AGENT_TENANCY__{name}"), value);
    }
    let _replicas = [fleet.replica().await?, fleet.replica().await?];
    let mut operator = fleet.operator("one").await?;
    build_anew(&fleet, &mut operator, &wanted, &mut chance).await?;
    settle(&fleet).await?;
    audit(&fleet, &wanted, &archived).await?;
    assert_eq!(identities(&fleet, &wanted).await?, data, "everybody has the data that was his");
    let taken =
        "SELECT tenant_id || ' ' || from_cluster_id || ' ' || to_cluster_id FROM agent_tenancy.takeovers ORDER BY 1";
    let once: Vec<String> = wanted.keys().map(|name| format!("{name} first second")).collect();
    assert_eq!(fleet.column(taken.to_owned()).await?, once);
    Ok(())
}

/// The same manifests for a cluster that knows nothing, while its operator is killed over and over.
async fn build_anew(
    fleet: &Fleet,
    operator: &mut RunningOperator,
    wanted: &BTreeMap<String, Wanted>,
    chance: &mut Chance,
) -> anyhow::Result<()> {
    fleet.agent("support", "You help.").await?;
    let mut kills = 0;
    for (number, (name, want)) in wanted.iter().enumerate() {
        let Wanted { suspend, audience, policy } = want;
        let database = json!({ "deletionPolicy": policy });
        let spec = json!({ "suspend": suspend, "auth": { "audience": audience }, "database": database });
        fleet.tenant_with(name, spec).await?;
        if number % 2 == 1 {
            kills += kill_at_random(fleet, operator, chance, number / 2).await?;
        }
    }
    println!("{kills} kills during the takeover of {}", wanted.len());
    calm(fleet, wanted).await
}

/// The incarnation of everybody's data.
async fn identities(fleet: &Fleet, wanted: &BTreeMap<String, Wanted>) -> anyhow::Result<Vec<String>> {
    let mut all = Vec::new();
    for name in wanted.keys() {
        all.push(fleet.incarnation(name).await?);
    }
    Ok(all)
}

/// Does something to a tenant that makes sense now.
async fn act(
    fleet: &Fleet,
    name: &str,
    (wanted, archived): (&mut BTreeMap<String, Wanted>, &mut Archived),
    chance: &mut Chance,
    step: usize,
) -> anyhow::Result<&'static str> {
    let Some(want) = wanted.get_mut(name) else {
        // The one before may still be going: then somebody who applies waits.
        fleet.wait_gone(name).await?;
        let policy = if chance.below(2) == 0 { "Archive" } else { "Delete" };
        fleet.tenant(name, policy).await?;
        wanted.insert(name.to_owned(), Wanted { suspend: false, audience: "agent-api".to_owned(), policy });
        return Ok("made");
    };
    let (deed, patch) = match chance.below(5) {
        0 => {
            let archive = want.policy == "Archive";
            // Kills leave little time: most have no data yet when they go.
            if archive && chance.below(4) > 0 {
                let reason = if want.suspend { "Suspended" } else { "Ready" };
                fleet.wait_condition(name, "Ready", "True", reason).await?;
            }
            let tenant = fleet.tenants.get(name).await?;
            fleet.delete(name).await?;
            wanted.remove(name);
            if !archive {
                return Ok("deleted");
            }
            let incarnation = tenant.status.and_then(|s| s.database).map(|d| d.incarnation);
            archived.insert(tenant.metadata.uid.context("a UID")?, incarnation);
            return Ok("archived");
        }
        1 => ("rotated", json!({ "metadata": { "annotations": { names::ROTATE_ANNOTATION: format!("{step}") } } })),
        2 => {
            want.audience = format!("audience-{step}");
            ("changed", json!({ "spec": { "auth": { "audience": want.audience } } }))
        }
        _ => {
            want.suspend = !want.suspend;
            let deed = if want.suspend { "suspended" } else { "resumed" };
            (deed, json!({ "spec": { "suspend": want.suspend } }))
        }
    };
    fleet.patch(name, patch).await?;
    Ok(deed)
}

/// Waits until every Tenant is as it is wanted, by its own word, and its last rotation has ended.
async fn calm(fleet: &Fleet, wanted: &BTreeMap<String, Wanted>) -> anyhow::Result<()> {
    eventually(LONG * 2, "everything has come to rest", || async {
        let tenants = fleet.tenants.list(&ListParams::default()).await?.items;
        let names: BTreeSet<String> = tenants.iter().map(ResourceExt::name_any).collect();
        anyhow::ensure!(names == wanted.keys().cloned().collect(), "{names:?}");
        for tenant in &tenants {
            let reason = if wanted[&tenant.name_any()].suspend { "Suspended" } else { "Ready" };
            check_ready(tenant, reason).with_context(|| tenant.name_any())?;
        }
        Ok(())
    })
    .await
}

fn check_ready(tenant: &Tenant, reason: &str) -> anyhow::Result<()> {
    let status = tenant.status.as_ref().context("no status")?;
    let ready = status.conditions.iter().find(|c| c.type_ == "Ready").context("no condition")?;
    anyhow::ensure!(ready.observed_generation == tenant.metadata.generation, "not looked at yet");
    anyhow::ensure!(ready.status == "True" && ready.reason == reason, "{}: {}", ready.reason, ready.message);
    let keys = status.keys.as_ref().context("no keys")?;
    anyhow::ensure!(!keys.ring.iter().any(|k| format!("{:?}", k.state) == "Standby"), "a rotation is under way");
    Ok(())
}

/// Whoever was deleted under `Archive` and had data has one archive, whole and out of everybody's reach; nobody else has.
/// Returns the schemas.
async fn audit_archives(fleet: &Fleet, archived: &Archived) -> anyhow::Result<Vec<String>> {
    let found = fleet.column("SELECT concat_ws(' ', uid, incarnation) FROM agent_tenancy.archives".to_owned()).await?;
    let found: BTreeMap<&str, &str> = found.iter().filter_map(|row| row.split_once(' ')).collect();
    println!("{} archives of {} deletions that ask for them", found.len(), archived.len());
    for (uid, incarnation) in &found {
        let known = archived.get(*uid).with_context(|| format!("an archive of {uid}, which nobody asked for"))?;
        assert!(known.as_deref().is_none_or(|known| known == *incarnation), "{uid}: {known:?}, not {incarnation}");
    }
    for (uid, _) in archived.iter().filter(|(_, incarnation)| incarnation.is_some()) {
        assert!(found.contains_key(uid.as_str()), "the data of {uid} is gone");
    }
    let broken = "SELECT a.schema_name FROM agent_tenancy.archives a CROSS JOIN agent_tenancy.meta m \
        WHERE format('agent-tenancy %s %s', m.database_id, a.incarnation) IS DISTINCT FROM \
            obj_description(to_regnamespace(quote_ident(a.schema_name)), 'pg_namespace') \
        OR format('agent-tenancy %s %s', m.database_id, a.incarnation) IS DISTINCT FROM \
            shobj_description(to_regrole(quote_ident(a.role_name)), 'pg_authid') \
        OR a.schema_name <> a.role_name OR a.drop_after < now() + interval '1 day'";
    assert_eq!(fleet.column(broken.to_owned()).await?, Vec::<String>::new());
    fleet.column("SELECT schema_name FROM agent_tenancy.archives".to_owned()).await
}

async fn audit(fleet: &Fleet, wanted: &BTreeMap<String, Wanted>, archived: &Archived) -> anyhow::Result<()> {
    let sorted = |suspend: Option<bool>| -> Vec<String> {
        wanted.iter().filter(|(_, w)| suspend.is_none_or(|s| w.suspend == s)).map(|(name, _)| name.clone()).collect()
    };
    assert_eq!(fleet.ledger("active").await?, sorted(Some(false)));
    assert_eq!(fleet.ledger("suspended").await?, sorted(Some(true)));
    for state in ["deleting", "retained"] {
        assert_eq!(fleet.ledger(state).await?, Vec::<String>::new());
    }
    let mut schemas = audit_archives(fleet, archived).await?;
    schemas.extend(wanted.keys().map(|name| fleet.schema(name)));
    schemas.sort_unstable();
    let sort = |mut found: Vec<String>| {
        found.sort_unstable();
        found
    };
    assert_eq!(sort(fleet.schemas().await?), schemas);
    let prefix = &fleet.database.prefix;
    let roles = format!("SELECT rolname::text FROM pg_roles WHERE rolname LIKE '{prefix}\\_t%' ORDER BY 1");
    assert_eq!(sort(fleet.column(roles).await?), schemas, "a role for each, and no other");
    let members = format!(
        "SELECT m.roleid::regrole::text FROM pg_auth_members m WHERE m.member::regrole::text = '{prefix}_acc_1' ORDER BY 1"
    );
    let open: Vec<String> = sorted(Some(false)).iter().map(|name| fleet.schema(name)).collect();
    assert_eq!(fleet.column(members).await?, open, "the agent API can become those in service, and no other");
    let entries: Vec<String> = wanted.keys().map(|name| format!("tenant-{name}")).collect();
    assert_eq!(fleet.entries("tenant").await?, entries);
    let secrets: Vec<String> = wanted.keys().map(|name| format!("{name}-signing-keys")).collect();
    assert_eq!(fleet.key_secrets().await?, secrets);
    for (name, want) in wanted {
        let entry = fleet.entry(&format!("tenant-{name}")).await?;
        let tenant = fleet.tenants.get(name).await?;
        assert_eq!(entry["state"], if want.suspend { "suspended" } else { "active" }, "{name}");
        assert_eq!(entry["auth"]["audience"], Value::from(want.audience.clone()), "{name}");
        assert_eq!(entry["uid"].as_str(), tenant.metadata.uid.as_deref(), "{name}");
        assert_eq!(entry["database"]["schema"], Value::from(fleet.schema(name)), "{name}");
        let status = tenant.status.context("a status")?;
        let key = fleet.signing_key(name).await?;
        assert_eq!(status.keys.and_then(|k| k.current_kid).as_ref(), Some(&key.kid), "{name}");
        let verifies =
            entry["keys"].as_array().into_iter().flatten().any(|k| k["kid"].as_str() == Some(key.kid.as_str()));
        assert!(verifies, "{name}: the key that signs is not in the registry");
        let database = status.database.context("a database")?;
        assert_eq!(entry["incarnation"], Value::from(database.incarnation.clone()), "{name}");
        let mark = format!(
            "SELECT obj_description('\"{}\"'::regnamespace, 'pg_namespace') = shobj_description('\"{0}\"'::regrole, 'pg_authid') \
             AND obj_description('\"{0}\"'::regnamespace, 'pg_namespace') LIKE '%{}'",
            fleet.schema(name),
            database.incarnation
        );
        assert_eq!(fleet.column(format!("SELECT ({mark})::text")).await?, ["true"], "{name}");
    }
    Ok(())
}
