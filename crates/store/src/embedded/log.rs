//! The append-only log: frames in segments, and what is found of them after a crash.
//!
//! A batch is written with one write and made durable with one sync, and lies in one segment. A frame
//! carries its batch's number, whether it is the batch's last, and two checksums, so that one damaged
//! record can be set aside while the rest goes on.

use crate::disk::Disk;
use std::io;
use std::sync::Arc;

const MAGIC: [u8; 4] = *b"SND1";
/// Magic, payload length, sequence, batch, flags, header checksum, payload checksum.
pub(crate) const HEADER: usize = 4 + 4 + 8 + 8 + 4 + 4 + 4;
const LAST: u32 = 1;
/// Larger payloads are damage.
const MAX_PAYLOAD: usize = 64 << 20;
/// Segments are read in pieces of this size.
const CHUNK: usize = 4 << 20;

/// Where a frame begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Position {
    pub segment: u32,
    pub offset: u32,
}

/// A frame that was read.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub position: Position,
    pub sequence: u64,
    pub payload: Vec<u8>,
    pub end: u32,
    batch: u64,
    pub last: bool,
}

/// What a scan found beside whole records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Bytes of a torn last batch that were dropped.
    pub torn_bytes: u64,
    /// Damaged places that were set aside: segment, offset, bytes.
    pub damaged: Vec<(u32, u32, u32)>,
}

/// The name of a segment's file.
pub(crate) fn name_of(segment: u32) -> String {
    format!("{segment:010}.seg")
}

fn number_of(name: &str) -> Option<u32> {
    name.strip_suffix(".seg")?.parse().ok()
}

/// The segments that exist, oldest first.
pub(crate) fn segments<D: Disk>(disk: &D) -> io::Result<Vec<u32>> {
    let mut found: Vec<u32> = disk.list()?.iter().filter_map(|name| number_of(name)).collect();
    found.sort_unstable();
    Ok(found)
}

fn payload_checksum(position: Position, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&position.segment.to_le_bytes());
    hasher.update(&position.offset.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

/// Frames of one batch, being put together.
#[derive(Default)]
pub(crate) struct Batch {
    pub bytes: Vec<u8>,
    starts: Vec<usize>,
}

impl Batch {
    /// Appends a frame; `fill` writes its payload. Returns where in the batch it begins.
    pub(crate) fn frame(&mut self, sequence: u64, fill: impl FnOnce(&mut Vec<u8>)) -> usize {
        let start = self.bytes.len();
        self.bytes.resize(start + HEADER, 0);
        fill(&mut self.bytes);
        let length = (self.bytes.len() - start - HEADER) as u32;
        let header = &mut self.bytes[start..start + HEADER];
        header[..4].copy_from_slice(&MAGIC);
        header[4..8].copy_from_slice(&length.to_le_bytes());
        header[8..16].copy_from_slice(&sequence.to_le_bytes());
        self.starts.push(start);
        start
    }

    /// Length of the payload of the frame that begins at `start`.
    pub(crate) fn payload_length(&self, start: usize) -> u32 {
        u32_at(&self.bytes, start + 4)
    }

    fn seal(&mut self, number: u64, at: Position) {
        for (place, start) in self.starts.iter().copied().enumerate() {
            let end = self.starts.get(place + 1).copied().unwrap_or(self.bytes.len());
            let position = Position { segment: at.segment, offset: at.offset + start as u32 };
            let checksum = payload_checksum(position, &self.bytes[start + HEADER..end]);
            let flags = if place + 1 == self.starts.len() { LAST } else { 0 };
            let header = &mut self.bytes[start..start + HEADER];
            header[16..24].copy_from_slice(&number.to_le_bytes());
            header[24..28].copy_from_slice(&flags.to_le_bytes());
            let sum = crc32fast::hash(&header[..28]);
            header[28..32].copy_from_slice(&sum.to_le_bytes());
            header[32..36].copy_from_slice(&checksum.to_le_bytes());
        }
    }

    /// Forgets the frames and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(4 << 20);
        self.starts.clear();
    }
}

/// Why a batch is not durable.
#[derive(Debug)]
pub(crate) enum AppendError {
    /// The disk is full or read-only; the log is as it was before.
    NoSpace(io::Error),
    /// Nothing is known about the log's end: nothing may be written any more.
    Fatal(io::Error),
}

/// The log's end.
pub(crate) struct Log<D> {
    pub(crate) disk: Arc<D>,
    segment: u32,
    length: u32,
    segment_size: u32,
    next_batch: u64,
    pub(crate) next_sequence: u64,
}

impl<D: Disk> Log<D> {
    /// Where the next batch will begin.
    pub(crate) fn end(&self) -> Position {
        Position { segment: self.segment, offset: self.length }
    }

    /// Writes a batch and makes it durable.
    pub(crate) fn append(&mut self, batch: &mut Batch) -> Result<Position, AppendError> {
        if self.length >= self.segment_size {
            self.roll()?;
        }
        let at = self.end();
        batch.seal(self.next_batch, at);
        let name = name_of(at.segment);
        if let Err(error) = self.disk.write_at(&name, u64::from(at.offset), &batch.bytes) {
            if !crate::disk::is_no_space(&error) {
                return Err(AppendError::Fatal(error));
            }
            self.disk.truncate(&name, u64::from(at.offset)).map_err(AppendError::Fatal)?;
            return Err(AppendError::NoSpace(error));
        }
        if let Err(error) = self.disk.sync(&name) {
            return Err(AppendError::Fatal(error));
        }
        self.length = at.offset + batch.bytes.len() as u32;
        self.next_batch += 1;
        Ok(at)
    }

    fn roll(&mut self) -> Result<(), AppendError> {
        let next = self.segment + 1;
        let made = self.disk.create(&name_of(next)).and_then(|()| self.disk.sync_folder());
        match made {
            Ok(()) => {
                self.segment = next;
                self.length = 0;
                Ok(())
            }
            Err(error) if crate::disk::is_no_space(&error) => Err(AppendError::NoSpace(error)),
            Err(error) => Err(AppendError::Fatal(error)),
        }
    }
}

/// Opens the log and hands every whole record from `from` on to `each`, in order.
///
/// A torn last batch is cut off; damage before it is set aside and reported.
pub(crate) fn open<D: Disk>(
    disk: Arc<D>,
    segment_size: u32,
    from: Position,
    next_sequence: u64,
    mut each: impl FnMut(Frame),
) -> io::Result<(Log<D>, Findings)> {
    let mut findings = Findings::default();
    let existing = segments(&*disk)?;
    let mut log = Log { disk, segment: 1, length: 0, segment_size, next_batch: 1, next_sequence };
    let Some(newest) = existing.last().copied() else {
        log.disk.create(&name_of(1))?;
        log.disk.sync_folder()?;
        return Ok((log, findings));
    };
    let mut read_any = false;
    for segment in existing.iter().copied().filter(|segment| *segment >= from.segment) {
        let start = if segment == from.segment { from.offset } else { 0 };
        let scanned = scan(&*log.disk, segment, start, segment == newest, &mut findings)?;
        for frame in scanned.frames {
            log.next_sequence = log.next_sequence.max(frame.sequence + 1);
            log.next_batch = log.next_batch.max(frame.batch + 1);
            each(frame);
        }
        log.segment = segment;
        log.length = scanned.end;
        read_any = true;
    }
    if !read_any {
        // The index is ahead of every segment that is left.
        log.segment = newest + 1;
        log.disk.create(&name_of(log.segment))?;
        log.disk.sync_folder()?;
    }
    if from.segment == log.segment && log.next_batch == 1 && from.offset > 0 {
        log.next_batch = last_batch(&*log.disk, log.segment, from.offset)? + 1;
    }
    let real = log.disk.length(&name_of(log.segment))?;
    if real > u64::from(log.length) {
        findings.torn_bytes = real - u64::from(log.length);
        tracing::warn!(segment = log.segment, offset = log.length, bytes = findings.torn_bytes, "torn last batch dropped");
        log.disk.truncate(&name_of(log.segment), u64::from(log.length))?;
        log.disk.sync(&name_of(log.segment))?;
    }
    Ok((log, findings))
}

/// Reads every whole record, changing nothing.
pub(crate) fn read_all<D: Disk>(disk: &D, mut each: impl FnMut(Frame)) -> io::Result<Findings> {
    let mut findings = Findings::default();
    let existing = segments(disk)?;
    for segment in &existing {
        let scanned = scan(disk, *segment, 0, Some(segment) == existing.last(), &mut findings)?;
        scanned.frames.into_iter().for_each(&mut each);
    }
    Ok(findings)
}

/// The number of the last batch before `end`.
fn last_batch<D: Disk>(disk: &D, segment: u32, end: u32) -> io::Result<u64> {
    let mut findings = Findings::default();
    let scanned = scan(disk, segment, 0, true, &mut findings)?;
    Ok(scanned.frames.iter().filter(|frame| frame.position.offset < end).map(|frame| frame.batch).max().unwrap_or(0))
}

struct Scanned {
    frames: Vec<Frame>,
    end: u32,
}

fn scan<D: Disk>(disk: &D, segment: u32, from: u32, is_newest: bool, findings: &mut Findings) -> io::Result<Scanned> {
    let bytes = read_whole(disk, segment, from)?;
    let mut frames: Vec<Frame> = Vec::new();
    // Start and number of the batch whose last frame has not been seen.
    let mut open: Option<(usize, usize)> = None;
    let mut at = 0;
    while at < bytes.len() {
        if let Some(frame) = frame_at(&bytes, at, segment, from) {
            let next = at + HEADER + frame.payload.len();
            open = if frame.last { None } else { open.or(Some((at, frames.len()))) };
            frames.push(frame);
            at = next;
            continue;
        }
        let Some(later) = resync(&bytes, at + 1, segment, from) else {
            break;
        };
        let before = frames.last().map_or(0, |frame| frame.batch);
        let in_last_batch = is_newest && is_only_batch_left(&bytes, later, segment, from, before);
        if in_last_batch {
            break;
        }
        findings.damaged.push((segment, from + at as u32, (later - at) as u32));
        tracing::error!(segment, offset = from + at as u32, bytes = later - at, "damaged records set aside");
        at = later;
    }
    if at < bytes.len() && !is_newest {
        findings.damaged.push((segment, from + at as u32, (bytes.len() - at) as u32));
        tracing::error!(segment, offset = from + at as u32, bytes = bytes.len() - at, "damaged records set aside");
        return Ok(Scanned { frames, end: from + bytes.len() as u32 });
    }
    if let Some((start, count)) = open.filter(|_| is_newest) {
        frames.truncate(count);
        at = start;
    }
    Ok(Scanned { frames, end: from + at as u32 })
}

/// True when every frame from `at` on belongs to one batch, the one that follows (or is) `before`:
/// then no later batch proves that what is damaged was ever synced.
fn is_only_batch_left(bytes: &[u8], at: usize, segment: u32, from: u32, before: u64) -> bool {
    let mut at = Some(at);
    while let Some(start) = at {
        let Some(frame) = frame_at(bytes, start, segment, from) else {
            at = resync(bytes, start + 1, segment, from);
            continue;
        };
        if frame.batch > before + 1 {
            return false;
        }
        let next = start + HEADER + frame.payload.len();
        at = (next < bytes.len()).then_some(next);
    }
    true
}

fn resync(bytes: &[u8], from: usize, segment: u32, base: u32) -> Option<usize> {
    let rest = bytes.get(from..)?;
    memchr::memmem::find_iter(rest, &MAGIC).map(|at| from + at).find(|at| frame_at(bytes, *at, segment, base).is_some())
}

fn read_whole<D: Disk>(disk: &D, segment: u32, from: u32) -> io::Result<Vec<u8>> {
    let name = name_of(segment);
    let length = disk.length(&name)?.saturating_sub(u64::from(from));
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    loop {
        let piece = disk.read_at(&name, u64::from(from) + bytes.len() as u64, CHUNK)?;
        if piece.is_empty() {
            return Ok(bytes);
        }
        bytes.extend_from_slice(&piece);
    }
}

fn frame_at(bytes: &[u8], at: usize, segment: u32, base: u32) -> Option<Frame> {
    let header = bytes.get(at..at + HEADER)?;
    if header[..4] != MAGIC || crc32fast::hash(&header[..28]) != u32_at(header, 28) {
        return None;
    }
    let length = u32_at(header, 4) as usize;
    let payload = bytes.get(at + HEADER..at + HEADER + length).filter(|_| length <= MAX_PAYLOAD)?;
    let position = Position { segment, offset: base + at as u32 };
    if payload_checksum(position, payload) != u32_at(header, 32) {
        return None;
    }
    let end = position.offset + (HEADER + length) as u32;
    Some(Frame {
        position,
        sequence: u64_at(header, 8),
        batch: u64_at(header, 16),
        last: u32_at(header, 24) & LAST != 0,
        payload: payload.to_vec(),
        end,
    })
}

/// Reads one record's payload, checked.
pub(crate) fn read_frame<D: Disk>(disk: &D, position: Position, payload_length: u32) -> io::Result<Vec<u8>> {
    let mut bytes = disk.read_at(&name_of(position.segment), u64::from(position.offset), HEADER + payload_length as usize)?;
    let damaged =
        || io::Error::new(io::ErrorKind::InvalidData, format!("record at {}:{} is damaged", position.segment, position.offset));
    let header = bytes.get(..HEADER).ok_or_else(damaged)?;
    let sum = u32_at(header, 32);
    if header[..4] != MAGIC || u32_at(header, 4) != payload_length || bytes.len() != HEADER + payload_length as usize {
        return Err(damaged());
    }
    if payload_checksum(position, &bytes[HEADER..]) != sum {
        return Err(damaged());
    }
    bytes.drain(..HEADER);
    Ok(bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
