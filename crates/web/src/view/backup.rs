//! A backup, and what was restored.

use mail::Timestamp;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Asks for a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupRequest {
    /// Where it is to be: an absolute path on the gateway's machine, where nothing is.
    pub folder: PathBuf,
}

/// A backup that is being taken, or the last one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    /// Where it is to be, or is.
    pub folder: PathBuf,
    /// When it was begun.
    pub started_at: Timestamp,
    /// How it is.
    pub state: BackupState,
    /// What is being done, for people.
    pub step: String,
    /// Bytes read so far.
    pub done_bytes: u64,
    /// Bytes to be read, about.
    pub total_bytes: u64,
    /// What was done, when it is done.
    pub summary: Option<store::backup::Summary>,
    /// Why there is none, when it failed.
    pub problem: Option<String>,
    /// The file of the master key, which is never in a backup.
    pub master_key_file: PathBuf,
}

/// How a backup is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackupState {
    /// It is being taken.
    Running,
    /// It is whole.
    Done,
    /// It ended, and nothing of it is left.
    Failed,
}

/// What was let go on of what was held because it was restored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    /// So many messages.
    pub messages: u64,
    /// So many recipients of theirs.
    pub recipients: u64,
}
