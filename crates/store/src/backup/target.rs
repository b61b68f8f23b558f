//! Where a backup is written: beside its place, until it is whole.

use super::manifest::{self, Entry, MANIFEST, Manifest, SUM};
use super::{BackupError, Progress, Tell, sync_folder};
use crate::disk::is_no_space;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Bytes that are copied at once.
const CHUNK: u64 = 1 << 20;

/// How many bytes may still be written.
pub(crate) type Room = Box<dyn Fn() -> io::Result<u64> + Send>;

/// A backup that is being written. Unless it is finished, it goes with this value.
pub(super) struct Target {
    folder: PathBuf,
    partial: PathBuf,
    room: Room,
    /// Its files, as far as they were begun.
    names: Vec<String>,
    /// How far it is.
    pub progress: Progress,
    finished: bool,
}

impl Target {
    /// Begins a backup of a data folder. On the disk of the data, `min_free` bytes are left alone.
    pub fn begin(folder: &Path, data_dir: &Path, min_free: u64, room: Option<Room>) -> Result<Self, BackupError> {
        let folder = std::path::absolute(folder).map_err(BackupError::at(folder))?;
        let name = folder.file_name().ok_or_else(|| BackupError::Exists(folder.clone()))?;
        let parent = folder.parent().unwrap_or(Path::new("/"));
        let parent = parent.canonicalize().map_err(BackupError::at(parent))?;
        let folder = parent.join(name);
        let data = data_dir.canonicalize().map_err(BackupError::at(data_dir))?;
        if folder.starts_with(&data) {
            return Err(BackupError::Inside { folder, data_dir: data });
        }
        if std::fs::symlink_metadata(&folder).is_ok() {
            return Err(BackupError::Exists(folder));
        }
        let mut partial = folder.clone().into_os_string();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let is_same_disk = device(&parent)? == device(&data)?;
        let floor = if is_same_disk { min_free } else { 0 };
        let place = parent.clone();
        let room = room.unwrap_or_else(|| Box::new(move || Ok(free(&place)?.saturating_sub(floor))));
        match DirBuilder::new().mode(0o700).create(&partial) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(BackupError::Leftover(partial)),
            made => made.map_err(BackupError::at(&partial))?,
        }
        // From here on it is ours to remove.
        let progress = Progress { step: "reading", done_bytes: 0, total_bytes: 0 };
        let target = Self { folder, partial, room, names: Vec::new(), progress, finished: false };
        for name in ["queue", "queue/log", "queue/bodies"] {
            let path = target.path(name);
            DirBuilder::new().mode(0o700).create(&path).map_err(BackupError::at(&path))?;
        }
        Ok(target)
    }

    /// Where a file of it is written.
    pub fn path(&self, name: &str) -> PathBuf {
        self.partial.join(name)
    }

    /// Where it will be.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Refuses what has no room.
    pub fn make_room(&self, bytes: u64) -> Result<(), BackupError> {
        let free = (self.room)().map_err(BackupError::at(&self.partial))?;
        if free >= bytes {
            return Ok(());
        }
        let why = format!("{free} bytes may be written there, and it needs {bytes} more");
        Err(BackupError::NoRoom { folder: self.folder.clone(), why })
    }

    /// An error of writing: a full disk is said to be one.
    pub fn failed(&self, path: &Path, error: io::Error) -> BackupError {
        if is_no_space(&error) {
            return BackupError::NoRoom { folder: self.folder.clone(), why: error.to_string() };
        }
        BackupError::Io { path: path.to_owned(), error }
    }

    /// Copies so many bytes that `read` gives; `step` is told to people.
    pub fn copy(
        &mut self,
        name: &str,
        bytes: u64,
        step: &'static str,
        read: impl Fn(u64, usize) -> io::Result<Vec<u8>>,
        tell: Tell<'_>,
    ) -> Result<(), BackupError> {
        let (path, mut file) = self.create(name)?;
        let mut at = 0;
        while at < bytes {
            let wanted = (bytes - at).min(CHUNK);
            self.make_room(wanted)?;
            let piece = read(at, usize::try_from(wanted).unwrap_or(0)).map_err(BackupError::at(Path::new(name)))?;
            if piece.is_empty() {
                let short = io::Error::new(io::ErrorKind::UnexpectedEof, format!("it ends after {at} of {bytes} bytes"));
                return Err(BackupError::at(Path::new(name))(short));
            }
            file.write_all(&piece).map_err(|error| self.failed(&path, error))?;
            at += piece.len() as u64;
            self.tell(step, piece.len() as u64, tell)?;
        }
        file.sync_all().map_err(|error| self.failed(&path, error))
    }

    /// Tells how far it is.
    pub fn tell(&mut self, step: &'static str, more: u64, tell: Tell<'_>) -> Result<(), BackupError> {
        self.progress.step = step;
        self.progress.done_bytes += more;
        self.progress.total_bytes = self.progress.total_bytes.max(self.progress.done_bytes);
        if tell(self.progress).is_break() { Err(BackupError::Stopped) } else { Ok(()) }
    }

    /// A place for a database, which nobody else may read.
    pub fn place(&mut self, name: &str) -> Result<PathBuf, BackupError> {
        self.create(name).map(|(path, _)| path)
    }

    fn create(&mut self, name: &str) -> Result<(PathBuf, File), BackupError> {
        let path = self.path(name);
        let file = create(&path).map_err(|error| self.failed(&path, error))?;
        self.names.push(name.to_owned());
        Ok((path, file))
    }

    /// Takes back a file of it, and what SQLite made beside it.
    pub fn leave_out(&mut self, name: &str) -> Result<(), BackupError> {
        for beside in ["", "-journal", "-wal", "-shm"] {
            let path = self.path(&format!("{name}{beside}"));
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(BackupError::at(&path)(error)),
                _ => {}
            }
        }
        self.names.retain(|one| one != name);
        Ok(())
    }

    /// Every file that was written, as it lies there now.
    pub fn entries(&mut self, tell: Tell<'_>) -> Result<Vec<Entry>, BackupError> {
        let mut names = std::mem::take(&mut self.names);
        names.sort();
        let mut entries = Vec::with_capacity(names.len());
        for name in names {
            let path = self.path(&name);
            let (bytes, sha256) = manifest::hash(&path).map_err(BackupError::at(&path))?;
            self.tell("checksums", 0, tell)?;
            entries.push(Entry { name, bytes, sha256 });
        }
        Ok(entries)
    }

    /// Makes everything durable, and gives it its name.
    pub fn finish(mut self, manifest: &Manifest) -> Result<PathBuf, BackupError> {
        let json = serde_json::to_vec_pretty(manifest)
            .map_err(|error| BackupError::Io { path: self.path(MANIFEST), error: io::Error::other(error) })?;
        for (name, bytes) in [(SUM, manifest::sum_line(&json).as_bytes()), (MANIFEST, &json[..])] {
            let path = self.path(name);
            let written = create(&path).and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
            written.map_err(|error| self.failed(&path, error))?;
        }
        for entry in &manifest.files {
            let path = self.path(&entry.name);
            File::open(&path).and_then(|file| file.sync_all()).map_err(|error| self.failed(&path, error))?;
        }
        for name in ["queue/log", "queue/bodies", "queue", ""] {
            sync_folder(&self.path(name))?;
        }
        self.read_back(manifest)?;
        let parent = self.folder.parent().unwrap_or(Path::new("/")).to_owned();
        if std::fs::symlink_metadata(&self.folder).is_ok() {
            return Err(BackupError::Exists(self.folder.clone()));
        }
        std::fs::rename(&self.partial, &self.folder).map_err(BackupError::at(&self.folder))?;
        self.finished = true;
        sync_folder(&parent)?;
        Ok(self.folder.clone())
    }
}

impl Target {
    /// What was made is a backup by the rules of a restore, or it does not get its name.
    fn read_back(&self, manifest: &Manifest) -> Result<(), BackupError> {
        let why = match Manifest::read(&self.partial) {
            Ok(found) if found == *manifest => return Ok(()),
            Ok(_) => "its manifest reads otherwise than it was written".to_owned(),
            Err(BackupError::Damaged { problems, .. }) => problems.join("; "),
            Err(error) => error.to_string(),
        };
        Err(BackupError::Unreadable { folder: self.folder.clone(), why })
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        if let Err(error) = std::fs::remove_dir_all(&self.partial) {
            tracing::warn!(folder = %self.partial.display(), %error, "what a backup left half-done was not removed");
        }
    }
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn device(path: &Path) -> Result<u64, BackupError> {
    Ok(std::fs::metadata(path).map_err(BackupError::at(path))?.dev())
}

fn free(folder: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(folder)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}
