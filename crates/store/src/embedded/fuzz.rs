//! Arbitrary bytes as a record, as a segment, as what a crash made of a log, and as a log's records.

use super::log::{self, Batch, Findings, Known, Log, Position, name_of};
use super::open_set::{OpenSet, Place};
use super::record::Record;
use crate::disk::Disk;
use crate::disk::fake::{FakeDisk, Loss};
use mail::{ChannelId, Timestamp};
use std::sync::Arc;

/// Small, so that a few records fill several.
const SEGMENT: u32 = 400;

/// A record reads back as it was written; whatever the log holds, what is read of it was written, a
/// crash takes no batch that was synced, damage takes its own batch alone, the log goes on behind it,
/// and every recipient keeps one fate.
pub fn log_record(data: &[u8]) {
    decodes(data);
    scans(data);
    survives_crash(data);
    survives_damage(data);
    replays(data);
}

fn decodes(payload: &[u8]) {
    let Some((record, body_at)) = Record::decode(payload) else { return };
    let mut again = Vec::new();
    record.encode(&mut again);
    let length = again.len();
    again.extend_from_slice(&payload[body_at..]);
    assert_eq!(Record::decode(&again), Some((record, length)));
}

type Kept = (u64, Vec<u8>);

fn open(disk: &FakeDisk) -> (Log<FakeDisk>, Vec<Kept>, Findings) {
    let mut kept = Vec::new();
    let opened = log::open(Arc::new(disk.clone()), SEGMENT, Known::default(), |frame, payload| {
        kept.push((frame.sequence, payload.to_vec()));
    });
    let (log, findings) = opened.expect("a disk in memory reads");
    (log, kept, findings)
}

/// Opens a log twice, writes to it, and gives what it holds of before.
fn reopened(disk: &FakeDisk) -> Vec<Kept> {
    let (mut log, kept, _) = open(disk);
    let added = append(&mut log, &[b"one more"]);
    let (_, mut again, findings) = open(disk);
    assert_eq!(again.pop().as_ref(), added.last(), "what is appended behind damage is found");
    assert_eq!(again, kept, "a log that was opened reads the same again");
    assert_eq!(findings.torn_bytes, 0);
    kept
}

fn append(log: &mut Log<FakeDisk>, payloads: &[&[u8]]) -> Vec<Kept> {
    let mut batch = Batch::default();
    let mut added = Vec::new();
    for payload in payloads {
        let sequence = log.next_sequence;
        log.next_sequence += 1;
        batch.frame(sequence, |out| out.extend_from_slice(payload));
        added.push((sequence, payload.to_vec()));
    }
    log.append(&mut batch).expect("a disk in memory has room");
    added
}

fn scans(segment: &[u8]) {
    let disk = FakeDisk::default();
    let laid = disk.create(&name_of(1)).and_then(|()| disk.write_at(&name_of(1), 0, segment));
    laid.expect("a disk in memory takes everything");
    reopened(&disk);
}

/// A log of batches made of a script: a byte for each record, zero to end a batch.
struct Written {
    disk: FakeDisk,
    records: Vec<Kept>,
    /// Steps of the disk after each batch was durable, and records by then.
    batches: Vec<(usize, usize)>,
}

fn written(script: &[u8]) -> Written {
    let disk = FakeDisk::default();
    let (mut log, ..) = open(&disk);
    let (mut records, mut batches) = (Vec::new(), Vec::new());
    for batch in script.split(|byte| *byte == 0).filter(|batch| !batch.is_empty()).take(8) {
        let payloads: Vec<&[u8]> = batch.iter().take(6).map(|byte| &script[..usize::from(*byte).min(script.len())]).collect();
        records.extend(append(&mut log, &payloads));
        batches.push((disk.steps(), records.len()));
    }
    Written { disk, records, batches }
}

fn survives_crash(data: &[u8]) {
    let [cut, script @ ..] = data else { return };
    let written = written(script);
    let step = usize::from(*cut) / Loss::ALL.len() % (written.disk.steps() + 1);
    let left = written.disk.after_crash(step, Loss::ALL[usize::from(*cut) % Loss::ALL.len()]);
    let kept = reopened(&left);
    let synced = written.batches.iter().rev().find(|(steps, _)| *steps <= step).map_or(0, |(_, count)| *count);
    assert!(kept.len() >= synced, "{} of {synced} synced records are there", kept.len());
    assert!(
        kept.is_empty() || written.batches.iter().any(|(_, count)| *count == kept.len()),
        "a batch is there whole or not at all"
    );
    assert_eq!(kept, written.records[..kept.len()]);
}

fn survives_damage(data: &[u8]) {
    let [segment, at, script @ ..] = data else { return };
    let written = written(script);
    let segments = log::segments(&written.disk).expect("a disk in memory lists");
    let name = name_of(segments[usize::from(*segment) % segments.len()]);
    let length = written.disk.length(&name).expect("a segment has a length");
    written.disk.flip(&name, usize::from(*at) * 3 % usize::try_from(length.max(1)).unwrap_or(1));
    let kept = reopened(&written.disk);
    let lost: Vec<usize> = (0..written.records.len()).filter(|record| !kept.contains(&written.records[*record])).collect();
    assert_eq!(kept.len() + lost.len(), written.records.len(), "nothing is read that was not written");
    let batch_of = |record: &usize| written.batches.iter().position(|(_, count)| record < count);
    // In the log's first batch nothing says where it ended: the second may look like the rest of it.
    let together = |record: &usize| batch_of(record).map(|batch| batch.max(1));
    assert!(lost.iter().all(|record| together(record) == together(&lost[0])), "one damaged byte took records {lost:?}");
}

/// Records one after the other, each with its length in two bytes in front.
fn replays(data: &[u8]) {
    let mut open = OpenSet::new(0);
    let (mut rest, mut number) = (data, 0);
    while let [low, high, more @ ..] = rest {
        let (payload, behind) = more.split_at(usize::from(u16::from_le_bytes([*low, *high])).min(more.len()));
        rest = behind;
        number += 1;
        let Some((record, body_at)) = Record::decode(payload) else { continue };
        let position = Position { segment: 1, offset: number };
        let place = Place { position, payload_length: payload.len() as u32, body_at: body_at as u32 };
        let has_body = matches!(record, Record::Accept(_) | Record::Snapshot(_));
        open.apply(record, u64::from(number), has_body.then_some(place));
        if number % 2 == 1 {
            open.lease(ChannelId(1), mail::Lane::Normal, Timestamp(i64::MAX), u32::MAX, &crate::api::Skip::default());
        }
        assert_eq!(open.totals.accepted, open.totals.by_state.iter().sum::<u64>(), "one fate for each recipient");
    }
}
