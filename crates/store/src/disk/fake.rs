//! A disk in memory that forgets what was not synced, and fails on demand.

use super::Disk;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One thing that was done to the disk.
#[derive(Clone, Debug)]
enum Done {
    Create(String),
    Write(String, u64, Vec<u8>),
    Truncate(String, u64),
    Remove(String),
    Sync(String),
    SyncFolder,
}

/// What becomes of the bytes that were not synced when the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// All of them are lost.
    Everything,
    /// None is: the process was killed, the system was not.
    Nothing,
    /// The last write is torn: only its first part is there.
    Torn,
    /// Only the last of them is there: the disk wrote out of order.
    Reordered,
    /// Every other sector of the last write is there.
    Sectors,
    /// Of each write that was not synced nothing, all, a first part or some sectors are there, and of
    /// each new name nothing or all, as the number says.
    Random(u64),
}

impl Loss {
    /// All but the random one.
    pub const ALL: [Self; 5] = [Self::Everything, Self::Nothing, Self::Torn, Self::Reordered, Self::Sectors];
}

/// Where to fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nowhere.
    #[default]
    None,
    /// Writes find the disk full.
    NoSpace,
    /// Writes fail for good.
    Write,
    /// Syncs fail.
    Sync,
}

#[derive(Default)]
struct Inner {
    /// What was there before anything was done.
    found: BTreeMap<String, Vec<u8>>,
    done: Vec<Done>,
    files: BTreeMap<String, Vec<u8>>,
    fault: Fault,
    planned: Option<(usize, Fault)>,
    free: Option<u64>,
    /// Room set aside, and what is left of room given back while the disk is full.
    reserved: u64,
    given_back: u64,
}

impl Inner {
    fn fault(&mut self) -> Fault {
        if let Some((step, fault)) = self.planned
            && self.done.len() >= step
        {
            self.planned = None;
            self.fault = fault;
        }
        self.fault
    }
}

/// A disk in memory. Clones share it.
#[derive(Clone, Default)]
pub struct FakeDisk(Arc<Mutex<Inner>>);

impl FakeDisk {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many things were done so far.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.lock().done.len()
    }

    /// How often a file was synced so far.
    #[must_use]
    pub fn syncs(&self) -> usize {
        self.lock().done.iter().filter(|done| matches!(done, Done::Sync(_))).count()
    }

    /// Fails from here on.
    pub fn fail(&self, fault: Fault) {
        let mut inner = self.lock();
        inner.planned = None;
        inner.fault = fault;
        inner.given_back = 0;
    }

    /// Fails once so many things were done, and from there on.
    pub fn fail_at(&self, step: usize, fault: Fault) {
        self.lock().planned = Some((step, fault));
    }

    /// Says how much room there is.
    pub fn set_free(&self, bytes: u64) {
        self.lock().free = Some(bytes);
    }

    /// Turns a byte of a file into another.
    pub fn flip(&self, name: &str, at: usize) {
        if let Some(byte) = self.lock().files.get_mut(name).and_then(|bytes| bytes.get_mut(at)) {
            *byte ^= 0x20;
        }
    }

    /// The disk as it is found after the power went right after `step` things were done.
    #[must_use]
    pub fn after_crash(&self, step: usize, loss: Loss) -> Self {
        let inner = self.lock();
        let done = &inner.done[..step.min(inner.done.len())];
        let mut files = inner.found.clone();
        let synced = Synced::of(done);
        for (at, what) in survivors(done, &synced, loss) {
            apply(&mut files, what, at, done, &synced, loss);
        }
        Self(Arc::new(Mutex::new(Inner {
            found: files.clone(),
            files,
            free: inner.free,
            reserved: inner.reserved,
            ..Inner::default()
        })))
    }
}

/// When each file and the folder were synced last.
struct Synced<'a> {
    files: BTreeMap<&'a str, usize>,
    folder: Option<usize>,
}

impl<'a> Synced<'a> {
    fn of(done: &'a [Done]) -> Self {
        let files = done.iter().enumerate().filter_map(|(at, what)| match what {
            Done::Sync(name) => Some((name.as_str(), at)),
            _ => None,
        });
        Self { files: files.collect(), folder: done.iter().rposition(|what| matches!(what, Done::SyncFolder)) }
    }

    fn file_after(&self, name: &str, at: usize) -> bool {
        self.files.get(name).is_some_and(|last| *last >= at)
    }

    fn folder_after(&self, at: usize) -> bool {
        self.folder.is_some_and(|last| last >= at)
    }
}

/// The things done whose effect is there after the crash.
fn survivors<'a>(done: &'a [Done], synced: &Synced<'_>, loss: Loss) -> Vec<(usize, &'a Done)> {
    let durable = |at: usize, what: &Done| match what {
        Done::Create(_) | Done::Remove(_) => synced.folder_after(at),
        Done::Write(name, ..) | Done::Truncate(name, _) => synced.file_after(name, at),
        Done::Sync(_) | Done::SyncFolder => true,
    };
    let last = last_write(done);
    let kept = |at: usize, what: &Done| match loss {
        Loss::Nothing => true,
        Loss::Everything => durable(at, what),
        Loss::Random(seed) => durable(at, what) || matches!(what, Done::Write(..)) || mixed(seed, at).is_multiple_of(2),
        Loss::Torn | Loss::Reordered | Loss::Sectors => durable(at, what) || Some(at) == last || matches!(what, Done::Create(_)),
    };
    done.iter().enumerate().filter(|(at, what)| kept(*at, what)).collect()
}

fn last_write(done: &[Done]) -> Option<usize> {
    done.iter().rposition(|what| matches!(what, Done::Write(..)))
}

fn apply(files: &mut BTreeMap<String, Vec<u8>>, what: &Done, at: usize, done: &[Done], synced: &Synced<'_>, loss: Loss) {
    match what {
        Done::Create(name) => {
            files.entry(name.clone()).or_default();
        }
        Done::Write(name, offset, bytes) => {
            let at_risk = !synced.file_after(name, at) && (last_write(done) == Some(at) || matches!(loss, Loss::Random(_)));
            // A file whose name is lost is lost with what was written to it.
            let Some(file) = files.get_mut(name) else { return };
            write(file, *offset, bytes, if at_risk { loss.of_write(at) } else { Part::All });
        }
        Done::Truncate(name, length) => {
            if let Some(file) = files.get_mut(name) {
                file.resize(usize::try_from(*length).unwrap_or(usize::MAX), 0);
            }
        }
        Done::Remove(name) => {
            files.remove(name);
        }
        Done::Sync(_) | Done::SyncFolder => {}
    }
}

/// What is there of a write.
enum Part {
    All,
    None,
    First(u16),
    /// A bit for each sector, over and over.
    Sectors(u64),
}

impl Loss {
    fn of_write(self, at: usize) -> Part {
        match self {
            Self::Everything | Self::Nothing | Self::Reordered => Part::All,
            Self::Torn => Part::First(500),
            Self::Sectors => Part::Sectors(0xaaaa_aaaa_aaaa_aaaa),
            Self::Random(seed) => match mixed(seed, at) {
                number if number % 8 == 0 => Part::All,
                number if number % 8 == 1 => Part::None,
                number if number % 8 < 5 => Part::First((number >> 8) as u16 % 1001),
                number => Part::Sectors(number),
            },
        }
    }
}

/// A number that looks random and is the same every time (SplitMix64).
fn mixed(seed: u64, at: usize) -> u64 {
    let mut number = seed.wrapping_add(1).wrapping_add(at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

fn write(file: &mut Vec<u8>, offset: u64, bytes: &[u8], part: Part) {
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    let kept = match part {
        Part::None => return,
        Part::First(thousandths) => bytes.len() * usize::from(thousandths) / 1000,
        Part::All | Part::Sectors(_) => bytes.len(),
    };
    let end = start + kept;
    if file.len() < end {
        file.resize(end, 0);
    }
    let Part::Sectors(bits) = part else {
        file[start..end].copy_from_slice(&bytes[..kept]);
        return;
    };
    // Sectors are the disk's, not the write's.
    let mut from = 0;
    while from < kept {
        let to = (from + 512 - (start + from) % 512).min(kept);
        if bits >> ((start + from) / 512 % 64) & 1 == 1 {
            file[start + from..start + to].copy_from_slice(&bytes[from..to]);
        }
        from = to;
    }
}

impl Disk for FakeDisk {
    fn create(&self, name: &str) -> io::Result<()> {
        let mut inner = self.lock();
        match inner.fault() {
            Fault::NoSpace if inner.given_back > 0 => {}
            Fault::NoSpace => return Err(io::ErrorKind::StorageFull.into()),
            Fault::Write => return Err(io::Error::other("input/output error")),
            Fault::None | Fault::Sync => {}
        }
        if inner.files.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        inner.files.insert(name.to_owned(), Vec::new());
        inner.done.push(Done::Create(name.to_owned()));
        Ok(())
    }

    fn write_at(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.lock();
        match inner.fault() {
            Fault::NoSpace if inner.given_back >= bytes.len() as u64 => inner.given_back -= bytes.len() as u64,
            Fault::NoSpace => {
                // Half of it fits, as it does on a real disk.
                let half = bytes[..bytes.len() / 2].to_vec();
                write(inner.files.entry(name.to_owned()).or_default(), offset, &half, Part::All);
                inner.done.push(Done::Write(name.to_owned(), offset, half));
                return Err(io::ErrorKind::StorageFull.into());
            }
            Fault::Write => return Err(io::Error::other("input/output error")),
            Fault::None | Fault::Sync => {}
        }
        write(inner.files.entry(name.to_owned()).or_default(), offset, bytes, Part::All);
        inner.done.push(Done::Write(name.to_owned(), offset, bytes.to_vec()));
        Ok(())
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        let mut inner = self.lock();
        if inner.fault() == Fault::Sync {
            return Err(io::Error::other("input/output error"));
        }
        inner.done.push(Done::Sync(name.to_owned()));
        Ok(())
    }

    fn sync_folder(&self) -> io::Result<()> {
        let mut inner = self.lock();
        if inner.fault() == Fault::Sync {
            return Err(io::Error::other("input/output error"));
        }
        inner.done.push(Done::SyncFolder);
        Ok(())
    }

    fn truncate(&self, name: &str, length: u64) -> io::Result<()> {
        let mut inner = self.lock();
        if let Some(file) = inner.files.get_mut(name) {
            file.resize(usize::try_from(length).unwrap_or(usize::MAX), 0);
        }
        inner.done.push(Done::Truncate(name.to_owned(), length));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut inner = self.lock();
        inner.files.remove(name);
        inner.done.push(Done::Remove(name.to_owned()));
        Ok(())
    }

    fn close(&self, _: &str) {}

    fn read_at(&self, name: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let inner = self.lock();
        let file = inner.files.get(name).ok_or(io::ErrorKind::NotFound)?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(file.len());
        let end = start.saturating_add(length).min(file.len());
        Ok(file[start..end].to_vec())
    }

    fn length(&self, name: &str) -> io::Result<u64> {
        let inner = self.lock();
        inner.files.get(name).map(|file| file.len() as u64).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().files.keys().cloned().collect())
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        let mut inner = self.lock();
        if inner.reserved < bytes && inner.fault() == Fault::NoSpace {
            return Err(io::ErrorKind::StorageFull.into());
        }
        inner.reserved = bytes;
        Ok(())
    }

    fn release(&self) -> io::Result<()> {
        let mut inner = self.lock();
        inner.given_back += std::mem::take(&mut inner.reserved);
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.lock().free.unwrap_or(u64::MAX))
    }
}
