//! `sendero store check`: reads log and index and says what is not as it must be. Changes nothing.

use super::index;
use super::log::{self, Findings, Frame};
use super::open_set::{OpenSet, Place};
use super::record::Record;
use crate::disk::{Disk, RealDisk};
use mail::{MessageId, RecipientState};
use std::collections::{HashMap, HashSet};
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
    /// Records that say what the state table does not allow, and where index and log differ, in words.
    pub illegal: Vec<String>,
    /// Records that the index has still to learn; the next start repeats them.
    pub unindexed: u64,
}

impl Report {
    /// True when everything is as it must be.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.damaged.is_empty() && self.illegal.is_empty()
    }
}

/// Checks a queue's folder; best while no gateway writes to it.
///
/// # Errors
/// The disk's, and a folder that is none of a queue.
pub fn check(folder: &Path) -> io::Result<Report> {
    let log = folder.join("log");
    std::fs::metadata(&log)?;
    let index = folder.join("index.sqlite");
    let known = index.exists().then(|| index::Learned::read(&index)).transpose();
    let mut report = check_with(&RealDisk::reading(&log), known.as_ref().ok().and_then(Option::as_ref))?;
    if let Err(error) = known {
        report.illegal.push(error.to_string());
    }
    if super::is_unfinished(folder) {
        report.illegal.push("a restore into this folder did not finish: remove what is in it and restore again".into());
    }
    Ok(report)
}

#[cfg(test)]
pub(crate) fn check_log<D: Disk>(disk: &D) -> io::Result<Report> {
    check_with(disk, None)
}

pub(crate) fn check_with<D: Disk>(disk: &D, learned: Option<&index::Learned>) -> io::Result<Report> {
    let mut report = Report::default();
    let mut open = OpenSet::new(0);
    let mut recipients: HashMap<MessageId, usize> = HashMap::new();
    let segments = log::segments(disk)?;
    // Behind a gap the log alone does not know the states any more.
    let gapless = segments.windows(2).all(|pair| pair[0] + 1 == pair[1]);
    let first = segments.first().copied().unwrap_or(1);
    let mut below = 1;
    let (mut to_compare, mut last) = (learned, 0);
    let findings = log::read_all(disk, |frame, payload| {
        if let Some(learned) = to_compare.filter(|learned| frame.sequence > learned.sequence) {
            compare(learned, &open, &recipients, gapless && below >= first, &mut report);
            to_compare = None;
        }
        report.records += 1;
        report.unindexed += u64::from(learned.is_some_and(|learned| frame.sequence > learned.sequence));
        last = frame.sequence;
        let said = read(frame, payload, first, &mut open, &mut recipients, &mut report);
        below = below.max(said.unwrap_or(1));
    })?;
    if let Some(learned) = to_compare {
        if learned.sequence > last && report.records > 0 {
            let reason = format!("the index knows {} records, and the log ends with {last}", learned.sequence);
            report.illegal.push(reason);
        }
        compare(learned, &open, &recipients, gapless && below >= first, &mut report);
    }
    if gapless && below < first && report.records > 0 {
        report
            .illegal
            .push(format!("the log begins with segment {first}, and nothing in it says that the ones before are not needed"));
    }
    report.findings = findings;
    report.open_recipients =
        open.totals.by_state.iter().zip(RecipientState::ALL).filter(|(_, state)| !state.is_final()).map(|(count, _)| count).sum();
    Ok(report)
}

/// Holds what the index has as open against what the log says at that moment.
fn compare(learned: &index::Learned, open: &OpenSet, recipients: &HashMap<MessageId, usize>, whole: bool, report: &mut Report) {
    for (message, states) in &learned.open {
        if !recipients.contains_key(message) {
            report.illegal.push(format!("{message} is open in the index, and its record is not in the log"));
            continue;
        }
        let rows = open.rows(*message).unwrap_or_default();
        let same = rows.iter().map(|row| row.state).eq(states.iter().copied());
        if whole && !same {
            report.illegal.push(format!("{message} has other states in the index than in the log"));
        }
    }
    let in_index: HashSet<MessageId> = learned.open.iter().map(|(message, _)| *message).collect();
    let missing = recipients.keys().filter(|message| whole && open.rows(**message).is_some() && !in_index.contains(message));
    report.illegal.extend(missing.map(|message| format!("{message} is open in the log and not in the index")));
}

/// One record: is it what may come now? Returns the first segment that is needed, where it says so.
fn read(
    frame: &Frame,
    payload: &[u8],
    first: u32,
    open: &mut OpenSet,
    recipients: &mut HashMap<MessageId, usize>,
    report: &mut Report,
) -> Option<u32> {
    let at = format!("{}:{}", frame.position.segment, frame.position.offset);
    let Some((record, body_at)) = Record::decode(payload) else {
        report.illegal.push(format!("{at}: not a record of this version"));
        return None;
    };
    let (mut place, mut below) = (None, None);
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
        Record::Snapshot(snapshot) => {
            let id = snapshot.meta.id;
            let known = recipients.insert(id, snapshot.meta.envelope.recipients.len()).is_some();
            match open.stands(snapshot) {
                Some(true) => {}
                Some(false) => report.illegal.push(format!("{at}: the snapshot of {id} says other states than the log before it")),
                None if known => report.illegal.push(format!("{at}: {id} is written again after its end")),
                None => report.messages += 1,
            }
            place = Some(Place { position: frame.position, payload_length: payload.len() as u32, body_at: body_at as u32 });
        }
        Record::Base(base) => {
            // An older one speaks also of mail whose record has gone since, and stands again further on.
            if base.below >= first && !open.agrees(base) {
                report.illegal.push(format!("{at}: what is open is counted otherwise than the log before it says"));
            }
            below = Some(base.below);
        }
        Record::Kept { .. }
        | Record::Carried(_)
        | Record::Forget(_)
        | Record::Channel { .. }
        | Record::Lessons { .. }
        | Record::Beat { .. }
        | Record::Unsuppress { .. } => {}
    }
    open.apply(record, frame.sequence, place);
    below
}
