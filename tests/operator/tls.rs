//! A database behind TLS whose certificate a private authority has signed: for the operator, and through the entry that
//! it writes for the agent API.

use crate::{
    authority::Authority,
    fleet::{Fleet, LONG},
};
use devkit::{Environment, PgVersion, Postgres, eventually};

on_each_postgres!(an_installation_works_over_tls_and_says_why_where_it_does_not);

async fn an_installation_works_over_tls_and_says_why_where_it_does_not(version: PgVersion) -> anyhow::Result<()> {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = Postgres::start(version).await?;
    authority.turn_on_tls(&server, "localhost").await;
    let mut fleet = Fleet::on(Environment::shared().await?, &server).await?;
    fleet.agent("support", "Be kind.").await?;
    fleet.tenant("acme", "Delete").await?;

    // With the wrong authority nothing is made, and the Tenant says in one sentence what is wrong.
    fleet.over_tls("localhost", &stranger.file());
    let operator = fleet.operator("a").await?;
    let sentence = "the server has a certificate of a CA that is not trusted; database.sslRootCertFile names the file with \
                    the trusted CA certificates";
    eventually(LONG, "the Tenant says so", || async {
        let status = serde_json::to_value(fleet.tenants.get("acme").await?.status)?;
        anyhow::ensure!(status.to_string().contains(sentence), "it says {status}");
        Ok(())
    })
    .await?;
    assert!(fleet.schemas().await?.is_empty());
    operator.process.kill_9().await?;

    // With the right one, operator and replica both come in over TLS.
    fleet.over_tls("localhost", &authority.file());
    let _operator = fleet.operator("a").await?;
    let (_replica, _) = fleet.replica().await?;
    fleet.wait_ready("acme").await?;
    let sessions = "SELECT DISTINCT application_name || ' ' || ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                    WHERE datname = current_database() AND usename NOT LIKE 'postgres' ORDER BY 1";
    let sessions = fleet.column(sessions.to_owned()).await?;
    assert!(sessions.contains(&"agent-tenancy-operator true".to_owned()), "{sessions:?}");
    assert!(sessions.iter().all(|session| session.ends_with(" true")), "{sessions:?}");
    Ok(())
}
