//! TLS to the server, as libpq's `sslmode` and `sslrootcert` ask for it, through rustls.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::PgError;

/// What `sslmode` and `sslrootcert` come to.
/// Sources: the table in <https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-PROTECTION>.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsOptions {
    pub(crate) mode: SslMode,
    pub(crate) verify: Verify,
    /// A file with certificates in PEM; `None` for the public authorities.
    pub(crate) root_certificate: Option<String>,
}

/// How much of the server's certificate is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verify {
    Nothing,
    Authority,
    AuthorityAndName,
}

impl TlsOptions {
    /// From the values as they stand in the URL.
    pub(crate) fn new(
        mode: Option<&str>,
        root_certificate: Option<String>,
    ) -> Result<Self, PgError> {
        // `system` asks for the public authorities, which are the default here.
        let root_certificate = root_certificate.filter(|path| path != "system");
        let (mode, verify) = match mode {
            Some("disable") => (SslMode::Disable, Verify::Nothing),
            None | Some("allow" | "prefer") => (SslMode::Prefer, Verify::Nothing),
            // As libpq: without a root certificate, the certificate is not checked.
            Some("require") if root_certificate.is_none() => (SslMode::Require, Verify::Nothing),
            Some("require" | "verify-ca") => (SslMode::Require, Verify::Authority),
            Some("verify-full") => (SslMode::Require, Verify::AuthorityAndName),
            Some(_) => {
                return Err(PgError::Config(
                    "sslmode must be disable, allow, prefer, require, verify-ca or verify-full"
                        .to_owned(),
                ));
            }
        };
        Ok(Self {
            mode,
            verify,
            root_certificate,
        })
    }

    /// What makes the TLS connections.
    pub(crate) fn connector(&self) -> Result<MakeRustlsConnect, PgError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|_| PgError::Config("TLS is not available".to_owned()))?;
        let config = if self.verify == Verify::AuthorityAndName {
            builder
                .with_root_certificates(self.roots()?)
                .with_no_client_auth()
        } else {
            let authority = match self.verify {
                Verify::Nothing => None,
                Verify::Authority | Verify::AuthorityAndName => {
                    let roots = Arc::new(self.roots()?);
                    let verifier =
                        WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
                            .build()
                            .map_err(|_| {
                                PgError::Config(
                                    "sslrootcert holds no usable certificate".to_owned(),
                                )
                            })?;
                    Some(verifier)
                }
            };
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Lenient {
                    authority,
                    provider,
                }))
                .with_no_client_auth()
        };
        Ok(MakeRustlsConnect::new(config))
    }

    fn roots(&self) -> Result<RootCertStore, PgError> {
        let mut roots = RootCertStore::empty();
        match &self.root_certificate {
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(path) => {
                let unreadable = || PgError::Config("sslrootcert cannot be read".to_owned());
                for certificate in CertificateDer::pem_file_iter(path).map_err(|_| unreadable())? {
                    let certificate = certificate.map_err(|_| unreadable())?;
                    roots.add(certificate).map_err(|_| unreadable())?;
                }
                if roots.is_empty() {
                    return Err(unreadable());
                }
            }
        }
        Ok(roots)
    }
}

/// A refusal that whoever configures the service can do something about.
#[derive(Debug, thiserror::Error)]
#[error("{remedy}")]
struct Refused {
    remedy: &'static str,
    source: tokio_postgres::Error,
}

/// The driver's error, behind a remedy where it is a matter of TLS.
pub(crate) fn explained(error: tokio_postgres::Error) -> Box<dyn std::error::Error + Send + Sync> {
    match remedy(&error) {
        Some(remedy) => Box::new(Refused {
            remedy,
            source: error,
        }),
        None => Box::new(error),
    }
}

fn remedy(error: &tokio_postgres::Error) -> Option<&'static str> {
    // The server's own words, in whatever language, end in this where pg_hba.conf takes no plain connection.
    let refused = error.as_db_error().is_some_and(|error| {
        *error.code() == SqlState::INVALID_AUTHORIZATION_SPECIFICATION
            && error.message().contains("no encryption")
    });
    if refused {
        return Some(
            "the server refuses connections without TLS: set sslmode=verify-full (or at least require) in DATABASE_URL",
        );
    }
    let first = std::error::Error::source(error);
    let tls = std::iter::successors(first, |error| error.source()).find_map(|error| {
        let inner = error.downcast_ref::<std::io::Error>()?.get_ref()?;
        inner.downcast_ref::<Error>()
    })?;
    match tls {
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => Some(
            "the server's certificate is for another host name: name the host in DATABASE_URL as the certificate does, or set sslmode=verify-ca",
        ),
        Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => Some(
            "the server's certificate is of an authority that is not trusted: name the file of the right one as sslrootcert in DATABASE_URL",
        ),
        _ => None,
    }
}

/// Checks less than rustls would: the authority alone (`verify-ca`), or nothing (`require`).
#[derive(Debug)]
struct Lenient {
    authority: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(authority) = &self.authority else {
            return Ok(ServerCertVerified::assertion());
        };
        match authority.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        ) {
            // The name is checked last: all else was well.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            result => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_mean_what_libpq_means() {
        for (mode, root, expected) in [
            (None, None, (SslMode::Prefer, Verify::Nothing)),
            (Some("disable"), None, (SslMode::Disable, Verify::Nothing)),
            (Some("require"), None, (SslMode::Require, Verify::Nothing)),
            (
                Some("require"),
                Some("ca.pem"),
                (SslMode::Require, Verify::Authority),
            ),
            (
                Some("verify-ca"),
                None,
                (SslMode::Require, Verify::Authority),
            ),
            (
                Some("verify-full"),
                Some("system"),
                (SslMode::Require, Verify::AuthorityAndName),
            ),
        ] {
            let options = TlsOptions::new(mode, root.map(str::to_owned)).unwrap();
            assert_eq!((options.mode, options.verify), expected, "{mode:?}");
        }
        assert!(TlsOptions::new(Some("verify"), None).is_err());
    }

    #[test]
    fn each_mode_makes_a_connector() {
        for mode in ["disable", "prefer", "require", "verify-ca", "verify-full"] {
            assert!(
                TlsOptions::new(Some(mode), None)
                    .unwrap()
                    .connector()
                    .is_ok(),
                "{mode}"
            );
        }
        let missing =
            TlsOptions::new(Some("verify-full"), Some("/nowhere.pem".to_owned())).unwrap();
        assert!(missing.connector().is_err());
    }
}
