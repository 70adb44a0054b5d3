//! Erasing a user with much data.

use super::in_process::{InProcessApi, token_with};
use crate::setup;
use reqwest::Method;
use serde_json::json;

/// Notes how many rows each statement touched. On Postgres, a trigger of a statement sees all of its rows.
const NOTE: &str = "CREATE TABLE touched (rows bigint); GRANT INSERT ON touched TO PUBLIC; \
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$ \
      BEGIN INSERT INTO touched SELECT count(*) FROM rows; RETURN NULL; END $$; \
    CREATE TRIGGER note AFTER DELETE ON messages REFERENCING OLD TABLE AS rows FOR EACH STATEMENT EXECUTE FUNCTION note(); \
    CREATE TRIGGER note AFTER UPDATE ON usage REFERENCING OLD TABLE AS rows FOR EACH STATEMENT EXECUTE FUNCTION note();";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_with_many_rows_is_erased_in_short_transactions() {
    let api = InProcessApi::with_tenants(&["acme"], |_| {}).await;
    let schema = setup::tenant_id("acme").database_name(&api.instance.prefix);
    let fill = "INSERT INTO conversations (id, sub) SELECT gen_random_uuid(), w FROM unnest('{ann,bob}'::text[]) w; \
        INSERT INTO messages (id, conversation_id, sub, role, status, content, agent, revision, request_id) \
          SELECT gen_random_uuid(), c.id, c.sub, 'user', 'answered', 'hello', 'support', 1, gen_random_uuid() \
          FROM conversations c, generate_series(1, 11000); \
        INSERT INTO usage (request_id, sub, agent, agent_uid, revision, input_tokens, output_tokens, outcome) \
          SELECT gen_random_uuid(), c.sub, 'support', 'a1', 1, 1, 1, 'ok' FROM conversations c, generate_series(1, 11000)";
    api.instance.as_admin(&format!("SET search_path = \"{schema}\"; {fill}; {NOTE}")).await;

    let right = token_with("acme", "admin", |token| token.scope("data:erase"));
    let path = "/api/v1/tenants/acme/users/ann";
    let erased = api.send(api.request(Method::DELETE, path, Some(&right), None)).await.ok();
    assert_eq!(erased, json!({"conversations": 1, "messages": 11000, "renamed": 11000}));
    let count = async |rows: &str| api.count("acme", &format!("SELECT count(*) FROM {{schema}}.{rows}")).await;
    for table in ["conversations", "messages", "usage"] {
        assert_eq!(count(&format!("{table} WHERE sub = 'ann'")).await, 0, "{table}");
    }
    assert_eq!((count("messages WHERE sub = 'bob'").await, count("usage WHERE sub = 'bob'").await), (11000, 11000));
    let names = "SELECT count(DISTINCT sub) FROM {schema}.usage WHERE sub LIKE 'erased-%'";
    assert_eq!(api.count("acme", names).await, 1, "one name for everything that the user used");
    assert_eq!(api.count("acme", "SELECT max(rows) FROM {schema}.touched").await, 5000);
}
