//! Puts a backup into an empty data folder.

use super::manifest::{Entry, Manifest};
use super::{BackupError, DIRECTORY, ID, Tell, manifest, sync_folder};
use crate::directory::opens_with;
use crate::disk::RealDisk;
use crate::embedded::{self, Origin, fill, is_unfinished, take_back_marks};
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
    fill_folder(from, data_dir, &manifest)?;
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
fn fill_folder(from: &Path, data_dir: &Path, manifest: &Manifest) -> Result<(), BackupError> {
    let queue = data_dir.join("queue");
    DirBuilder::new().recursive(true).mode(0o700).create(&queue).map_err(BackupError::at(&queue))?;
    let _lock = embedded::lock_folder(&queue)?;
    // Checking took a while: a gateway may have been there meanwhile, or another restore.
    is_ours_alone(data_dir)?;
    let mut made = Made::default();
    write(from, data_dir, manifest, &mut made).inspect_err(|_| made.take_back(data_dir))
}

/// Refuses a folder in which there is more than a queue's folder with its lock.
fn is_ours_alone(data_dir: &Path) -> Result<(), BackupError> {
    for (folder, only) in [(data_dir.to_owned(), "queue"), (data_dir.join("queue"), "LOCK")] {
        for entry in std::fs::read_dir(&folder).map_err(BackupError::at(&folder))? {
            if entry.map_err(BackupError::at(&folder))?.file_name() != only {
                return Err(BackupError::NotEmpty(data_dir.to_owned()));
            }
        }
    }
    Ok(())
}

fn write(from: &Path, data_dir: &Path, manifest: &Manifest, made: &mut Made) -> Result<(), BackupError> {
    let folders = ["queue/log", "queue/bodies", "queue", ""].map(|name| data_dir.join(name));
    for folder in &folders[..2] {
        DirBuilder::new().mode(0o700).create(folder).map_err(BackupError::at(folder))?;
        made.folders.push(folder.clone());
    }
    let log = RealDisk::open(&folders[0]).map_err(BackupError::at(&folders[0]))?;
    for folder in &folders {
        sync_folder(folder)?;
    }
    if let Some(parent) = data_dir.parent() {
        sync_folder(parent)?;
    }
    let copy_all = || {
        manifest.files.iter().try_for_each(|entry| copy(from, data_dir, entry, made))?;
        folders.iter().try_for_each(|folder| sync_folder(folder))
    };
    fill(&log, &Origin::Backup(manifest.at), BackupError::at(&folders[0]), copy_all)
}

/// What a restore has made so far.
#[derive(Default)]
struct Made {
    folders: Vec<PathBuf>,
    files: Vec<PathBuf>,
}

impl Made {
    /// Takes back what was written, and nothing else; the marks in the log last.
    fn take_back(&self, data_dir: &Path) {
        let queue = data_dir.join("queue");
        let files = self.files.iter().try_for_each(|path| absent(std::fs::remove_file(path)));
        let marks = files.and_then(|()| take_back_marks(&queue.join("log")));
        let folders = marks.and_then(|()| self.folders.iter().rev().try_for_each(|path| absent(std::fs::remove_dir(path))));
        let lock = folders.and_then(|()| absent(std::fs::remove_file(queue.join("LOCK"))));
        if let Err(error) = lock.and_then(|()| absent(std::fs::remove_dir(&queue))) {
            tracing::warn!(folder = %data_dir.display(), %error, "what was restored so far was not removed");
        }
    }
}

fn absent(removed: io::Result<()>) -> io::Result<()> {
    removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

fn copy(from: &Path, data_dir: &Path, entry: &Entry, made: &mut Made) -> Result<(), BackupError> {
    let (source, path) = (from.join(&entry.name), data_dir.join(&entry.name));
    let mut reader = File::open(&source).map_err(BackupError::at(&source))?;
    let mode = if entry.name == ID { 0o644 } else { 0o600 };
    let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path);
    let mut file = opened.map_err(BackupError::at(&path))?;
    made.files.push(path.clone());
    io::copy(&mut reader, &mut file).map_err(BackupError::at(&path))?;
    file.sync_all().map_err(BackupError::at(&path))?;
    let (bytes, sha256) = manifest::hash(&path).map_err(BackupError::at(&path))?;
    if bytes == entry.bytes && sha256 == entry.sha256 {
        return Ok(());
    }
    let problems = vec![format!("{}: it changed while it was copied", entry.name)];
    Err(BackupError::Damaged { folder: from.to_owned(), problems })
}
