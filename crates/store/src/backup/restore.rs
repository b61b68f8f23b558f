//! Puts a backup into an empty data folder.

use super::manifest::{Entry, Manifest};
use super::{BackupError, DIRECTORY, ID, Tell, manifest, sync_folder};
use crate::directory::opens_with;
use crate::disk::RealDisk;
use crate::embedded::{self, Origin, fill, is_unfinished};
use crate::seal::{SealError, Sealer, default_key_path};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// What the backup said of itself.
    pub manifest: Manifest,
    /// The key that opens its sealed credentials.
    pub key: PathBuf,
}

/// Restores a backup into a data folder that is absent or empty. `key` is the master key's file where the settings name
/// it. At the next start everything that is open is held.
///
/// # Errors
/// See [`BackupError`]. What can be known before is known before anything is written.
pub fn restore(from: &Path, data_dir: &Path, key: Option<&Path>, tell: Tell<'_>) -> Result<Restored, BackupError> {
    is_empty(data_dir)?;
    let manifest = Manifest::read(from)?;
    if manifest.queue_format != embedded::FORMAT.trim_ascii_end() {
        let known = embedded::FORMAT.trim_ascii_end();
        let why = format!("its queue has the format '{}', and this version knows '{known}'", manifest.queue_format);
        return Err(BackupError::NotABackup { folder: from.to_owned(), why });
    }
    let problems = manifest.verify(from, tell)?;
    if !problems.is_empty() {
        return Err(BackupError::Damaged { folder: from.to_owned(), problems });
    }
    let key = check_key(from, &manifest, key)?;
    write(from, data_dir, &manifest)?;
    Ok(Restored { manifest, key })
}

fn is_empty(data_dir: &Path) -> Result<(), BackupError> {
    let mut entries = match std::fs::read_dir(data_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(BackupError::at(data_dir))?,
    };
    if entries.next().is_none() {
        return Ok(());
    }
    let folder = data_dir.to_owned();
    Err(if is_unfinished(&data_dir.join("queue")) { BackupError::Unfinished(folder) } else { BackupError::NotEmpty(folder) })
}

/// Opens what the directory has sealed, with the key that the restored folder will look for.
fn check_key(from: &Path, manifest: &Manifest, key: Option<&Path>) -> Result<PathBuf, BackupError> {
    let path = match key {
        Some(key) => key.to_owned(),
        None if manifest.has(ID) => default_key_path(from)?,
        None => return Err(SealError::Missing(PathBuf::from("that [secrets] master_key_file named")).into()),
    };
    let sealer = Sealer::open(&path, false)?;
    opens_with(&from.join(DIRECTORY), &sealer).map_err(BackupError::Key)?;
    Ok(path)
}

/// The log is marked before anything else is there, so a folder that was not finished does not open.
fn write(from: &Path, data_dir: &Path, manifest: &Manifest) -> Result<(), BackupError> {
    let queue = data_dir.join("queue");
    DirBuilder::new().recursive(true).mode(0o700).create(&queue).map_err(BackupError::at(&queue))?;
    let _lock = embedded::lock_folder(&queue)?;
    let folders = ["queue/log", "queue/bodies", "queue", ""].map(|name| data_dir.join(name));
    for folder in &folders[..2] {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(BackupError::at(folder))?;
    }
    let log = RealDisk::open(&folders[0]).map_err(BackupError::at(&folders[0]))?;
    for folder in &folders {
        sync_folder(folder)?;
    }
    if let Some(parent) = data_dir.parent() {
        sync_folder(parent)?;
    }
    let filled = fill(&log, &Origin::Backup(manifest.at), || {
        manifest.files.iter().try_for_each(|entry| copy(from, data_dir, entry))?;
        folders.iter().try_for_each(|folder| sync_folder(folder))
    });
    filled.inspect_err(|_| clear(data_dir, manifest))
}

/// Takes back what was written, the mark last.
fn clear(data_dir: &Path, manifest: &Manifest) {
    let files = manifest.files.iter().map(|entry| data_dir.join(&entry.name));
    let removed = files.map(|path| match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    });
    let removed = removed.collect::<io::Result<()>>().and_then(|()| std::fs::remove_dir_all(data_dir.join("queue")));
    if let Err(error) = removed {
        tracing::warn!(folder = %data_dir.display(), %error, "what was restored so far was not removed");
    }
}

fn copy(from: &Path, data_dir: &Path, entry: &Entry) -> Result<(), BackupError> {
    let (source, path) = (from.join(&entry.name), data_dir.join(&entry.name));
    let mut reader = File::open(&source).map_err(BackupError::at(&source))?;
    let mode = if entry.name == ID { 0o644 } else { 0o600 };
    let made = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path);
    let mut file = made.map_err(BackupError::at(&path))?;
    io::copy(&mut reader, &mut file).map_err(BackupError::at(&path))?;
    file.sync_all().map_err(BackupError::at(&path))?;
    let (bytes, sha256) = manifest::hash(&path).map_err(BackupError::at(&path))?;
    if bytes == entry.bytes && sha256 == entry.sha256 {
        return Ok(());
    }
    let problems = vec![format!("{}: it changed while it was copied", entry.name)];
    Err(BackupError::Damaged { folder: from.to_owned(), problems })
}
