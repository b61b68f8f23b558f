//! Forgetting an address in mail that has ended: what it said goes, and what became of it stays under a pseudonym.
//!
//! A record of the log says which messages, not the address, so an index that is made anew does not bring it back.
//! Files of bodies go at once. The records that have the rest go with their segments, which have to go as if all in
//! them were old: see `head`. What the index has written over lies in its journal until that is emptied.

mod find;
mod write;

pub(super) use self::write::write;

use self::find::{Spelled, messages, parties};
use super::core::{Closing, Op, Unsuppress, lock};
use super::record::{Forgotten, ForgottenMessage};
use super::{Embedded, Shared, guard, index, log};
use crate::api::{Commit, Party, StoreError};
use crate::body::{FileId, file_name};
use crate::disk::Disk;
use mail::{MessageId, Timestamp};
use rusqlite::Connection;
use smtp::Mailbox;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Which segments have to go; and keys by their message, to be hidden.
pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS forgotten (one INTEGER PRIMARY KEY CHECK (one = 1), segment INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS keys_message ON keys (message);
";
/// Messages in one record, and in one transaction of the index: acceptance waits for no more.
const AT_ONCE: usize = if cfg!(test) { 2 } else { 250 };
/// The index waits so long for its readers at most while its journal is emptied.
const EMPTYING: Duration = Duration::from_millis(250);

/// What is to be forgotten.
#[derive(Clone, Debug)]
pub struct ForgetAddress {
    /// The address, in any spelling.
    pub address: Mailbox,
    /// What stands in its place from now on.
    pub pseudonym: String,
    /// Take it off the lists of addresses that are not written to, too.
    pub with_suppressions: bool,
    /// Only look.
    pub dry_run: bool,
    /// Who wishes it.
    pub by: String,
    /// When, by the wall clock.
    pub at: Timestamp,
}

/// What was forgotten, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Forgot {
    /// Messages to or from it.
    pub messages: u64,
    /// Those of them that were from it.
    pub sent: u64,
    /// Files of bodies that were removed, or would be.
    pub files: u64,
    /// Lists on which it stands; they are kept, unless they were to go, too.
    pub suppressions: u64,
    /// Copies of the index as an earlier version had it, which were removed, or would be.
    pub copies: u64,
}

/// Why nothing was forgotten.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    /// Mail with it is open.
    #[error(
        "{} messages with it are open ({}{}); cancel them, or wait until they have ended",
        .0.len(),
        .0.iter().take(10).map(ToString::to_string).collect::<Vec<_>>().join(", "),
        if .0.len() > 10 { ", ..." } else { "" }
    )]
    Open(Vec<MessageId>),
    /// It would take the address along.
    #[error("a backup is being taken; wait until it is done, and forget the address then")]
    BackupRuns,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl<D: Disk> Embedded<D> {
    /// Forgets an address in everything that has ended. Blocks until that is durable and the index knows it.
    ///
    /// # Errors
    /// Mail with it is open, a backup is being taken, or the disk's. What was forgotten before stays so.
    pub fn forget(&self, order: &ForgetAddress) -> Result<Forgot, ForgetError> {
        let address = Spelled::new(&order.address);
        let found = messages(self, &address)?;
        let lists = self.read(|connection| parties(connection, &address))?;
        let open: Vec<MessageId> = found.iter().filter(|one| one.open).map(|one| one.message.id).collect();
        if !open.is_empty() {
            return Err(ForgetError::Open(open));
        }
        let messages: Vec<ForgottenMessage> = found.into_iter().map(|one| one.message).collect();
        let files: Vec<FileId> = messages.iter().filter_map(|message| message.file).collect();
        let copies = self.kept_copies()?;
        let mut forgot = Forgot {
            messages: messages.len() as u64,
            sent: messages.iter().filter(|message| message.sender).count() as u64,
            files: files.len() as u64,
            suppressions: lists.len() as u64,
            copies: copies.len() as u64,
        };
        if order.dry_run {
            return Ok(forgot);
        }
        if self.shared.is_held_back() {
            return Err(ForgetError::BackupRuns);
        }
        let lists = if order.with_suppressions { lists } else { Vec::new() };
        if !messages.is_empty() || !lists.is_empty() {
            self.write_forgotten(order, &messages, lists, &forgot)?;
        }
        for copy in copies {
            let removed = std::fs::remove_file(&copy);
            removed.map_err(|error| StoreError::Io(format!("{}: {error}", copy.display())))?;
        }
        guard(&self.shared.forgotten_files).extend(&files);
        self.shared.remove_bodies_that_rested();
        let left = self.shared.forgotten_files_left();
        forgot.files -= files.iter().filter(|file| left.contains(file)).count() as u64;
        Ok(forgot)
    }

    /// In pieces, of which the first says who wished it. Nothing but the last closing of a segment is missing when the
    /// lists are left, so that asking again does what is left to do.
    fn write_forgotten(
        &self,
        order: &ForgetAddress,
        messages: &[ForgottenMessage],
        lists: Vec<(Party, String)>,
        forgot: &Forgot,
    ) -> Result<(), StoreError> {
        let off = if lists.is_empty() { String::new() } else { format!(", off {} lists", lists.len()) };
        let told = format!("{} in {} messages ({} from it){off}, by {}", order.pseudonym, forgot.messages, forgot.sent, order.by);
        let mut pieces = messages.chunks(AT_ONCE);
        let is_one = messages.len() <= AT_ONCE && lists.is_empty();
        self.write_piece(order, pieces.next().unwrap_or_default(), Some(told), Closing::Now)?;
        for piece in pieces {
            self.write_piece(order, piece, None, Closing::Later)?;
        }
        for (party, address) in lists {
            let one = Unsuppress { party, address, by: order.by.clone(), at: order.at };
            let (answer, answered) = tokio::sync::oneshot::channel();
            self.shared.push(Op::Unsuppress(one, answer));
            Commit::pending(answered, || Err(StoreError::Closed("the writer has ended".into()))).wait()?;
        }
        if !is_one {
            // What was written again meanwhile, and the lists' records, go, too.
            self.write_piece(order, &[], None, Closing::Now)?;
        }
        self.shared.journal_holds.store(true, Ordering::Relaxed);
        match self.shared.keeper(self.shared.policy) {
            Ok(keeper) => self.shared.empty_journal(keeper.connection()),
            Err(error) => tracing::warn!(%error, "the journal of the index is emptied later"),
        }
        Ok(())
    }

    /// One record, and one transaction of the index.
    fn write_piece(
        &self,
        order: &ForgetAddress,
        messages: &[ForgottenMessage],
        told: Option<String>,
        closing: Closing,
    ) -> Result<(), StoreError> {
        let pseudonym = order.pseudonym.clone();
        let piece = Box::new(Forgotten { pseudonym, messages: messages.to_vec(), below: 0, told, at: order.at });
        self.shared.journal_holds.store(true, Ordering::Relaxed);
        self.shared.carry(|answer| Op::Forget(piece, closing, answer)).wait()?;
        self.shared.wait_for_index()
    }

    /// Copies of the index that were kept before a new version changed it.
    fn kept_copies(&self) -> Result<Vec<PathBuf>, StoreError> {
        let path = &self.shared.index_path;
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Ok(Vec::new()) };
        let begins = format!("{}.format-", name.to_string_lossy());
        let failed = |error: std::io::Error| StoreError::Io(format!("{}: {error}", folder.display()));
        let mut copies = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_name().to_string_lossy().starts_with(&begins) {
                copies.push(entry.path());
            }
        }
        Ok(copies)
    }

    /// Whether something of what was forgotten may be in the folder still: in the log, in the journal of the index, or in
    /// a file of a body.
    pub fn has_forgotten_bytes(&self) -> bool {
        let purged = lock(&self.shared.open).purged;
        let first = log::segments(&*self.shared.disk).ok().and_then(|segments| segments.first().copied());
        first.is_none_or(|first| first <= purged)
            || self.shared.journal_holds.load(Ordering::Relaxed)
            || !self.shared.forgotten_files_left().is_empty()
    }
}

impl<D: Disk> Shared<D> {
    /// Files of what was forgotten that are still there.
    fn forgotten_files_left(&self) -> Vec<FileId> {
        let mut files = guard(&self.forgotten_files);
        files.retain(|file| !self.bodies.length(&file_name(*file)).is_err_and(|error| error.kind() == ErrorKind::NotFound));
        files.clone()
    }

    /// Empties the journal of the index when it has what was forgotten: SQLite leaves there what was written over. Tried
    /// again by the keeper while somebody reads.
    pub(super) fn empty_journal(&self, connection: &Connection) {
        // First: what is forgotten meanwhile says so again.
        if !self.journal_holds.swap(false, Ordering::Relaxed) {
            return;
        }
        match index::empty_journal(connection, EMPTYING) {
            Ok(true) => return,
            Ok(false) => tracing::debug!("somebody reads the index; its journal is emptied later"),
            Err(error) => tracing::warn!(%error, "the journal of the index was not emptied"),
        }
        self.journal_holds.store(true, Ordering::Relaxed);
    }
}

/// The last segment that has to go, as the index knows it; 0 when none has.
pub(super) fn purged(connection: &Connection) -> Result<u32, StoreError> {
    Ok(connection.query_row("SELECT COALESCE(MAX(segment), 0) FROM forgotten", [], |row| row.get(0))?)
}
