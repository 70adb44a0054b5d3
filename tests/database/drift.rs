//! Drift in a real database: each kind is found by reading the tenant and by the one query over all tenants, which returns
//! no other tenant; the operator repairs it, or names the statements that do; a second read finds none.

use super::setup::{Instance, Steps, in_use, installation, on_both};
use agent_tenancy::{
    domain::{
        ident::{Epoch, Incarnation, ObjectId, TenantId},
        keys::Algorithm,
    },
    effects::{
        entropy::draw_or_nothing,
        postgres::{Database, ReadPurpose},
    },
    plan::{
        drift::{Finding, render_remedies},
        observed::{
            DatabaseView, LedgerRow, ObservedTenant, Presence, Recorded, Replicas, RowState, Seen, render_mark,
        },
        step::Provision,
        tenant::{
            ownership::{Ownership, judge},
            refusal::Refusal,
        },
    },
};
use devkit::PgVersion;
use std::collections::BTreeMap;
use uuid::Uuid;

on_both!(
    each_kind_is_found_and_repaired,
    relations_of_others_are_no_drift,
    a_suspended_tenant_has_no_access,
    what_is_lost_can_be_given_up,
    one_query
);

/// What a reconcile would observe.
async fn observe(instance: &Instance, id: &TenantId, recorded: Recorded) -> ObservedTenant {
    let facts = instance.database.observe_tenant(id, ReadPurpose::Serving).await.unwrap();
    ObservedTenant {
        object: Presence::Cached,
        finalizer: true,
        rival: None,
        recorded,
        instance: None,
        database: DatabaseView::Facts(facts),
        keys: Seen::Missing,
        entry: Seen::Missing,
        agents: BTreeMap::new(),
        cell_entry: true,
        replicas: Replicas::default(),
        admitted: false,
        fresh: draw_or_nothing(Algorithm::HS256).0,
    }
}

async fn findings(instance: &Instance, id: &TenantId, owner: &ObjectId) -> (LedgerRow, Vec<Finding>, DatabaseView) {
    let observed = observe(instance, id, Recorded::default()).await;
    match judge(owner, &observed, &installation()) {
        Ok(Ownership::Ours { row, drift }) => (row, drift, observed.database),
        other => panic!("{other:?}"),
    }
}

async fn fleet(instance: &Instance) -> Vec<String> {
    let found = instance.database.observe_drift(&instance.fence.cluster_id).await.unwrap();
    found.into_iter().map(|(id, _)| id.to_string()).collect()
}

/// Which role can repair it.
#[derive(Clone, Copy, PartialEq)]
enum By {
    Operator,
    /// The operator on the oldest supported Postgres, where CREATEROLE allows nearly everything.
    OperatorOnOldest,
    Superuser,
}

/// A superuser's statement, the text of the finding, and which role can repair it. `$s`: schema and role, quoted; `$own`,
/// `$acc`: roles of its cell; `$evil`: a foreign role.
const KINDS: &[(&str, &str, By)] = &[
    ("GRANT SELECT ON $s.messages TO PUBLIC", "SELECT on table messages given to PUBLIC", By::Operator),
    ("GRANT DELETE, TRUNCATE ON $s.usage TO $s", "DELETE, TRUNCATE on table usage given to '$S'", By::Operator),
    (
        "GRANT SELECT ON $s.usage TO $s WITH GRANT OPTION; SET ROLE $s; GRANT SELECT ON $s.usage TO $evil",
        "SELECT on table usage given to '$EVIL'; SELECT on table usage given to '$S' with grant option",
        By::Operator,
    ),
    ("REVOKE INSERT ON $s.conversations FROM $s", "INSERT on table conversations taken from '$S'", By::Operator),
    (
        "REVOKE SELECT, DELETE ON $s.messages FROM $own",
        "SELECT, DELETE on table messages taken from '$OWN'",
        By::Operator,
    ),
    ("GRANT CREATE ON SCHEMA $s TO $s", "CREATE on the schema given to '$S'", By::Operator),
    ("GRANT USAGE ON SCHEMA $s TO PUBLIC", "USAGE on the schema given to PUBLIC", By::Operator),
    ("REVOKE USAGE ON SCHEMA $s FROM $s, $own", "taken from", By::Operator),
    (
        "GRANT SELECT (content), UPDATE (status) ON $s.messages TO $evil",
        "UPDATE on column messages.status given to '$EVIL'; SELECT on column messages.content given to '$EVIL'",
        By::Operator,
    ),
    (
        "SET ROLE $own; ALTER TABLE $s.settings ADD COLUMN IF NOT EXISTS n bigint GENERATED ALWAYS AS IDENTITY; \
         GRANT USAGE ON SEQUENCE $s.settings_n_seq TO PUBLIC",
        "USAGE on sequence settings_n_seq given to PUBLIC",
        By::Operator,
    ),
    ("ALTER SCHEMA $s OWNER TO $s", "the schema owned by '$S'; USAGE on the schema taken from '$S'", By::Operator),
    ("ALTER TABLE $s.messages OWNER TO $s", "table messages owned by '$S'", By::Operator),
    ("ALTER SCHEMA $s OWNER TO $evil", "the schema owned by '$EVIL'", By::OperatorOnOldest),
    ("ALTER TABLE $s.usage OWNER TO CURRENT_USER", "table usage owned by", By::Superuser),
    (
        "SET ROLE $own; ALTER DEFAULT PRIVILEGES IN SCHEMA $s GRANT SELECT ON TABLES TO PUBLIC; \
         ALTER DEFAULT PRIVILEGES IN SCHEMA $s GRANT USAGE ON SEQUENCES TO $evil",
        "default privileges on new sequences given to '$EVIL'; default privileges on new tables given to PUBLIC",
        By::Operator,
    ),
    ("SET ROLE $own; REVOKE $s FROM $acc", "the agent API's group taken out of the role", By::Operator),
    ("SET ROLE $own; GRANT $s TO $evil", "'$EVIL' made a member of the role", By::Operator),
    (
        "SET ROLE $own; GRANT $s TO $evil WITH ADMIN OPTION; SET ROLE $evil; GRANT $s TO $evil_2",
        "'$EVIL' made a member of the role",
        By::Operator,
    ),
    ("GRANT $s TO $evil", "'$EVIL' made a member of the role", By::OperatorOnOldest),
    ("GRANT pg_read_all_data TO $s", "the role made a member of 'pg_read_all_data'", By::OperatorOnOldest),
    ("SET ROLE $own; GRANT $s TO $acc WITH ADMIN OPTION", "group with ADMIN", By::Operator),
    (
        "ALTER ROLE $s LOGIN PASSWORD 'x' CONNECTION LIMIT 3 VALID UNTIL '2030-01-01' INHERIT CREATEROLE",
        "the role given CREATEROLE; the role given LOGIN; the role given INHERIT; the role given CONNECTION LIMIT; \
         the role given VALID UNTIL",
        By::Operator,
    ),
    ("ALTER ROLE $s CREATEDB", "the role given CREATEDB", By::OperatorOnOldest),
    ("ALTER ROLE $s BYPASSRLS", "the role given BYPASSRLS", By::Superuser),
    ("ALTER ROLE $s REPLICATION", "the role given REPLICATION", By::Superuser),
    ("ALTER ROLE $s SUPERUSER", "the role given SUPERUSER", By::Superuser),
    (
        "ALTER ROLE $s SET search_path = public; ALTER ROLE $s IN DATABASE $db SET \"TimeZone\" = 'UTC'",
        "set for the role in database",
        By::Operator,
    ),
    ("ALTER ROLE $s SET log_statement = 'none'", "log_statement set for the role", By::Superuser),
    ("COMMENT ON SCHEMA $s IS NULL", "the mark on the schema removed", By::Operator),
    ("COMMENT ON ROLE $s IS NULL", "the mark on the role removed", By::Operator),
];

/// Only from Postgres 16 on.
const MODERN: &[(&str, &str, By)] = &[
    ("SET ROLE $own; GRANT $s TO $acc WITH INHERIT TRUE", "group with INHERIT", By::Operator),
    ("SET ROLE $own; GRANT $s TO $acc WITH SET FALSE", "group without SET", By::Operator),
    ("GRANT $s TO $acc WITH INHERIT TRUE", "group with INHERIT", By::Superuser),
    ("REVOKE $s FROM $own CASCADE", "the owner role may not administer the role any more", By::Superuser),
];

async fn each_kind_is_found_and_repaired(version: PgVersion) {
    let instance = in_use(version).await;
    let (id, owner, row) = instance.tenant("acme-1").await;
    instance.tenant("bystander").await;
    let p = &instance.prefix;
    instance.as_admin(&format!("CREATE ROLE {p}_evil; CREATE ROLE {p}_evil_2")).await;
    let modern = version > PgVersion::V15;
    let write = |text: &str| {
        text.replace("$new_", "")
            .replace("$s", &format!("\"{}\"", row.schema))
            .replace("$S", &row.schema)
            .replace("$own", &format!("\"{p}_own_1\""))
            .replace("$OWN", &format!("{p}_own_1"))
            .replace("$acc", &format!("\"{p}_acc_1\""))
            .replace("$evil", &format!("{p}_evil"))
            .replace("$EVIL", &format!("{p}_evil"))
            .replace("$db", &format!("\"{}\"", instance.test.name))
    };
    assert_eq!(fleet(&instance).await, Vec::<String>::new());
    let more = if modern { MODERN } else { &[] };
    for (deed, words, by) in KINDS.iter().chain(more) {
        instance.as_admin(&write(deed)).await;
        let (row, found, view) = findings(&instance, &id, &owner).await;
        let described: Vec<String> = found.iter().map(|f| f.drift.to_string()).collect();
        assert!(described.join("; ").contains(&write(words)), "{deed}: {described:?}");
        assert_eq!(fleet(&instance).await, ["acme-1"], "{deed}: the query over all tenants finds this one only");
        let repairable = match by {
            By::Operator => true,
            By::OperatorOnOldest => !modern,
            By::Superuser => false,
        };
        let (can, cannot): (Vec<_>, Vec<_>) = found.into_iter().partition(|finding| finding.repairable);
        assert_eq!(cannot.is_empty(), repairable, "{deed}: {described:?}");
        let list = |list: Vec<Finding>| list.into_iter().map(|f| f.drift).collect::<Vec<_>>();
        if !cannot.is_empty() {
            let cannot = list(cannot);
            let remedy = render_remedies(&cannot, &row, &view);
            let (_, statements) = remedy.split_once("run: ").unwrap();
            println!("{deed}\n  {remedy}");
            instance.as_admin(statements).await;
        }
        let can = list(can);
        for _ in 0..2 {
            let done = instance.database.perform_repair(&row, &can, instance.id, &instance.fence).await;
            assert!(done.is_ok(), "{deed}: {described:?}: {done:?}");
        }
        // The superuser's statements may have revealed more drift.
        let (row, again, _) = findings(&instance, &id, &owner).await;
        if !repairable && !again.is_empty() {
            assert!(again.iter().all(|f| f.repairable), "{deed}: {again:?}");
            instance.database.perform_repair(&row, &list(again), instance.id, &instance.fence).await.unwrap();
        }
        let (_, after, _) = findings(&instance, &id, &owner).await;
        assert_eq!(after, [], "{deed}: a second read finds nothing");
        assert_eq!(fleet(&instance).await, Vec::<String>::new(), "{deed}: nor does the query over all tenants");
    }
    // The tenant works as before.
    let use_it = format!("BEGIN; SET LOCAL ROLE \"{0}\"; SELECT count(*) FROM \"{0}\".messages; COMMIT", row.schema);
    assert_eq!(instance.as_access(1, &use_it).await, Ok(()));
    let secret = format!("SELECT count(*) FROM pg_authid WHERE rolname = '{}' AND rolpassword IS NOT NULL", row.role);
    assert_eq!(instance.count(&secret).await, 0, "the password is removed with LOGIN");
}

async fn relations_of_others_are_no_drift(version: PgVersion) {
    let instance = in_use(version).await;
    let (id, owner, row) = instance.tenant("acme").await;
    let s = &row.schema;
    instance
        .as_admin(&format!(
            "CREATE TABLE \"{s}\".extra (n serial PRIMARY KEY); GRANT ALL ON \"{s}\".extra TO PUBLIC; \
             CREATE VIEW \"{s}\".report AS SELECT count(*) FROM \"{s}\".messages; GRANT SELECT ON \"{s}\".report TO PUBLIC; \
             CREATE SEQUENCE \"{s}\".loose; GRANT USAGE ON SEQUENCE \"{s}\".loose TO PUBLIC; \
             ALTER DEFAULT PRIVILEGES IN SCHEMA \"{s}\" GRANT SELECT ON TABLES TO PUBLIC; \
             CREATE TYPE \"{s}\".kind AS ENUM ('a'); \
             CREATE FUNCTION \"{s}\".one() RETURNS int LANGUAGE sql AS 'SELECT 1'"
        ))
        .await;
    assert_eq!(findings(&instance, &id, &owner).await.1, []);
    assert_eq!(fleet(&instance).await, Vec::<String>::new());
    // A dropped table of ours is a loss of data, not drift.
    instance.as_admin(&format!("DROP VIEW \"{s}\".report; DROP TABLE \"{s}\".messages")).await;
    let observed = observe(&instance, &id, Recorded::default()).await;
    let Err(Refusal::Lost(note)) = judge(&owner, &observed, &installation()) else { panic!("not lost") };
    assert!(note.contains("table 'messages'"), "{note}");
    assert_eq!(fleet(&instance).await, ["acme"]);
}

/// Access that is granted to a suspended tenant is drift; that it has none is not.
async fn a_suspended_tenant_has_no_access(version: PgVersion) {
    let instance = in_use(version).await;
    let (id, owner, row) = instance.tenant("acme").await;
    instance.database.perform_suspend_access(&row, &instance.fence).await.unwrap();
    assert_eq!(findings(&instance, &id, &owner).await.1, []);
    assert_eq!(fleet(&instance).await, Vec::<String>::new());
    let p = &instance.prefix;
    instance.as_admin(&format!("SET ROLE \"{p}_own_1\"; GRANT \"{}\" TO \"{p}_acc_1\"", row.role)).await;
    assert_eq!(fleet(&instance).await, ["acme"]);
    let (row, found, _) = findings(&instance, &id, &owner).await;
    let described: Vec<String> = found.iter().map(|f| f.drift.to_string()).collect();
    assert_eq!(described, [format!("'{p}_acc_1' made a member of the role")]);
    let found: Vec<_> = found.into_iter().map(|f| f.drift).collect();
    instance.database.perform_repair(&row, &found, instance.id, &instance.fence).await.unwrap();
    assert_eq!(findings(&instance, &id, &owner).await.1, []);
    assert_eq!(fleet(&instance).await, Vec::<String>::new());
}

/// Accepts the loss and provisions again, like the reconciles of a Tenant with that annotation.
async fn give_up(instance: &Instance, id: &TenantId, owner: &ObjectId, lost: &Incarnation) -> LedgerRow {
    let recorded = |accepted: &str| Recorded {
        database_id: Some(instance.id),
        instance: None,
        incarnation: Some(*lost),
        served: None,
        accepted_loss: Some(accepted.to_owned()),
        retry_migration: None,
    };
    for wrong in ["", "yes", &Uuid::new_v4().to_string()] {
        let ownership = judge(owner, &observe(instance, id, recorded(wrong)).await, &installation());
        assert!(matches!(&ownership, Err(Refusal::Lost(note)) if note.contains(&lost.to_string())), "{ownership:?}");
    }
    let name = id.database_name(&instance.prefix);
    for _ in 0..3 {
        match judge(owner, &observe(instance, id, recorded(&lost.to_string())).await, &installation()) {
            Ok(Ownership::GivenUp(remains)) => {
                for _ in 0..2 {
                    let done =
                        instance.database.perform_set_aside(id, &name, &remains, instance.id, &instance.fence).await;
                    done.unwrap();
                }
            }
            Ok(Ownership::Nothing { offer, replaces }) => {
                assert!(offer.unwrap().exists);
                let wanted = Provision { replaces, ..instance.provision(id) };
                instance.database.perform_provision(&wanted, owner, instance.id, &instance.fence).await.unwrap();
            }
            // The annotation has no effect any more.
            Ok(Ownership::Ours { row, drift }) => {
                assert_eq!(drift, []);
                assert_ne!(row.incarnation, *lost);
                assert_eq!(row.state, RowState::Active);
                return row;
            }
            other => panic!("{other:?}"),
        }
    }
    panic!("it was not provisioned again");
}

async fn what_is_lost_can_be_given_up(version: PgVersion) {
    let instance = in_use(version).await;
    let p = &instance.prefix;
    // Schema gone; role gone; both; row gone; row and schema gone; a table gone. `$t`: tenant id, `$s`: its name.
    let losses: [(&str, bool); 6] = [
        ("DROP SCHEMA $s CASCADE", false),
        ("REASSIGN OWNED BY $s TO $own; DROP OWNED BY $s; DROP ROLE $s", true),
        ("DROP SCHEMA $s CASCADE; DROP ROLE $s", false),
        ("DELETE FROM agent_tenancy.tenants WHERE tenant_id = '$t'", true),
        ("DROP SCHEMA $s CASCADE; DELETE FROM agent_tenancy.tenants WHERE tenant_id = '$t'", false),
        // Data that the tenant's role owns must survive as well.
        ("DROP TABLE $s.usage; ALTER TABLE $s.messages OWNER TO $s", true),
    ];
    for (n, (loss, kept)) in losses.into_iter().enumerate() {
        let name = format!("lost-{n}");
        let (id, owner, row) = instance.tenant(&name).await;
        instance
            .as_admin(&format!("INSERT INTO \"{0}\".conversations VALUES (gen_random_uuid(), 'me')", row.schema))
            .await;
        let quoted = format!("\"{}\"", row.schema);
        let sql = loss.replace("$own", &format!("\"{p}_own_1\"")).replace("$s", &quoted).replace("$t", &name);
        instance.as_admin(&sql).await;
        let new = give_up(&instance, &id, &owner, &row.incarnation).await;
        assert_eq!(new.schema, row.schema);
        assert_eq!(instance.count(&format!("SELECT count(*) FROM {quoted}.conversations")).await, 0);
        let digits = row.incarnation.0.simple().to_string();
        let aside = format!("{}_lost_{}", row.schema, &digits[26..]);
        let there = instance.count(&format!("SELECT count(*) FROM pg_namespace WHERE nspname = '{aside}'")).await;
        assert_eq!(there == 1, kept, "{loss}");
        if kept {
            let rows = format!("SELECT count(*) FROM \"{aside}\".conversations");
            assert_eq!(instance.count(&rows).await, 1, "{loss}: the remaining data is kept");
            let messages = format!("SELECT count(*) FROM \"{aside}\".messages");
            assert_eq!(instance.count(&messages).await, 0, "{loss}: all of it");
        }
        assert_eq!(fleet(&instance).await, Vec::<String>::new(), "{loss}");
    }
    // An object with another mark is not changed, whatever the annotation says.
    let (id, owner, row) = instance.tenant("taken").await;
    let other = render_mark(instance.id, Incarnation(Uuid::new_v4()));
    let taken = format!(
        "DELETE FROM agent_tenancy.tenants WHERE tenant_id = 'taken'; COMMENT ON SCHEMA \"{}\" IS '{other}'",
        row.schema
    );
    instance.as_admin(&taken).await;
    let recorded = Recorded {
        incarnation: Some(row.incarnation),
        accepted_loss: Some(row.incarnation.to_string()),
        retry_migration: None,
        ..Recorded::default()
    };
    let ownership = judge(&owner, &observe(&instance, &id, recorded).await, &installation());
    assert!(matches!(ownership, Err(Refusal::Foreign(_))), "{ownership:?}");
}

/// Finding drift takes one round trip for any number of tenants, and writes nothing.
async fn one_query(version: PgVersion) {
    let instance = in_use(version).await;
    for n in 0..12 {
        instance.tenant(&format!("t{n}")).await;
        if n % 6 == 0 {
            let deed = format!("GRANT SELECT ON \"{}_t{n}\".messages TO PUBLIC", instance.prefix);
            instance.as_admin(&deed).await;
        }
        let before = instance.database.round_trips();
        let found = instance.database.observe_drift(&instance.fence.cluster_id).await.unwrap();
        assert_eq!(instance.database.round_trips() - before, 1);
        assert_eq!(found.len(), n / 6 + 1);
    }
    let (id, object) = &instance.database.observe_drift(&instance.fence.cluster_id).await.unwrap()[0];
    assert_eq!((id.as_str(), object.name.as_str(), object.namespace.as_str()), ("t0", "t0", "team"));
    let others = instance.database.observe_drift("another cluster").await.unwrap();
    assert!(others.is_empty(), "tenants of another cluster are not returned");
    // A read-only login can do it.
    instance
        .as_admin(&format!("ALTER ROLE {}_operator_a SET default_transaction_read_only = on", instance.prefix))
        .await;
    let reader = Database::new(instance.database.settings().clone());
    assert_eq!(reader.observe_drift(&instance.fence.cluster_id).await.unwrap().len(), 2);
    let refused = reader.perform_raise_epoch(&instance.fence.cluster_id, Epoch(9)).await.unwrap_err();
    assert_eq!(refused.sqlstate.as_deref(), Some("25006"));
}
