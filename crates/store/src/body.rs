//! A message's bytes: whole in memory, or its header section with the rest in a file of its own.

use crate::api::{AcceptError, StoreError};
use crate::disk::is_no_space;
use bytes::Bytes;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A message of up to so many bytes is kept whole; of a larger one, what follows its header is a file of its own.
pub const WHOLE_UP_TO: usize = 64 * 1024;
/// A file is read in pieces of this size.
const PIECE: usize = 64 * 1024;

/// A message's bytes, CRLF line ends, final CRLF.
#[derive(Clone)]
pub enum Body {
    /// All of them.
    Inline(Bytes),
    /// The header section and its blank line; the rest is in a file.
    Spooled {
        /// Up to and with the blank line.
        head: Bytes,
        /// What follows.
        rest: Rest,
    },
}

/// What follows the header section of a large message: a durable file.
///
/// When the last copy of it is dropped and no message was accepted with it, the file is removed.
#[derive(Clone)]
pub struct Rest {
    named: FileName,
    claim: Arc<Claim>,
}

/// How a record names a file, and what must be in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileName {
    pub id: FileId,
    pub length: u64,
    pub checksum: u32,
    pub eight_bit: bool,
}

/// What a file is called: random, so that no two are ever the same.
pub type FileId = [u8; 16];

/// A file for what follows the header section of one message.
pub trait BodyFile: Send + Sync {
    /// What it is called.
    fn id(&self) -> FileId;
    /// Writes at an offset.
    ///
    /// # Errors
    /// The system's.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes its bytes and its name durable.
    ///
    /// # Errors
    /// The system's.
    fn sync(&self) -> io::Result<()>;
    /// Reads up to `length` bytes at an offset.
    ///
    /// # Errors
    /// The system's.
    fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>>;
    /// Its length in bytes.
    ///
    /// # Errors
    /// The system's.
    fn length(&self) -> io::Result<u64>;
    /// Nobody reads it for a while.
    fn rest(&self);
    /// Removes it.
    fn remove(&self);
}

/// Whether somebody has accepted a message with the file.
struct Claim {
    file: Arc<dyn BodyFile>,
    kept: AtomicBool,
    arriving: Arriving,
}

/// Bytes of files that are part of no message yet.
#[derive(Clone, Default)]
pub(crate) struct Gauge(Arc<AtomicU64>);

impl Gauge {
    /// As many as there are now.
    pub(crate) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One file's part of a gauge.
#[derive(Default)]
struct Arriving {
    gauge: Gauge,
    bytes: AtomicU64,
}

impl Arriving {
    fn more(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.gauge.0.fetch_add(bytes, Ordering::Relaxed);
    }

    /// It is part of a message, or gone.
    fn end(&self) {
        self.gauge.0.fetch_sub(self.bytes.swap(0, Ordering::Relaxed), Ordering::Relaxed);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.arriving.end();
        if !*self.kept.get_mut() {
            self.file.remove();
        }
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::Inline(Bytes::new())
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Inline(bytes)
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Inline(bytes.into())
    }
}

/// Without what is in the file.
impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Inline(bytes) => f.debug_tuple("Inline").field(bytes).finish(),
            Self::Spooled { head, rest } => f.debug_struct("Spooled").field("head", head).field("rest", rest).finish(),
        }
    }
}

impl std::fmt::Debug for Rest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.named.fmt(f)
    }
}

/// The same bytes, as far as it can be told without reading a file.
impl PartialEq for Body {
    fn eq(&self, other: &Self) -> bool {
        self.head() == other.head() && self.named() == other.named()
    }
}

impl Body {
    /// Its length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.head().len() as u64 + self.named().map_or(0, |named| named.length)
    }

    /// True for a message without a single byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is in memory: the whole message, or its header section with the blank line.
    #[must_use]
    pub fn head(&self) -> &Bytes {
        match self {
            Self::Inline(bytes) | Self::Spooled { head: bytes, .. } => bytes,
        }
    }

    /// True when all of it is in memory.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        matches!(self, Self::Inline(_))
    }

    /// True when it has bytes over 127.
    #[must_use]
    pub fn is_eight_bit(&self) -> bool {
        self.named().is_some_and(|named| named.eight_bit) || !self.head().is_ascii()
    }

    /// Its bytes in order, piece by piece. What is in a file is read on the way, on a thread that may block.
    #[must_use]
    pub fn pieces(&self) -> Pieces {
        let (head, rest) = match self {
            Self::Inline(bytes) => (bytes.clone(), None),
            Self::Spooled { head, rest } => (head.clone(), Some(rest.clone())),
        };
        Pieces { head: Some(head), rest, at: 0, sum: crc32fast::Hasher::new() }
    }

    /// All of its bytes, for callers who know that they are few.
    ///
    /// # Errors
    /// The file is missing or damaged.
    pub fn read(&self) -> Result<Bytes, StoreError> {
        match self {
            Self::Inline(bytes) => Ok(bytes.clone()),
            Self::Spooled { .. } => {
                let mut whole = Vec::new();
                for piece in self.pieces() {
                    whole.extend_from_slice(&piece?);
                }
                Ok(whole.into())
            }
        }
    }

    /// Looks whether the file is there and has the length it had; its content is checked when it is read.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn look(&self) -> Result<(), StoreError> {
        let Self::Spooled { rest, .. } = self else { return Ok(()) };
        match rest.claim.file.length() {
            Ok(length) if length == rest.named.length => Ok(()),
            Ok(length) => Err(rest.damaged(format!("it has {length} bytes and had {}", rest.named.length))),
            Err(error) => Err(rest.damaged(error)),
        }
    }

    pub(crate) fn named(&self) -> Option<FileName> {
        match self {
            Self::Inline(_) => None,
            Self::Spooled { rest, .. } => Some(rest.named),
        }
    }

    /// A record names the file from here on, or does not after all.
    pub(crate) fn set_kept(&self, kept: bool) {
        if let Self::Spooled { rest, .. } = self {
            rest.claim.kept.store(kept, Ordering::Release);
            rest.claim.arriving.end();
        }
    }
}

impl Rest {
    /// The file that a record names.
    pub(crate) fn stored(named: FileName, file: Arc<dyn BodyFile>) -> Self {
        Self { named, claim: Arc::new(Claim { file, kept: AtomicBool::new(true), arriving: Arriving::default() }) }
    }

    /// Its length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.named.length
    }

    /// Never: what would be empty is no file.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.named.length == 0
    }

    /// True when it has bytes over 127.
    #[must_use]
    pub fn is_eight_bit(&self) -> bool {
        self.named.eight_bit
    }

    fn damaged(&self, why: impl std::fmt::Display) -> StoreError {
        StoreError::Damaged(format!("the file of its body, {}, cannot be read: {why}", file_name(self.named.id)))
    }
}

/// A name that no file had.
pub(crate) fn random_id() -> FileId {
    let mut id = [0; 16];
    aws_lc_rs::rand::fill(&mut id).expect("the system gives random numbers");
    id
}

/// What a file is called in its folder.
pub(crate) fn file_name(id: FileId) -> String {
    format!("{:032x}.body", u128::from_be_bytes(id))
}

/// The file that has this name.
pub(crate) fn file_of(name: &str) -> Option<FileId> {
    let digits = name.strip_suffix(".body").filter(|digits| digits.len() == 32)?;
    u128::from_str_radix(digits, 16).ok().map(u128::to_be_bytes)
}

/// A message's bytes, piece by piece.
///
/// The last piece comes only when all of the file was as it was written: an error in its place says that what came
/// before is not the message.
pub struct Pieces {
    head: Option<Bytes>,
    rest: Option<Rest>,
    at: u64,
    sum: crc32fast::Hasher,
}

impl Iterator for Pieces {
    type Item = Result<Bytes, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(head) = self.head.take() {
            return Some(Ok(head));
        }
        let rest = self.rest.as_ref()?;
        let left = rest.named.length - self.at;
        if left == 0 {
            rest.claim.file.rest();
            self.rest = None;
            return None;
        }
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE);
        let read = rest.claim.file.read_at(self.at, wanted);
        let piece = match read {
            Ok(piece) if piece.len() == wanted => piece,
            Ok(_) => return Some(Err(self.fail("it is shorter than it was"))),
            Err(error) => return Some(Err(self.fail(error))),
        };
        self.at += wanted as u64;
        self.sum.update(&piece);
        if self.at == rest.named.length && self.sum.clone().finalize() != rest.named.checksum {
            return Some(Err(self.fail("its checksum is another")));
        }
        Some(Ok(piece.into()))
    }
}

impl Pieces {
    /// The end, with the reason.
    fn fail(&mut self, why: impl std::fmt::Display) -> StoreError {
        let Some(rest) = self.rest.take() else { return StoreError::Damaged(why.to_string()) };
        rest.claim.file.rest();
        rest.damaged(why)
    }
}

/// A file that is being written. Dropped, it is removed.
pub struct Spool {
    claim: Arc<Claim>,
    length: u64,
    sum: crc32fast::Hasher,
    eight_bit: bool,
    /// The last two bytes.
    end: [u8; 2],
}

impl Spool {
    /// Writes into this file, which is new and empty. What it has counts in the gauge, until it is part of a message.
    pub(crate) fn new(file: Arc<dyn BodyFile>, gauge: Gauge) -> Self {
        let claim = Arc::new(Claim { file, kept: AtomicBool::new(false), arriving: Arriving { gauge, ..Arriving::default() } });
        Self { claim, length: 0, sum: crc32fast::Hasher::new(), eight_bit: false, end: [0; 2] }
    }

    /// Writes into a file in memory, for a queue in memory.
    #[must_use]
    pub fn in_memory() -> Self {
        let id = random_id();
        Self::new(Arc::new(InMemory { id, bytes: Mutex::default() }), Gauge::default())
    }

    /// Appends a piece. Belongs on a thread that may block.
    ///
    /// # Errors
    /// `NoSpace` on a full disk, `Closed` when the disk broke; the message cannot be accepted then.
    pub fn write(&mut self, piece: &[u8]) -> Result<(), AcceptError> {
        self.claim.file.write_at(self.length, piece).map_err(refused)?;
        self.length += piece.len() as u64;
        self.claim.arriving.more(piece.len() as u64);
        self.sum.update(piece);
        self.eight_bit |= !piece.is_ascii();
        for byte in &piece[piece.len().saturating_sub(2)..] {
            self.end = [self.end[1], *byte];
        }
        Ok(())
    }

    /// Supplies a missing final CRLF and makes the file durable. Belongs on a thread that may block.
    ///
    /// # Errors
    /// As for a write.
    pub fn finish(mut self) -> Result<Rest, AcceptError> {
        if self.end != *b"\r\n" {
            self.write(b"\r\n")?;
        }
        self.claim.file.sync().map_err(refused)?;
        self.claim.file.rest();
        let named =
            FileName { id: self.claim.file.id(), length: self.length, checksum: self.sum.finalize(), eight_bit: self.eight_bit };
        Ok(Rest { named, claim: self.claim })
    }
}

/// What a submitter is told of a file that could not be made or written.
pub(crate) fn refused(error: io::Error) -> AcceptError {
    if is_no_space(&error) {
        AcceptError::NoSpace(error.to_string())
    } else {
        AcceptError::Closed(format!("its body could not be written: {error}"))
    }
}

struct InMemory {
    id: FileId,
    bytes: Mutex<Vec<u8>>,
}

impl BodyFile for InMemory {
    fn id(&self) -> FileId {
        self.id
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut file = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        file.truncate(usize::try_from(offset).unwrap_or(usize::MAX));
        file.extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let file = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(file.len());
        Ok(file[from..from.saturating_add(length).min(file.len())].to_vec())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().unwrap_or_else(PoisonError::into_inner).len() as u64)
    }

    fn rest(&self) {}

    fn remove(&self) {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
