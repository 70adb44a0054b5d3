//! Addresses that a provider may have. Link-local addresses and the metadata services of clouds give credentials to any
//! client inside; the operator refuses them in a `baseUrl`, and here they are refused after a name was resolved, because
//! its owner may change it at any time.

use crate::domain::base_url::is_metadata_address;
use hickory_resolver::{TokioResolver, config::ResolverConfig, net::NetError, net::runtime::TokioRuntimeProvider};
use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};
use std::{
    error::Error,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

/// The address is one that must not be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its address is a link-local, unspecified or metadata address")]
pub(super) struct Forbidden;

/// Looks names up and leaves out what must not be called.
pub(super) struct Resolver<L> {
    lookup: L,
}

/// Finds the addresses of a name.
pub(super) trait Lookup: Send + Sync + 'static {
    fn lookup(&self, name: &str) -> impl Future<Output = std::io::Result<Vec<SocketAddr>>> + Send + use<Self>;
}

/// Longest lookup of a name, all its queries together.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(4);
/// Longest wait for one name server.
const QUERY_TIMEOUT: Duration = Duration::from_millis(1500);
/// How long an answer is kept at most, and one that there is no such name.
const KEPT: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(5));
/// Most names that are kept.
const CACHE: u64 = 1024;

/// The system's name servers and hosts file, asked without the system's resolver. That one needs a thread for each lookup
/// and may keep it for minutes: a name that nobody answers for would hold up everybody's lookups, those of Postgres and the
/// API server among them.
#[derive(Clone)]
pub(super) struct NameServers(TokioResolver);

impl NameServers {
    /// Reads the system's configuration; without one only the hosts file is known.
    ///
    /// # Errors
    /// When there can be no resolver.
    pub(super) fn new() -> Result<Self, NetError> {
        let mut builder = TokioResolver::builder_tokio().unwrap_or_else(|error| {
            tracing::warn!(%error, "the configuration of the name servers can't be read");
            TokioResolver::builder_with_config(ResolverConfig::default(), TokioRuntimeProvider::default())
        });
        let options = builder.options_mut();
        options.timeout = QUERY_TIMEOUT;
        options.attempts = 2;
        options.cache_size = CACHE;
        options.positive_max_ttl = Some(KEPT.0);
        options.negative_max_ttl = Some(KEPT.1);
        Ok(Self(builder.build()?))
    }
}

impl Lookup for NameServers {
    fn lookup(&self, name: &str) -> impl Future<Output = std::io::Result<Vec<SocketAddr>>> + Send + use<> {
        let (resolver, name) = (self.0.clone(), name.to_owned());
        async move {
            let found = tokio::time::timeout(LOOKUP_TIMEOUT, resolver.lookup_ip(name)).await;
            let found = found.map_err(|_| std::io::ErrorKind::TimedOut)?.map_err(std::io::Error::other)?;
            // The client puts the port in.
            Ok(found.iter().map(|address| SocketAddr::new(address, 0)).collect())
        }
    }
}

impl<L: Lookup> Resolver<L> {
    pub(super) fn new(lookup: L) -> Self {
        Self { lookup }
    }
}

impl<L: Lookup> Resolve for Resolver<L> {
    fn resolve(&self, name: Name) -> Resolving {
        let found = self.lookup.lookup(name.as_str());
        Box::pin(async move {
            let allowed = resolve_allowed(found.await?)?;
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// The addresses that may be called.
fn resolve_allowed(found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Forbidden> {
    let some = !found.is_empty();
    let allowed: Vec<_> = found.into_iter().filter(|address| !is_metadata_address(address.ip())).collect();
    if some && allowed.is_empty() { Err(Forbidden) } else { Ok(allowed) }
}

/// Checks a URL with an address as its host, in any of the forms that URLs know: no name is resolved for it.
///
/// # Errors
/// When the address must not be called.
pub(super) fn check_literal(url: &Url) -> Result<(), Forbidden> {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    match host.parse::<IpAddr>() {
        Ok(address) if is_metadata_address(address) => Err(Forbidden),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Whether a call failed because of this.
pub(super) fn is_forbidden(error: &(dyn Error + 'static)) -> bool {
    std::iter::successors(Some(error), |&error| error.source()).any(|error| error.is::<Forbidden>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_resolver::config::{ConnectionConfig, NameServerConfig};

    /// A name server that its owner has changed.
    struct Rebound(&'static [&'static str]);

    impl Lookup for Rebound {
        fn lookup(&self, _: &str) -> impl Future<Output = std::io::Result<Vec<SocketAddr>>> + Send + use<> {
            let found = self.0.iter().map(|address| SocketAddr::new(address.parse().unwrap(), 0)).collect();
            std::future::ready(Ok(found))
        }
    }

    async fn call(addresses: &'static [&'static str], url: String) -> Result<u16, reqwest::Error> {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let client = reqwest::Client::builder().no_proxy().dns_resolver(Resolver::new(Rebound(addresses)));
        let answer = client.build().unwrap().get(url).send().await?;
        Ok(answer.status().as_u16())
    }

    #[tokio::test]
    async fn a_name_that_leads_to_a_metadata_service_is_not_called() {
        for addresses in [
            &["169.254.169.254"][..],
            &["fe80::1"],
            &["::ffff:169.254.169.254"],
            &["64:ff9b::a9fe:a9fe"],
            &["fd00:ec2::254"],
            &["100.100.100.200"],
            &["168.63.129.16"],
            &["0.0.0.0"],
            &["169.254.0.1", "fe80::1"],
        ] {
            let error = call(addresses, "http://models.example".into()).await.unwrap_err();
            assert!(is_forbidden(&error), "{addresses:?}: {error:?}");
        }
    }

    #[tokio::test]
    async fn of_several_addresses_the_harmless_ones_are_called() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move { axum::serve(listener, axum::Router::new()).await });
        let status = call(&["169.254.169.254", "127.0.0.1"], format!("http://models.example:{port}")).await;
        assert_eq!(status.unwrap(), 404);
    }

    #[tokio::test]
    async fn the_hosts_file_is_read_and_old_spellings_of_an_address_are_no_names() {
        let resolver = Resolver::new(NameServers::new().unwrap());
        let local = resolver.resolve("localhost".parse().unwrap()).await.unwrap().next().unwrap();
        assert!(local.ip().is_loopback());
        assert!(resolver.resolve("0xa9fea9fe".parse().unwrap()).await.is_err());
    }

    /// A name server that answers nothing.
    #[tokio::test]
    async fn names_that_nobody_answers_for_hold_up_nobody() {
        let server = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut connection = ConnectionConfig::udp();
        connection.port = server.local_addr().unwrap().port();
        let server = NameServerConfig::new("127.0.0.1".parse().unwrap(), true, vec![connection]);
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        builder.options_mut().timeout = QUERY_TIMEOUT;
        let silent = NameServers(builder.build().unwrap());
        let began = std::time::Instant::now();
        let lookups = (0..600).map(|n| silent.lookup(&format!("model-{n}.example.")));
        let all = tokio::spawn(futures::future::join_all(lookups));
        // More than the system's resolver has threads; a lookup with it still succeeds at once.
        let other = tokio::time::timeout(Duration::from_secs(1), tokio::net::lookup_host(("localhost", 1))).await;
        assert!(other.unwrap().unwrap().next().is_some());
        assert!(all.await.unwrap().iter().all(Result::is_err));
        assert!(began.elapsed() < LOOKUP_TIMEOUT * 2, "{:?}", began.elapsed());
    }

    #[test]
    fn an_address_is_refused_in_every_spelling() {
        for host in ["169.254.169.254", "2852039166", "0xa9.0xfe.43518", "[fe80::1]", "[::ffff:a9fe:a9fe]"] {
            let url = Url::parse(&format!("http://{host}/v1")).unwrap();
            assert_eq!(check_literal(&url), Err(Forbidden), "{host}");
        }
        for host in ["127.0.0.1", "[::1]", "models.example", "10.0.0.7"] {
            assert_eq!(check_literal(&Url::parse(&format!("http://{host}/v1")).unwrap()), Ok(()), "{host}");
        }
    }
}
