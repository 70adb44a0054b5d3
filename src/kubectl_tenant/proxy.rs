//! The proxy on the way to the API server, chosen as kubectl chooses it.
//!
//! `kube` compares `NO_PROXY` with the proxy's own address, applies it to the kubeconfig's `proxy-url`, and refuses a proxy
//! without a scheme.

use http::Uri;
use std::net::IpAddr;

/// The proxy for `server`: the kubeconfig's `proxy-url`, otherwise `HTTPS_PROXY` (`HTTP_PROXY` for a server without TLS)
/// unless `NO_PROXY` names the server or the server is on this machine. `variable` reads an environment variable.
///
/// # Errors
/// When the proxy is no URL, or has a scheme other than `http`, `https` and `socks5`.
pub(super) fn resolve_proxy(
    proxy_url: Option<&str>,
    server: &Uri,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Uri>, String> {
    let set = |names: [&str; 2]| names.into_iter().find_map(|name| variable(name).filter(|value| !value.is_empty()));
    if let Some(proxy) = proxy_url.filter(|url| !url.is_empty()) {
        return parse_proxy(proxy, "proxy-url").map(Some);
    }
    let name = if server.scheme_str() == Some("http") { "HTTP_PROXY" } else { "HTTPS_PROXY" };
    let Some(proxy) = set([name, &name.to_lowercase()]) else { return Ok(None) };
    let host = server.host().unwrap_or_default().trim_matches(['[', ']']);
    let port = server.port_u16().unwrap_or(if server.scheme_str() == Some("http") { 80 } else { 443 });
    let exceptions = set(["NO_PROXY", "no_proxy"]).unwrap_or_default();
    if is_local(host) || exceptions.split(',').any(|exception| is_named(host, port, exception)) {
        return Ok(None);
    }
    parse_proxy(&proxy, name).map(Some)
}

fn parse_proxy(text: &str, origin: &str) -> Result<Uri, String> {
    let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    // `socks5h` differs only in who looks the name up, which is always the proxy here.
    let whole = whole.replacen("socks5h://", "socks5://", 1);
    // The URL may hold a password.
    let uri: Uri = whole.parse().map_err(|error| format!("{origin} is not a URL: {error}"))?;
    match uri.scheme_str() {
        Some("http" | "https" | "socks5") if uri.host().is_some() => Ok(uri),
        scheme => Err(format!("{origin}: '{}' is not http, https or socks5", scheme.unwrap_or_default())),
    }
}

fn is_local(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// Whether an item of `NO_PROXY` names the server: `*`, an address, a network, a domain with its subdomains
/// (`.example.com`: only the subdomains), each also with a port.
fn is_named(host: &str, port: u16, item: &str) -> bool {
    let item = item.trim().to_lowercase();
    if item.is_empty() || item == "*" {
        return item == "*";
    }
    let (name, wanted) = match item.rsplit_once(':') {
        Some((name, wanted)) if !name.contains(':') || name.ends_with(']') => (name, wanted.parse::<u16>().ok()),
        _ => (item.as_str(), None),
    };
    if wanted.is_some_and(|wanted| wanted != port) {
        return false;
    }
    let name = name.trim_matches(['[', ']']);
    match host.parse::<IpAddr>() {
        Ok(address) => is_in_network(address, name),
        Err(_) => {
            let name = name.strip_prefix('*').unwrap_or(name);
            let host = host.to_lowercase();
            match name.strip_prefix('.') {
                Some(_) => host.ends_with(name),
                None => host.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
            }
        }
    }
}

/// Whether an address is this one, or in this network (`10.0.0.0/8`).
fn is_in_network(address: IpAddr, network: &str) -> bool {
    let (base, length) = network.split_once('/').unwrap_or((network, "128"));
    let (Ok(base), Ok(length)) = (base.parse::<IpAddr>(), length.parse::<u32>()) else { return false };
    let (one, other, width) = match (address, base) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits()), u128::from(b.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits(), 128),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
    };
    let host_bits = width - length.min(width);
    one.checked_shr(host_bits).unwrap_or_default() == other.checked_shr(host_bits).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(proxy_url: Option<&str>, server: &str, variables: &[(&str, &str)]) -> Result<Option<String>, String> {
        let read = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        Ok(resolve_proxy(proxy_url, &server.parse().unwrap(), read)?.map(|uri| uri.to_string()))
    }

    #[test]
    fn the_proxy_is_chosen_as_kubectl_chooses_it() {
        let (server, used) = ("https://api.example.com:6443", Some("http://p:1/".to_owned()));
        assert_eq!(resolve(None, server, &[]), Ok(None));
        for name in ["HTTPS_PROXY", "https_proxy"] {
            assert_eq!(resolve(None, server, &[(name, "http://p:1")]), Ok(used.clone()));
        }
        assert_eq!(resolve(None, server, &[("HTTPS_PROXY", "p:1")]), Ok(used.clone()), "a proxy without a scheme");
        assert_eq!(resolve(None, server, &[("HTTP_PROXY", "http://p:1")]), Ok(None), "for servers without TLS");
        assert_eq!(resolve(None, "http://api.example.com", &[("HTTP_PROXY", "http://p:1")]), Ok(used.clone()));
        let other = [("HTTPS_PROXY", "http://other:1"), ("NO_PROXY", "*")];
        assert_eq!(resolve(Some("http://p:1"), server, &other), Ok(used.clone()), "the kubeconfig's comes first");
        assert_eq!(resolve(Some("http://p:1"), "https://127.0.0.1:6443", &[]), Ok(used), "for this machine too");
        assert_eq!(resolve(Some("socks5h://p:1"), server, &[]), Ok(Some("socks5://p:1/".to_owned())));
        for local in ["https://127.0.0.1:6443", "https://localhost:6443", "https://[::1]:6443"] {
            assert_eq!(resolve(None, local, &[("HTTPS_PROXY", "http://p:1")]), Ok(None), "{local}");
        }
    }

    #[test]
    fn no_proxy_names_servers() {
        let direct = |server: &str, exceptions: &str| {
            resolve(None, server, &[("HTTPS_PROXY", "http://p:1"), ("NO_PROXY", exceptions)]).unwrap().is_none()
        };
        let server = "https://api.example.com:6443";
        for exceptions in
            ["*", "example.com", ".example.com", "*.example.com", "API.example.com", "a, api.example.com:6443"]
        {
            assert!(direct(server, exceptions), "{exceptions}");
        }
        for exceptions in ["", "ample.com", ".api.example.com", "api.example.com:443", "10.0.0.0/8", "http://x y"] {
            assert!(!direct(server, exceptions), "{exceptions}");
        }
        assert!(direct("https://10.1.2.3:6443", "10.0.0.0/8") && direct("https://10.1.2.3", "10.1.2.3"));
        assert!(!direct("https://11.1.2.3:6443", "10.0.0.0/8") && !direct("https://10.1.2.3", "10.1.2.3:80"));
        assert!(direct("https://[fd00::1]:6443", "fd00::/8") && direct("https://[fd00::1]", "[fd00::1]:443"));
    }

    #[test]
    fn an_unusable_proxy_is_named_without_its_password() {
        for proxy in ["ftp://user:secret@p", "http://user:secret@p o"] {
            let error = resolve(None, "https://a", &[("HTTPS_PROXY", proxy)]).unwrap_err();
            assert!(error.starts_with("HTTPS_PROXY") && !error.contains("secret"), "{error}");
        }
    }
}
