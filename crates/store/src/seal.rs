//! Secrets at rest: sealed with a key that lies outside the data.
//!
//! AES-256-GCM-SIV (RFC 8452) with the place of the value (table, row, field) as associated data, so
//! that a sealed value cannot be moved to another row.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use aws_lc_rs::{digest, hkdf, hmac};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::{fmt, io};
use zeroize::{Zeroize, Zeroizing};

/// Bytes of a master key.
const KEY_BYTES: usize = 32;
/// First byte of a sealed value: the form it has.
const FORM: u8 = 1;
/// Bytes that name the key a value was sealed under.
const KEY_ID_BYTES: usize = 4;

/// A secret. It is wiped when dropped, and shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Keeps these bytes secret.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes, for the one place that needs them.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Secret {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Why there is no key, or a value does not open.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Others can read the key.
    #[error("{0} can be read by others; run 'chmod 600' on it, and change what it protects if somebody did")]
    Exposed(PathBuf),
    /// Not a key.
    #[error("{0} is not a master key of {KEY_BYTES} bytes; restore it from your backup")]
    NotAKey(PathBuf),
    /// The data was sealed under another key.
    #[error(
        "the master key {0} is not the one this data was sealed with; restore the right key, or set [secrets] master_key_file to it"
    )]
    WrongKey(PathBuf),
    /// There is data, and no key.
    #[error("the master key {0} is missing, and this data is sealed with it; restore it from your backup")]
    Missing(PathBuf),
    /// A sealed value that was changed or moved.
    #[error("a sealed value does not open: it was changed, or moved from another row")]
    Damaged,
    /// The disk.
    #[error("{path}: {error}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What.
        error: io::Error,
    },
}

/// Seals and opens.
pub struct Sealer {
    key: LessSafeKey,
    key_id: [u8; KEY_ID_BYTES],
    tokens: hmac::Key,
    random: SystemRandom,
    path: PathBuf,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealer({})", self.path.display())
    }
}

/// Where the master key of a data folder lies when the settings do not say: outside of the data.
///
/// # Errors
/// The disk's.
pub fn default_key_path(data_dir: &Path) -> Result<PathBuf, SealError> {
    if let Some(folder) = std::env::var_os("CREDENTIALS_DIRECTORY") {
        let credential = Path::new(&folder).join("sendero.key");
        if credential.exists() {
            return Ok(credential);
        }
    }
    let name = format!("{}.key", folder_id(data_dir)?);
    if rustix::process::geteuid().is_root() {
        return Ok(Path::new("/etc/sendero").join(name));
    }
    let home = || std::env::var_os("HOME").map_or_else(|| PathBuf::from("."), PathBuf::from);
    let config = std::env::var_os("XDG_CONFIG_HOME").map_or_else(|| home().join(".config"), PathBuf::from);
    Ok(config.join("sendero").join(name))
}

/// A name of the data folder that stays with it, made at the first start.
fn folder_id(data_dir: &Path) -> Result<String, SealError> {
    let path = data_dir.join("id");
    let failed = |error| SealError::Io { path: path.clone(), error };
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            std::fs::create_dir_all(data_dir).map_err(failed)?;
            let mut bytes = [0; 8];
            SystemRandom::new().fill(&mut bytes).map_err(|_| failed(io::Error::other("no random numbers")))?;
            let id = hex(&bytes);
            let mut file = File::create_new(&path).map_err(failed)?;
            file.write_all(id.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
            Ok(id)
        }
        Err(error) => Err(failed(error)),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Sealer {
    /// Opens the key at `path`; makes one when there is none and `may_make` allows.
    ///
    /// # Errors
    /// No key, no proper key, or one that others can read.
    pub fn open(path: &Path, may_make: bool) -> Result<Self, SealError> {
        let failed = |error| SealError::Io { path: path.to_owned(), error };
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound && may_make => return Self::make(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(SealError::Missing(path.to_owned())),
            Err(error) => return Err(failed(error)),
        };
        let mode = file.metadata().map_err(failed)?.mode();
        if mode & 0o077 != 0 {
            return Err(SealError::Exposed(path.to_owned()));
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_BYTES + 1));
        file.read_to_end(&mut bytes).map_err(failed)?;
        Self::with_key(&bytes, path)
    }

    fn make(path: &Path) -> Result<Self, SealError> {
        let failed = |error| SealError::Io { path: path.to_owned(), error };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        SystemRandom::new().fill(&mut *bytes).map_err(|_| failed(io::Error::other("no random numbers")))?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
        file.write_all(&*bytes).and_then(|()| file.sync_all()).map_err(failed)?;
        Self::with_key(&*bytes, path)
    }

    fn with_key(bytes: &[u8], path: &Path) -> Result<Self, SealError> {
        let not_a_key = || SealError::NotAKey(path.to_owned());
        if bytes.len() != KEY_BYTES {
            return Err(not_a_key());
        }
        let seal = derive(bytes, b"sendero seal 1").ok_or_else(not_a_key)?;
        let tokens = derive(bytes, b"sendero tokens 1").ok_or_else(not_a_key)?;
        let id = digest::digest(&digest::SHA256, &*seal);
        let key = UnboundKey::new(&AES_256_GCM_SIV, &*seal).map_err(|_| not_a_key())?;
        Ok(Self {
            key: LessSafeKey::new(key),
            key_id: id.as_ref()[..KEY_ID_BYTES].try_into().map_err(|_| not_a_key())?,
            tokens: hmac::Key::new(hmac::HMAC_SHA256, &*tokens),
            random: SystemRandom::new(),
            path: path.to_owned(),
        })
    }

    /// Where the key lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Seals a value for one place.
    ///
    /// # Errors
    /// No random numbers.
    pub fn seal(&self, place: &str, value: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(|_| SealError::Damaged)?;
        let mut sealed = vec![FORM];
        sealed.extend_from_slice(&self.key_id);
        sealed.extend_from_slice(&nonce);
        let mut text = value.to_vec();
        let sealing =
            self.key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place.as_bytes()), &mut text);
        sealing.map_err(|_| SealError::Damaged)?;
        sealed.extend_from_slice(&text);
        Ok(sealed)
    }

    /// Opens a value that was sealed for this place.
    ///
    /// # Errors
    /// Another key, or a value that was changed or moved.
    pub fn open_value(&self, place: &str, sealed: &[u8]) -> Result<Secret, SealError> {
        let (form, rest) = sealed.split_first().ok_or(SealError::Damaged)?;
        let (key_id, rest) = rest.split_at_checked(KEY_ID_BYTES).ok_or(SealError::Damaged)?;
        if *form != FORM {
            return Err(SealError::Damaged);
        }
        if key_id != self.key_id {
            return Err(SealError::WrongKey(self.path.clone()));
        }
        let (nonce, text) = rest.split_at_checked(NONCE_LEN).ok_or(SealError::Damaged)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Damaged)?;
        let mut text = Zeroizing::new(text.to_vec());
        let opened = self.key.open_in_place(nonce, Aad::from(place.as_bytes()), &mut text).map_err(|_| SealError::Damaged)?;
        Ok(Secret::new(&*opened))
    }

    /// The keyed hash under which a token's secret is found. It cannot be turned back.
    #[must_use]
    pub fn token_hash(&self, secret: &[u8]) -> [u8; 32] {
        let tag = hmac::sign(&self.tokens, secret);
        tag.as_ref().try_into().expect("HMAC-SHA256 has 32 bytes")
    }

    /// Random bytes.
    ///
    /// # Errors
    /// The system has none.
    pub fn random<const N: usize>(&self) -> Result<[u8; N], SealError> {
        let mut bytes = [0; N];
        self.random.fill(&mut bytes).map_err(|_| SealError::Damaged)?;
        Ok(bytes)
    }
}

struct Length;

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        KEY_BYTES
    }
}

fn derive(master: &[u8], purpose: &[u8]) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    let key = hkdf::Salt::new(hkdf::HKDF_SHA256, b"sendero").extract(master);
    let mut out = Zeroizing::new([0; KEY_BYTES]);
    key.expand(&[purpose], Length).ok()?.fill(&mut *out).ok()?;
    Some(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_sealed_value_opens_in_its_own_place_alone() {
        let folder = tempfile::tempdir().unwrap();
        let sealer = Sealer::open(&folder.path().join("k"), true).unwrap();
        let sealed = sealer.seal("channels/1/secret", b"pass phrase").unwrap();
        assert_eq!(sealer.open_value("channels/1/secret", &sealed).unwrap().expose(), b"pass phrase");
        assert!(matches!(sealer.open_value("channels/2/secret", &sealed), Err(SealError::Damaged)));
        let mut changed = sealed.clone();
        *changed.last_mut().unwrap() ^= 1;
        assert!(matches!(sealer.open_value("channels/1/secret", &changed), Err(SealError::Damaged)));
        assert!(!sealed.windows(4).any(|part| part == b"pass"));
        let other = Sealer::open(&folder.path().join("other"), true).unwrap();
        assert!(matches!(other.open_value("channels/1/secret", &sealed), Err(SealError::WrongKey(_))));
    }

    #[test]
    fn a_key_is_private_whole_and_never_made_for_data_that_has_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k");
        assert!(matches!(Sealer::open(&path, false), Err(SealError::Missing(_))));
        Sealer::open(&path, true).unwrap();
        Sealer::open(&path, false).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Sealer::open(&path, true), Err(SealError::Exposed(_))));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, b"short").unwrap();
        assert!(matches!(Sealer::open(&path, true), Err(SealError::NotAKey(_))));
    }

    #[test]
    fn a_secret_is_never_printed() {
        assert_eq!(format!("{:?}", Secret::new("pass phrase")), "Secret(***)");
    }
}
