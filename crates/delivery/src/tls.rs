//! TLS towards next hops: which authorities are trusted, and what is wrong with a certificate, in plain words.

use crate::connect::{in_words, seconds};
use crate::host::Host;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, DnsName, ServerName};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Protects connections and checks the certificates of next hops.
#[derive(Clone)]
pub struct Tls(Arc<ClientConfig>);

/// Why trust could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A file of `[network] trust`.
    #[error("[network] trust: {path}: {problem}")]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The library refuses its settings.
    #[error("TLS: {0}")]
    Library(#[from] rustls::Error),
}

impl Tls {
    /// Trusts the system's authorities and those in these PEM files. TLS 1.2 and 1.3.
    ///
    /// A system without authorities is no error: every certificate is refused then, with words that say so.
    ///
    /// # Errors
    /// A file cannot be read or holds no certificate.
    pub fn new<P: AsRef<Path>>(trust: &[P]) -> Result<Self, TrustError> {
        let mut roots = RootCertStore::empty();
        let system = rustls_native_certs::load_native_certs();
        for error in &system.errors {
            tracing::warn!(%error, "the system's certificate authorities are incomplete");
        }
        roots.add_parsable_certificates(system.certs);
        for path in trust {
            add_file(&mut roots, path.as_ref())?;
        }
        if roots.is_empty() {
            tracing::warn!("no certificate authority is known: next hops with TLS will be refused");
        }
        Self::with_roots(roots)
    }

    /// Trusts these authorities alone.
    ///
    /// # Errors
    /// The library refuses its settings.
    pub fn with_roots(roots: RootCertStore) -> Result<Self, TrustError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }

    /// Does the handshake with a server that must prove to be `host`.
    ///
    /// # Errors
    /// In words for people.
    pub(crate) async fn protect(&self, stream: TcpStream, host: &Host, within: Duration) -> Result<TlsStream<TcpStream>, String> {
        let name = match host {
            Host::Name(name) => ServerName::DnsName(DnsName::try_from(name.clone()).map_err(|_| "this is no DNS name".to_owned())?),
            Host::Address(ip) => ServerName::from(*ip),
        };
        let handshake = TlsConnector::from(Arc::clone(&self.0)).connect(name, stream);
        match tokio::time::timeout(within, handshake).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(explain(&error, host)),
            Err(_) => Err(format!("the TLS handshake did not end within {}", seconds(within))),
        }
    }
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), TrustError> {
    let wrong = |problem: String| TrustError::File { path: path.to_owned(), problem };
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))?;
    let before = roots.len();
    for certificate in certificates {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.len() == before { Err(wrong("no certificate in it".into())) } else { Ok(()) }
}

fn explain(error: &io::Error, host: &Host) -> String {
    let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return format!("the TLS handshake failed: {}", in_words(error));
    };
    match error {
        rustls::Error::InvalidCertificate(problem) => explain_certificate(problem, host),
        rustls::Error::InvalidMessage(_) => "the server does not speak TLS here".into(),
        rustls::Error::AlertReceived(alert) => format!("the server refused the TLS handshake: {alert:?}"),
        rustls::Error::PeerIncompatible(_) => {
            "the server offers no TLS version or cipher that is safe enough (TLS 1.2 is the least)".into()
        }
        _ => "the TLS handshake failed".into(),
    }
}

fn explain_certificate(problem: &CertificateError, host: &Host) -> String {
    match problem {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "the server's certificate has expired".into(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the server's certificate is not valid yet (or this machine's clock is slow)".into()
        }
        CertificateError::Revoked => "the server's certificate has been revoked".into(),
        CertificateError::UnknownIssuer => {
            "the server's certificate comes from no authority that this machine or [network] trust knows".into()
        }
        CertificateError::NotValidForName => format!("the server's certificate is not for {host}"),
        CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty() => {
            format!("the server's certificate is not for {host}: it names no host")
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            let names: Vec<String> = presented.iter().take(10).map(|name| plain_name(name)).collect();
            format!("the server's certificate is not for {host}, only for {}", names.join(", "))
        }
        CertificateError::BadEncoding => "the server's certificate is damaged".into(),
        CertificateError::BadSignature => "the server's certificate is not signed by the authority that it names".into(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "the server's certificate is not meant for servers".into()
        }
        other => format!("the server's certificate cannot be accepted: {}", plain_reason(other)),
    }
}

/// The library's own words, without what a peer may have put into them.
fn plain_reason(problem: &CertificateError) -> String {
    let shown = format!("{problem:?}");
    if shown.contains("CaUsedAsEndEntity") {
        return "it is an authority's certificate (CA:TRUE), not a server's; have one issued with CA:FALSE".into();
    }
    shown.chars().filter(|c| c.is_ascii_alphanumeric() || " ()_".contains(*c)).take(120).collect()
}

/// `DnsName("mail.example.com")` as the library shows it, without the wrapping; only what names have in them.
fn plain_name(shown: &str) -> String {
    let inner = shown.split_once('(').map_or(shown, |(_, rest)| rest.trim_end_matches(')'));
    inner.chars().filter(|c| c.is_ascii_alphanumeric() || ".-*:".contains(*c)).take(253).collect()
}
