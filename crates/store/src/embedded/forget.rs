//! Forgetting an address in mail that has ended: what it said goes, and what became of it stays under a pseudonym.
//!
//! A record of the log says which messages, not the address, so an index that is made anew does not bring it back.
//! Files of bodies go at once. The records that have the rest go with their segments, which have to go as if all in
//! them were old: see `head`.

use super::core::{Op, Unsuppress, lock};
use super::index::{turned, turned_back};
use super::record::{Forgotten, ForgottenMessage, addresses_bytes, addresses_from, tags_bytes};
use super::{Embedded, guard, log};
use crate::api::{Commit, Party, StoreError};
use crate::body::FileId;
use crate::disk::Disk;
use mail::{MessageId, Timestamp};
use rusqlite::{Connection, Row, Transaction, params};
use smtp::Mailbox;
use std::collections::BTreeMap;

/// Which segments have to go.
pub(super) const SCHEMA: &str =
    "CREATE TABLE IF NOT EXISTS forgotten (one INTEGER PRIMARY KEY CHECK (one = 1), segment INTEGER NOT NULL);";
/// Messages in one record.
const AT_ONCE: usize = 1000;

/// What is to be forgotten.
#[derive(Clone, Debug)]
pub struct ForgetAddress {
    /// The address, in any spelling.
    pub address: Mailbox,
    /// What stands in its place from now on.
    pub pseudonym: String,
    /// Take it off the lists of addresses that are not written to, too.
    pub with_suppressions: bool,
    /// Only look.
    pub dry_run: bool,
    /// Who wishes it.
    pub by: String,
    /// When, by the wall clock.
    pub at: Timestamp,
}

/// What was forgotten, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Forgot {
    /// Messages to or from it.
    pub messages: u64,
    /// Those of them that were from it.
    pub sent: u64,
    /// Files of bodies that were removed.
    pub files: u64,
    /// Lists on which it stands; they are kept, unless they were to go, too.
    pub suppressions: u64,
    /// Up to this segment the log may still have its bytes; 0 when none does.
    pub log_until: u32,
}

/// Why nothing was forgotten.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    /// Mail with it is open.
    #[error(
        "{} messages with it are open ({}{}); cancel them, or wait until they have ended",
        .0.len(),
        .0.iter().take(10).map(ToString::to_string).collect::<Vec<_>>().join(", "),
        if .0.len() > 10 { ", ..." } else { "" }
    )]
    Open(Vec<MessageId>),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl<D: Disk> Embedded<D> {
    /// Forgets an address in everything that has ended. Blocks until that is durable and the index knows it.
    ///
    /// # Errors
    /// Mail with it is open, or the disk's.
    pub fn forget(&self, order: &ForgetAddress) -> Result<Forgot, ForgetError> {
        let address = Spelled::new(&order.address);
        let (found, parties) = self.read(|connection| Ok((find(connection, &address)?, parties(connection, &address)?)))?;
        let open: Vec<MessageId> = found.iter().filter(|one| one.open).map(|one| one.message.id).collect();
        if !open.is_empty() {
            return Err(ForgetError::Open(open));
        }
        let messages: Vec<ForgottenMessage> = found.into_iter().map(|one| one.message).collect();
        let mut forgot = Forgot {
            messages: messages.len() as u64,
            sent: messages.iter().filter(|message| message.sender).count() as u64,
            files: messages.iter().filter(|message| message.file.is_some()).count() as u64,
            suppressions: parties.len() as u64,
            log_until: 0,
        };
        let takes_off = order.with_suppressions && !parties.is_empty();
        if order.dry_run || messages.is_empty() && !takes_off {
            return Ok(forgot);
        }
        if takes_off {
            for (party, address) in parties {
                let one = Unsuppress { party, address, by: order.by.clone(), at: order.at };
                let (answer, answered) = tokio::sync::oneshot::channel();
                self.shared.push(Op::Unsuppress(one, answer));
                Commit::pending(answered, || Err(StoreError::Closed("the writer has ended".into()))).wait()?;
            }
        }
        self.write_forgotten(order, messages, &forgot)?;
        self.shared.wait_for_index()?;
        self.shared.remove_bodies_that_rested();
        forgot.log_until = self.forgotten_until();
        Ok(forgot)
    }

    fn write_forgotten(
        &self,
        order: &ForgetAddress,
        mut messages: Vec<ForgottenMessage>,
        forgot: &Forgot,
    ) -> Result<(), StoreError> {
        loop {
            let rest = messages.split_off(messages.len().min(AT_ONCE));
            let told = rest
                .is_empty()
                .then(|| format!("{} in {} messages ({} from it), by {}", order.pseudonym, forgot.messages, forgot.sent, order.by));
            let piece = Forgotten { pseudonym: order.pseudonym.clone(), messages, below: 0, told, at: order.at };
            self.shared.carry(|answer| Op::Forget(Box::new(piece), answer)).wait()?;
            if rest.is_empty() {
                return Ok(());
            }
            messages = rest;
        }
    }

    /// Up to which segment the log may have bytes of what was forgotten; 0 when it has none any more.
    pub fn forgotten_until(&self) -> u32 {
        let purged = lock(&self.shared.open).purged;
        let first = log::segments(&*self.shared.disk).ok().and_then(|segments| segments.first().copied());
        let files_wait = !guard(&self.shared.spare).is_empty();
        if files_wait || first.is_some_and(|first| first <= purged) { purged } else { 0 }
    }
}

/// An address, to be found in every spelling.
struct Spelled {
    lower: String,
    key: String,
}

impl Spelled {
    fn new(address: &Mailbox) -> Self {
        Self { lower: address.to_string().to_lowercase(), key: address.key() }
    }

    fn is(&self, text: &str) -> bool {
        let is_odd = || text.contains('"') || text.contains("xn--") || !text.is_ascii();
        text.eq_ignore_ascii_case(&self.lower)
            || text.eq_ignore_ascii_case(&self.key)
            || is_odd() && Mailbox::parse(text).is_ok_and(|mailbox| mailbox.key() == self.key)
    }
}

struct Found {
    message: ForgottenMessage,
    open: bool,
}

fn id_at(row: &Row<'_>, column: usize) -> rusqlite::Result<MessageId> {
    row.get(column).map(MessageId)
}

/// Looks at everything: an address is spelled in many ways, and this is rare.
fn find(connection: &Connection, address: &Spelled) -> Result<Vec<Found>, StoreError> {
    let mut found: BTreeMap<MessageId, Found> = BTreeMap::new();
    let blank = |id| Found { message: ForgottenMessage { id, sender: false, recipients: Vec::new(), file: None }, open: false };
    let mut statement = connection.prepare("SELECT message, place, address FROM recipients")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if address.is(&turned_back(row.get_ref(2)?.as_str().unwrap_or_default())) {
            let id = id_at(row, 0)?;
            found.entry(id).or_insert_with(|| blank(id)).message.recipients.push(row.get(1)?);
        }
    }
    let mut statement = connection.prepare("SELECT id, author, reverse_path FROM messages")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let is_from = (1..3).map(|at| row.get_ref(at)).collect::<Result<Vec<_>, _>>()?;
        if is_from.iter().any(|text| address.is(text.as_str().unwrap_or_default())) {
            let id = id_at(row, 0)?;
            found.entry(id).or_insert_with(|| blank(id)).message.sender = true;
        }
    }
    let mut open = connection.prepare("SELECT open FROM messages WHERE id = ?1")?;
    let mut file = connection.prepare("SELECT file FROM bodies WHERE message = ?1")?;
    for (id, one) in &mut found {
        one.open = open.query_row([id.0], |row| row.get(0))?;
        one.message.file = file.query_map([id.0], |row| row.get::<_, FileId>(0))?.next().transpose()?;
    }
    Ok(found.into_values().collect())
}

fn parties(connection: &Connection, address: &Spelled) -> Result<Vec<(Party, String)>, StoreError> {
    let mut statement = connection.prepare("SELECT kind, party, address FROM suppressions")?;
    let rows = statement.query_map([], |row| Ok((super::record::party_of(row.get(0)?, row.get(1)?), row.get::<_, String>(2)?)))?;
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    Ok(rows.into_iter().filter_map(|(party, text)| party.filter(|_| address.is(&text)).map(|party| (party, text))).collect())
}

/// The last segment that has to go, as the index knows it; 0 when none has.
pub(super) fn purged(connection: &Connection) -> Result<u32, StoreError> {
    Ok(connection.query_row("SELECT COALESCE(MAX(segment), 0) FROM forgotten", [], |row| row.get(0))?)
}

/// Writes the pseudonym over what the index knows, and nothing of it stays in free pages.
pub(super) fn write(transaction: &Transaction<'_>, forgotten: &Forgotten) -> Result<(), StoreError> {
    let _: i64 = transaction.query_row("PRAGMA secure_delete = ON", [], |row| row.get(0))?;
    for message in &forgotten.messages {
        write_message(transaction, &forgotten.pseudonym, message)?;
    }
    let sql = "INSERT INTO forgotten VALUES (1, ?1) ON CONFLICT (one) DO UPDATE SET segment = MAX(segment, ?1)";
    transaction.execute(sql, [forgotten.below])?;
    let _: i64 = transaction.query_row("PRAGMA secure_delete = FAST", [], |row| row.get(0))?;
    Ok(())
}

fn write_message(transaction: &Transaction<'_>, pseudonym: &str, message: &ForgottenMessage) -> Result<(), StoreError> {
    let id = message.id.0;
    let run = |sql: &str, values: &[&dyn rusqlite::ToSql]| transaction.prepare_cached(sql)?.execute(values);
    // What it said is not looked for in its record any more, even while that is there.
    run(
        "UPDATE messages SET subject = '', message_id = '', tags = ?2, segment = 0, offset = 0, length = 0, body_at = 0 WHERE id = ?1",
        params![id, tags_bytes(&[])],
    )?;
    run("DELETE FROM bodies WHERE message = ?1", params![id])?;
    let before = addresses(transaction, message)?;
    if message.sender {
        run(
            "UPDATE messages SET reverse_path = CASE reverse_path WHEN '' THEN '' ELSE ?2 END, author = ?2, sender = ?2 WHERE id = ?1",
            params![id, pseudonym],
        )?;
        run("UPDATE recipients SET said = '' WHERE message = ?1", params![id])?;
        run("UPDATE events SET detail = '' WHERE message = ?1", params![id])?;
    }
    for place in &message.recipients {
        run(
            "UPDATE recipients SET address = ?3, said = '' WHERE message = ?1 AND place = ?2",
            params![id, place, turned(pseudonym)],
        )?;
    }
    run(
        "UPDATE events SET detail = '' WHERE message = ?1 AND (recipient IS NULL
         OR recipient IN (SELECT place FROM recipients WHERE message = ?1 AND address = ?2))",
        params![id, turned(pseudonym)],
    )?;
    hide_in_keys(transaction, message, &before, pseudonym)
}

/// The addresses that are about to be hidden, as they are written.
fn addresses(transaction: &Transaction<'_>, message: &ForgottenMessage) -> Result<Vec<String>, StoreError> {
    let mut statement = transaction.prepare_cached("SELECT place, address FROM recipients WHERE message = ?1")?;
    let rows = statement.query_map([message.id.0], |row| Ok((row.get::<_, u32>(0)?, row.get::<_, String>(1)?)))?;
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    Ok(rows.into_iter().filter(|(place, _)| message.recipients.contains(place)).map(|(_, address)| turned_back(&address)).collect())
}

fn hide_in_keys(
    transaction: &Transaction<'_>,
    message: &ForgottenMessage,
    before: &[String],
    pseudonym: &str,
) -> Result<(), StoreError> {
    let mut statement =
        transaction.prepare_cached("SELECT person, key, addresses FROM keys WHERE message = ?1 AND addresses IS NOT NULL")?;
    let rows = statement
        .query_map([message.id.0], |row| Ok((row.get::<_, u32>(0)?, row.get::<_, String>(1)?, row.get::<_, Vec<u8>>(2)?)))?;
    for (person, key, bytes) in rows.collect::<Result<Vec<_>, _>>()? {
        let hidden = |address: String| if before.contains(&address) { pseudonym.to_owned() } else { address };
        let addresses: Vec<String> = addresses_from(&bytes).into_iter().map(hidden).collect();
        transaction
            .prepare_cached("UPDATE keys SET addresses = ?4 WHERE person = ?1 AND key = ?2 AND message = ?3")?
            .execute(params![person, key, message.id.0, addresses_bytes(&addresses)])?;
    }
    Ok(())
}
