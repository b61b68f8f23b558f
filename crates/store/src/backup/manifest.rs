//! What a backup says of itself, and whether it is so.

use super::{BackupError, DIRECTORY, ID, Progress, Tell};
use crate::body::file_of;
use aws_lc_rs::digest::{Context, SHA256};
use mail::Timestamp;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The format of backups that this version writes and reads.
pub(crate) const FORMAT: u32 = 1;
/// The file with all of this.
pub(crate) const MANIFEST: &str = "manifest.json";
/// Its own SHA-256, as `sha256sum` writes it.
pub(crate) const SUM: &str = "manifest.json.sha256";
/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;

/// What a backup has.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The format of the backup.
    pub format: u32,
    /// The version of the program that took it.
    pub program: String,
    /// When it was taken, by the wall clock.
    pub at: Timestamp,
    /// The format of the queue's folder.
    pub queue_format: String,
    /// Where the log ends.
    pub log_end: LogEnd,
    /// Messages that were open.
    pub open_messages: u64,
    /// Their recipients that were.
    pub open_recipients: u64,
    /// Every file, in the order of names.
    pub files: Vec<Entry>,
}

/// A place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LogEnd {
    /// The segment.
    pub segment: u32,
    /// Bytes of it.
    pub offset: u32,
}

/// One file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Entry {
    /// Its path below the backup's folder.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
}

impl Manifest {
    /// True for a folder that says it is a backup.
    #[must_use]
    pub fn is_in(folder: &Path) -> bool {
        folder.join(MANIFEST).exists()
    }

    /// Reads the manifest of a backup.
    ///
    /// # Errors
    /// None there, changed since it was written, or of a version that is not known.
    pub fn read(folder: &Path) -> Result<Self, BackupError> {
        let not = |why: String| BackupError::NotABackup { folder: folder.to_owned(), why };
        let bytes = std::fs::read(folder.join(MANIFEST)).map_err(|error| not(format!("{MANIFEST}: {error}")))?;
        let sum = std::fs::read_to_string(folder.join(SUM)).map_err(|error| not(format!("{SUM}: {error}")))?;
        let damaged = |problem: String| BackupError::Damaged { folder: folder.to_owned(), problems: vec![problem] };
        if sum != sum_line(&bytes) {
            return Err(damaged(format!("{MANIFEST}: its checksum is another than {SUM} says")));
        }
        let format = serde_json::from_slice::<serde_json::Value>(&bytes).ok().and_then(|value| value.get("format")?.as_u64());
        if format.is_some_and(|format| format != u64::from(FORMAT)) {
            let found = format.unwrap_or_default();
            return Err(not(format!("it has format {found}, and this version knows {FORMAT}; use the program that took it")));
        }
        let manifest: Self = serde_json::from_slice(&bytes).map_err(|error| damaged(format!("{MANIFEST}: {error}")))?;
        match manifest.files.iter().find(|entry| !is_known(&entry.name)) {
            Some(entry) => Err(damaged(format!("{MANIFEST}: names a file '{}' that no backup has", entry.name))),
            None => Ok(manifest),
        }
    }

    /// Looks at every file: what is not as it was written, in words.
    ///
    /// # Errors
    /// Somebody ended it.
    pub fn verify(&self, folder: &Path, tell: Tell<'_>) -> Result<Vec<String>, BackupError> {
        let total_bytes = self.bytes();
        let (mut problems, mut done_bytes) = (Vec::new(), 0);
        for entry in &self.files {
            if tell(Progress { step: "checking", done_bytes, total_bytes }).is_break() {
                return Err(BackupError::Stopped);
            }
            match hash(&folder.join(&entry.name)) {
                Ok((bytes, sha256)) if bytes == entry.bytes && sha256 == entry.sha256 => {}
                Ok((bytes, _)) if bytes != entry.bytes => {
                    problems.push(format!("{}: {bytes} bytes instead of {}", entry.name, entry.bytes));
                }
                Ok(_) => problems.push(format!("{}: its checksum is another one", entry.name)),
                Err(error) => problems.push(format!("{}: {error}", entry.name)),
            }
            done_bytes += entry.bytes;
        }
        let named: BTreeSet<&str> = self.files.iter().map(|entry| entry.name.as_str()).collect();
        let needed = [DIRECTORY, "queue/format"].into_iter().filter(|name| !named.contains(name));
        problems.extend(needed.map(|name| format!("{name}: is not in it")));
        Ok(problems)
    }

    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|entry| entry.bytes).sum()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.files.iter().any(|entry| entry.name == name)
    }
}

/// The line of a file's checksum.
pub(crate) fn sum_line(bytes: &[u8]) -> String {
    let mut context = Context::new(&SHA256);
    context.update(bytes);
    format!("{}  {MANIFEST}\n", hex(context))
}

/// The names that a backup may have: they become paths.
fn is_known(name: &str) -> bool {
    if let Some(segment) = name.strip_prefix("queue/log/") {
        return segment.strip_suffix(".seg").is_some_and(|number| number.len() == 10 && number.bytes().all(|b| b.is_ascii_digit()));
    }
    match name.strip_prefix("queue/bodies/") {
        Some(file) => file_of(file).is_some(),
        None => [DIRECTORY, ID, "queue/format", "queue/index.sqlite"].contains(&name),
    }
}

/// Length and SHA-256 of a file.
pub(crate) fn hash(path: &Path) -> io::Result<(u64, String)> {
    let (mut file, mut context, mut bytes) = (File::open(path)?, Context::new(&SHA256), 0);
    let mut piece = vec![0; CHUNK];
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok((bytes, hex(context))),
            Ok(count) => {
                context.update(&piece[..count]);
                bytes += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn hex(context: Context) -> String {
    context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
