//! The stored byte count of a schema equals a recount, whatever writes and however transactions end; and the tenant's
//! role can't change the count.

use super::setup::{Instance, in_use, on_both, tenant_id};
use crate::randomness::Randomness;
use agent_tenancy::domain::{cells::CellRoles, ident::CellNumber, migrations::TENANT};
use devkit::{PgVersion, eventually};
use futures::future::join_all;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

on_both!(
    the_counter_equals_a_recount,
    a_version_is_brought_up_under_a_writer,
    the_tenant_can_not_count_for_itself,
    the_counter_survives_another_name,
    a_truncated_table_counts_as_empty,
);

/// The stored count and a recount.
async fn counts(instance: &Instance, schema: &str) -> (i64, i64) {
    let counted = format!("SELECT coalesce(sum(bytes), 0)::int8 FROM \"{schema}\".storage");
    let there = format!(
        "SELECT (SELECT coalesce(sum(octet_length(content)), 0) FROM \"{schema}\".messages)::int8 \
              + (SELECT coalesce(sum(octet_length(value::text)), 0) FROM \"{schema}\".settings)::int8"
    );
    (instance.count(&counted).await, instance.count(&there).await)
}

fn begin(schema: &str) -> String {
    format!("BEGIN; SET LOCAL ROLE \"{schema}\"; SET LOCAL search_path = \"{schema}\", pg_temp;")
}

/// A row of `messages` in conversation `c`; every second length has letters of two bytes.
fn message(c: u64, letters: u64) -> String {
    let word = if letters.is_multiple_of(2) { "é" } else { "e" };
    format!(
        "(gen_random_uuid(), lpad('{c}', 32, '0')::uuid, 'u{c}', 'user', 'pending', repeat('{word}', {letters}), 'a', 1, \
             gen_random_uuid())"
    )
}

const MESSAGES: &str =
    "INSERT INTO messages (id, conversation_id, sub, role, status, content, agent, revision, request_id) VALUES";

/// A random statement of the kinds that the agent API's role may run.
fn statement(random: &mut Randomness) -> String {
    let (c, letters) = (random.below(8), random.below(3000));
    let id = format!("lpad('{c}', 32, '0')::uuid");
    match random.below(10) {
        0 => format!("INSERT INTO conversations (id, sub) VALUES ({id}, 'u{c}') ON CONFLICT DO NOTHING"),
        1..=3 => format!(
            "INSERT INTO conversations (id, sub) VALUES ({id}, 'u{c}') ON CONFLICT DO NOTHING; {MESSAGES} {}, {}",
            message(c, letters),
            message(c, letters / 7),
        ),
        4 => format!("UPDATE messages SET status = 'answered' WHERE conversation_id = {id}"),
        5 => format!("UPDATE messages SET content = repeat('z', {letters}) WHERE conversation_id = {id}"),
        6 => format!("DELETE FROM messages WHERE conversation_id = {id} AND status = 'answered'"),
        7 => format!("DELETE FROM conversations WHERE id = {id}"),
        8 => format!(
            "INSERT INTO settings (name, value, updated_by) VALUES ('s{c}', to_jsonb(repeat('x', {letters})), 'u'), \
             ('t{c}', '{{\"b\": 1, \"a\":2}}', 'u') ON CONFLICT (name) DO UPDATE SET value = excluded.value"
        ),
        _ => format!("DELETE FROM settings WHERE name IN ('s{c}', 't{c}'); UPDATE settings SET updated_by = 'v'"),
    }
}

/// Runs random transactions until `enough`: some are rolled back, some in part, and some end with the backend. Returns
/// how many were committed.
async fn write_at_random(instance: &Instance, schema: &str, seed: u64, enough: impl Fn(u32) -> bool) -> u32 {
    let mut random = Randomness::of(seed);
    let mut connection = instance.access(1).await;
    let (mut committed, mut tried) = (0, 0);
    while !enough(tried) {
        tried += 1;
        let mut sql = begin(schema);
        for _ in 0..=random.below(3) {
            match random.below(6) {
                0 => sql += &format!("SAVEPOINT s; {}; ROLLBACK TO s;", statement(&mut random)),
                _ => sql += &format!("{};", statement(&mut random)),
            }
        }
        match random.below(8) {
            0 => sql += "ROLLBACK",
            1 => sql += "SELECT 1/0",
            2 => sql += "RESET ROLE; SELECT pg_terminate_backend(pg_backend_pid())",
            _ => sql += "COMMIT",
        }
        match sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await {
            Ok(_) => committed += 1,
            Err(sqlx::Error::Database(error)) if error.code().as_deref() != Some("57P01") => {
                // Deadlocks of the random order, a deleted conversation, a division by zero.
                let code = error.code().unwrap_or_default().into_owned();
                assert!(["40P01", "23503", "22012"].contains(&code.as_str()), "{error}");
                sqlx::raw_sql("ROLLBACK").execute(&mut connection).await.unwrap();
            }
            Err(_) => connection = instance.access(1).await,
        }
    }
    committed
}

async fn the_counter_equals_a_recount(version: PgVersion) {
    let instance = in_use(version).await;
    let (_, _, row) = instance.tenant("acme").await;
    assert_eq!(counts(&instance, &row.schema).await, (0, 0));
    let mut seeds = Randomness::new("STORAGE_SEED").unwrap();
    for round in 0..4 {
        let writers = [(); 4].map(|()| write_at_random(&instance, &row.schema, seeds.below(1 << 30), |n| n >= 60));
        let committed: u32 = join_all(writers).await.into_iter().sum();
        let (counted, there) = counts(&instance, &row.schema).await;
        assert_eq!(counted, there, "after round {round}");
        assert!(committed > 60, "{committed}");
    }
    // The rest is deleted by cascade, and the count is zero again.
    instance.as_admin(&format!("DELETE FROM \"{0}\".conversations; DELETE FROM \"{0}\".settings", row.schema)).await;
    assert_eq!(counts(&instance, &row.schema).await, (0, 0));
}

/// Turns a schema back into one of version 1.
async fn take_back_version_two(instance: &Instance, schema: &str) {
    let function = format!(
        "SELECT tgfoid::regprocedure::text FROM pg_trigger WHERE tgrelid = '\"{schema}\".messages'::regclass \
                            AND tgname = 'count_added'"
    );
    let mut admin = instance.admin().await;
    let function: String = sqlx::query(AssertSqlSafe(function)).fetch_one(&mut admin).await.unwrap().get(0);
    instance.as_admin(&format!("DROP FUNCTION {function} CASCADE; DROP TABLE \"{schema}\".storage")).await;
    let left =
        format!("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal AND tgrelid::regclass::text LIKE '%{schema}%'");
    assert_eq!(instance.count(&left).await, 0);
}

async fn a_version_is_brought_up_under_a_writer(version: PgVersion) {
    let instance = in_use(version).await;
    let (_, _, row) = instance.tenant("acme").await;
    let schema = &row.schema;
    take_back_version_two(&instance, schema).await;
    let mut seeds = Randomness::new("STORAGE_SEED").unwrap();
    write_at_random(&instance, schema, seeds.below(1 << 30), |n| n >= 60).await;
    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let begun = |n: u32| {
        written.fetch_max(n as usize, Ordering::SeqCst);
        stop.load(Ordering::SeqCst)
    };
    let writers = join_all([(); 3].map(|()| write_at_random(&instance, schema, seeds.below(1 << 30), &begun)));
    let owner = &CellRoles::of(&instance.prefix, CellNumber(1)).owner;
    let migrate = async {
        let reached = async |n| {
            let from = written.load(Ordering::SeqCst);
            eventually(Duration::from_secs(60), &format!("{n} more are written"), || async {
                let more = written.load(Ordering::SeqCst) - from;
                anyhow::ensure!(more >= n, "{more} are");
                Ok(())
            })
            .await
            .unwrap();
        };
        reached(10).await;
        let mut connection = instance.admin().await;
        let sql = format!(
            "SET LOCAL lock_timeout = '10s'; SET LOCAL ROLE \"{owner}\"; SET LOCAL search_path = \"{schema}\"; {}; \
             GRANT SELECT ON \"{schema}\".storage TO \"{schema}\"",
            TENANT[1].sql
        );
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        reached(30).await;
        stop.store(true, Ordering::SeqCst);
    };
    let (committed, ()) = tokio::join!(writers, migrate);
    let (counted, there) = counts(&instance, schema).await;
    assert_eq!(counted, there);
    assert!(there > 0 && committed.iter().all(|n| *n > 0), "{committed:?}");
    // A second run fails as a whole and changes nothing.
    let again = format!("SET LOCAL ROLE \"{owner}\"; SET LOCAL search_path = \"{schema}\"; {}", TENANT[1].sql);
    assert!(sqlx::raw_sql(AssertSqlSafe(again)).execute(&mut instance.admin().await).await.is_err());
    assert_eq!(counts(&instance, schema).await, (counted, there));
}

async fn the_tenant_can_not_count_for_itself(version: PgVersion) {
    let instance = in_use(version).await;
    let (_, _, one) = instance.tenant("one").await;
    let (_, _, two) = instance.tenant("two").await;
    let (a, b) = (&one.schema, &two.schema);
    let text = |c| {
        format!(
            "INSERT INTO conversations (id, sub) VALUES (lpad('{c}', 32, '0')::uuid, 'u'); {MESSAGES} {}",
            message(c, 101)
        )
    };
    let run = async |sql: String| instance.as_access(1, &format!("{} {sql}; COMMIT", begin(a))).await;
    assert_eq!(run(text(1)).await, Ok(()));
    assert_eq!(run("SELECT sum(bytes) FROM storage".into()).await, Ok(()));
    let names = "SELECT count(*) - count(DISTINCT p.proname) FROM pg_proc p WHERE p.proname LIKE 'count_storage%'";
    assert_eq!(instance.count(names).await, 0, "function names are unique per schema: the lookup stays cheap");
    let function: String = {
        let find = format!("SELECT oid::regproc::text FROM pg_proc WHERE pronamespace = '\"{a}\"'::regnamespace");
        let mut admin = instance.admin().await;
        sqlx::query(AssertSqlSafe(find)).fetch_one(&mut admin).await.unwrap().get(0)
    };
    for sql in [
        "UPDATE storage SET bytes = 0".to_owned(),
        "DELETE FROM storage".to_owned(),
        "INSERT INTO storage (slot, bytes) VALUES (99, -1000000)".to_owned(),
        "TRUNCATE storage".to_owned(),
        "ALTER TABLE messages DISABLE TRIGGER count_added".to_owned(),
        "DROP TRIGGER count_added ON messages".to_owned(),
        format!("CREATE TRIGGER mine AFTER INSERT ON conversations FOR EACH ROW EXECUTE FUNCTION {function}()"),
        format!("SELECT {function}()"),
        format!("DROP FUNCTION {function}()"),
        "SET LOCAL session_replication_role = replica".to_owned(),
        format!("SELECT sum(bytes) FROM \"{b}\".storage"),
    ] {
        assert_eq!(run(sql.clone()).await, Err("42501".into()), "{sql}");
    }
    // A row is counted in its own schema, whatever the search path is.
    let elsewhere = format!(
        "SET LOCAL search_path = \"{b}\", pg_temp; {}",
        MESSAGES.replace("messages", &format!("\"{a}\".messages"))
    );
    assert_eq!(run(format!("{elsewhere} {}", message(1, 51))).await, Ok(()));
    assert_eq!(counts(&instance, a).await, (152, 152));
    assert_eq!(counts(&instance, b).await, (0, 0));
}

/// An archived schema is renamed.
async fn the_counter_survives_another_name(version: PgVersion) {
    let instance = in_use(version).await;
    let (_, _, row) = instance.tenant("acme").await;
    let (old, new) = (&row.schema, tenant_id("other").database_name(&instance.prefix));
    // The function is compiled in this session under the old name.
    let mut admin = PgConnection::connect(&instance.test.superuser_url()).await.unwrap();
    for schema in [old, &new] {
        let sql = format!(
            "SET search_path = \"{schema}\"; INSERT INTO conversations (id, sub) VALUES (gen_random_uuid(), 'u'); \
             {MESSAGES} (gen_random_uuid(), (SELECT id FROM conversations LIMIT 1), 'u', 'user', 'pending', 'four', 'a', 1, \
             gen_random_uuid())"
        );
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut admin).await.unwrap();
        if schema == old {
            let rename = format!("ALTER SCHEMA \"{old}\" RENAME TO \"{new}\"");
            sqlx::raw_sql(AssertSqlSafe(rename)).execute(&mut admin).await.unwrap();
        }
    }
    assert_eq!(counts(&instance, &new).await, (8, 8));
}

/// An administrator's TRUNCATE, which fires no row's trigger, also of a version that didn't count it.
async fn a_truncated_table_counts_as_empty(version: PgVersion) {
    let instance = in_use(version).await;
    let (_, _, row) = instance.tenant("acme").await;
    let s = &row.schema;
    let fill = format!(
        "{} INSERT INTO conversations (id, sub) VALUES (lpad('1', 32, '0')::uuid, 'u1') ON CONFLICT DO NOTHING; \
         {MESSAGES} {}; INSERT INTO settings (name, value, updated_by) VALUES ('Persona', '\"kind\"', 'u1') \
         ON CONFLICT (name) DO UPDATE SET value = excluded.value; COMMIT",
        begin(s),
        message(1, 1000),
    );
    for truncate in [
        format!("TRUNCATE \"{s}\".messages"),
        format!("TRUNCATE \"{s}\".conversations CASCADE"),
        format!("TRUNCATE \"{s}\".settings"),
        format!("TRUNCATE \"{s}\".storage"),
        format!("TRUNCATE \"{s}\".conversations, \"{s}\".messages, \"{s}\".settings"),
    ] {
        for statement in [None, Some(&truncate), None] {
            match statement {
                Some(truncate) => instance.as_admin(truncate).await,
                None => instance.as_access(1, &fill).await.unwrap(),
            }
            let (counted, there) = counts(&instance, s).await;
            assert_eq!(counted, there, "{truncate}");
        }
    }
    // Version 2 counted it wrong; the next version heals that.
    let old = "old_version";
    let files = |from: usize, to: usize| -> String {
        let texts: Vec<_> = TENANT.iter().skip(from).take(to - from).map(|file| file.sql.to_string()).collect();
        texts.join("\n")
    };
    let (insert, values) =
        ("INSERT INTO conversations (id, sub) VALUES (lpad('1', 32, '0')::uuid, 'u1')", message(1, 9));
    instance
        .as_admin(&format!(
            "CREATE SCHEMA {old}; SET search_path = {old}; {}; {insert}; {MESSAGES} {values}; TRUNCATE messages; {MESSAGES} {values}",
            files(0, 2)
        ))
        .await;
    assert_eq!(counts(&instance, old).await, (18, 9));
    instance.as_admin(&format!("SET search_path = {old}; {}", files(2, TENANT.len()))).await;
    assert_eq!(counts(&instance, old).await, (9, 9));
}
