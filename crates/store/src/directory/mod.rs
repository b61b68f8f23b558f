//! The directory: teams, people, channels with their sealed credentials, tokens. Its database is the
//! truth for itself; every change is one durable transaction.

mod apply;
mod copied;
mod desired;
mod rows;
mod spec;
#[cfg(test)]
mod tests;

pub use self::apply::{Action, Applied, ApplyOptions, Change, MadeToken};
pub(crate) use self::copied::opens_with;
pub use self::desired::{DesiredChannel, DesiredDirectory, DesiredPerson, DesiredTeam, DesiredToken};

use crate::seal::{SealError, Sealer, Secret};
use arc_swap::ArcSwap;
use mail::classify::Rules;
use mail::directory::TokenSurface;
use mail::{ChannelId, Directory, PersonId, Surface, Timestamp, TokenId};
use rusqlite::{Connection, OptionalExtension, params};
use smtp::Mailbox;
use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The channel of the first start, which keeps everything here.
const BUILT_IN: &str = "capture";
const FORMAT: i64 = 1;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS teams (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, domains TEXT NOT NULL, disabled INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS people (id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, email TEXT NOT NULL, name TEXT NOT NULL,
  role TEXT NOT NULL, teams TEXT NOT NULL, send_as TEXT NOT NULL, disabled INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS channels (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, spec TEXT NOT NULL,
  secret BLOB, disabled INTEGER NOT NULL, revision INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS tokens (id INTEGER PRIMARY KEY AUTOINCREMENT, person INTEGER NOT NULL, name TEXT NOT NULL, hash BLOB NOT NULL UNIQUE,
  surfaces TEXT NOT NULL, channel INTEGER, send_as TEXT, lane TEXT, disabled INTEGER NOT NULL, UNIQUE (person, name));
CREATE TABLE IF NOT EXISTS audit (id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS canary (one INTEGER PRIMARY KEY CHECK (one = 1), sealed BLOB NOT NULL);
";

/// Why the directory cannot be opened or changed.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Sealing.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The database.
    #[error("directory: {0}")]
    Database(#[from] rusqlite::Error),
    /// Made by a newer version.
    #[error("the directory has format {0}, and this version knows {FORMAT}; use the newer program")]
    Format(i64),
    /// A row that cannot be read.
    #[error("directory: {0}")]
    Damaged(String),
    /// What was asked for makes no sense: every problem, each with what to do.
    #[error("{}", .0.join("\n"))]
    Invalid(Vec<String>),
    /// A channel's row is not the one that the caller has in hand.
    #[error("the channel has just been changed; look at it again")]
    Changed,
}

/// Who signed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignIn {
    /// The person.
    pub person: PersonId,
    /// The token used.
    pub token: TokenId,
}

/// Nobody signed in. It is not said why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denied;

type Listener = Box<dyn Fn() + Send + Sync>;

/// The directory's database.
pub struct DirectoryStore {
    connection: Mutex<Connection>,
    sealer: Arc<Sealer>,
    rules: Arc<Rules>,
    directory: ArcSwap<Directory>,
    hashes: ArcSwap<HashMap<[u8; 32], TokenId>>,
    listeners: Mutex<Vec<Listener>>,
}

impl DirectoryStore {
    /// True when a database is there already: its key must be there too.
    #[must_use]
    pub fn exists(path: &Path) -> bool {
        path.exists()
    }

    /// Opens the database, and makes sure that the key is the right one.
    ///
    /// # Errors
    /// Another key, another version, or the disk.
    pub fn open(path: &Path, sealer: Arc<Sealer>) -> Result<Self, DirectoryError> {
        keep_private(path)?;
        Self::of(Connection::open(path)?, sealer)
    }

    /// A directory in memory, gone with this value.
    ///
    /// # Errors
    /// SQLite's.
    #[cfg(feature = "simulation")]
    pub fn in_memory(sealer: Arc<Sealer>) -> Result<Self, DirectoryError> {
        Self::of(Connection::open_in_memory()?, sealer)
    }

    fn of(mut connection: Connection, sealer: Arc<Sealer>) -> Result<Self, DirectoryError> {
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        prepare(&mut connection, &sealer)?;
        let (directory, hashes) = rows::load(&connection)?;
        Ok(Self {
            connection: Mutex::new(connection),
            sealer,
            rules: Arc::default(),
            directory: ArcSwap::from_pointee(directory),
            hashes: ArcSwap::from_pointee(hashes),
            listeners: Mutex::default(),
        })
    }

    /// With these rules, whose providers a channel may name; without, those of the built-in ones.
    #[must_use]
    pub fn with_rules(mut self, rules: Arc<Rules>) -> Self {
        self.rules = rules;
        self
    }

    /// Everybody and every channel, as of now.
    #[must_use]
    pub fn directory(&self) -> Arc<Directory> {
        self.directory.load_full()
    }

    /// Calls `listener` after each change.
    pub fn on_change(&self, listener: impl Fn() + Send + Sync + 'static) {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(listener));
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the directory what `desired` says, all or nothing.
    ///
    /// # Errors
    /// Every problem of what is desired, at once; or the disk.
    pub fn apply(&self, desired: &DesiredDirectory, options: &ApplyOptions) -> Result<Applied, DirectoryError> {
        let applied = {
            let mut connection = self.lock();
            let applied = apply::apply(&mut connection, &self.sealer, &self.rules, desired, options)?;
            if options.dry_run || !applied.has_changes() {
                return Ok(applied);
            }
            self.reload(&connection)?;
            applied
        };
        for listener in self.listeners.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            listener();
        }
        Ok(applied)
    }

    fn reload(&self, connection: &Connection) -> Result<(), DirectoryError> {
        let (directory, hashes) = rows::load(connection)?;
        self.hashes.store(Arc::new(hashes));
        self.directory.store(Arc::new(directory));
        Ok(())
    }

    /// Gives the instance a capture channel as its default when it has no channel at all, so that the
    /// first message is visible and nothing leaves by accident.
    ///
    /// # Errors
    /// The disk.
    pub fn ensure_capture_default(&self, now: Timestamp) -> Result<bool, DirectoryError> {
        if self.directory().channels().next().is_some() {
            return Ok(false);
        }
        let channel = DesiredChannel {
            name: BUILT_IN.into(),
            owner: "instance".into(),
            transport: Some("capture".into()),
            domains: Some(vec!["*".into()]),
            default: true,
            ..DesiredChannel::default()
        };
        let desired = DesiredDirectory { channels: vec![channel], ..DesiredDirectory::default() };
        let options = ApplyOptions { dry_run: false, prune: false, by: "first start".into(), now };
        self.apply(&desired, &options).map(|applied| applied.has_changes())
    }

    /// Makes a token of a person and answers its secret, which is shown this once.
    ///
    /// # Errors
    /// An unknown person, a name they have for a token already, or the disk.
    pub fn create_token(
        &self,
        person: &str,
        name: &str,
        surfaces: &[TokenSurface],
        by: &str,
        now: Timestamp,
    ) -> Result<Secret, DirectoryError> {
        let taken = || DirectoryError::Invalid(vec![format!("token '{name}': {person} has one of that name; choose another")]);
        let directory = self.directory();
        let owner = directory.person_by_address(person).map(|person| person.id);
        if directory.tokens().any(|token| Some(token.person) == owner && token.name == name) {
            return Err(taken());
        }
        let word = |surface: &TokenSurface| match surface {
            TokenSurface::Smtp => "smtp".to_owned(),
            TokenSurface::Api => "api".to_owned(),
        };
        let token = DesiredToken {
            name: name.to_owned(),
            person: person.to_owned(),
            surfaces: surfaces.iter().map(word).collect(),
            ..DesiredToken::default()
        };
        let desired = DesiredDirectory { tokens: vec![token], ..DesiredDirectory::default() };
        let options = ApplyOptions { dry_run: false, prune: false, by: by.to_owned(), now };
        // Made by somebody else in between, it has no secret for us.
        self.apply(&desired, &options)?.made_tokens.pop().map(|made| made.secret).ok_or_else(taken)
    }

    /// What stands for an address that is forgotten.
    #[must_use]
    pub fn pseudonym(&self, address: &Mailbox) -> String {
        self.sealer.pseudonym(&address.key())
    }

    /// Who signs in with this name and secret at that door.
    ///
    /// # Errors
    /// Nobody: unknown name, wrong secret, disabled, or not to be used there. All take the same time.
    pub fn verify(&self, user: &str, secret: &[u8], surface: Surface) -> Result<SignIn, Denied> {
        let found = self.find(secret, surface);
        let directory = self.directory();
        let named = directory.person_by_address(user).map(|person| person.id);
        found.filter(|sign_in| Some(sign_in.person) == named).ok_or(Denied)
    }

    /// Whose bearer token this is.
    ///
    /// # Errors
    /// Nobody's.
    pub fn verify_bearer(&self, secret: &[u8]) -> Result<SignIn, Denied> {
        self.find(secret, Surface::Http).ok_or(Denied)
    }

    /// The secret is compared by its keyed hash: the time says nothing about the secret.
    fn find(&self, secret: &[u8], surface: Surface) -> Option<SignIn> {
        let hash = self.sealer.token_hash(secret);
        let id = self.hashes.load().get(&hash).copied()?;
        let directory = self.directory();
        let token = directory.token(id).filter(|token| !token.disabled && token.allows(surface))?;
        let person = directory.person(token.person).filter(|person| !person.disabled)?;
        Some(SignIn { person: person.id, token: token.id })
    }

    /// The credential of a channel as of a revision of its row: never that of another host or login.
    ///
    /// # Errors
    /// [`DirectoryError::Changed`] when the row has another revision by now, which [`Self::directory`] then shows; it
    /// does not open, or the disk.
    pub fn channel_secret(&self, channel: ChannelId, revision: u64) -> Result<Option<Secret>, DirectoryError> {
        let connection = self.lock();
        let sql = "SELECT revision, secret FROM channels WHERE id = ?1";
        let found: Option<(i64, Option<Vec<u8>>)> =
            connection.query_row(sql, [channel.0], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        drop(connection);
        let Some((_, sealed)) = found.filter(|(known, _)| known.unsigned_abs() == revision) else {
            return Err(DirectoryError::Changed);
        };
        match sealed {
            None => Ok(None),
            Some(sealed) => Ok(Some(self.sealer.open_value(&secret_place(channel.0), &sealed)?)),
        }
    }
}

fn secret_place(channel: u32) -> String {
    format!("channels/{channel}/secret")
}

/// The database and its companions are for nobody else to read: SQLite gives them the mode of the first.
fn keep_private(path: &Path) -> Result<(), DirectoryError> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match made {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(DirectoryError::Seal(SealError::Io { path: path.to_owned(), error }))
        }
        _ => Ok(()),
    }
}

/// Makes the tables of a new database, all or nothing, with a value sealed under the key; of one that
/// is there, looks whether this version and this key are the right ones.
fn prepare(connection: &mut Connection, sealer: &Sealer) -> Result<(), DirectoryError> {
    let transaction = connection.transaction()?;
    let format: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if format > FORMAT {
        return Err(DirectoryError::Format(format));
    }
    transaction.execute_batch(SCHEMA)?;
    add_missing_columns(&transaction)?;
    transaction.pragma_update(None, "user_version", FORMAT)?;
    check_key(&transaction, sealer)?;
    Ok(transaction.commit()?)
}

/// Columns that came after the first tables: a database of before gets them, empty.
fn add_missing_columns(connection: &Connection) -> Result<(), DirectoryError> {
    let has_lane = "SELECT count(*) FROM pragma_table_info('tokens') WHERE name = 'lane'";
    if connection.query_row(has_lane, [], |row| row.get::<_, i64>(0))? == 0 {
        connection.execute("ALTER TABLE tokens ADD COLUMN lane TEXT", [])?;
    }
    Ok(())
}

fn check_key(connection: &Connection, sealer: &Sealer) -> Result<(), DirectoryError> {
    const CANARY: &[u8] = b"sendero";
    let sealed: Option<Vec<u8>> = connection.query_row("SELECT sealed FROM canary", [], |row| row.get(0)).optional()?;
    match sealed {
        Some(sealed) => {
            sealer.open_value("canary", &sealed)?;
        }
        None => {
            connection.execute("INSERT INTO canary VALUES (1, ?1)", params![sealer.seal("canary", CANARY)?])?;
        }
    }
    Ok(())
}
