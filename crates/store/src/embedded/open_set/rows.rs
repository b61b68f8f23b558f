//! One recipient of an open message, and what becomes of it.

use super::super::record::StoodRow;
use super::effects::Change;
use crate::api::LeasedRecipient;
use mail::{MessageId, Move, RecipientState, Timestamp};

/// One recipient of an open message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub state: RecipientState,
    /// A durable intent stands behind the lease.
    pub intended: bool,
    pub doubts: u8,
    pub attempts: u16,
    pub due: Timestamp,
    pub first_attempt: Timestamp,
}

/// The recipients of an open message, in the order of its envelope.
pub(super) enum Rows {
    One(Row),
    Many(Box<[Row]>),
}

impl From<Vec<Row>> for Rows {
    fn from(rows: Vec<Row>) -> Self {
        match <[Row; 1]>::try_from(rows) {
            Ok([row]) => Self::One(row),
            Err(rows) => Self::Many(rows.into_boxed_slice()),
        }
    }
}

impl Rows {
    pub(super) fn get(&self) -> &[Row] {
        match self {
            Self::One(row) => std::slice::from_ref(row),
            Self::Many(rows) => rows,
        }
    }

    pub(super) fn get_mut(&mut self) -> &mut [Row] {
        match self {
            Self::One(row) => std::slice::from_mut(row),
            Self::Many(rows) => rows,
        }
    }
}

impl From<&StoodRow> for Row {
    fn from(row: &StoodRow) -> Self {
        Self {
            state: row.state,
            intended: row.intended,
            doubts: row.doubts,
            attempts: row.attempts,
            due: row.due,
            first_attempt: row.first_attempt,
        }
    }
}

/// Leases at most so many of the recipients that are wanted.
pub(super) fn take(rows: &mut [Row], most: u32, wanted: impl Fn(&Row) -> bool) -> Vec<LeasedRecipient> {
    let mut recipients = Vec::with_capacity(1);
    let rows = rows.iter_mut().enumerate().filter(|(_, row)| wanted(row));
    for (index, row) in rows.take(most as usize) {
        row.state = RecipientState::Leased;
        recipients.push(LeasedRecipient {
            index: index as u32,
            attempts: u32::from(row.attempts),
            doubts: u32::from(row.doubts),
            first_attempt: (row.first_attempt.0 != 0).then_some(row.first_attempt),
        });
    }
    recipients
}

pub(super) fn is_due(row: &Row, now: Timestamp) -> bool {
    row.state == RecipientState::Queued && row.due <= now
}

pub(super) fn earliest(rows: &[Row]) -> Option<Timestamp> {
    rows.iter().filter(|row| row.state == RecipientState::Queued).map(|row| row.due).min()
}

pub(super) fn leased(state: RecipientState) -> Option<RecipientState> {
    match state {
        RecipientState::Leased => Some(state),
        other => other.after(Move::Lease),
    }
}

/// The state that the log knows: a lease alone is not in it.
pub(super) fn recorded(row: &Row) -> RecipientState {
    if row.state == RecipientState::Leased && !row.intended { RecipientState::Queued } else { row.state }
}

pub(super) fn change(
    message: MessageId,
    index: u32,
    row: &Row,
    since: Timestamp,
    said: Option<String>,
    relay: Option<String>,
) -> Change {
    Change {
        message,
        index,
        state: row.state,
        intended: row.intended,
        since,
        attempts: row.attempts,
        doubts: row.doubts,
        due: row.due,
        first_attempt: row.first_attempt,
        said,
        relay,
    }
}
