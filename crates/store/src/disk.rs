//! The disk as the log sees it: named files in one folder, written, synced, cut and removed.
//!
//! [`RealDisk`] is the one of production. [`fake::FakeDisk`] loses, tears and reorders what was not
//! synced, and fails where it is told to.

pub mod fake;

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Files in one folder.
pub trait Disk: Send + Sync + 'static {
    /// Makes an empty file. Its name is durable after [`Disk::sync_folder`].
    ///
    /// # Errors
    /// The system's.
    fn create(&self, name: &str) -> io::Result<()>;
    /// Writes at an offset.
    ///
    /// # Errors
    /// The system's; part of it may have been written.
    fn write_at(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes the file's bytes durable (fdatasync).
    ///
    /// # Errors
    /// The system's; nothing is known about the bytes then.
    fn sync(&self, name: &str) -> io::Result<()>;
    /// Makes creations and removals durable.
    ///
    /// # Errors
    /// The system's.
    fn sync_folder(&self) -> io::Result<()>;
    /// Cuts a file.
    ///
    /// # Errors
    /// The system's.
    fn truncate(&self, name: &str, length: u64) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// The system's.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Lets go of what is kept open for a file that nobody reads or writes for a while.
    fn close(&self, name: &str);
    /// Reads up to `length` bytes at an offset.
    ///
    /// # Errors
    /// The system's.
    fn read_at(&self, name: &str, offset: u64, length: usize) -> io::Result<Vec<u8>>;
    /// Length of a file.
    ///
    /// # Errors
    /// The system's.
    fn length(&self, name: &str) -> io::Result<u64>;
    /// Names of all files, sorted.
    ///
    /// # Errors
    /// The system's.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Bytes that may still be written.
    ///
    /// # Errors
    /// The system's.
    fn free_bytes(&self) -> io::Result<u64>;
    /// Sets room aside, once: it is nobody's until [`Disk::release`].
    ///
    /// # Errors
    /// The system's; [`is_no_space`] where there is none.
    fn reserve(&self, bytes: u64) -> io::Result<()>;
    /// Gives the room back that was set aside.
    ///
    /// # Errors
    /// The system's.
    fn release(&self) -> io::Result<()>;
}

/// The file that keeps room for what must be written when the disk is full.
const RESERVE: &str = "reserve";
/// Files that are kept open.
const MOST_OPEN: usize = 64;

/// A folder of the real file system.
pub struct RealDisk {
    folder: PathBuf,
    writes: bool,
    open: Mutex<HashMap<String, Arc<File>>>,
}

impl RealDisk {
    /// The folder, which is made if it is missing.
    ///
    /// # Errors
    /// The system's.
    pub fn open(folder: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        if let Some(parent) = folder.parent() {
            File::open(parent)?.sync_all()?;
        }
        Ok(Self { folder: folder.to_owned(), writes: true, open: Mutex::default() })
    }

    /// A folder in which nothing is written, and perhaps may not be.
    #[must_use]
    pub fn reading(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), writes: false, open: Mutex::default() }
    }

    fn file(&self, name: &str) -> io::Result<Arc<File>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(name) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(OpenOptions::new().read(true).write(self.writes).open(self.folder.join(name))?);
        if open.len() >= MOST_OPEN {
            open.clear();
        }
        open.insert(name.to_owned(), Arc::clone(&file));
        Ok(file)
    }
}

impl Disk for RealDisk {
    fn create(&self, name: &str) -> io::Result<()> {
        let path = self.folder.join(name);
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map(drop)
    }

    fn write_at(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file(name)?.write_all_at(bytes, offset)
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        self.file(name)?.sync_data()
    }

    fn sync_folder(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }

    fn truncate(&self, name: &str, length: u64) -> io::Result<()> {
        self.file(name)?.set_len(length)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        std::fs::remove_file(self.folder.join(name))
    }

    fn close(&self, name: &str) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    fn read_at(&self, name: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let file = self.file(name)?;
        let mut bytes = vec![0; length];
        let mut filled = 0;
        while filled < length {
            match file.read_at(&mut bytes[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    fn length(&self, name: &str) -> io::Result<u64> {
        Ok(std::fs::metadata(self.folder.join(name))?.len())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(self.folder.join(RESERVE))?;
        if file.metadata()?.len() == bytes {
            return Ok(());
        }
        file.set_len(0)?;
        match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes) {
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                let zeros = vec![0; 1 << 20];
                let mut at = 0;
                while at < bytes {
                    let piece = &zeros[..usize::try_from((bytes - at).min(1 << 20)).unwrap_or(0)];
                    file.write_all_at(piece, at)?;
                    at += piece.len() as u64;
                }
            }
            other => other?,
        }
        file.sync_all()
    }

    fn release(&self) -> io::Result<()> {
        match OpenOptions::new().write(true).open(self.folder.join(RESERVE)) {
            Ok(file) => file.set_len(0),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.folder)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// True for a disk that is full or read-only: nothing is broken, and later may help.
#[must_use]
pub fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::ReadOnlyFilesystem)
}
