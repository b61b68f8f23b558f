//! A directory's database that lies in a backup.

use super::{DirectoryError, FORMAT, secret_place};
use crate::seal::Sealer;
use rusqlite::{Connection, OpenFlags};
use std::path::Path;

/// Makes sure, changing nothing, that a key opens what a directory has sealed.
///
/// # Errors
/// Another key, another version, or a database that cannot be read.
pub(crate) fn opens_with(path: &Path, sealer: &Sealer) -> Result<(), DirectoryError> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    let format: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if format > FORMAT {
        return Err(DirectoryError::Format(format));
    }
    let canary: Vec<u8> = connection.query_row("SELECT sealed FROM canary", [], |row| row.get(0))?;
    sealer.open_value("canary", &canary)?;
    let mut statement = connection.prepare("SELECT id, secret FROM channels WHERE secret IS NOT NULL")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        sealer.open_value(&secret_place(row.get(0)?), &row.get::<_, Vec<u8>>(1)?)?;
    }
    Ok(())
}
