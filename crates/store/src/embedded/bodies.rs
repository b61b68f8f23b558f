//! The files of large bodies, in `queue/bodies`.
//!
//! A connection's side writes and syncs a file, and the accept record that names it comes after. The file is removed
//! when every recipient of its message was sent; otherwise it rests for some days, or as long as the segment of its
//! record, so that what was captured can be shown and what failed can be tried again. A file that no record names is
//! swept at the start.

use super::index::Index;
use super::record::Meta;
use super::{Shared, guard, lock};
use crate::api::{AcceptError, StoreError};
use crate::body::{Body, BodyFile, FileId, FileName, Rest, Spool, file_name, file_of, random_id, refused};
use crate::disk::Disk;
use bytes::Bytes;
use mail::{MessageId, Timestamp};
use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// What is known of the files.
#[derive(Default)]
pub(crate) struct Bodies {
    open: HashMap<MessageId, (FileId, u64)>,
    resting: Vec<Resting>,
}

/// A file whose message has ended.
struct Resting {
    file: FileId,
    since: Timestamp,
    segment: u32,
}

impl Bodies {
    /// Those of the messages that the index knows as open.
    pub(crate) fn new(open: HashMap<MessageId, (FileId, u64)>) -> Self {
        Self { open, resting: Vec::new() }
    }

    /// Bytes of a message that are in a file.
    pub(crate) fn length(&self, message: MessageId) -> u64 {
        self.open.get(&message).map_or(0, |(_, length)| *length)
    }

    pub(crate) fn accept(&mut self, meta: &Meta) {
        if let Some(rest) = &meta.rest {
            self.open.insert(meta.id, (rest.id, rest.length));
        }
    }

    /// The message has ended: its file is forgotten.
    pub(crate) fn end(&mut self, message: MessageId) -> Option<FileId> {
        self.open.remove(&message).map(|(file, _)| file)
    }

    /// A file may be asked for some time longer.
    pub(crate) fn keep(&mut self, file: FileId, since: Timestamp, segment: u32) {
        self.resting.push(Resting { file, since, segment });
    }

    /// Nobody asks for these files any more.
    pub(crate) fn forget(&mut self, files: &HashSet<FileId>) {
        self.resting.retain(|one| !files.contains(&one.file));
    }

    /// Every open message with the length of its file.
    pub(crate) fn of_open(&self) -> impl Iterator<Item = (MessageId, FileId, u64)> + '_ {
        self.open.iter().map(|(message, (file, length))| (*message, *file, *length))
    }

    /// Every file whose message has ended.
    #[cfg(test)]
    pub(crate) fn of_resting(&self) -> impl Iterator<Item = FileId> + '_ {
        self.resting.iter().map(|one| one.file)
    }

    /// Takes those out that have rested long enough, or whose record is gone.
    fn rested(&mut self, now: Timestamp, kept: Duration, segments: &HashSet<u32>) -> Vec<FileId> {
        let over = |one: &mut Resting| now.since(one.since) >= kept || !segments.contains(&one.segment);
        self.resting.extract_if(.., over).map(|one| one.file).collect()
    }
}

/// Removes the files that no record names, and finds those that rest. With a damaged log none is removed: a record
/// that cannot be read may name it.
pub(crate) fn sweep<D: Disk>(disk: &D, bodies: &mut Bodies, index: &Index, damaged: bool) -> Result<(), StoreError> {
    let failed = |error: io::Error| StoreError::Io(error.to_string());
    let open: HashSet<FileId> = bodies.of_open().map(|(_, file, _)| file).collect();
    // The index knows all of them by now.
    bodies.resting.clear();
    let mut swept = 0u64;
    for name in disk.list().map_err(failed)? {
        let Some(file) = file_of(&name).filter(|file| !open.contains(file)) else { continue };
        match index.resting(file)? {
            Some((since, segment)) => bodies.keep(file, since, segment),
            None if damaged => {
                tracing::warn!(file = name, "the file of a body that no record names is left alone, because the log is damaged");
            }
            None => {
                disk.remove(&name).map_err(failed)?;
                swept += 1;
            }
        }
    }
    if swept > 0 {
        disk.sync_folder().map_err(failed)?;
        tracing::info!(files = swept, "files of bodies that were not accepted, or are done, were removed");
    }
    Ok(())
}

/// One file of a queue.
struct Stored<D: Disk> {
    shared: Arc<Shared<D>>,
    id: FileId,
    name: String,
}

impl<D: Disk> Stored<D> {
    fn new(shared: Arc<Shared<D>>, id: FileId) -> Self {
        Self { shared, id, name: file_name(id) }
    }
}

impl<D: Disk> BodyFile for Stored<D> {
    fn id(&self) -> FileId {
        self.id
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        // The floor holds while it grows, too.
        self.shared.room_to_arrive().map_err(|why| io::Error::new(io::ErrorKind::StorageFull, why))?;
        self.shared.bodies.write_at(&self.name, offset, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        let synced = self.shared.bodies.sync(&self.name).and_then(|()| self.shared.bodies.sync_folder());
        if let Err(error) = &synced {
            // As for the log: nothing is known about what this disk keeps any more.
            tracing::error!(%error, "syncing a body failed; nothing more is written");
            self.shared.fail(&format!("syncing a body failed: {error}"));
        }
        synced
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        self.shared.bodies.read_at(&self.name, offset, length)
    }

    fn length(&self) -> io::Result<u64> {
        self.shared.bodies.length(&self.name)
    }

    fn rest(&self) {
        self.shared.bodies.close(&self.name);
    }

    /// By the keeper: whoever drops a body has others waiting, and to unlink a large file takes its time.
    fn remove(&self) {
        guard(&self.shared.spare).push(self.id);
    }
}

impl<D: Disk> Shared<D> {
    /// Begins a file.
    pub(crate) fn spool(self: &Arc<Self>) -> Result<Spool, AcceptError> {
        let file = Stored::new(Arc::clone(self), random_id());
        self.bodies.create(&file.name).map_err(refused)?;
        Ok(Spool::new(Arc::new(file), self.arriving.clone()))
    }

    /// Whether a message that is coming in may go on: all of them together have at most half of the room, so that whoever
    /// holds many of them up keeps nobody else's mail out.
    fn room_to_arrive(&self) -> Result<(), String> {
        self.room()?;
        if self.min_free == 0 {
            return Ok(());
        }
        let free = self.disk.free_bytes().map_err(|error| error.to_string())?;
        if free < self.min_free.saturating_add(self.arriving.read()) {
            return Err("messages that are coming in have taken half of the room on the disk".into());
        }
        Ok(())
    }

    /// A message as its record says: the bytes behind the record, and the file that it names.
    pub(crate) fn body_of(self: &Arc<Self>, named: Option<FileName>, head: Bytes) -> Body {
        let Some(named) = named else { return Body::Inline(head) };
        Body::Spooled { head, rest: Rest::stored(named, Arc::new(Stored::new(Arc::clone(self), named.id))) }
    }

    /// Removes what nobody asks for any more.
    pub(crate) fn remove_bodies(&self, segments: &HashSet<u32>) {
        let held_back = guard(&self.held_back);
        if held_back.holds() {
            return;
        }
        let mut files = std::mem::take(&mut *guard(&self.spare));
        let short = self.is_short();
        {
            let mut open = lock(&self.open);
            let (today, kept) = (open.today(), if short { Duration::ZERO } else { self.policy.keep_bodies });
            files.extend(open.bodies.rested(today, kept, segments));
        }
        for file in files {
            self.remove_body(file);
        }
    }

    fn remove_body(&self, file: FileId) {
        let name = file_name(file);
        // If the removal is lost with the power, the next start sweeps.
        if let Err(error) = self.bodies.remove(&name)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(file = name, %error, "the file of a body was not removed; it is tried again");
            guard(&self.spare).push(file);
        }
    }
}
