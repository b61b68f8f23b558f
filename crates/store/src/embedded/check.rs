//! `sendero store check`: reads the whole log and says what is not as it must be. Changes nothing.

use super::log::{self, Findings, Frame};
use super::open_set::{OpenSet, Place};
use super::record::Record;
use crate::disk::{Disk, RealDisk};
use mail::{MessageId, RecipientState};
use std::collections::HashMap;
use std::io;
use std::path::Path;

/// What a check found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Whole records.
    pub records: u64,
    /// Accepted messages among them.
    pub messages: u64,
    /// Recipients that are open after the last record.
    pub open_recipients: u64,
    /// Damage and torn ends.
    pub findings: Findings,
    /// Records that say what the state table does not allow, in words.
    pub illegal: Vec<String>,
}

impl Report {
    /// True when everything is as it must be.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.damaged.is_empty() && self.illegal.is_empty()
    }
}

/// Checks the log of a queue's folder.
///
/// # Errors
/// The disk's.
pub fn check(folder: &Path) -> io::Result<Report> {
    check_log(&RealDisk::open(&folder.join("log"))?)
}

pub(crate) fn check_log<D: Disk>(disk: &D) -> io::Result<Report> {
    let mut report = Report::default();
    let mut open = OpenSet::new(0);
    let mut recipients: HashMap<MessageId, usize> = HashMap::new();
    let findings = log::read_all(disk, |frame, payload| {
        report.records += 1;
        read(frame, payload, &mut open, &mut recipients, &mut report);
    })?;
    report.findings = findings;
    report.open_recipients =
        open.totals.by_state.iter().zip(RecipientState::ALL).filter(|(_, state)| !state.is_final()).map(|(count, _)| count).sum();
    Ok(report)
}

fn read(frame: &Frame, payload: &[u8], open: &mut OpenSet, recipients: &mut HashMap<MessageId, usize>, report: &mut Report) {
    let at = format!("{}:{}", frame.position.segment, frame.position.offset);
    let Some((record, body_at)) = Record::decode(payload) else {
        report.illegal.push(format!("{at}: not a record of this version"));
        return;
    };
    let mut place = None;
    match &record {
        Record::Accept(meta) => {
            report.messages += 1;
            if recipients.insert(meta.id, meta.envelope.recipients.len()).is_some() {
                report.illegal.push(format!("{at}: {} is accepted twice", meta.id));
            }
            place = Some(Place { position: frame.position, payload_length: payload.len() as u32, body_at: body_at as u32 });
        }
        Record::Attempt { settle, intend } => {
            if let Some(settle) = settle {
                for row in &settle.recipients {
                    let known = open.rows(settle.message).and_then(|rows| rows.get(row.index as usize));
                    let legal = known
                        .is_some_and(|known| known.state == RecipientState::Leased || known.state == RecipientState::Queued)
                        && RecipientState::Leased.after(row.to).is_some();
                    // A message whose segment is gone is known to the index alone.
                    if !legal && recipients.contains_key(&settle.message) {
                        report.illegal.push(format!(
                            "{at}: {:?} of recipient {} of {} is not a legal move",
                            row.to, row.index, settle.message
                        ));
                    }
                }
            }
            if let Some(intend) = intend
                && recipients.contains_key(&intend.message)
                && open.rows(intend.message).is_none()
            {
                report.illegal.push(format!("{at}: {} is handed over after its end", intend.message));
            }
        }
        Record::Steer { message, recipients: moved, to, .. } => {
            for index in moved {
                let known = open.rows(*message).and_then(|rows| rows.get(*index as usize));
                if recipients.contains_key(message) && known.is_none_or(|row| row.state.after(*to).is_none()) {
                    report.illegal.push(format!("{at}: {to:?} of recipient {index} of {message} is not a legal move"));
                }
            }
        }
        Record::Channel { .. } => {}
    }
    open.apply(record, place);
}
