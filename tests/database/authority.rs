//! A private certificate authority, and a Postgres server with a certificate from it.
#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

use devkit::{Postgres, eventually};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use std::{path::PathBuf, time::Duration};

/// A certificate authority that no trust store has.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    pub fn new() -> Self {
        let (mut params, key) = (CertificateParams::new(Vec::new()).unwrap(), KeyPair::generate().unwrap());
        params.distinguished_name.push(DnType::CommonName, devkit::unique("authority"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: Issuer::new(params, key), folder }
    }

    /// The PEM file with its certificate.
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Gives a server a certificate for this host and turns on TLS.
    pub async fn turn_on_tls(&self, server: &Postgres, host: &str) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let mut admin = PgConnection::connect(&server.superuser_url("postgres")).await.unwrap();
        for (file, pem) in [("server.crt", certificate.pem()), ("server.key", key.serialize_pem())] {
            // Written by the server, in its data folder, so that its user owns the file.
            let copy = format!(
                "COPY (SELECT unnest(string_to_array('{}', E'\\n'))) TO PROGRAM 'umask 077; cat > {file}'",
                pem.trim().replace("\r\n", "\n")
            );
            sqlx::raw_sql(AssertSqlSafe(copy)).execute(&mut admin).await.unwrap();
        }
        for statement in ["ALTER SYSTEM SET ssl = on", "SELECT pg_reload_conf()"] {
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut admin).await.unwrap();
        }
        eventually(Duration::from_secs(10), "the server offers TLS", || async {
            let mut fresh = PgConnection::connect(&server.superuser_url("postgres")).await?;
            let ssl: String = sqlx::query("SHOW ssl").fetch_one(&mut fresh).await?.get(0);
            anyhow::ensure!(ssl == "on", "ssl is {ssl}");
            Ok(())
        })
        .await
        .unwrap();
    }
}
