//! Which URLs a provider may have.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Checks the URL of a provider. Link-local and metadata addresses are refused: they serve cloud credentials to any
/// client inside the cloud.
///
/// # Errors
/// The broken rule.
pub(crate) fn check_base_url(text: &str) -> Result<(), &'static str> {
    let uri: http::Uri = text.parse().map_err(|_| "must be an absolute URL")?;
    if !(text.starts_with("http://") || text.starts_with("https://")) {
        return Err("must start with 'http://' or 'https://'");
    }
    if text.contains(|c: char| c == '?' || c == '#' || c.is_whitespace()) {
        return Err("must not contain a query, a fragment or white space");
    }
    if text.trim_end_matches('/').ends_with("/chat/completions") {
        return Err("must not contain '/chat/completions', which is added to it");
    }
    if uri.authority().is_some_and(|a| a.as_str().contains('@')) {
        return Err("must not contain credentials; use spec.provider.apiKeySecretRef");
    }
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    let refused = match host.parse::<IpAddr>() {
        Ok(address) => is_metadata_address(address),
        Err(_) if is_number(host.trim_end_matches('.').rsplit('.').next().unwrap_or_default()) => {
            return Err("must contain a host name, or an IP address in its usual form");
        }
        Err(_) => host.is_empty() || host == "metadata" || host.starts_with("metadata."),
    };
    if refused { Err("must not point to a link-local, unspecified or metadata address") } else { Ok(()) }
}

/// Whether the last part of a host is a number. URLs treat such a host as an IPv4 address in an old notation (WHATWG
/// URL, 3.5).
fn is_number(part: &str) -> bool {
    let hex = part.strip_prefix("0x");
    let digits = |text: &str, radix| text.chars().all(|c| c.is_digit(radix));
    hex.map_or_else(|| !part.is_empty() && digits(part, 10), |rest| digits(rest, 16))
}

/// Whether an address serves credentials to any client inside a cloud, or has no meaning elsewhere: link-local and
/// unspecified addresses, and other metadata services (AWS and Google by IPv6, Alibaba, Azure). IPv6 forms of IPv4
/// addresses count as well (RFC 4291, 6052).
pub(crate) fn is_metadata_address(address: IpAddr) -> bool {
    const V4: [Ipv4Addr; 2] = [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16)];
    const V6: [Ipv6Addr; 2] =
        [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];
    match address {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_unspecified() || V4.contains(&ip),
        IpAddr::V6(ip) => {
            let [a, b, c, d, e, f, high, low] = ip.segments();
            let embedded = matches!([a, b, c, d, e, f], [0, 0, 0, 0, 0, 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0]);
            let [[w, x], [y, z]] = [high.to_be_bytes(), low.to_be_bytes()];
            ip.is_unicast_link_local()
                || ip.is_unspecified()
                || V6.contains(&ip)
                || (embedded && is_metadata_address(IpAddr::V4(Ipv4Addr::new(w, x, y, z))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::check_base_url;

    #[test]
    fn a_provider_url_has_a_host_name_or_an_ordinary_address() {
        for url in [
            "https://api.example/v1",
            "http://models:8080",
            "http://10.0.0.7/v1",
            "http://[2001:db8::1]/v1",
            "http://x1.2x",
        ] {
            assert_eq!(check_base_url(url), Ok(()), "{url}");
        }
        for (url, word) in [
            ("ftp://api.example", "http"),
            ("/v1", "http"),
            ("HTTP://api.example", "http"),
            ("https://api.example/v1?key=1", "query"),
            ("https://api.example/v1/chat/completions", "'/chat/completions'"),
            ("https://api.example/v1/chat/completions/", "'/chat/completions'"),
            ("https://api.example/v1#top", "fragment"),
            ("https://user:pw@api.example", "credentials"),
            ("http://169.254.169.254/latest", "link-local"),
            ("http://[fe80::1]/", "link-local"),
            ("http://[::ffff:169.254.169.254]/", "link-local"),
            ("http://[64:ff9b::a9fe:a9fe]/", "link-local"),
            ("http://[fd00:ec2::254]/", "link-local"),
            ("http://100.100.100.200/", "link-local"),
            ("http://0.0.0.0:8080/", "link-local"),
            ("http://metadata.google.internal/", "metadata"),
            ("http://2852039166/", "usual form"),
            ("http://0xA9FEA9FE/", "usual form"),
            ("http://169.254.43518/", "usual form"),
            ("http://169.254.169.0xfe./", "usual form"),
        ] {
            assert!(check_base_url(url).is_err_and(|rule| rule.contains(word)), "{url}: {:?}", check_base_url(url));
        }
    }
}
