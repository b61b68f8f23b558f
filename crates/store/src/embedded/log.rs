//! The append-only log: frames in segments, and what is found of them after a crash.
//!
//! A batch is written with one write and made durable with one sync, and lies in one segment. A frame
//! carries its batch's number, whether it is the batch's last, and two checksums, so that one damaged
//! record can be set aside while the rest goes on.

use crate::disk::Disk;
use std::io;
use std::ops::Range;
use std::sync::Arc;

const MAGIC: [u8; 4] = *b"SND1";
/// Magic, payload length, sequence, batch, flags, header checksum, payload checksum.
pub(crate) const HEADER: usize = 4 + 4 + 8 + 8 + 4 + 4 + 4;
const LAST: u32 = 1;
/// Larger payloads are damage.
const MAX_PAYLOAD: usize = 256 << 20;
/// No segment holds more batches than this, so a number further on is none of its own.
const MAX_BATCHES: u64 = 1 << 21;
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
    pub batch: u64,
    pub end: u32,
    /// It ends its batch.
    pub last: bool,
    payload: Range<usize>,
}

/// How far the index knows the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    pub position: Position,
    pub sequence: u64,
    pub batch: u64,
}

/// What a scan found beside whole records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Bytes of a torn last batch that were dropped.
    pub torn_bytes: u64,
    /// Damaged places that were set aside: segment, offset, bytes.
    pub damaged: Vec<(u32, u32, u32)>,
    /// Whole segments are missing that the index does not know: what became of mail in them is unknown.
    pub missing_segments: u32,
    /// The segment with which reading began; 0 when there was none.
    pub first_segment: u32,
    /// The sequence of the first whole record behind the last damaged place that was read.
    pub damaged_before: Option<u64>,
}

/// The name of a segment's file.
pub(crate) fn name_of(segment: u32) -> String {
    format!("{segment:010}.seg")
}

fn number_of(name: &str) -> Option<u32> {
    name.strip_suffix(".seg")?.parse().ok().filter(|number| *number > 0)
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
        self.bytes.shrink_to(16 << 20);
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
    /// A segment that takes no more, whatever its size.
    pub(crate) closed: u32,
}

impl<D: Disk> Log<D> {
    /// Where the next batch will begin.
    pub(crate) fn end(&self) -> Position {
        Position { segment: self.segment, offset: self.length }
    }

    /// Writes a batch and makes it durable.
    pub(crate) fn append(&mut self, batch: &mut Batch) -> Result<Position, AppendError> {
        if self.length >= self.segment_size || self.closed == self.segment && self.length > 0 {
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

    /// The number of the batch that was written last.
    pub(crate) fn last_batch(&self) -> u64 {
        self.next_batch - 1
    }

    fn roll(&mut self) -> Result<(), AppendError> {
        let next = self.segment + 1;
        if let Err(error) = self.disk.create(&name_of(next)) {
            let no_space = crate::disk::is_no_space(&error);
            return Err(if no_space { AppendError::NoSpace(error) } else { AppendError::Fatal(error) });
        }
        self.disk.sync_folder().map_err(AppendError::Fatal)?;
        self.segment = next;
        self.length = 0;
        Ok(())
    }
}

/// Where the numbers of batches begin. Nobody outside can guess it, so bytes of a message that look
/// like a frame are not taken for one behind a torn write.
fn first_batch() -> u64 {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system gives random numbers");
    (u64::from_le_bytes(bytes) >> 2) + 1
}

/// Opens the log and hands every whole record behind `known` to `each`, in order.
///
/// A torn last batch is cut off; damage before it is set aside and reported.
pub(crate) fn open<D: Disk>(
    disk: Arc<D>,
    segment_size: u32,
    known: Known,
    mut each: impl FnMut(&Frame, &[u8]),
) -> io::Result<(Log<D>, Findings)> {
    let existing = segments(&*disk)?;
    let newest = existing.last().copied().unwrap_or(0);
    let unread: Vec<u32> = existing.iter().copied().filter(|segment| *segment >= known.position.segment).collect();
    let last = (known.batch > 0).then_some(Last { batch: known.batch, sequence: known.sequence, ended: true });
    let mut scan = Scan { disk: &*disk, last, behind_damage: false, findings: Findings::default() };
    scan.findings.missing_segments = missing(&unread, known.position.segment);
    scan.findings.first_segment = unread.first().copied().unwrap_or(0);
    let mut end = Position::default();
    for segment in unread.iter().copied() {
        let from = if segment == known.position.segment { known.position.offset } else { 0 };
        end = Position { segment, offset: scan.segment(segment, from, segment == newest, &mut each)? };
    }
    let (last, mut findings) = (scan.last, scan.findings);
    let next_batch = last.map_or_else(first_batch, |last| last.batch.saturating_add(1));
    let next_sequence = last.map_or(known.sequence, |last| last.sequence).saturating_add(1);
    let mut log = Log { disk, segment: end.segment, length: end.offset, segment_size, next_batch, next_sequence, closed: 0 };
    let real = if unread.is_empty() { 0 } else { log.disk.length(&name_of(newest))? };
    if unread.is_empty() || real < u64::from(log.length) {
        if known.position.segment > 0 {
            tracing::error!(
                segment = known.position.segment,
                offset = known.position.offset,
                "the log ends before what the index knows of it"
            );
            findings.missing_segments = findings.missing_segments.max(1);
        }
        log.segment = newest.max(known.position.segment);
        log.roll().map_err(|error| match error {
            AppendError::NoSpace(error) | AppendError::Fatal(error) => error,
        })?;
        return Ok((log, findings));
    }
    if real > u64::from(log.length) {
        findings.torn_bytes = real - u64::from(log.length);
        tracing::warn!(segment = log.segment, offset = log.length, bytes = findings.torn_bytes, "torn last batch dropped");
        log.disk.truncate(&name_of(log.segment), u64::from(log.length))?;
        log.disk.sync(&name_of(log.segment))?;
    }
    Ok((log, findings))
}

/// How many segments are not there from the one on that the index got to, or, without an index, between the first
/// and the last that are there.
fn missing(unread: &[u32], known: u32) -> u32 {
    let Some(oldest) = unread.first() else { return 0 };
    let first = if known > 0 { known } else { *oldest };
    let expected = unread.last().map_or(0, |newest| newest - first + 1);
    let missing = expected - unread.len() as u32;
    if missing > 0 {
        tracing::error!(segments = missing, "segments of the log are missing that the index does not know");
    }
    missing
}

/// Reads every whole record, changing nothing.
pub(crate) fn read_all<D: Disk>(disk: &D, mut each: impl FnMut(&Frame, &[u8])) -> io::Result<Findings> {
    let existing = segments(disk)?;
    let mut scan = Scan { disk, last: None, behind_damage: false, findings: Findings::default() };
    for segment in &existing {
        scan.segment(*segment, 0, Some(segment) == existing.last(), &mut each)?;
    }
    Ok(scan.findings)
}

/// The last frame that was read.
#[derive(Clone, Copy)]
struct Last {
    batch: u64,
    sequence: u64,
    /// It was the last of its batch.
    ended: bool,
}

impl Last {
    /// Whatever follows it belongs to this batch at least.
    fn next_batch(self) -> u64 {
        self.batch.saturating_add(u64::from(self.ended))
    }
}

impl From<&Frame> for Last {
    fn from(frame: &Frame) -> Self {
        Self { batch: frame.batch, sequence: frame.sequence, ended: frame.last }
    }
}

struct Scan<'a, D> {
    disk: &'a D,
    last: Option<Last>,
    /// No whole record has followed the last damaged place yet.
    behind_damage: bool,
    findings: Findings,
}

impl<D: Disk> Scan<'_, D> {
    /// Reads one segment; returns where its whole batches end.
    fn segment(&mut self, segment: u32, from: u32, is_newest: bool, each: &mut dyn FnMut(&Frame, &[u8])) -> io::Result<u32> {
        let bytes = read_whole(self.disk, segment, from)?;
        let piece = Piece { bytes: &bytes, segment, base: from };
        let mut frames: Vec<Frame> = Vec::new();
        // Where the batch began whose last frame has not been seen, and what was before it.
        let mut open: Option<(usize, usize, Option<Last>)> = None;
        let mut at = 0;
        while at < bytes.len() {
            if let Some(frame) = piece.frame(at) {
                open = if frame.last { None } else { open.or(Some((at, frames.len(), self.last))) };
                at = frame.payload.end;
                self.last = Some(Last::from(&frame));
                if std::mem::take(&mut self.behind_damage) {
                    self.findings.damaged_before = Some(frame.sequence);
                }
                frames.push(frame);
                continue;
            }
            let Some(later) = piece.next_whole(at, self.last) else { break };
            if is_newest && !piece.proves_synced(later, self.last) {
                break;
            }
            self.set_aside(&piece, at, later);
            open = None;
            at = later;
        }
        if at < bytes.len() && !is_newest {
            self.set_aside(&piece, at, bytes.len());
            at = bytes.len();
        }
        if let Some((start, count, before)) = open.filter(|_| is_newest) {
            frames.truncate(count);
            self.last = before;
            at = start;
        }
        for frame in &frames {
            each(frame, &bytes[frame.payload.clone()]);
        }
        Ok(from + at as u32)
    }

    fn set_aside(&mut self, piece: &Piece<'_>, from: usize, to: usize) {
        let (segment, offset, bytes) = (piece.segment, piece.base + from as u32, to - from);
        self.findings.damaged.push((segment, offset, bytes as u32));
        // Until a whole record says otherwise.
        self.findings.damaged_before = Some(u64::MAX);
        self.behind_damage = true;
        tracing::error!(segment, offset, bytes, "damaged records set aside");
    }
}

/// A segment's bytes from `base` on.
struct Piece<'a> {
    bytes: &'a [u8],
    segment: u32,
    base: u32,
}

impl Piece<'_> {
    fn header(&self, at: usize) -> Option<(&[u8], usize)> {
        let header = self.bytes.get(at..at + HEADER)?;
        let whole = header[..4] == MAGIC && crc32fast::hash(&header[..28]) == u32_at(header, 28);
        whole.then(|| (header, u32_at(header, 4) as usize)).filter(|(_, length)| *length <= MAX_PAYLOAD)
    }

    fn frame(&self, at: usize) -> Option<Frame> {
        let (header, length) = self.header(at)?;
        let payload = at + HEADER..at + HEADER + length;
        let position = Position { segment: self.segment, offset: self.base + at as u32 };
        if payload_checksum(position, self.bytes.get(payload.clone())?) != u32_at(header, 32) {
            return None;
        }
        Some(Frame {
            position,
            sequence: u64_at(header, 8),
            batch: u64_at(header, 16),
            last: u32_at(header, 24) & LAST != 0,
            end: self.base + payload.end as u32,
            payload,
        })
    }

    /// The next whole frame behind a place that is none.
    fn next_whole(&self, at: usize, last: Option<Last>) -> Option<usize> {
        let follows = |at: &usize| self.frame(*at).is_some_and(|frame| follows(&frame, last));
        // A whole header says where the next frame is: no search inside of what somebody wrote to us.
        if let Some((_, length)) = self.header(at) {
            let next = at + HEADER + length;
            if follows(&next) {
                return Some(next);
            }
        }
        let rest = self.bytes.get(at + 1..)?;
        memchr::memmem::find_iter(rest, &MAGIC).map(|found| at + 1 + found).find(follows)
    }

    /// True when a batch later than the damaged one follows: then what is damaged was synced once.
    fn proves_synced(&self, from: usize, last: Option<Last>) -> bool {
        let mut damaged = last.map(Last::next_batch);
        let mut at = Some(from);
        while let Some(start) = at {
            let Some(frame) = self.frame(start) else {
                at = self.next_whole(start, last);
                continue;
            };
            if frame.batch > *damaged.get_or_insert(frame.batch) {
                return true;
            }
            at = (frame.payload.end < self.bytes.len()).then_some(frame.payload.end);
        }
        false
    }
}

/// True for a frame that can come after the last one that was read.
fn follows(frame: &Frame, last: Option<Last>) -> bool {
    last.is_none_or(|last| {
        let batches = last.next_batch()..last.batch.saturating_add(MAX_BATCHES);
        batches.contains(&frame.batch) && frame.sequence > last.sequence
    })
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
