//! A storm: tenants are created, changed, rotated, suspended, resumed and deleted in random order while the operator is
//! killed repeatedly. Then everything is checked against the specs. Then the cluster is lost; another one gets the same
//! manifests, takes everything over under more kills, and is checked as well.

use super::{
    crashes::kill_at_random,
    installation::{Installation, LONG},
    installation_state::settle,
    randomness::Randomness,
};
use agent_tenancy::api::{Tenant, names};
use anyhow::Context as _;
use devkit::{Component, PgVersion, RunningOperator, eventually};
use kube::{ResourceExt, api::ListParams};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// How many tenants; `STORM=200` for the full storm.
fn tenants() -> usize {
    std::env::var("STORM").ok().and_then(|n| n.parse().ok()).unwrap_or(12)
}

/// The current spec of a Tenant.
#[derive(Clone, Debug)]
struct Wanted {
    suspend: bool,
    audience: String,
    policy: &'static str,
}

/// Tenants that were deleted under the policy `Archive`: UID, and the incarnation if the status had one by then.
type Archived = BTreeMap<String, Option<String>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_storm_everything_is_as_the_specs_say() -> anyhow::Result<()> {
    let mut installation = Installation::new(PgVersion::NEWEST).await?;
    for (name, value) in [("CLUSTER_ID", "first"), ("CLUSTER_HEARTBEAT_TIMEOUT_SECONDS", "10")] {
        installation.set(Component::Operator, &format!("AGENT_TENANCY__{name}"), value);
    }
    let replicas = [installation.replica().await?, installation.replica().await?];
    installation.agent("support", "You help.").await?;
    let mut random = Randomness::new("KILL_SEED")?;
    let mut operator = installation.operator("one").await?;
    let all: Vec<String> = (0..tenants()).map(|n| format!("t{n:03}")).collect();
    let (mut wanted, mut archived) = (BTreeMap::<String, Wanted>::new(), Archived::new());
    let (mut kills, mut actions) = (0, BTreeMap::<&str, usize>::new());
    for step in 0..all.len() * 4 {
        let name = &all[random.below(all.len() as u64) as usize];
        let action = act(&installation, name, &mut wanted, &mut archived, &mut random, step).await?;
        *actions.entry(action).or_default() += 1;
        if step % 4 == 3 {
            kills += kill_at_random(&installation, &mut operator, &mut random, step / 4).await?;
        }
    }
    println!("{kills} kills; {actions:?}");
    wait_converged(&installation, &wanted).await?;
    settle(&installation).await?;
    audit(&installation, &wanted, &archived).await?;

    let data = identities(&installation, &wanted).await?;
    operator.process.kill_9().await?;
    for replica in replicas {
        replica.process.kill_9().await?;
    }
    installation.lose_the_cluster().await?;
    installation.execute("UPDATE agent_tenancy.heartbeats SET seen_at = now() - interval '11 s'").await?;
    for (name, value) in [("CLUSTER_ID", "second"), ("PREVIOUS_CLUSTER_IDS", "[first]")] {
        installation.set(Component::Operator, &format!("AGENT_TENANCY__{name}"), value);
    }
    let _replicas = [installation.replica().await?, installation.replica().await?];
    let mut operator = installation.operator("one").await?;
    rebuild(&installation, &mut operator, &wanted, &mut random).await?;
    settle(&installation).await?;
    audit(&installation, &wanted, &archived).await?;
    assert_eq!(identities(&installation, &wanted).await?, data, "every tenant has its own data");
    let taken =
        "SELECT tenant_id || ' ' || from_cluster_id || ' ' || to_cluster_id FROM agent_tenancy.takeovers ORDER BY 1";
    let once: Vec<String> = wanted.keys().map(|name| format!("{name} first second")).collect();
    assert_eq!(installation.column(taken.to_owned()).await?, once);
    Ok(())
}

/// Applies the same manifests to an empty cluster while its operator is killed repeatedly.
async fn rebuild(
    installation: &Installation,
    operator: &mut RunningOperator,
    wanted: &BTreeMap<String, Wanted>,
    random: &mut Randomness,
) -> anyhow::Result<()> {
    installation.agent("support", "You help.").await?;
    let mut kills = 0;
    for (number, (name, want)) in wanted.iter().enumerate() {
        let Wanted { suspend, audience, policy } = want;
        let database = json!({ "deletionPolicy": policy });
        let spec = json!({ "suspend": suspend, "auth": { "audience": audience }, "database": database });
        installation.tenant_with(name, spec).await?;
        if number % 2 == 1 {
            kills += kill_at_random(installation, operator, random, number / 2).await?;
        }
    }
    println!("{kills} kills during the takeover of {}", wanted.len());
    wait_converged(installation, wanted).await
}

/// The incarnations of all tenants' data.
async fn identities(installation: &Installation, wanted: &BTreeMap<String, Wanted>) -> anyhow::Result<Vec<String>> {
    let mut all = Vec::new();
    for name in wanted.keys() {
        all.push(installation.incarnation(name).await?);
    }
    Ok(all)
}

/// Changes a tenant in a random way that is possible now.
async fn act(
    installation: &Installation,
    name: &str,
    wanted: &mut BTreeMap<String, Wanted>,
    archived: &mut Archived,
    random: &mut Randomness,
    step: usize,
) -> anyhow::Result<&'static str> {
    let Some(want) = wanted.get_mut(name) else {
        // Its predecessor may still be being deleted.
        installation.wait_gone(name).await?;
        let policy = if random.below(2) == 0 { "Archive" } else { "Delete" };
        installation.tenant(name, policy).await?;
        wanted.insert(name.to_owned(), Wanted { suspend: false, audience: "agent-api".to_owned(), policy });
        return Ok("created");
    };
    let (action, patch) = match random.below(5) {
        0 => {
            let archive = want.policy == "Archive";
            // Because of the kills, most have no data yet when they are deleted.
            if archive && random.below(4) > 0 {
                let reason = if want.suspend { "Suspended" } else { "Ready" };
                installation.wait_condition(name, "Ready", "True", reason).await?;
            }
            let tenant = installation.tenants.get(name).await?;
            installation.delete(name).await?;
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
            let action = if want.suspend { "suspended" } else { "resumed" };
            (action, json!({ "spec": { "suspend": want.suspend } }))
        }
    };
    installation.patch(name, patch).await?;
    Ok(action)
}

/// Waits until every Tenant's status reports the wanted state, and its last rotation has ended.
async fn wait_converged(installation: &Installation, wanted: &BTreeMap<String, Wanted>) -> anyhow::Result<()> {
    eventually(LONG * 2, "everything has converged", || async {
        let tenants = installation.tenants.list(&ListParams::default()).await?.items;
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
    anyhow::ensure!(ready.observed_generation == tenant.metadata.generation, "not reconciled yet");
    anyhow::ensure!(ready.status == "True" && ready.reason == reason, "{}: {}", ready.reason, ready.message);
    let keys = status.keys.as_ref().context("no keys")?;
    anyhow::ensure!(!keys.ring.iter().any(|k| format!("{:?}", k.state) == "Standby"), "a rotation is under way");
    Ok(())
}

/// Each Tenant that was deleted under `Archive` and had data has exactly one archive, complete and without access; no other
/// archive exists. Returns the archives' schemas.
async fn audit_archives(installation: &Installation, archived: &Archived) -> anyhow::Result<Vec<String>> {
    let found =
        installation.column("SELECT concat_ws(' ', uid, incarnation) FROM agent_tenancy.archives".to_owned()).await?;
    let found: BTreeMap<&str, &str> = found.iter().filter_map(|row| row.split_once(' ')).collect();
    println!("{} archives of {} deletions that ask for them", found.len(), archived.len());
    for (uid, incarnation) in &found {
        let known = archived
            .get(*uid)
            .with_context(|| format!("an archive of {uid}, which was not deleted under `Archive`"))?;
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
    assert_eq!(installation.column(broken.to_owned()).await?, Vec::<String>::new());
    installation.column("SELECT schema_name FROM agent_tenancy.archives".to_owned()).await
}

async fn audit(
    installation: &Installation,
    wanted: &BTreeMap<String, Wanted>,
    archived: &Archived,
) -> anyhow::Result<()> {
    let sorted = |suspend: Option<bool>| -> Vec<String> {
        wanted.iter().filter(|(_, w)| suspend.is_none_or(|s| w.suspend == s)).map(|(name, _)| name.clone()).collect()
    };
    assert_eq!(installation.ledger("active").await?, sorted(Some(false)));
    assert_eq!(installation.ledger("suspended").await?, sorted(Some(true)));
    for state in ["deleting", "retained"] {
        assert_eq!(installation.ledger(state).await?, Vec::<String>::new());
    }
    let mut schemas = audit_archives(installation, archived).await?;
    schemas.extend(wanted.keys().map(|name| installation.schema(name)));
    schemas.sort_unstable();
    let sort = |mut found: Vec<String>| {
        found.sort_unstable();
        found
    };
    assert_eq!(sort(installation.schemas().await?), schemas);
    let prefix = &installation.database.prefix;
    let roles = format!("SELECT rolname::text FROM pg_roles WHERE rolname LIKE '{prefix}\\_t%' ORDER BY 1");
    assert_eq!(sort(installation.column(roles).await?), schemas, "one role for each schema, and no other");
    let members = format!(
        "SELECT m.roleid::regrole::text FROM pg_auth_members m WHERE m.member::regrole::text = '{prefix}_acc_1' ORDER BY 1"
    );
    let open: Vec<String> = sorted(Some(false)).iter().map(|name| installation.schema(name)).collect();
    assert_eq!(
        installation.column(members).await?,
        open,
        "the agent API can become the roles of active tenants, and no other"
    );
    let entries: Vec<String> = wanted.keys().map(|name| format!("tenant-{name}")).collect();
    assert_eq!(installation.entries("tenant").await?, entries);
    let secrets: Vec<String> = wanted.keys().map(|name| format!("{name}-signing-keys")).collect();
    assert_eq!(installation.key_secrets().await?, secrets);
    for (name, want) in wanted {
        let entry = installation.entry(&format!("tenant-{name}")).await?;
        let tenant = installation.tenants.get(name).await?;
        assert_eq!(entry["state"], if want.suspend { "suspended" } else { "active" }, "{name}");
        assert_eq!(entry["auth"]["audience"], Value::from(want.audience.clone()), "{name}");
        assert_eq!(entry["uid"].as_str(), tenant.metadata.uid.as_deref(), "{name}");
        assert_eq!(entry["database"]["schema"], Value::from(installation.schema(name)), "{name}");
        let status = tenant.status.context("a status")?;
        let key = installation.signing_key(name).await?;
        assert_eq!(status.keys.and_then(|k| k.current_kid).as_ref(), Some(&key.kid), "{name}");
        let verifies =
            entry["keys"].as_array().into_iter().flatten().any(|k| k["kid"].as_str() == Some(key.kid.as_str()));
        assert!(verifies, "{name}: the key that signs is not in the registry");
        let database = status.database.context("a database")?;
        assert_eq!(entry["incarnation"], Value::from(database.incarnation.clone()), "{name}");
        let mark = format!(
            "SELECT obj_description('\"{}\"'::regnamespace, 'pg_namespace') = shobj_description('\"{0}\"'::regrole, 'pg_authid') \
             AND obj_description('\"{0}\"'::regnamespace, 'pg_namespace') LIKE '%{}'",
            installation.schema(name),
            database.incarnation
        );
        assert_eq!(installation.column(format!("SELECT ({mark})::text")).await?, ["true"], "{name}");
    }
    Ok(())
}
