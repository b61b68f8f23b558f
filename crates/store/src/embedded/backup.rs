//! What a backup takes from a queue, while it is in use or not: its index, its log up to a durable place, and the
//! files of bodies that those name.

use super::folder::{lock_to_read, read_format};
use super::index::{Before, Index};
use super::log::{self, Position};
use super::{Embedded, OpenError, Options, Shared, guard, lock, recover};
use crate::api::StoreError;
use crate::body::{FileId, file_name, file_of};
use crate::disk::{Disk, RealDisk, is_no_space};
use mail::Timestamp;
use rusqlite::{Connection, OpenFlags};
use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// How long a copy waits for those who write.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a copy is asked whether it goes on.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A queue that is being copied: nothing of it is removed as long as this is there.
pub(crate) struct Source<D: Disk> {
    pub log: Arc<D>,
    pub bodies: Arc<D>,
    pub index: PathBuf,
    held: Held<D>,
}

enum Held<D: Disk> {
    /// A gateway writes to it, and removes nothing.
    Running(Arc<Shared<D>>),
    /// Nobody has it but us.
    Stopped(#[expect(dead_code, reason = "the lock is held as long as this is there")] File),
}

impl<D: Disk> Embedded<D> {
    /// The queue, to be copied while it is in use; `None` while somebody else does.
    pub(crate) fn source(&self) -> Option<Source<D>> {
        let shared = Arc::clone(&self.shared);
        {
            let mut held_back = guard(&shared.held_back);
            if *held_back != HeldBack::No {
                return None;
            }
            *held_back = HeldBack::Above(shared.short_below());
        }
        tracing::info!("a backup begins: segments of the log and files of bodies stay until it ends");
        let (log, bodies, index) = (Arc::clone(&shared.disk), Arc::clone(&shared.bodies), shared.index_path.clone());
        Some(Source { log, bodies, index, held: Held::Running(shared) })
    }
}

impl Source<RealDisk> {
    /// The queue of a folder that no gateway has.
    ///
    /// # Errors
    /// In use, made by another version, or the disk.
    pub(crate) fn stopped(folder: &Path) -> Result<Self, OpenError> {
        let io = |error| OpenError::Io { path: folder.to_owned(), error };
        std::fs::metadata(folder.join("log")).map_err(io)?;
        let lock = lock_to_read(folder)?;
        read_format(folder)?;
        let log = Arc::new(RealDisk::reading(&folder.join("log")));
        super::restored::found(&*log, folder)?;
        let bodies = Arc::new(RealDisk::reading(&folder.join("bodies")));
        Ok(Self { log, bodies, index: folder.join("index.sqlite"), held: Held::Stopped(lock) })
    }
}

impl<D: Disk> Source<D> {
    /// A folder of the queue, for people.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.index.with_file_name(name)
    }

    /// Where the log ends: what lies before is durable. After a crash the last batch may be torn there.
    pub(crate) fn end(&self) -> io::Result<Position> {
        if let Held::Running(shared) = &self.held {
            return Ok(*guard(&shared.end));
        }
        let Some(segment) = log::segments(&*self.log)?.last().copied() else { return Ok(Position::default()) };
        let length = self.log.length(&log::name_of(segment))?;
        Ok(Position { segment, offset: u32::try_from(length).unwrap_or(u32::MAX) })
    }

    /// The segments up to a place, oldest first, each with so many bytes of it.
    pub(crate) fn segments(&self, end: Position) -> io::Result<Vec<(String, u64)>> {
        let before = log::segments(&*self.log)?.into_iter().filter(|segment| *segment <= end.segment);
        let length = |segment| {
            let name = log::name_of(segment);
            let length = if segment == end.segment { u64::from(end.offset) } else { self.log.length(&name)? };
            Ok((name, length))
        };
        before.map(length).collect()
    }

    /// The files of bodies that are there, each with its length.
    pub(crate) fn files(&self) -> io::Result<Vec<(String, u64)>> {
        let names = match self.bodies.list() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            names => names?,
        };
        let mut files = Vec::new();
        for name in names.into_iter().filter(|name| file_of(name).is_some()) {
            match self.bodies.length(&name) {
                // What a client left half-sent.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                length => files.push((name, length?)),
            }
        }
        Ok(files)
    }

    /// False when the disk of the data got short: from then on nothing stays for whoever copies.
    pub(crate) fn is_held(&self) -> bool {
        match &self.held {
            Held::Running(shared) => !shared.give_backup_up() && shared.is_held_back(),
            Held::Stopped(_) => true,
        }
    }

    /// Bytes that must stay free on the disk of the data.
    pub(crate) fn floor(&self) -> u64 {
        let Held::Running(shared) = &self.held else { return 0 };
        if let HeldBack::Above(floor) = *guard(&shared.held_back) { floor } else { 0 }
    }
}

impl<D: Disk> Drop for Held<D> {
    fn drop(&mut self) {
        if let Self::Running(shared) = self {
            *guard(&shared.held_back) = HeldBack::No;
            tracing::info!("a backup has ended: segments of the log and files of bodies go again in their time");
        }
    }
}

impl<D: Disk> Shared<D> {
    /// A backup is being taken.
    pub(super) fn is_held_back(&self) -> bool {
        guard(&self.held_back).holds()
    }

    /// What must stay free for a backup to go on: what lets ended mail stay, or, where there is less already, what
    /// submissions need.
    fn short_below(&self) -> u64 {
        let plenty = self.min_free.saturating_mul(2);
        if self.disk.free_bytes().is_ok_and(|free| free < plenty) { self.min_free } else { plenty }
    }

    /// Gives a backup up when the disk gets short: what it holds back may be what makes room. True when it was.
    pub(super) fn give_backup_up(&self) -> bool {
        let mut held_back = guard(&self.held_back);
        let HeldBack::Above(floor) = *held_back else { return false };
        let is_short = floor > 0 && self.disk.free_bytes().is_ok_and(|free| free < floor);
        if is_short {
            *held_back = HeldBack::GivenUp;
            tracing::warn!(floor, "a backup is given up: the disk of the data is short, and what it holds back may make room");
        }
        is_short
    }
}

/// Whether segments and files of bodies stay, because they are being copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum HeldBack {
    /// They go in their time.
    #[default]
    No,
    /// They stay while so many bytes are free on their disk.
    Above(u64),
    /// They go: the disk got short. Whoever copies them finds out.
    GivenUp,
}

impl HeldBack {
    pub(super) fn holds(self) -> bool {
        matches!(self, Self::Above(_))
    }
}

/// Writes a database as one file, as of one moment, whoever writes to it meanwhile. `go_on` is asked again and again, and
/// may end it: `None` then.
///
/// # Errors
/// SQLite's.
pub(crate) fn copy_database(from: &Path, to: &Path, go_on: &mut dyn FnMut() -> bool) -> Result<Option<()>, StoreError> {
    if is_read_only(from) {
        return copy_files(from, to).map(Some);
    }
    let connection = Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(PATIENCE)?;
    let target = to.to_str().ok_or_else(|| StoreError::Io(format!("{}: the path is not UTF-8", to.display())))?;
    let handle = connection.get_interrupt_handle();
    let (ended, end) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || ended.send(connection.execute("VACUUM INTO ?1", [target])));
        let mut goes_on = true;
        loop {
            match end.recv_timeout(LOOK_EVERY) {
                Ok(copied) if goes_on => return Ok(copied.map(|_| Some(()))?),
                Ok(_) => return Ok(None),
                Err(mpsc::RecvTimeoutError::Disconnected) => return Err(StoreError::Io("a copy broke off".to_owned())),
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    goes_on = goes_on && go_on();
                    if !goes_on {
                        handle.interrupt();
                    }
                }
            }
        }
    })
}

/// On a disk from which one can only read, SQLite opens nothing that has a journal.
fn is_read_only(path: &Path) -> bool {
    rustix::fs::statvfs(path).is_ok_and(|stat| stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

/// Copies a database that nobody can write to, and its journal, and makes one file of them.
pub(super) fn copy_files(from: &Path, to: &Path) -> Result<(), StoreError> {
    for beside in ["", "-wal"] {
        let name = |path: &Path| {
            let mut name = path.as_os_str().to_owned();
            name.push(beside);
            PathBuf::from(name)
        };
        let copied = File::open(name(from)).and_then(|mut reader| {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(name(to))?;
            io::copy(&mut reader, &mut file)
        });
        match copied {
            Err(error) if error.kind() == io::ErrorKind::NotFound && beside == "-wal" => {}
            Err(error) if is_no_space(&error) => return Err(StoreError::NoSpace(error.to_string())),
            copied => drop(copied.map_err(|error| StoreError::Io(format!("{}: {error}", name(from).display())))?),
        }
    }
    into_one_file(to)
}

fn into_one_file(path: &Path) -> Result<(), StoreError> {
    let connection = Connection::open(path)?;
    let mode: String = connection.query_row("PRAGMA journal_mode = DELETE", [], |row| row.get(0))?;
    if mode == "delete" { Ok(()) } else { Err(StoreError::Io(format!("index: its journal mode stays {mode}"))) }
}

/// A copied queue whose index knows all of its log.
pub(crate) struct Caught {
    pub open_messages: u64,
    pub open_recipients: u64,
    /// The log is damaged somewhere: files of bodies may be named where it cannot be read.
    pub is_damaged: bool,
    /// The files that open mail has.
    open: HashSet<FileId>,
    index: Index,
}

impl Caught {
    /// Lets the index of a copied queue learn the rest of its log, and cuts off what is torn at its end.
    ///
    /// # Errors
    /// It would not open.
    pub(crate) fn up(folder: &Path) -> Result<Self, OpenError> {
        let io = |error| OpenError::Io { path: folder.to_owned(), error };
        let path = folder.join("index.sqlite");
        let mut index = Index::open(&path, Before::Replaced)?;
        let options = Options { reserve: 0, min_free: 0, cache_bytes: 0, ..Options::new(folder, Timestamp(0)) };
        let log = Arc::new(RealDisk::open(&folder.join("log")).map_err(io)?);
        let (core, findings) = recover(log, &mut index, &path, &options)?;
        let is_damaged = !findings.damaged.is_empty() || findings.missing_segments > 0;
        let open = lock(&core.open);
        let totals = open.totals;
        let open_recipients = mail::RecipientState::ALL.iter().zip(totals.by_state).filter(|(state, _)| !state.is_final());
        Ok(Self {
            open_messages: totals.open_messages,
            open_recipients: open_recipients.map(|(_, count)| count).sum(),
            is_damaged,
            open: open.bodies.of_open().map(|(_, file, _)| file).collect(),
            index,
        })
    }

    /// True for the file of a body that is named: its mail is open, or ended and still kept.
    ///
    /// # Errors
    /// SQLite's.
    pub(crate) fn names(&self, file: &str) -> Result<bool, StoreError> {
        let Some(id) = file_of(file) else { return Ok(false) };
        if self.is_damaged || self.open.contains(&id) {
            return Ok(true);
        }
        Ok(self.index.resting(id)?.is_some())
    }

    /// The files that open mail has.
    pub(crate) fn open_files(&self) -> Vec<String> {
        self.open.iter().map(|file| file_name(*file)).collect()
    }

    /// Leaves the index as one file.
    ///
    /// # Errors
    /// SQLite's.
    pub(crate) fn finish(self, folder: &Path) -> Result<(), StoreError> {
        drop(self.index);
        into_one_file(&folder.join("index.sqlite"))
    }
}
