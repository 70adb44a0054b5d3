//! A cell behind TLS with a certificate of a private CA.

use super::in_process::{InProcessApi, settings_token};
use crate::{authority::Authority, setup};
use devkit::{PgVersion, Postgres};
use serde_json::json;

const OVER_TLS: &str = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                        WHERE application_name = 'agent-api' AND datname = current_database() AND ssl";

async fn api(server: &Postgres, trusted: &Authority, host: &str) -> InProcessApi {
    let trusted = trusted.file().display().to_string();
    let instance = setup::in_use_on(server).await;
    let mut api = InProcessApi::in_instance(instance, &[], |s| s.database.root_certificates = trusted).await;
    let mut cell = api.cell();
    (cell["host"], cell["sslMode"]) = (json!(host), json!("verify-full"));
    api.apply("cell-main-1", &cell).await;
    api.instance.tenant("acme").await;
    let tenant = api.tenant("acme");
    api.apply("tenant-acme", &tenant).await;
    api.settled().await;
    api
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cell_is_reached_over_tls_only_where_its_certificate_fits() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = Postgres::start(PgVersion::NEWEST).await.unwrap();
    authority.turn_on_tls(&server, "localhost").await;

    let served = api(&server, &authority, "localhost").await;
    served.chat("acme", "ann", &json!({"message": "hi"})).await.ok();
    assert_eq!(served.instance.count(OVER_TLS).await, 1);

    for (trusted, host, sentence) in [
        (
            &stranger,
            "localhost",
            "'cell-main-1': the database has a certificate of a CA that is not trusted; database.rootCertificates names the \
             file with the trusted CA certificates",
        ),
        (&authority, "127.0.0.1", "'cell-main-1': the database has a certificate for localhost, not for 127.0.0.1"),
    ] {
        let refused = api(&server, trusted, host).await;
        let answer = refused.get("/api/v1/tenants/acme/settings", &settings_token("acme", "ann")).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (503, "tenant_not_served"));
        let status = refused.context.registry.status();
        assert_eq!(status.quarantined["tenant-acme"].reason, sentence, "{status:?}");
    }
}
