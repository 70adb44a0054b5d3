//! The plugin reaches the API server through a proxy wherever kubectl does.

use super::fake_operator::FakeOperator;
use serde_json::json;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

/// A proxy that leads every request to one address.
struct ForwardProxy {
    port: u16,
    used: Arc<AtomicUsize>,
}

impl ForwardProxy {
    /// An HTTP proxy (`CONNECT`), or one that speaks SOCKS5.
    async fn start(target: String, socks: bool) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (port, used) = (listener.local_addr()?.port(), Arc::new(AtomicUsize::new(0)));
        let counter = Arc::clone(&used);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::Relaxed);
                let target = target.clone();
                tokio::spawn(async move {
                    if socks { socks5(client, target).await } else { connect(client, target).await }
                });
            }
        });
        Ok(Self { port, used })
    }

    fn take_used(&self) -> usize {
        self.used.swap(0, Ordering::Relaxed)
    }
}

async fn connect(mut client: TcpStream, target: String) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(client.read_u8().await?);
    }
    if !request.starts_with(b"CONNECT ") {
        return client.write_all(b"HTTP/1.1 405 Method Not Allowed\r\n\r\n").await;
    }
    let mut server = TcpStream::connect(target).await?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

/// RFC 1928 without authentication.
async fn socks5(mut client: TcpStream, target: String) -> std::io::Result<()> {
    let mut greeting = [0; 2];
    client.read_exact(&mut greeting).await?;
    client.read_exact(&mut vec![0; usize::from(greeting[1])]).await?;
    client.write_all(&[5, 0]).await?;
    let mut request = [0; 4];
    client.read_exact(&mut request).await?;
    let address = match request[3] {
        1 => 4,
        3 => usize::from(client.read_u8().await?),
        _ => 16,
    };
    client.read_exact(&mut vec![0; address + 2]).await?;
    let mut server = TcpStream::connect(target).await?;
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

#[tokio::test]
async fn the_plugin_uses_the_proxies_that_kubectl_uses() -> anyhow::Result<()> {
    let fake = FakeOperator::new().await?;
    fake.served_tenant("acme").await?;
    let mut server = String::new();
    let direct = fake.kubeconfig_with(|cluster| server = cluster["server"].as_str().unwrap_or_default().to_owned())?;
    let target = server.trim_start_matches("https://").to_owned();
    // A name that only the proxy can resolve; the certificate is that of the real address.
    let unreachable = fake.kubeconfig_with(|cluster| {
        cluster["server"] = "https://api.cluster.invalid:6443".into();
        cluster["tls-server-name"] = "127.0.0.1".into();
    })?;
    let (http, socks) = (ForwardProxy::start(target.clone(), false).await?, ForwardProxy::start(target, true).await?);
    let http_url = format!("http://127.0.0.1:{}", http.port);
    let bare = format!("127.0.0.1:{}", http.port);
    let status = ["status", "acme"];

    for (name, value) in [("HTTPS_PROXY", &http_url), ("https_proxy", &http_url), ("HTTPS_PROXY", &bare)] {
        let shown = fake.plugin_with(&unreachable, &[(name, value)], &status).await?;
        assert!(shown.is_success() && http.take_used() > 0, "{name}={value}: {}", shown.text());
    }
    // Nobody asks a proxy for this machine, nor for what NO_PROXY names.
    let shown = fake.plugin_with(&direct, &[("HTTPS_PROXY", &http_url)], &status).await?;
    assert!(shown.is_success() && http.take_used() == 0, "{}", shown.text());
    let exempt = [("HTTPS_PROXY", http_url.as_str()), ("NO_PROXY", ".cluster.invalid")];
    let shown = fake.plugin_with(&unreachable, &exempt, &status).await?;
    assert!(!shown.is_success() && http.take_used() == 0, "{}", shown.text());

    for (proxy, url) in [(&http, http_url.clone()), (&socks, format!("socks5://127.0.0.1:{}", socks.port))] {
        for base in ["https://api.cluster.invalid:6443", &server] {
            let through = fake.kubeconfig_with(|cluster| {
                cluster["server"] = base.into();
                cluster["tls-server-name"] = "127.0.0.1".into();
                cluster["proxy-url"] = json!(url);
            })?;
            let shown = fake.plugin_with(&through, &[("NO_PROXY", "*")], &status).await?;
            assert!(shown.is_success() && proxy.take_used() > 0, "{url} to {base}: {}", shown.text());
        }
    }
    let unusable = fake.plugin_with(&unreachable, &[("HTTPS_PROXY", "ftp://user:secret@proxy")], &status).await?;
    assert!(unusable.status == 3 && unusable.stderr.contains("HTTPS_PROXY: 'ftp' is not"), "{}", unusable.text());
    assert!(!unusable.text().contains("secret"), "{}", unusable.text());
    Ok(())
}
