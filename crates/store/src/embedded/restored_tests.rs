//! Restoring, adopting and the start that follows, cut after every step of the disk.
#![allow(clippy::unwrap_used)]
use super::tests::{NOW, id, intent, leases, message, settlement};
use super::*;
use crate::disk::fake::{FakeDisk, Loss};
use mail::RecipientState;

/// Whenever something is asked for, it is due by then.
const FOREVER: Timestamp = Timestamp(i64::MAX - 1_000_000_000);
const ORIGIN: Origin = Origin::Backup(NOW);

fn home() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn try_open(disk: &FakeDisk) -> Result<(Embedded<FakeDisk>, tempfile::TempDir), OpenError> {
    let home = home();
    let options = Options { min_free: 0, reserve: 0, segment_size: 3000, ..Options::new(home.path(), NOW) };
    let queue = Embedded::on_disk(Arc::new(disk.clone()), home.path().join("index.sqlite"), options)?;
    Ok((queue, home))
}

/// One that was sent, one of which a recipient was, one that is being handed over, and two that wait.
fn saved() -> FakeDisk {
    let disk = FakeDisk::default();
    let (queue, _home) = try_open(&disk).unwrap();
    for number in 1..=5 {
        queue.accept(vec![message(number, &["luis@example.org", "eva@example.org"])]).wait().unwrap();
    }
    let all = leases(&queue, NOW, 3);
    for (lease, to) in all.iter().zip([Move::Send, Move::Defer]) {
        let begun = AttemptRecord { intend: Some(intent(lease)), ..AttemptRecord::default() };
        queue.record(begun).wait().unwrap();
        let mut settle = settlement(lease, Move::Send);
        settle.recipients[1].to = to;
        queue.record(AttemptRecord { settle: Some(settle), ..AttemptRecord::default() }).wait().unwrap();
    }
    queue.record(AttemptRecord { intend: Some(intent(&all[2])), ..AttemptRecord::default() }).wait().unwrap();
    disk
}

fn copy(from: &FakeDisk, to: &FakeDisk) -> std::io::Result<()> {
    for segment in log::segments(from)? {
        let name = log::name_of(segment);
        to.create(&name)?;
        to.write_at(&name, 0, &from.read_at(&name, 0, usize::MAX >> 8)?)?;
        to.sync(&name)?;
    }
    Ok(())
}

fn states(queue: &dyn Queue, number: u8) -> Vec<RecipientState> {
    let view = queue.message(id(number)).unwrap();
    view.map(|view| view.recipients.iter().map(|one| one.state).collect()).unwrap_or_default()
}

/// Opens what a crash left: nothing is leased, and what is there is as it was, or held.
fn nothing_leaves(disk: &FakeDisk, may_be_empty: bool) -> Result<(), String> {
    use RecipientState::{Held, Sent};
    let (queue, _home) = match try_open(disk) {
        Err(OpenError::Unfinished(_)) if may_be_empty => return Ok(()),
        other => other.map_err(|error| error.to_string())?,
    };
    let leased = leases(&queue, FOREVER, 10);
    if !leased.is_empty() {
        return Err(format!("leased: {leased:?}"));
    }
    let found: Vec<_> = (1..=5).map(|number| states(&queue, number)).collect();
    let held = [vec![Sent, Sent], vec![Sent, Held], vec![Held, Held], vec![Held, Held], vec![Held, Held]];
    if !(found == held || may_be_empty && queue.totals().accepted == 0) {
        return Err(format!("{found:?}"));
    }
    drop(queue);
    let report = check::check_log(disk).map_err(|error| error.to_string())?;
    if report.illegal.is_empty() { Ok(()) } else { Err(format!("{:?}", report.illegal)) }
}

fn losses() -> impl Iterator<Item = Loss> {
    Loss::ALL.into_iter().chain((0..4).map(Loss::Random))
}

#[test]
fn whatever_the_crash_a_restored_message_is_held_before_it_is_leased() {
    let (saved, disk) = (saved(), FakeDisk::default());
    fill(&disk, &ORIGIN, std::convert::identity, || copy(&saved, &disk)).unwrap();
    let filled = disk.steps();
    drop(try_open(&disk).unwrap());
    for step in 0..=disk.steps() {
        for loss in losses() {
            let left = disk.after_crash(step, loss);
            let found = nothing_leaves(&left, step < filled);
            assert_eq!(found, Ok(()), "a crash after step {step} of {filled}, {loss:?}");
        }
    }
    assert!(disk.steps() > filled + 2, "the start held something");
}

#[test]
fn whatever_the_crash_an_adopted_message_is_held_once_adopting_was_answered() {
    let disk = saved();
    restored::mark_for_tests(&disk, &Origin::Copy(NOW));
    let marked = disk.steps();
    drop(try_open(&disk).unwrap());
    for step in marked..=disk.steps() {
        for loss in losses() {
            assert_eq!(nothing_leaves(&disk.after_crash(step, loss), false), Ok(()), "a crash after step {step}, {loss:?}");
        }
    }
}

#[test]
fn what_was_restored_says_why_it_is_held_and_goes_on_when_it_is_released() {
    let (saved, disk) = (saved(), FakeDisk::default());
    fill(&disk, &ORIGIN, std::convert::identity, || copy(&saved, &disk)).unwrap();
    let (queue, _home) = try_open(&disk).unwrap();
    let said = |number: u8, index: usize| queue.message(id(number)).unwrap().unwrap().recipients[index].said.clone();
    for (number, index) in [(2, 1), (3, 0), (4, 0), (5, 1)] {
        assert!(said(number, index).starts_with(RESTORED), "{}", said(number, index));
    }
    assert!(said(3, 0).contains("perhaps it was sent") && said(3, 0).contains(&NOW.to_string()), "{}", said(3, 0));
    let release = Steer { message: id(4), recipients: vec![], to: Move::Release, channel: None, by: "ana".into(), at: NOW };
    assert_eq!(queue.steer(release).wait(), Ok(vec![0, 1]));
    assert_eq!(leases(&queue, FOREVER, 10).len(), 1);
    drop(queue);
    let (queue, _home) = try_open(&disk).unwrap();
    assert_eq!(leases(&queue, FOREVER, 10).len(), 1, "a second start holds nothing");
}

#[test]
fn without_room_to_hold_what_was_restored_the_queue_does_not_open() {
    let (saved, disk) = (saved(), FakeDisk::default());
    fill(&disk, &ORIGIN, std::convert::identity, || copy(&saved, &disk)).unwrap();
    disk.fail(crate::disk::fake::Fault::NoSpace);
    assert!(matches!(try_open(&disk), Err(OpenError::Io { .. })));
    disk.fail(crate::disk::fake::Fault::None);
    assert_eq!(nothing_leaves(&disk, false), Ok(()));
}

#[test]
fn adopting_twice_is_adopting_once() {
    let home = home();
    let options = || Options { min_free: 0, reserve: 0, ..Options::new(home.path(), NOW) };
    let queue = Embedded::open(options()).unwrap();
    queue.accept(vec![message(1, &["luis@example.org"])]).wait().unwrap();
    assert!(matches!(adopt(home.path(), NOW), Err(OpenError::Locked(_))), "not under a gateway that runs");
    drop(queue);
    adopt(home.path(), NOW).unwrap();
    adopt(home.path(), NOW.plus(Duration::from_secs(60))).unwrap();
    let queue = Embedded::open(options()).unwrap();
    let view = queue.message(id(1)).unwrap().unwrap();
    assert_eq!(view.recipients[0].state, RecipientState::Held);
    assert!(view.recipients[0].said.contains(&NOW.to_string()), "{}", view.recipients[0].said);
    assert!(adopt(&home.path().join("nothing"), NOW).is_err(), "a folder without a queue");
}

#[test]
fn what_is_held_at_a_start_is_in_the_index_before_the_threads_run() {
    let (saved, disk) = (saved(), FakeDisk::default());
    fill(&disk, &ORIGIN, std::convert::identity, || copy(&saved, &disk)).unwrap();
    let home = home();
    let options = Options { min_free: 0, reserve: 0, segment_size: 3000, ..Options::new(home.path(), NOW) };
    let disk = Arc::new(disk);
    let (queue, core, index) = Embedded::prepare(Arc::clone(&disk), disk, home.path().join("index.sqlite"), options).unwrap();
    let known = index.progress().known;
    assert_eq!((guard(&queue.shared.outbox).entries.len(), known.position), (0, core.log.end()));
    assert_eq!(queue.shared.indexed.load(Ordering::Relaxed), known.sequence);
    let view = queue.message(id(4)).unwrap().unwrap();
    assert!(view.recipients.iter().all(|one| one.state == RecipientState::Held), "{view:?}");
}

#[test]
fn a_queue_of_an_unknown_format_is_neither_adopted_nor_backed_up_as_one_that_is_known() {
    let home = home();
    let options = Options { min_free: 0, reserve: 0, ..Options::new(home.path(), NOW) };
    drop(Embedded::open(options).unwrap());
    std::fs::remove_file(home.path().join("format")).unwrap();
    std::fs::remove_file(home.path().join("LOCK")).unwrap();
    assert!(matches!(adopt(home.path(), NOW), Err(OpenError::Io { .. })));
    assert!(matches!(Source::stopped(home.path()), Err(OpenError::Io { .. })));
    assert!(!home.path().join("format").exists());
    assert!(!home.path().join("log/restored").exists());
}

#[test]
fn what_is_held_because_it_was_restored_is_found_behind_more_than_one_search_looks_at() {
    let (queue, _home) = try_open(&FakeDisk::default()).unwrap();
    let mut mail = Vec::new();
    // One on the channel that is asked for, then many on another one, then many that nobody holds.
    for number in 0..901u32 {
        let mut one = message(1, &["luis@example.org"]);
        one.id = MessageId::new(NOW.plus(Duration::from_millis(u64::from(number))), [0; 10]);
        one.channel = ChannelId(if (1..=400).contains(&number) { 2 } else { 1 });
        mail.push(one);
    }
    let ids: Vec<(MessageId, ChannelId)> = mail.iter().map(|one| (one.id, one.channel)).collect();
    queue.accept(mail).wait().unwrap();
    let hold = |(message, _): &(MessageId, ChannelId)| {
        let by = "the gateway, because it was restored from a backup".to_owned();
        queue.steer(Steer { message: *message, recipients: vec![], to: Move::Hold, channel: None, by, at: NOW })
    };
    let orders: Vec<_> = ids[..=400].iter().map(hold).collect();
    orders.into_iter().for_each(|order| assert_eq!(order.wait(), Ok(vec![0])));
    let found = held_restored(&queue, Some(ids[0].1)).unwrap();
    assert_eq!(found, [HeldRestored { message: ids[0].0, channel: ids[0].1, recipients: vec![0] }]);
    let all: Vec<MessageId> = held_restored(&queue, None).unwrap().into_iter().map(|one| one.message).collect();
    assert_eq!(all, ids[..=400].iter().map(|(message, _)| *message).collect::<Vec<_>>(), "the oldest first");
}
