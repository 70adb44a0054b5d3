//! Why a server's certificate was refused, in a sentence that says what to do about it.

use rustls::{CertificateError, Error as TlsError};
use std::{error::Error, io};

/// What is wrong, as it follows "the server …"; `None` if the certificate is not what went wrong. `setting` names the file
/// with the trusted authorities.
pub fn explain_tls(error: &(dyn Error + 'static), setting: &str) -> Option<String> {
    let TlsError::InvalidCertificate(wrong) = find(error)? else { return None };
    Some(match wrong {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            format!("has a certificate of an authority that is not trusted; {setting} names the file of trusted ones")
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            // They come as `DnsName("host")`.
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

/// The TLS library's error, wherever it stands in the chain. An I/O error keeps what it carries beside its sources.
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
    fn a_certificate_that_is_refused_is_explained_from_within_any_error() {
        let wrong = TlsError::InvalidCertificate(CertificateError::UnknownIssuer);
        let carried = io::Error::new(io::ErrorKind::InvalidData, io::Error::other(wrong));
        let text = explain_tls(&carried, "database.rootCertificates").unwrap();
        assert!(text.contains("not trusted; database.rootCertificates names"), "{text}");
        assert_eq!(explain_tls(&io::Error::other("reset"), "x"), None);
    }
}
