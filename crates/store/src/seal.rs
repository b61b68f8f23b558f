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
    /// More than can be sealed at once.
    #[error("the value is too long to be sealed")]
    TooLong,
    /// The data folder's id was changed.
    #[error("{0} does not hold this data folder's id, which names its master key; restore it from your backup")]
    NotAnId(PathBuf),
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
/// The service manager's credential `sendero.key` comes first. Then a file named after the data
/// folder's own id: in `/etc/sendero` for root, else in the user's configuration folder.
///
/// # Errors
/// The disk's, or a damaged id.
pub fn default_key_path(data_dir: &Path) -> Result<PathBuf, SealError> {
    if let Some(credential) = credentials().map(|folder| folder.join("sendero.key")).filter(|path| path.exists()) {
        return Ok(credential);
    }
    let name = format!("{}.key", folder_id(data_dir)?);
    if rustix::process::geteuid().is_root() {
        return Ok(Path::new("/etc/sendero").join(name));
    }
    let home = || std::env::var_os("HOME").map_or_else(|| PathBuf::from("."), PathBuf::from);
    let config = std::env::var_os("XDG_CONFIG_HOME").map_or_else(|| home().join(".config"), PathBuf::from);
    Ok(config.join("sendero").join(name))
}

/// The folder in which a service manager hands over secrets.
fn credentials() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from)
}

/// A service manager lets a user read by an access list, which shows as the group's bit; the folder
/// around it is closed to everybody else.
fn is_exposed(mode: u32, is_credential: bool) -> bool {
    mode & if is_credential { 0o037 } else { 0o077 } != 0
}

/// A name of the data folder that stays with it, made at the first start.
fn folder_id(data_dir: &Path) -> Result<String, SealError> {
    let path = data_dir.join("id");
    let failed = |error| SealError::Io { path: path.clone(), error };
    let read = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            std::fs::create_dir_all(data_dir).map_err(failed)?;
            let bytes: [u8; 8] = random(&SystemRandom::new()).map_err(failed)?;
            make_file(&path, hex(&bytes).as_bytes(), 0o644).map_err(failed)?;
            std::fs::read_to_string(&path)
        }
        read => read,
    };
    let id = read.map_err(failed)?.trim().to_owned();
    // The id becomes part of a path.
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(SealError::NotAnId(path));
    }
    Ok(id)
}

/// Makes a file that is there whole or not at all. One that is there already stays.
fn make_file(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}", std::process::id()));
    let draft = PathBuf::from(draft);
    let _ = std::fs::remove_file(&draft);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft)?;
    let linked = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| std::fs::hard_link(&draft, path));
    std::fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => File::open(folder)?.sync_all(),
    }
}

fn random<const N: usize>(source: &SystemRandom) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    source.fill(&mut bytes).map_err(|_| io::Error::other("the system has no random numbers"))?;
    Ok(bytes)
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
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound && may_make => return Self::make(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(SealError::Missing(path.to_owned())),
            Err(error) => return Err(failed(error)),
        };
        let mode = file.metadata().map_err(failed)?.mode();
        if is_exposed(mode, credentials().is_some_and(|folder| path.starts_with(folder))) {
            return Err(SealError::Exposed(path.to_owned()));
        }
        // One byte more than a key: a longer file is none, and is not read to its end.
        let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_BYTES + 1));
        file.take(KEY_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
        Self::with_key(&bytes, path)
    }

    fn make(path: &Path) -> Result<Self, SealError> {
        let failed = |error| SealError::Io { path: path.to_owned(), error };
        let bytes = Zeroizing::new(random::<KEY_BYTES>(&SystemRandom::new()).map_err(failed)?);
        make_file(path, &*bytes, 0o600).map_err(failed)?;
        Self::open(path, false)
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
        let nonce: [u8; NONCE_LEN] = self.random()?;
        let mut sealed = vec![FORM];
        sealed.extend_from_slice(&self.key_id);
        sealed.extend_from_slice(&nonce);
        // With room for the tag: a buffer that grows leaves its clear text behind.
        let mut text = Zeroizing::new(Vec::with_capacity(value.len() + AES_256_GCM_SIV.tag_len()));
        text.extend_from_slice(value);
        let sealing =
            self.key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place.as_bytes()), &mut *text);
        sealing.map_err(|_| SealError::TooLong)?;
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

    /// What stands for an address that is forgotten: the same for the same address, and it cannot be turned back without
    /// the key.
    #[must_use]
    pub fn pseudonym(&self, address: &str) -> String {
        let tag = hmac::sign(&self.tokens, format!("forgotten address {address}").as_bytes());
        format!("forgotten-{}@forgotten.invalid", hex(&tag.as_ref()[..8]))
    }

    /// Random bytes.
    ///
    /// # Errors
    /// The system has none.
    pub fn random<const N: usize>(&self) -> Result<[u8; N], SealError> {
        random(&self.random).map_err(|error| SealError::Io { path: self.path.clone(), error })
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
    fn a_key_that_is_there_is_never_replaced_by_a_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/k");
        Sealer::open(&path, true).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        make_file(&path, &[7; KEY_BYTES], 0o600).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft stays behind");
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_data_folder_keeps_its_id_and_a_damaged_one_names_no_key() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let id = folder_id(&data).unwrap();
        assert_eq!(folder_id(&data).unwrap(), id);
        assert_ne!(folder_id(folder.path()).unwrap(), id);
        for damaged in ["", "../../etc/passwd", "a/b"] {
            std::fs::write(data.join("id"), damaged).unwrap();
            assert!(matches!(folder_id(&data), Err(SealError::NotAnId(_))), "{damaged}");
        }
    }

    #[test]
    fn a_key_is_exposed_by_any_bit_for_others_a_credential_by_more_than_the_groups_reading() {
        let exposed = |is_credential| {
            [0o600, 0o400, 0o440, 0o640, 0o604, 0o660, 0o644].into_iter().filter(move |mode| is_exposed(*mode, is_credential))
        };
        assert!(exposed(false).eq([0o440, 0o640, 0o604, 0o660, 0o644]));
        assert!(exposed(true).eq([0o604, 0o660, 0o644]));
    }

    #[test]
    fn the_hash_of_a_token_needs_the_key_and_differs_for_each() {
        let folder = tempfile::tempdir().unwrap();
        let open = |name| Sealer::open(&folder.path().join(name), true).unwrap();
        let (one, other) = (open("one"), open("other"));
        assert_eq!(one.token_hash(b"secret"), open("one").token_hash(b"secret"));
        assert_ne!(one.token_hash(b"secret"), other.token_hash(b"secret"));
        assert_ne!(one.token_hash(b"secret"), one.token_hash(b"secreT"));
    }

    #[test]
    fn a_secret_is_never_printed() {
        assert_eq!(format!("{:?}", Secret::new("pass phrase")), "Secret(***)");
    }
}
