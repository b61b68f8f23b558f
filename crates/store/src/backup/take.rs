//! Takes a backup, of a gateway that runs or of one that does not.

use super::manifest::{FORMAT, LogEnd, Manifest};
use super::target::{Room, Target};
use super::{BackupError, DIRECTORY, ID, Tell};
use crate::api::StoreError;
use crate::disk::Disk;
use crate::embedded::{self, Caught, Embedded, OpenError, Position, Source};
use mail::Timestamp;
use std::cell::Cell;
use std::fmt::Display;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The index, in a backup.
const INDEX: &str = "queue/index.sqlite";

/// What is to be done.
pub struct Plan {
    /// The data folder.
    pub data_dir: PathBuf,
    /// Where the backup is to be; nothing may be there.
    pub folder: PathBuf,
    /// Bytes that are left free on the disk of the data.
    pub min_free: u64,
    /// When it is taken, by the wall clock.
    pub at: Timestamp,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Summary {
    /// Where it is.
    pub folder: PathBuf,
    /// Its files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Messages that were open.
    pub open_messages: u64,
    /// Their recipients that were.
    pub open_recipients: u64,
    /// Where the log was cut: segment and offset.
    pub log_end: (u32, u32),
    /// Milliseconds that it took.
    pub took_ms: u64,
    /// What an administrator should look into, in words.
    pub warnings: Vec<String>,
}

/// Takes a backup while mail comes in and leaves. Meanwhile nothing is removed from the queue.
///
/// # Errors
/// See [`BackupError`]; nothing of it is left then.
pub fn of_running<D: Disk>(queue: &Embedded<D>, plan: &Plan, tell: Tell<'_>) -> Result<Summary, BackupError> {
    take(queue.source().ok_or(BackupError::Running)?, plan, None, tell)
}

/// Takes a backup of a data folder that no gateway has; none can start meanwhile.
///
/// # Errors
/// See [`BackupError`]; nothing of it is left then.
pub fn of_stopped(plan: &Plan, tell: Tell<'_>) -> Result<Summary, BackupError> {
    let queue = plan.data_dir.join("queue");
    if !queue.join("log").exists() {
        return Err(BackupError::Nothing(plan.data_dir.clone()));
    }
    take(Source::stopped(&queue)?, plan, None, tell)
}

/// Takes it, and gives it a name when it is whole.
pub(crate) fn take<D: Disk>(source: Source<D>, plan: &Plan, room: Option<Room>, tell: Tell<'_>) -> Result<Summary, BackupError> {
    let begun = Instant::now();
    let mut target = Target::begin(&plan.folder, &plan.data_dir, plan.min_free.max(source.floor()), room)?;
    let copied = copy_all(&source, plan, &mut target, tell);
    if !source.is_held() {
        // Whatever was copied, or was not there any more.
        return Err(BackupError::Short(plan.data_dir.clone()));
    }
    let copied = copied?;
    drop(source);
    let files = target.entries(tell)?;
    let manifest = Manifest {
        format: FORMAT,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        at: plan.at,
        queue_format: embedded::FORMAT.trim_ascii_end().to_owned(),
        log_end: LogEnd { segment: copied.end.segment, offset: copied.end.offset },
        open_messages: copied.open_messages,
        open_recipients: copied.open_recipients,
        files,
    };
    let folder = target.finish(&manifest)?;
    Ok(Summary {
        folder,
        files: manifest.files.len() as u64,
        bytes: manifest.bytes(),
        open_messages: copied.open_messages,
        open_recipients: copied.open_recipients,
        log_end: (copied.end.segment, copied.end.offset),
        took_ms: u64::try_from(begun.elapsed().max(Duration::from_millis(1)).as_millis()).unwrap_or(u64::MAX),
        warnings: copied.warnings,
    })
}

/// What was copied.
struct Copied {
    end: Position,
    open_messages: u64,
    open_recipients: u64,
    warnings: Vec<String>,
}

/// The order matters: the index first, so that it is never ahead of the log; the bodies when it is known which are
/// named; the directory last, so that it knows every channel of the log.
fn copy_all<D: Disk>(source: &Source<D>, plan: &Plan, target: &mut Target, tell: Tell<'_>) -> Result<Copied, BackupError> {
    let mut tell_if_held = |progress| if source.is_held() { tell(progress) } else { ControlFlow::Break(()) };
    let tell: Tell<'_> = &mut tell_if_held;
    let directory = plan.data_dir.join(DIRECTORY);
    target.progress.total_bytes = needed(source, &directory)?;
    target.make_room(target.progress.total_bytes)?;
    target.tell("history", 0, tell)?;
    let mut warnings = Vec::new();
    // Without an index it is made of the log.
    let path = target.place(INDEX)?;
    if source.index.exists() {
        match copy_database(&source.index, &path, "history", target, tell) {
            Err(BackupError::Store(error)) => without_index(&error, target, &mut warnings)?,
            copied => copied?,
        }
    }
    let end = source.end().map_err(BackupError::at(&source.folder("log")))?;
    for (name, bytes) in source.segments(end).map_err(BackupError::at(&source.folder("log")))? {
        let read = |at, length| source.log.read_at(&name, at, length);
        target.copy(&format!("queue/log/{name}"), bytes, "log", read, tell)?;
        source.log.close(&name);
    }
    let format = embedded::FORMAT.as_bytes();
    target.copy("queue/format", format.len() as u64, "log", |_, _| Ok(format.to_vec()), tell)?;
    let mut caught = Caught::up(&target.path("queue"));
    if let Err(OpenError::Index(StoreError::Io(why))) = &caught
        && warnings.is_empty()
    {
        // As far as it was read it was no damaged file, and what it says is not so.
        without_index(why, target, &mut warnings)?;
        caught = Caught::up(&target.path("queue"));
    }
    let caught = caught.map_err(|error| match error {
        OpenError::Index(error) => full(target, error),
        OpenError::Io { path, error } => target.failed(&path, error),
        other => other.into(),
    })?;
    copy_bodies(source, &caught, target, &mut warnings, tell)?;
    if caught.is_damaged {
        warnings.push("the log is damaged, and so is the backup of it: see 'sendero store check'".to_owned());
    }
    let (open_messages, open_recipients) = (caught.open_messages, caught.open_recipients);
    caught.finish(&target.path("queue")).map_err(|error| full(target, error))?;
    let path = target.place(DIRECTORY)?;
    copy_database(&directory, &path, "directory", target, tell)?;
    copy_id(&plan.data_dir, target, tell)?;
    Ok(Copied { end, open_messages, open_recipients, warnings })
}

/// Goes on without the index: the log has all that is open.
fn without_index(why: &dyn Display, target: &mut Target, warnings: &mut Vec<String>) -> Result<(), BackupError> {
    warnings.push(format!("the index is not in it, and with it the history that the log has not: {why}"));
    target.leave_out(INDEX)?;
    target.place(INDEX).map(drop)
}

fn copy_database(from: &Path, to: &Path, step: &'static str, target: &mut Target, tell: Tell<'_>) -> Result<(), BackupError> {
    target.tell(step, 0, tell)?;
    let copied = embedded::copy_database(from, to, &mut || target.tell(step, 0, tell).is_ok());
    match copied.map_err(|error| full(target, error))? {
        Some(()) => target.tell(step, length(to), tell),
        None => Err(BackupError::Stopped),
    }
}

/// Bytes that it will have, about.
fn needed<D: Disk>(source: &Source<D>, directory: &Path) -> Result<u64, BackupError> {
    let segments = source.end().and_then(|end| source.segments(end)).map_err(BackupError::at(&source.folder("log")))?;
    let log: u64 = segments.iter().map(|(_, bytes)| bytes).sum();
    let bodies: u64 = bodies_of(source)?.iter().map(|(_, bytes)| bytes).sum();
    // An index that is made anew has little more than the log, and its journal as much again.
    let index = if source.index.exists() { length(&source.index) } else { log.saturating_mul(2) };
    Ok(log + bodies + index + length(directory))
}

fn bodies_of<D: Disk>(source: &Source<D>) -> Result<Vec<(String, u64)>, BackupError> {
    source.files().map_err(BackupError::at(&source.folder("bodies")))
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |found| found.len())
}

fn full(target: &Target, error: StoreError) -> BackupError {
    match error {
        StoreError::NoSpace(why) => BackupError::NoRoom { folder: target.folder().to_owned(), why },
        other => other.into(),
    }
}

/// Copies the files that open mail has, and those that are still kept; says which are missing, or cannot be read.
fn copy_bodies<D: Disk>(
    source: &Source<D>,
    caught: &Caught,
    target: &mut Target,
    warnings: &mut Vec<String>,
    tell: Tell<'_>,
) -> Result<(), BackupError> {
    for (file, bytes) in bodies_of(source)? {
        if !caught.names(&file).map_err(|error| full(target, error))? {
            continue;
        }
        let unread = Cell::new(None);
        let read = |at, length| {
            let piece = source.bodies.read_at(&file, at, length);
            let whole = piece.and_then(|piece| if piece.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(piece) });
            whole.inspect_err(|error| unread.set(Some(error.to_string())))
        };
        let name = format!("queue/bodies/{file}");
        let copied = target.copy(&name, bytes, "bodies", read, tell);
        source.bodies.close(&file);
        match unread.take() {
            // The disk that cannot read one file may be about to lose the others.
            Some(why) => {
                target.leave_out(&name)?;
                warnings.push(format!("{name} cannot be read, and is not in it: {why}"));
            }
            None => copied?,
        }
    }
    let is_missing = |name: &String| !target.path(&format!("queue/bodies/{name}")).exists();
    let missing = caught.open_files().into_iter().filter(is_missing);
    warnings.extend(missing.map(|name| format!("queue/bodies/{name} is missing: the message that it is of will be held")));
    Ok(())
}

fn copy_id(data_dir: &Path, target: &mut Target, tell: Tell<'_>) -> Result<(), BackupError> {
    match std::fs::read(data_dir.join(ID)) {
        // The settings name the key.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(BackupError::at(&data_dir.join(ID))(error)),
        Ok(id) => target.copy(ID, id.len() as u64, "directory", |_, _| Ok(id.clone()), tell),
    }
}
