//! The head of the log goes, and nothing that is still needed goes with it.
#![allow(clippy::unwrap_used)]
use super::cap_tests::assert_counted;
use super::tests::{CHANNEL, NOW, id, intent, leases, message, settlement};
use super::*;
use crate::disk::fake::{FakeDisk, Fault};
use mail::pace::{LearnedPace, Units};
use mail::steady::Reading;
use mail::{Diagnostic, PersonId, RecipientState};

const DAY: i64 = 24 * 3600 * 1000;

struct Bench {
    folder: tempfile::TempDir,
    disk: FakeDisk,
    queue: Embedded<FakeDisk>,
}

fn open(disk: &FakeDisk, folder: &Path) -> Embedded<FakeDisk> {
    let steady = Box::new(|beat: Option<&Heartbeat>| beat.map_or(NOW, |beat| beat.steady));
    let options = Options { min_free: 1000, reserve: 0, segment_size: 3000, steady, ..Options::new(folder, NOW) };
    Embedded::on_disk(Arc::new(disk.clone()), folder.join("index.sqlite"), options).unwrap()
}

impl Bench {
    fn new() -> Self {
        let (folder, disk) = (tempfile::tempdir().unwrap(), FakeDisk::default());
        let queue = open(&disk, folder.path());
        Self { folder, disk, queue }
    }

    fn accept(&self, number: u8) {
        let idempotency = Some(Idempotency { key: format!("k{number}"), fingerprint: [number; 32], parts: false });
        let new = NewMessage { idempotency, ..message(number, &["luis@example.org", "eva@example.org"]) };
        self.queue.accept(vec![new]).wait().unwrap();
    }

    fn settle(&self, settle: Settlement) {
        self.queue.record(AttemptRecord { settle: Some(settle), ..AttemptRecord::default() }).wait().unwrap();
    }

    /// Accepts a message and sends it.
    fn sent(&self, number: u8) {
        self.accept(number);
        let lease = leases(&self.queue, NOW, 1).pop().unwrap();
        assert_eq!(lease.message, id(number));
        self.settle(settlement(&lease, Move::Send));
    }

    fn beat(&self, steady: Timestamp) {
        let reading = Reading { boot: [1; 16], since_boot: Duration::from_millis(steady.0 as u64), wall: steady, proved: true };
        self.queue.beat(Heartbeat { reading, steady, owed: None, doubted: false }, None).wait().unwrap();
    }

    fn tidy(&self, keep_bodies: Duration, share: u64) {
        let policy = Policy { keep_bodies, slack: 0, share };
        let mut keeper = self.queue.shared.keeper(policy).unwrap();
        self.queue.shared.tidy(&mut keeper);
    }

    /// Lets everything go that may, whatever it takes.
    fn behead(&self) {
        self.tidy(Duration::ZERO, u64::MAX);
    }

    fn first_segment(&self) -> u32 {
        log::segments(&self.disk).unwrap()[0]
    }

    fn restart(&mut self) {
        self.queue.close();
        self.queue = open(&self.disk, self.folder.path());
    }

    /// As if somebody had removed the index.
    fn restart_without_index(&mut self) {
        self.queue.close();
        self.folder = tempfile::tempdir().unwrap();
        self.queue = open(&self.disk, self.folder.path());
        assert_eq!(self.queue.findings().missing_segments, 0);
    }
}

fn spent(at: i64) -> Spent {
    Spent {
        account: "mx/ana".into(),
        from: "".into(),
        units: Units { messages: 1, recipients: 2, bytes: 700 },
        age_from: Timestamp(NOW.0 + at),
    }
}

/// All that must be known again, in words.
fn known(queue: &Embedded<FakeDisk>) -> String {
    let page = Page { after: None, before: None, limit: 1000 };
    let mut messages = queue.list(&Filter::default(), &page).unwrap().messages;
    messages.retain(|view| view.recipients.iter().any(|recipient| !recipient.state.is_final()));
    assert_counted(queue, &messages);
    let bodies: Vec<_> = messages.iter().map(|view| queue.raw(view.id).unwrap()).collect();
    let suppressed = queue.suppressions(&[], None, 100).unwrap();
    format!(
        "{messages:#?}\n{bodies:?}\n{suppressed:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}",
        queue.spent().unwrap(),
        queue.channel_states(),
        queue.lessons(),
        queue.totals(),
        lock(&queue.shared.open).spending,
    )
}

#[test]
fn a_log_without_head_and_index_knows_all_that_is_open_and_what_ended_mail_leaves_behind() {
    let mut bench = Bench::new();
    bench.beat(NOW);
    for number in 1..=3 {
        bench.accept(number);
    }
    let held = leases(&bench.queue, NOW, 1).pop().unwrap();
    bench.settle(Settlement { relay: "mx.example.org".into(), ..settlement(&held, Move::Hold) });
    let deferred = leases(&bench.queue, NOW, 1).pop().unwrap();
    bench.settle(settlement(&deferred, Move::Defer));
    let open = leases(&bench.queue, NOW, 1).pop().unwrap();
    let spend = Some(Spend { account: "mx/ana".into(), from: "".into(), units: spent(0).units });
    bench
        .queue
        .record(AttemptRecord { intend: Some(Intent { spend, ..intent(&open) }), ..AttemptRecord::default() })
        .wait()
        .unwrap();
    for number in 4..=9 {
        bench.accept(number);
        let lease = leases(&bench.queue, NOW, 1).pop().unwrap();
        let mut settle = settlement(&lease, if number % 2 == 0 { Move::Send } else { Move::Fail });
        settle.spending = Spending::Spent(spent(i64::from(number)));
        if number == 5 {
            settle.recipients[0].suppress = Some("luis@example.org".into());
            settle.recipients[0].said = Diagnostic::own(None, "no such user");
        }
        bench.settle(settle);
    }
    bench.queue.set_channel_state(CHANNEL, ChannelState::Paused { by: "ana".into() }, NOW).wait().unwrap();
    let pace = LearnedPace { per_minute: 15, before: 30, taught_at: NOW, step_at: NOW, said: "slower".into() };
    bench.queue.set_lessons(CHANNEL, Lessons { pace: Some(pace), cap: None }, NOW).wait().unwrap();
    let before = known(&bench.queue);
    bench.behead();
    assert!(bench.first_segment() > 3, "the head has gone: {:?}", bench.disk.list());
    assert_eq!(known(&bench.queue), before, "and nothing is different");
    assert!(check::check_log(&bench.disk).unwrap().is_clean(), "{:?}", check::check_log(&bench.disk).unwrap());
    bench.restart();
    // The transaction that was open is a doubt now, and spent.
    let after = known(&bench.queue);
    bench.restart_without_index();
    assert_eq!(known(&bench.queue), after);
    for number in 1..=9 {
        let idempotency = Some(Idempotency { key: format!("k{number}"), fingerprint: [number; 32], parts: false });
        let again = NewMessage { idempotency, ..message(100 + number, &["luis@example.org", "eva@example.org"]) };
        let accepted = bench.queue.accept(vec![again]).wait().unwrap();
        assert_eq!(accepted, [Accepted { id: id(number), replayed: true }], "key {number}");
    }
}

#[test]
fn whichever_write_of_it_fails_the_next_try_says_all_of_it_again() {
    for failing in 0..12 {
        let mut bench = Bench::new();
        bench.accept(1);
        let lease = leases(&bench.queue, NOW, 1).pop().unwrap();
        bench.settle(settlement(&lease, Move::Hold));
        for number in 2..=9 {
            bench.accept(number);
            let lease = leases(&bench.queue, NOW, 1).pop().unwrap();
            let spending = Spending::Spent(spent(i64::from(number)));
            bench.settle(Settlement { spending, ..settlement(&lease, Move::Send) });
        }
        let before = known(&bench.queue);
        let policy = Policy { keep_bodies: Duration::ZERO, slack: 0, share: u64::MAX };
        let shared = &bench.queue.shared;
        let mut keeper = shared.keeper(policy).unwrap();
        let mut writes = 0;
        while let next @ (Next::Again | Next::Wait(_)) = {
            // Whatever it writes in this step finds the disk full.
            bench.disk.fail(if writes == failing { Fault::NoSpace } else { Fault::None });
            keeper.step(shared, 0)
        } {
            if let Next::Wait(commit) = next {
                keeper.written(commit.wait());
                writes += 1;
            }
        }
        bench.disk.fail(Fault::None);
        shared.tidy(&mut keeper);
        assert!(bench.first_segment() > 1, "the head has gone");
        bench.restart_without_index();
        assert_eq!(known(&bench.queue), before, "write {failing} failed");
    }
}

#[test]
fn an_address_on_more_lists_than_one_record_takes_stays_on_all_of_them() {
    let mut bench = Bench::new();
    // More than are carried at once.
    for person in 1..=2_100 {
        let new = NewMessage {
            person: PersonId(person),
            id: MessageId::new(Timestamp(1_000), u128::from(person).to_be_bytes()[6..].try_into().unwrap()),
            ..message(1, &["luis@example.org"])
        };
        bench.queue.accept(vec![new]).wait().unwrap();
        let lease = leases(&bench.queue, NOW, 1).pop().unwrap();
        let mut settle = settlement(&lease, Move::Fail);
        settle.recipients[0].suppress = Some("luis@example.org".into());
        bench.settle(settle);
    }
    bench.behead();
    bench.restart_without_index();
    assert_eq!(bench.queue.suppressions(&[], None, 5_000).unwrap().len(), 2_100);
}

#[test]
fn a_message_that_is_stuck_for_weeks_keeps_no_more_of_the_log_than_itself() {
    let mut bench = Bench::new();
    bench.accept(200);
    let lease = leases(&bench.queue, NOW, 1).pop().unwrap();
    bench.settle(settlement(&lease, Move::Hold));
    for number in 1..=120 {
        bench.sent(number);
        if number % 10 == 0 {
            bench.tidy(Duration::ZERO, 2);
            assert!(bench.disk.list().unwrap().len() <= 4, "{:?}", bench.disk.list());
        }
    }
    for _ in 0..2 {
        let view = bench.queue.message(id(200)).unwrap().unwrap();
        assert_eq!(view.recipients[1].state, RecipientState::Held);
        assert_eq!(view.recipients[1].said, "Hold", "the words about it have come along");
        assert_eq!(bench.queue.raw(id(200)).unwrap().unwrap(), message(200, &[]).body);
        bench.restart_without_index();
    }
}

#[test]
fn bodies_are_kept_for_their_time_and_go_before_it_when_space_runs_low() {
    let bench = Bench::new();
    let week = Duration::from_millis(7 * DAY as u64);
    bench.beat(NOW);
    for number in 1..=12 {
        bench.sent(number);
    }
    bench.beat(Timestamp(NOW.0 + 6 * DAY));
    bench.tidy(week, 2);
    assert!(bench.queue.raw(id(1)).unwrap().is_some(), "six days later");
    bench.beat(Timestamp(NOW.0 + 7 * DAY));
    bench.tidy(week, 2);
    assert_eq!(bench.queue.raw(id(1)), Ok(None), "seven days later");
    assert!(bench.queue.message(id(1)).unwrap().is_some(), "what became of it is known all the same");
    for number in 21..=32 {
        bench.sent(number);
    }
    bench.tidy(week, 2);
    assert!(bench.queue.raw(id(21)).unwrap().is_some());
    bench.disk.set_free(1999);
    bench.tidy(week, 2);
    assert_eq!(bench.queue.raw(id(21)), Ok(None));
}

#[test]
fn a_segment_with_ended_mail_is_closed_in_time_however_little_comes_in() {
    let bench = Bench::new();
    let week = Duration::from_millis(7 * DAY as u64);
    bench.beat(NOW);
    bench.sent(1);
    bench.tidy(week, 2);
    bench.beat(Timestamp(NOW.0 + DAY));
    bench.tidy(week, 2);
    bench.sent(2);
    assert_eq!(log::segments(&bench.disk).unwrap(), [1, 2]);
    bench.beat(Timestamp(NOW.0 + 8 * DAY));
    bench.tidy(week, 2);
    assert_eq!(bench.queue.raw(id(1)), Ok(None));
}

#[test]
fn open_mail_whose_record_is_damaged_is_held_and_its_segment_stays_until_a_person_decides() {
    let bench = Bench::new();
    for number in 1..=6 {
        bench.accept(number);
    }
    let lease = leases(&bench.queue, NOW, 1).pop().unwrap();
    bench.settle(settlement(&lease, Move::Send));
    let place = lock(&bench.queue.shared.open).place(id(2)).unwrap();
    bench.disk.flip(&log::name_of(1), place.position.offset as usize + 200);
    bench.behead();
    // What is written after it says that the hold is.
    bench.beat(NOW);
    assert_eq!(bench.first_segment(), 1);
    let states = |number| bench.queue.message(id(number)).unwrap().unwrap().recipients[0].state;
    assert_eq!((states(2), states(3)), (RecipientState::Held, RecipientState::Queued));
    let order = Steer { message: id(2), recipients: vec![], to: Move::Cancel, channel: None, by: "ana".into(), at: NOW };
    bench.queue.steer(order).wait().unwrap();
    bench.behead();
    assert!(bench.first_segment() > 1);
    assert_eq!(bench.queue.raw(id(3)).unwrap().unwrap(), message(3, &[]).body);
}

#[test]
fn a_snapshot_that_forgets_an_outcome_is_found_by_the_check() {
    let mut bench = Bench::new();
    bench.accept(1);
    let lease = leases(&bench.queue, NOW, 1).pop().unwrap();
    let mut one = settlement(&lease, Move::Send);
    one.recipients.truncate(1);
    bench.settle(one);
    for number in 2..=6 {
        bench.accept(number);
    }
    let order = Steer { message: id(2), recipients: vec![], to: Move::Cancel, channel: None, by: "ana".into(), at: NOW };
    bench.queue.steer(order).wait().unwrap();
    bench.behead();
    assert!(bench.first_segment() > 1, "the head has gone");
    let found = check::check_log(&bench.disk).unwrap();
    assert!(found.is_clean(), "{found:?}");
    bench.restart_without_index();
    let states: Vec<_> = bench.queue.message(id(1)).unwrap().unwrap().recipients.iter().map(|recipient| recipient.state).collect();
    assert_eq!(states, [RecipientState::Sent, RecipientState::Queued], "nobody gets it twice");
}

#[test]
fn old_mail_is_forgotten_and_what_is_open_is_not() {
    let bench = Bench::new();
    bench.beat(NOW);
    bench.accept(1);
    let lease = leases(&bench.queue, NOW, 1).pop().unwrap();
    bench.settle(settlement(&lease, Move::Hold));
    bench.sent(2);
    bench.queue.shared.forget_history();
    assert!(bench.queue.message(id(2)).unwrap().is_some());
    bench.beat(Timestamp(NOW.0 + 91 * DAY));
    bench.queue.shared.forget_history();
    assert!(bench.queue.message(id(2)).unwrap().is_none());
    assert_eq!(bench.queue.events_of(id(2), 0, 100).unwrap(), []);
    assert_eq!(bench.queue.message(id(1)).unwrap().unwrap().recipients[0].state, RecipientState::Held);
    assert_eq!(bench.queue.totals().accepted, 4, "the counts go on");
    let counted = bench.queue.counts(&Counted::default()).unwrap();
    assert_eq!(counted, [0, 0, 2, 0, 0, 0, 0, 0, 0], "the lists count what they have");
}
