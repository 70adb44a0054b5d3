//! Custom migrations: what they may do, how their tables follow the tenant's data, and that they can't gain the operator's
//! privileges.

use super::{
    archives::adoption,
    life::close,
    setup::{CLUSTER, Instance, Steps, in_use, object, on_both},
};
use agent_tenancy::{
    api::DeletionPolicy,
    domain::{
        custom_migrations::{CustomMigrations, own_name},
        ident::TenantId,
        keys::KeyBytes,
        migrations::{Migration, TENANT_VERSION, Track},
    },
    effects::postgres::{PgError, PgErrorKind, ReadPurpose},
    plan::{
        observed::LedgerRow,
        step::{AdoptionSource, Migrate, Remains},
        tenant::loss::kept_own_name,
    },
};
use devkit::PgVersion;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

on_both!(
    custom_tables,
    changed_files_block_the_rollout,
    a_file_that_fails,
    they_go_along_with_the_data,
    a_hostile_file_gets_nowhere,
    what_was_lost_is_not_made_again
);

const PASSWORD: &str = "for-one-file-only";

/// A migration of a row to its next custom version, with this SQL.
fn own(row: &LedgerRow, sql: &str) -> Migrate {
    let version = row.own.version + 1;
    let file = Migration { version, name: format!("{version:04}_test.sql").into(), sql: sql.to_owned().into() };
    let checksums = row.own.checksums.iter().cloned().chain([file.checksum()]).collect();
    let (request, password) = (String::new(), KeyBytes::new(PASSWORD.into()));
    Migrate { row: row.clone(), track: Track::Custom, file, checksums, request, password }
}

pub async fn apply(instance: &Instance, id: &TenantId, sql: &str) -> Result<(), PgError> {
    let step = own(&instance.row(id).await, sql);
    instance.database.perform_migrate(&step, instance.id, &instance.fence).await
}

/// Runs SQL as the tenant's role, as the agent API does.
async fn as_tenant(instance: &Instance, row: &LedgerRow, sql: &str) -> Result<(), String> {
    instance.as_access(1, &format!("BEGIN; SET LOCAL ROLE \"{}\"; {sql}; COMMIT;", row.role)).await
}

/// The same file with another line ending is no change; an older operator recorded the text with its line endings.
async fn changed_files_block_the_rollout(version: PgVersion) {
    let instance = in_use(version).await;
    let (id, ..) = instance.tenant("acme").await;
    let sql = "-- grant: SELECT ON notes\nCREATE TABLE notes (id int);\n";
    let crlf = sql.replace('\n', "\r\n");
    apply(&instance, &id, &crlf).await.unwrap();
    for (text, stuck) in [(sql, 0), (&crlf, 0), ("CREATE TABLE notes (id int, note text);", 1)] {
        let files = CustomMigrations::parse(&[("0001_test.sql".to_owned(), text.to_owned())].into()).unwrap();
        let facts = instance.database.observe_fleet(CLUSTER, TENANT_VERSION, Some(&files), &[], 1).await.unwrap();
        assert_eq!((facts.behind, facts.blocked), (stuck, stuck), "{text}");
    }
}

async fn may_log_in(instance: &Instance, row: &LedgerRow) -> bool {
    let url = instance.test.url(&own_name(&row.schema), PASSWORD);
    PgConnection::connect(&url).await.is_ok()
}

async fn custom_tables(version: PgVersion) {
    let instance = in_use(version).await;
    let (id, _, row) = instance.tenant("acme").await;
    let x = own_name(&row.schema);
    let first = "-- grant: SELECT, INSERT ON notes\nCREATE TABLE notes (id int PRIMARY KEY, note text);\n\
        INSERT INTO notes VALUES (1, 'from the file') -- no semicolon";
    let step = own(&row, first);
    for _ in 0..2 {
        instance.database.perform_migrate(&step, instance.id, &instance.fence).await.unwrap();
    }
    let now = instance.row(&id).await;
    assert_eq!((now.own.version, now.own.checksums.clone()), (1, vec![step.file.checksum()]));
    as_tenant(&instance, &row, &format!("INSERT INTO \"{x}\".notes VALUES (2, 'mine')")).await.unwrap();
    assert_eq!(as_tenant(&instance, &row, &format!("DELETE FROM \"{x}\".notes")).await, Err("42501".into()));
    assert_eq!(as_tenant(&instance, &row, &format!("CREATE TABLE \"{x}\".t (id int)")).await, Err("42501".into()));
    let (_, _, other) = instance.tenant("globex").await;
    assert_eq!(as_tenant(&instance, &other, &format!("SELECT FROM \"{x}\".notes")).await, Err("42501".into()));
    assert!(!may_log_in(&instance, &row).await, "the login is for one file");

    // The reply of the file's transaction was lost before the ledger was updated: the file is not run twice.
    instance.as_admin("UPDATE agent_tenancy.tenants SET own_version = 0, own_checksums = '{}'").await;
    instance.database.perform_migrate(&step, instance.id, &instance.fence).await.unwrap();
    assert_eq!(instance.count(&format!("SELECT count(*) FROM \"{x}\".notes")).await, 2);

    apply(&instance, &id, "-- no-transaction\nCREATE INDEX CONCURRENTLY IF NOT EXISTS by_note ON notes (note)")
        .await
        .unwrap();
    let facts = instance.database.observe_tenant(&id, ReadPurpose::Serving).await.unwrap();
    assert_eq!(facts.row.unwrap().own.version, 2);
    assert_eq!(instance.database.observe_drift(&instance.fence.cluster_id).await.unwrap(), []);
}

async fn a_file_that_fails(version: PgVersion) {
    let instance = in_use(version).await;
    let (id, _, row) = instance.tenant("acme").await;
    for (sql, message) in [
        (
            "CREATE TABLE a (id int);\nCREATE TABEL b (id int);",
            "line 2: syntax error at or near \"TABEL\" (SQLSTATE 42601)",
        ),
        ("CREATE TABLE a (id int);\n\nINSERT INTO nowhere VALUES (1);", "line 3: relation \"nowhere\" does not exist"),
        ("SELECT 'a secret of a row'::int;", "a value does not fit; the server's log has it (SQLSTATE 22P02)"),
        ("DO $$ BEGIN RAISE EXCEPTION 'not yet'; END $$;", "not yet (SQLSTATE P0001)"),
        ("-- grant: SELECT ON forgotten\nSELECT 1;", "relation \"a_x.forgotten\" does not exist"),
        ("-- no-transaction\nCREATE INDEX CONCURRENTLY ON nowhere (id)", "relation \"nowhere\" does not exist"),
    ] {
        let error = apply(&instance, &id, sql).await.unwrap_err();
        assert_eq!(error.kind, PgErrorKind::FileFailed, "{sql}: {error}");
        let message = message.replace("a_x", &own_name(&row.schema));
        assert!(error.note.contains(&message), "{sql}: {error}");
        assert!(!error.note.contains("a secret"), "{error}");
        let facts = instance.database.observe_tenant(&id, ReadPurpose::Serving).await.unwrap();
        assert_eq!(facts.failure.unwrap().track, Track::Custom);
        assert_eq!(facts.row.unwrap().own.version, 0);
        assert!(!may_log_in(&instance, &row).await);
    }
    apply(&instance, &id, "CREATE TABLE a (id int);").await.unwrap();
}

async fn there(instance: &Instance, name: &str) -> (i64, i64) {
    let roles = format!("SELECT count(*) FROM pg_roles WHERE rolname = '{name}'");
    let schemas = format!("SELECT count(*) FROM pg_namespace WHERE nspname = '{name}'");
    (instance.count(&roles).await, instance.count(&schemas).await)
}

async fn they_go_along_with_the_data(version: PgVersion) {
    let instance = in_use(version).await;
    let (database, fence) = (&instance.database, &instance.fence);
    let (id, owner, row) = instance.tenant("acme").await;
    let x = own_name(&row.schema);
    apply(&instance, &id, "CREATE TABLE notes (id int);\nINSERT INTO notes VALUES (1);").await.unwrap();

    // Archived and taken over: tables and versions are kept.
    let row = instance.row(&id).await;
    let step = close(&id, Some(row.clone()), DeletionPolicy::Archive);
    for _ in 0..2 {
        database.perform_close(&step, &owner, instance.id, fence).await.unwrap();
    }
    let archived = row.incarnation.archived_own_name(&row.schema);
    assert_eq!((there(&instance, &x).await, there(&instance, &archived).await), ((0, 0), (1, 1)));
    let name = row.incarnation.archive_name(&row.schema);
    let source = AdoptionSource::Archived {
        schema: name.clone(),
        role: name,
        replaces: Some(row.incarnation),
        granted_from: None,
    };
    let second = object("acme");
    database.perform_adopt(&adoption(&id, &row, source), &second, instance.id, fence).await.unwrap();
    assert_eq!((there(&instance, &x).await, there(&instance, &archived).await), ((1, 1), (0, 0)));
    let taken = instance.row(&id).await;
    assert_eq!((&taken.uid, &taken.own), (&second.uid, &row.own));
    apply(&instance, &id, "INSERT INTO notes VALUES (2);").await.unwrap();
    assert_eq!(instance.count(&format!("SELECT count(*) FROM \"{x}\".notes")).await, 2);

    // An object of others depends on it: nothing is dropped.
    instance.as_admin(&format!("CREATE VIEW public.theirs AS SELECT id FROM \"{x}\".notes")).await;
    let taken = instance.row(&id).await;
    let drop_it = close(&id, Some(taken.clone()), DeletionPolicy::Delete);
    let refused = database.perform_close(&drop_it, &second, instance.id, fence).await.unwrap_err();
    assert_eq!(refused.sqlstate.as_deref(), Some("ATC03"));
    instance.as_admin("DROP VIEW public.theirs").await;

    // Archived again, and dropped when it is due.
    let archive = close(&id, Some(taken.clone()), DeletionPolicy::Archive);
    database.perform_close(&archive, &second, instance.id, fence).await.unwrap();
    instance.as_admin("UPDATE agent_tenancy.archives SET drop_after = now() - interval '1 second'").await;
    let due = database.observe_due_archives(&fence.cluster_id, None, 9).await.unwrap().due;
    assert!(database.perform_drop_archive(&due[0], instance.id, fence).await.unwrap());
    assert_eq!((there(&instance, &x).await, there(&instance, &archived).await), ((0, 0), (0, 0)));

    // Dropped at once.
    let (id, owner, row) = instance.tenant("globex").await;
    apply(&instance, &id, "CREATE TABLE notes (id int);").await.unwrap();
    let step = close(&id, Some(row.clone()), DeletionPolicy::Delete);
    for _ in 0..2 {
        database.perform_close(&step, &owner, instance.id, fence).await.unwrap();
    }
    assert_eq!(there(&instance, &own_name(&row.schema)).await, (0, 0));

    // Accepted as lost: kept under another name, without access.
    let (id, _, row) = instance.tenant("initech").await;
    apply(&instance, &id, "CREATE TABLE notes (id int);").await.unwrap();
    let remains = Remains { incarnation: row.incarnation, row: Some(row.clone()), schema: true, role: true };
    for _ in 0..2 {
        database.perform_set_aside(&id, &row.schema, &remains, instance.id, fence).await.unwrap();
    }
    assert_eq!(there(&instance, &own_name(&row.schema)).await, (0, 0));
    assert_eq!(there(&instance, &kept_own_name(&row.schema, row.incarnation)).await, (0, 1));
}

/// All privileges on the server but those of the roles for custom migrations.
async fn powers(instance: &Instance) -> String {
    let mut admin = instance.admin().await;
    let text = format!(
        "SELECT concat((SELECT json_agg(r ORDER BY r.rolname) FROM (SELECT rolname, rolsuper, rolcreaterole, rolcreatedb, \
            rolcanlogin, rolreplication, rolbypassrls, rolpassword FROM pg_authid WHERE rolname NOT LIKE '%\\_x' \
            AND rolname LIKE '{p}\\_%') r), \
         (SELECT json_agg(m ORDER BY m) FROM (SELECT roleid::regrole::text || '>' || member::regrole::text FROM \
            pg_auth_members WHERE member::regrole::text LIKE '{p}\\_%' AND member::regrole::text NOT LIKE '%\\_x') x (m)), \
         (SELECT json_agg(t ORDER BY t.tenant_id) FROM (SELECT tenant_id, uid, state, schema_version FROM \
            agent_tenancy.tenants) t), \
         (SELECT json_agg(n ORDER BY n.nspname) FROM (SELECT nspname, nspowner::regrole::text, nspacl::text FROM \
            pg_namespace WHERE nspname NOT LIKE '%\\_x' AND nspname NOT LIKE 'pg_%') n), \
         (SELECT datacl::text FROM pg_database WHERE datname = current_database()))",
        p = instance.prefix
    );
    sqlx::raw_sql(AssertSqlSafe(text)).fetch_one(&mut admin).await.unwrap().get(0)
}

/// Statements that try to act as the operator or another tenant. None changes any privilege, and each forbidden one is
/// refused.
async fn a_hostile_file_gets_nowhere(version: PgVersion) {
    let instance = in_use(version).await;
    let p = instance.prefix.to_string();
    let (victim, _, other) = instance.tenant("victim").await;
    apply(&instance, &victim, "CREATE TABLE secrets (id int);").await.unwrap();
    let (id, _, row) = instance.tenant("acme").await;
    // Creates the role and its group.
    apply(&instance, &id, "SELECT 1;").await.unwrap();
    let before = powers(&instance).await;
    let (schema, theirs) = (&row.schema, &other.schema);
    let refused = [
        format!("RESET ROLE; SET ROLE {p}_base;"),
        format!("SET ROLE {p}_own_1;"),
        format!("SET ROLE {p}_operator_a;"),
        format!("SET ROLE \"{schema}\";"),
        format!("SET ROLE \"{}\";", own_name(theirs)),
        format!("SET SESSION AUTHORIZATION {p}_operator_a;"),
        format!("COMMIT; RESET ROLE; RESET SESSION AUTHORIZATION; BEGIN; SET LOCAL ROLE {p}_own_1;"),
        format!("RESET ALL; DISCARD ALL; SET ROLE {p}_base;"),
        format!("SELECT content FROM \"{schema}\".messages;"),
        format!("SELECT id FROM \"{theirs}\".conversations;"),
        format!("SELECT id FROM \"{}\".secrets;", own_name(theirs)),
        "SELECT ring_digest FROM agent_tenancy.tenants;".to_owned(),
        "UPDATE agent_tenancy.epochs SET epoch = 99;".to_owned(),
        "CREATE ROLE mine SUPERUSER;".to_owned(),
        "CREATE ROLE mine;".to_owned(),
        "ALTER ROLE CURRENT_USER CREATEROLE;".to_owned(),
        "ALTER ROLE CURRENT_USER VALID UNTIL 'infinity';".to_owned(),
        format!("ALTER ROLE {p}_operator_a PASSWORD 'known';"),
        format!("GRANT {p}_base TO CURRENT_USER;"),
        format!("GRANT \"{schema}\" TO CURRENT_USER;"),
        "CREATE SCHEMA mine;".to_owned(),
        "CREATE TABLE public.mine (id int);".to_owned(),
        format!("CREATE TABLE \"{schema}\".mine (id int);"),
        "CREATE TEMP TABLE messages (id int);".to_owned(),
        format!("DROP SCHEMA \"{}\" CASCADE;", own_name(schema)),
        format!("ALTER SCHEMA \"{}\" RENAME TO mine;", own_name(schema)),
        format!("CREATE TRIGGER t BEFORE INSERT ON \"{schema}\".messages EXECUTE FUNCTION suppress_redundant_updates_trigger();"),
        "COPY (SELECT 1) TO PROGRAM 'id';".to_owned(),
        "CREATE TABLE t (l text); COPY t FROM PROGRAM 'id';".to_owned(),
        "CREATE EXTENSION dblink;".to_owned(),
        "CREATE EXTENSION hstore;".to_owned(),
        "CREATE LANGUAGE plperlu;".to_owned(),
        "CREATE EVENT TRIGGER e ON ddl_command_start EXECUTE FUNCTION pg_catalog.version();".to_owned(),
        "SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a WHERE a.usename LIKE '%operator%' OR a.usename = 'postgres';"
            .to_owned(),
        "SELECT rolpassword FROM pg_authid;".to_owned(),
        "ALTER SYSTEM SET log_statement = 'all';".to_owned(),
        "SET session_preload_libraries = 'x';".to_owned(),
        "ALTER ROLE CURRENT_USER SET session_replication_role = 'replica';".to_owned(),
        format!("ALTER DATABASE \"{}\" SET search_path = mine;", instance.test.name),
    ];
    for sql in refused {
        let error = apply(&instance, &id, &sql).await.expect_err(&sql);
        assert_eq!(error.kind, PgErrorKind::FileFailed, "{sql}: {error}");
        let code = error.sqlstate.as_deref().unwrap_or_default();
        // Refused for a missing privilege, or the object does not exist.
        assert!(["42501", "25001", "22023", "0A000", "58P01", "42704", "55000"].contains(&code), "{sql}: {error}");
        assert_eq!(powers(&instance).await, before, "{sql}");
        assert!(!may_log_in(&instance, &row).await, "{sql}");
    }

    // Changes to the role itself have no effect afterwards.
    for sql in [
        "ALTER ROLE CURRENT_USER PASSWORD 'for-one-file-only';",
        "ALTER ROLE CURRENT_USER SET search_path = evil; ALTER ROLE CURRENT_USER SET role = none;",
        "COMMIT; SELECT pg_advisory_lock(1); BEGIN;",
        "CREATE FUNCTION lower(text) RETURNS text LANGUAGE sql AS 'SELECT ''evil'''; CREATE TABLE pg_class (id int);",
        // Only a superuser could refuse it; it is dropped with the role.
        "SELECT lo_create(0);",
        "DELETE FROM applied_migrations; DROP TABLE applied_migrations;",
    ] {
        // The last one deletes its own record, and fails.
        let done = apply(&instance, &id, sql).await;
        assert!(done.is_ok() || sql.starts_with("DELETE"), "{sql}: {done:?}");
        assert_eq!(powers(&instance).await, before, "{sql}");
        assert!(!may_log_in(&instance, &row).await, "{sql}");
    }
    apply(&instance, &victim, "SELECT id FROM secrets;").await.unwrap();
    let step = close(&id, Some(instance.row(&id).await), DeletionPolicy::Delete);
    instance.database.perform_close(&step, &object("acme"), instance.id, &instance.fence).await.unwrap();
    assert_eq!(there(&instance, &own_name(schema)).await, (0, 0), "its role is dropped all the same");
}

async fn what_was_lost_is_not_made_again(version: PgVersion) {
    let instance = in_use(version).await;
    let (id, _, row) = instance.tenant("acme").await;
    apply(&instance, &id, "CREATE TABLE notes (id int);").await.unwrap();
    let x = own_name(&row.schema);
    instance.as_admin(&format!("DROP SCHEMA \"{x}\" CASCADE")).await;
    let lost = apply(&instance, &id, "CREATE TABLE more (id int);").await.unwrap_err();
    assert_eq!(lost.sqlstate.as_deref(), Some("ATC04"), "{lost}");
    assert_eq!(there(&instance, &x).await, (1, 0));

    // A foreign role of that name is not changed.
    let (id, _, row) = instance.tenant("globex").await;
    let x = own_name(&row.schema);
    instance.as_admin(&format!("CREATE ROLE \"{x}\" LOGIN; COMMENT ON ROLE \"{x}\" IS 'mine'")).await;
    let foreign = apply(&instance, &id, "SELECT 1;").await.unwrap_err();
    assert_eq!(foreign.sqlstate.as_deref(), Some("ATC02"), "{foreign}");
}
