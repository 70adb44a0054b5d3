//! Explains why a server's certificate was refused, and what to do about it.

use rustls::{CertificateError, Error as TlsError};
use std::{error::Error, io};

/// The problem with a certificate, as it follows "the server …"; `None` for other errors. `setting` names the file with
/// the trusted CA certificates.
pub(crate) fn explain_tls(error: &(dyn Error + 'static), setting: &str) -> Option<String> {
    let TlsError::InvalidCertificate(wrong) = find(error)? else { return None };
    Some(match wrong {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            format!(
                "has a certificate of a CA that is not trusted; {setting} names the file with the trusted CA certificates"
            )
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            // Each name has the form `DnsName("host")`.
            let names: Vec<_> = presented.iter().map(|name| name.split('"').nth(1).unwrap_or(name)).collect();
            let others = if names.is_empty() { "no host".to_owned() } else { names.join(", ") };
            format!("has a certificate for {others}, not for {}", expected.to_str())
        }
        CertificateError::NotValidForName => "has a certificate for another host".to_owned(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "has a certificate that has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "has a certificate that is not valid yet".to_owned()
        }
        CertificateError::Revoked => "has a certificate that was revoked".to_owned(),
        other => format!("has a certificate that can't be used ({other})"),
    })
}

/// Finds the TLS library's error in a chain of sources. An I/O error does not list its inner error as its source.
fn find<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e TlsError> {
    if let Some(found) = error.downcast_ref::<TlsError>() {
        return Some(found);
    }
    let carried = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    let carried = carried.map(|inner| -> &'e (dyn Error + 'static) { inner });
    carried.or_else(|| error.source()).and_then(find)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_certificate_is_found_inside_an_io_error() {
        let wrong = TlsError::InvalidCertificate(CertificateError::UnknownIssuer);
        let carried = io::Error::new(io::ErrorKind::InvalidData, io::Error::other(wrong));
        let text = explain_tls(&carried, "database.rootCertificates").unwrap();
        assert!(text.contains("not trusted; database.rootCertificates names"), "{text}");
        assert_eq!(explain_tls(&io::Error::other("reset"), "x"), None);
    }
}
