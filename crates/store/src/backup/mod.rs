//! Backups of a data folder, and their way back.
//!
//! A backup is a folder: the directory's database, the log of the queue up to a durable place, the files of bodies
//! that it names, a copy of the index, and a manifest with the length and SHA-256 of each. It is written beside its
//! place and renamed at the end, so a half one is never taken for one. The master key is never in it.
//!
//! What is restored is held: nobody knows what was sent since. `embedded::restored` sees to that.

mod manifest;
mod restore;
mod take;
mod target;

pub use self::manifest::{Entry, LogEnd, Manifest};
pub use self::restore::{Restored, restore};
#[cfg(test)]
pub(crate) use self::take::take;
pub use self::take::{Plan, Summary, of_running, of_stopped};

use crate::api::StoreError;
use crate::directory::DirectoryError;
use crate::embedded::OpenError;
use crate::seal::SealError;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// The directory's database, in a data folder and in a backup.
pub(crate) const DIRECTORY: &str = "directory.sqlite";
/// The data folder's own name, which names its master key.
pub(crate) const ID: &str = "id";

/// How far something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done, for people.
    pub step: &'static str,
    /// Bytes read so far.
    pub done_bytes: u64,
    /// Bytes to be read, about.
    pub total_bytes: u64,
}

/// Is told how far it is, and may end it.
pub type Tell<'a> = &'a mut dyn FnMut(Progress) -> ControlFlow<()>;

/// Why there is no backup, or why it was not restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The place is taken.
    #[error("{0} is there already; a backup makes its folder itself: name another")]
    Exists(PathBuf),
    /// What an earlier one left.
    #[error("{0} is left from a backup that did not finish; remove it, or name another folder")]
    Leftover(PathBuf),
    /// It would be a part of what it saves.
    #[error("{folder} is inside of the data folder {data_dir}; name one outside, best on another disk")]
    Inside {
        /// The backup.
        folder: PathBuf,
        /// What it saves.
        data_dir: PathBuf,
    },
    /// Another one is being taken.
    #[error("a backup is being taken already; wait until it has ended")]
    Running,
    /// There is nothing to save.
    #[error("{0} has no queue; nothing to back up (name the data folder with --data-dir or --config)")]
    Nothing(PathBuf),
    /// The disk of the backup is full.
    #[error("there is no room for it on the disk of {folder}: {why}; nothing of it was kept, and the gateway is not concerned")]
    NoRoom {
        /// Where it was to be.
        folder: PathBuf,
        /// What was found.
        why: String,
    },
    /// It would be refused when it is needed.
    #[error("what was written for {folder} could not be read back as a backup: {why}; nothing of it was kept")]
    Unreadable {
        /// Where it was to be.
        folder: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// What it holds back is needed as room.
    #[error(
        "the disk of {0} got short, so it was given up: while a backup is taken, nothing that ended is removed from the queue; \
         nothing of it was kept; make room on that disk, and take it again"
    )]
    Short(PathBuf),
    /// Somebody ended it.
    #[error("it was stopped before its end; nothing of it was kept")]
    Stopped,
    /// No backup.
    #[error("{folder} is no whole backup of a gateway: {why}")]
    NotABackup {
        /// Where one was looked for.
        folder: PathBuf,
        /// What is missing.
        why: String,
    },
    /// Not what was backed up.
    #[error("{folder} is damaged, and nothing was restored; use another backup\n{}", .problems.join("\n"))]
    Damaged {
        /// The backup.
        folder: PathBuf,
        /// Each problem.
        problems: Vec<String>,
    },
    /// Something is there.
    #[error("{0} is not empty; move it away, or name another data folder with --data-dir")]
    NotEmpty(PathBuf),
    /// An earlier restore broke off.
    #[error("{0} has what a restore left that did not finish; empty it, and restore again")]
    Unfinished(PathBuf),
    /// The key is not there, or another one.
    #[error("nothing was restored, because the sealed credentials of the backup could not be read: {0}")]
    Key(DirectoryError),
    /// The queue.
    #[error(transparent)]
    Queue(#[from] OpenError),
    /// A database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The disk.
    #[error("{path}: {error}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What.
        error: io::Error,
    },
}

impl From<SealError> for BackupError {
    fn from(error: SealError) -> Self {
        Self::Key(error.into())
    }
}

impl BackupError {
    fn at(path: &Path) -> impl Fn(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Io { path: path.clone(), error }
    }
}

/// Makes the name of what was made in a folder durable.
fn sync_folder(folder: &Path) -> Result<(), BackupError> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(BackupError::at(folder))
}
