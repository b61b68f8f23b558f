//! The folder of a queue: who has it, and which format it has.

use super::OpenError;
use std::fs::File;
use std::path::Path;

/// The format of the folder that this version writes.
pub(crate) const FORMAT: &str = "sendero queue 3\n";

/// Keeps everybody else out of a folder as long as the file is open.
///
/// # Errors
/// Another process has it, or the disk.
pub(crate) fn lock_folder(folder: &Path) -> Result<File, OpenError> {
    let path = folder.join("LOCK");
    let io = |error| OpenError::Io { path: path.clone(), error };
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(io)?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::Locked(folder.to_owned())),
        Err(error) => Err(io(error.into())),
    }
}

/// Makes sure that the folder has the format of this version; a new one gets it.
///
/// # Errors
/// Made by another version, or the disk.
pub(super) fn check_format(folder: &Path) -> Result<(), OpenError> {
    let path = folder.join("format");
    let io = |error| OpenError::Io { path: path.clone(), error };
    match std::fs::read_to_string(&path) {
        Ok(found) if found == FORMAT => Ok(()),
        Ok(found) => {
            Err(OpenError::Format { folder: folder.to_owned(), found: found.trim().to_owned(), known: FORMAT.trim_ascii_end() })
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => write_format(folder).map_err(io),
        Err(error) => Err(io(error)),
    }
}

fn write_format(folder: &Path) -> std::io::Result<()> {
    let fresh = folder.join("format.new");
    let mut file = File::create(&fresh)?;
    std::io::Write::write_all(&mut file, FORMAT.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&fresh, folder.join("format"))?;
    File::open(folder)?.sync_all()
}
