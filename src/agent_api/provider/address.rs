//! Addresses that a provider may have. Link-local addresses and the metadata services of clouds give credentials to any
//! client inside; the operator refuses them in a `baseUrl`, and here they are refused after a name was resolved, because
//! its owner may change it at any time.

use crate::domain::base_url::is_metadata_address;
use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};
use std::{
    error::Error,
    net::{IpAddr, SocketAddr},
};

/// The address is one that must not be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its address is a link-local, unspecified or metadata address")]
pub struct Forbidden;

/// Looks names up with the system's resolver and leaves out what must not be called.
pub(super) struct Resolver<L> {
    lookup: L,
}

/// Finds the addresses of a name.
pub(super) trait Lookup: Send + Sync + 'static {
    fn lookup(&self, name: &str) -> impl Future<Output = std::io::Result<Vec<SocketAddr>>> + Send + use<Self>;
}

/// The system's resolver.
#[derive(Clone, Copy)]
pub(super) struct System;

impl Lookup for System {
    fn lookup(&self, name: &str) -> impl Future<Output = std::io::Result<Vec<SocketAddr>>> + Send + use<> {
        let name = name.to_owned();
        // The client puts the port in.
        async move { Ok(tokio::net::lookup_host((name.as_str(), 0)).await?.collect()) }
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

/// Checks a URL whose host is an address, in any of the forms that URLs know: no name is resolved for it.
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
    async fn the_systems_own_resolver_is_asked() {
        let resolver = Resolver::new(System);
        let local = resolver.resolve("localhost".parse().unwrap()).await.unwrap().next().unwrap();
        assert!(local.ip().is_loopback());
        // The old spellings of an address that it understands as well.
        let refused = resolver.resolve("0xa9fea9fe".parse().unwrap()).await;
        assert!(is_forbidden(refused.err().unwrap().as_ref()));
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
