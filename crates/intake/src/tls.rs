//! The certificate that the doors show: the operator's, or one made at first start.

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// TLS 1.2 and 1.3 for the doors, with a certificate that can be exchanged while they are open.
pub struct ServerTls {
    certificate: PathBuf,
    key: PathBuf,
    current: ArcSwap<ServerConfig>,
}

/// Why there is no TLS with these files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("{path}: {error}; check that it is there and that this user may read it")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: String,
    },
    /// The certificate and the key cannot be used.
    #[error("{certificate} and {key}: {error}; give a certificate chain and its own key, both in PEM")]
    Unusable {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
        /// Why.
        error: String,
    },
    /// No certificate could be made.
    #[error("no certificate could be made for '{hostname}': {error}; check the setting hostname")]
    NotMade {
        /// For whom.
        hostname: String,
        /// Why.
        error: String,
    },
}

impl ServerTls {
    /// With the operator's own files, in PEM.
    ///
    /// # Errors
    /// They cannot be read, or do not belong together.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let config = load(certificate, key)?;
        Ok(Self { certificate: certificate.to_owned(), key: key.to_owned(), current: ArcSwap::from(config) })
    }

    /// With `tls/cert.pem` and `tls/key.pem` in the data folder, which are made when either is missing:
    /// self-signed, for `hostname` and this machine's loopback names.
    ///
    /// # Errors
    /// They cannot be made or read.
    pub fn self_signed(data_dir: &Path, hostname: &str) -> Result<Self, TlsError> {
        let folder = data_dir.join("tls");
        let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        if !certificate.exists() || !key.exists() {
            let made =
                make(hostname).map_err(|error| TlsError::NotMade { hostname: hostname.to_owned(), error: error.to_string() })?;
            keep(&folder, &key, &made.1)?;
            keep(&folder, &certificate, &made.0)?;
        }
        Self::from_files(&certificate, &key)
    }

    /// Reads the files again; connections from now on see the new certificate.
    ///
    /// # Errors
    /// The new files cannot be used. The old certificate stays in place.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.current.store(load(&self.certificate, &self.key)?);
        Ok(())
    }

    /// What the next handshake uses.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    /// The file with the certificate, for who wants to trust it.
    #[must_use]
    pub fn certificate_file(&self) -> &Path {
        &self.certificate
    }
}

fn load(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| TlsError::File { path: certificate.to_owned(), error: error.to_string() })?;
    let secret =
        PrivateKeyDer::from_pem_file(key).map_err(|error| TlsError::File { path: key.to_owned(), error: error.to_string() })?;
    let unusable = |error: rustls::Error| TlsError::Unusable {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        error: error.to_string(),
    };
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(unusable)?;
    Ok(Arc::new(config))
}

/// A certificate for ten years, and its key.
fn make(hostname: &str) -> Result<(String, String), rcgen::Error> {
    let mut names = vec![hostname.to_owned()];
    for name in ["localhost", "127.0.0.1", "::1"] {
        if name != hostname {
            names.push(name.to_owned());
        }
    }
    let mut parameters = rcgen::CertificateParams::new(names)?;
    parameters.distinguished_name.push(rcgen::DnType::CommonName, hostname);
    let year = i32::from(jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).year());
    parameters.not_before = rcgen::date_time_ymd(year - 1, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(year + 10, 1, 1);
    parameters.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let key = rcgen::KeyPair::generate()?;
    let certificate = parameters.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// Writes beside the place and renames, so that a crash leaves no half file.
fn keep(folder: &Path, path: &Path, pem: &str) -> Result<(), TlsError> {
    let fault = |error: io::Error| TlsError::File { path: path.to_owned(), error: error.to_string() };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(fault)?;
    let draft = path.with_extension("new");
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fault(error)),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(fault)?;
    file.write_all(pem.as_bytes()).and_then(|()| file.sync_all()).map_err(fault)?;
    fs::rename(&draft, path).map_err(fault)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_certificate_is_made_once_and_its_key_is_for_us_alone() {
        let folder = tempfile::tempdir().unwrap();
        ServerTls::self_signed(folder.path(), "mail.example.com").unwrap();
        let key = folder.path().join("tls/key.pem");
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        let before = fs::read(folder.path().join("tls/cert.pem")).unwrap();
        ServerTls::self_signed(folder.path(), "mail.example.com").unwrap();
        assert_eq!(fs::read(folder.path().join("tls/cert.pem")).unwrap(), before);
    }

    #[test]
    fn a_broken_new_file_leaves_the_old_certificate_in_place() {
        let folder = tempfile::tempdir().unwrap();
        let tls = ServerTls::self_signed(folder.path(), "mail.example.com").unwrap();
        let old = tls.config();
        let path = tls.certificate_file().to_owned();
        fs::write(&path, "-----BEGIN CERTIFICATE-----\nnothing\n").unwrap();
        assert!(tls.reload().is_err());
        assert!(Arc::ptr_eq(&tls.config(), &old));
        fs::remove_file(&path).unwrap();
        ServerTls::self_signed(folder.path(), "mail.example.com").unwrap();
        tls.reload().unwrap();
        assert!(!Arc::ptr_eq(&tls.config(), &old));
    }

    #[test]
    fn a_certificate_with_another_key_is_refused() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        ServerTls::self_signed(one.path(), "a.example").unwrap();
        ServerTls::self_signed(other.path(), "b.example").unwrap();
        let mixed = ServerTls::from_files(&one.path().join("tls/cert.pem"), &other.path().join("tls/key.pem"));
        assert!(matches!(mixed, Err(TlsError::Unusable { .. })));
    }
}
