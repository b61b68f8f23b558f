//! What the index need not know any more.

use super::Index;
use super::columns::id_at;
use super::counts::Counts;
use crate::api::StoreError;
use mail::{MessageId, Timestamp};
use rusqlite::params;

/// Rows that are forgotten in one transaction.
const FORGET_AT_ONCE: i64 = 500;

impl Index {
    /// Forgets keys older than `before` whose messages are done.
    pub(crate) fn forget_keys(&self, before: Timestamp) -> Result<(), StoreError> {
        self.connection.execute(
            "DELETE FROM keys WHERE at < ?1 AND NOT EXISTS (SELECT 1 FROM messages WHERE id = keys.message AND open = 1)",
            [before.0],
        )?;
        Ok(())
    }

    /// Forgets what an account spent before a moment.
    pub(crate) fn forget_spent(&self, account: &str, before: Timestamp) -> Result<(), StoreError> {
        self.connection.execute("DELETE FROM spent WHERE account = ?1 AND age_from < ?2", params![account, before.0])?;
        Ok(())
    }

    /// Forgets segments before `below`: they are gone.
    pub(crate) fn forget_segments(&self, below: u32) -> Result<(), StoreError> {
        self.connection.execute("DELETE FROM segments WHERE segment < ?1", [below])?;
        Ok(())
    }

    /// Forgets some mail that was accepted before a moment and has ended before it, and events of that time; false when
    /// there is none left.
    pub(crate) fn forget_history(&self, before: Timestamp) -> Result<bool, StoreError> {
        let newest = MessageId::new(before, [0; 10]);
        let transaction = self.connection.unchecked_transaction()?;
        let old = {
            let mut statement = transaction.prepare_cached(
                "SELECT id FROM messages WHERE id < ?1 AND open = 0
                 AND NOT EXISTS (SELECT 1 FROM recipients WHERE message = id AND since >= ?2) LIMIT ?3",
            )?;
            let rows = statement.query_map(params![newest.0, before.0, FORGET_AT_ONCE], |row| id_at(row, 0))?;
            rows.collect::<Result<Vec<_>, _>>()?
        };
        let mut counts = Counts::default();
        for id in &old {
            counts.leave(&transaction, *id)?;
            for sql in [
                "DELETE FROM recipients WHERE message = ?1",
                "DELETE FROM events WHERE message = ?1",
                "DELETE FROM bodies WHERE message = ?1",
                "DELETE FROM messages WHERE id = ?1",
            ] {
                transaction.prepare_cached(sql)?.execute([id.0])?;
            }
        }
        let events = transaction
            .prepare_cached(
                "DELETE FROM events WHERE sequence IN (SELECT sequence FROM events WHERE message IS NULL AND channel IS NOT NULL
                 AND at < ?1 LIMIT ?2)",
            )?
            .execute(params![before.0, FORGET_AT_ONCE])?;
        counts.write(&transaction)?;
        transaction.commit()?;
        Ok(!old.is_empty() || events > 0)
    }
}
