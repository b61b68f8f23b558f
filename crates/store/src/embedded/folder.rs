//! The folder of a queue: who has it, and which format it has.

use super::OpenError;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
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
    locked(folder, file)
}

fn locked(folder: &Path, file: File) -> Result<File, OpenError> {
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::Locked(folder.to_owned())),
        Err(error) => Err(OpenError::Io { path: folder.join("LOCK"), error: error.into() }),
    }
}

/// Keeps everybody else out of a folder that is only read: nothing is made in it, unless nobody ever had it.
///
/// # Errors
/// As [`lock_folder`].
pub(super) fn lock_to_read(folder: &Path) -> Result<File, OpenError> {
    let path = folder.join("LOCK");
    let opened = File::options().read(true).write(true).open(&path).or_else(|error| match error.kind() {
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => File::open(&path),
        _ => Err(error),
    });
    match opened {
        Ok(file) => locked(folder, file),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let file = lock_folder(folder)?;
            give(&path, folder);
            Ok(file)
        }
        Err(error) => Err(OpenError::Io { path, error }),
    }
}

/// Gives a file to whoever has the folder, so that root leaves nothing there which the gateway cannot change.
pub(super) fn give(path: &Path, folder: &Path) {
    let given = std::fs::metadata(folder).and_then(|owner| std::os::unix::fs::chown(path, Some(owner.uid()), Some(owner.gid())));
    if let Err(error) = given {
        tracing::warn!(path = %path.display(), %error, "it has another owner than its folder");
    }
}

/// Makes sure that the folder has the format of this version; a new one gets it.
///
/// # Errors
/// Made by another version, or the disk.
pub(super) fn check_format(folder: &Path) -> Result<(), OpenError> {
    match read_format(folder) {
        Err(OpenError::Io { error, .. }) if error.kind() == ErrorKind::NotFound => {
            write_format(folder).map_err(|error| OpenError::Io { path: folder.join("format"), error })
        }
        read => read,
    }
}

/// Makes sure that the folder has the format of this version, and changes nothing.
///
/// # Errors
/// Made by another version, nobody knows by which, or the disk.
pub(super) fn read_format(folder: &Path) -> Result<(), OpenError> {
    let path = folder.join("format");
    match std::fs::read_to_string(&path) {
        Ok(found) if found == FORMAT => Ok(()),
        Ok(found) => {
            Err(OpenError::Format { folder: folder.to_owned(), found: found.trim().to_owned(), known: FORMAT.trim_ascii_end() })
        }
        Err(error) => Err(OpenError::Io { path, error }),
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
