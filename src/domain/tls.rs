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
        // rustls has no name for this one: webpki refuses a CA's certificate as a server's, which libpq accepts.
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => format!(
            "has a certificate that is marked as a CA's, as self-signed ones usually are; give it one with \
             basicConstraints=CA:FALSE (`openssl req -x509 -addext basicConstraints=critical,CA:FALSE …`), which may be \
             self-signed and stand in the file of {setting}"
        ),
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
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
    use rustls::{
        RootCertStore,
        client::{WebPkiServerVerifier, danger::ServerCertVerifier},
        crypto::aws_lc_rs,
        pki_types::{ServerName, UnixTime},
    };
    use std::sync::Arc;

    /// What a client says of a self-signed certificate that is its own root.
    fn verify_self_signed(is_ca: IsCa) -> Result<(), TlsError> {
        let mut params = CertificateParams::new(["db.example".to_owned()]).unwrap();
        params.is_ca = is_ca;
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let name = ServerName::try_from("db.example").unwrap();
        verifier.verify_server_cert(certificate.der(), &[], &name, &[], UnixTime::now()).map(drop)
    }

    #[test]
    fn a_self_signed_certificate_works_as_its_own_root_or_the_sentence_says_how() {
        assert_eq!(verify_self_signed(IsCa::ExplicitNoCa), Ok(()));
        let refused = verify_self_signed(IsCa::Ca(BasicConstraints::Unconstrained)).unwrap_err();
        let text = explain_tls(&refused, "database.sslRootCertFile").unwrap_or_default();
        assert!(text.contains("basicConstraints=CA:FALSE") && text.contains("database.sslRootCertFile"), "{text}");
    }

    #[test]
    fn a_refused_certificate_is_found_inside_an_io_error() {
        let wrong = TlsError::InvalidCertificate(CertificateError::UnknownIssuer);
        let carried = io::Error::new(io::ErrorKind::InvalidData, io::Error::other(wrong));
        let text = explain_tls(&carried, "database.rootCertificates").unwrap();
        assert!(text.contains("not trusted; database.rootCertificates names"), "{text}");
        assert_eq!(explain_tls(&io::Error::other("reset"), "x"), None);
    }
}
