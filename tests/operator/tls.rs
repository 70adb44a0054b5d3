//! A database behind TLS with a certificate of a private CA: the operator reaches it, and so does the agent API through
//! the entry that the operator writes.

use crate::{
    authority::Authority,
    installation::{Installation, LONG},
};
use devkit::{Environment, PgVersion, Postgres, eventually};

on_each_postgres!(an_installation_works_over_tls_and_reports_an_untrusted_ca);

async fn an_installation_works_over_tls_and_reports_an_untrusted_ca(version: PgVersion) -> anyhow::Result<()> {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = Postgres::start(version).await?;
    authority.turn_on_tls(&server, "localhost").await;
    let mut installation = Installation::on(Environment::shared().await?, &server).await?;
    installation.agent("support", "Be kind.").await?;
    installation.tenant("acme", "Delete").await?;

    // With the wrong CA nothing is created, and the Tenant's condition says in one sentence what is wrong.
    installation.over_tls("localhost", &stranger.file());
    let operator = installation.operator("a").await?;
    let sentence = "the server has a certificate of a CA that is not trusted; database.sslRootCertFile names the file with \
                    the trusted CA certificates";
    eventually(LONG, "the Tenant says so", || async {
        let status = serde_json::to_value(installation.tenants.get("acme").await?.status)?;
        anyhow::ensure!(status.to_string().contains(sentence), "it says {status}");
        anyhow::ensure!(status.to_string().contains("\"reason\":\"TlsFailed\""), "it says {status}");
        Ok(())
    })
    .await?;
    assert!(installation.schemas().await?.is_empty());
    operator.process.kill_9().await?;

    // With the right CA, operator and replica both connect over TLS.
    installation.over_tls("localhost", &authority.file());
    let _operator = installation.operator("a").await?;
    let _replica = installation.replica().await?;
    installation.wait_ready("acme").await?;
    let sessions = "SELECT DISTINCT application_name || ' ' || ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                    WHERE datname = current_database() AND usename NOT LIKE 'postgres' ORDER BY 1";
    let sessions = installation.column(sessions.to_owned()).await?;
    assert!(sessions.contains(&"agent-tenancy-operator true".to_owned()), "{sessions:?}");
    assert!(sessions.iter().all(|session| session.ends_with(" true")), "{sessions:?}");
    Ok(())
}
