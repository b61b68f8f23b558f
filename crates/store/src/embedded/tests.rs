#![allow(clippy::unwrap_used)]
use super::*;
use crate::disk::fake::{FakeDisk, Fault, Loss};
use mail::{Diagnostic, Envelope, Lane, PersonId, Recipient, RecipientState, Surface};
use smtp::{ForwardPath, ReversePath};
use std::collections::HashMap;

const CHANNEL: ChannelId = ChannelId(1);
const NOW: Timestamp = Timestamp(1_000_000);

fn id(number: u8) -> MessageId {
    MessageId::new(Timestamp(1_000), [number; 10])
}

fn message(number: u8, recipients: &[&str]) -> NewMessage {
    let path = |address: &&str| Recipient::new(ForwardPath::parse(&format!("<{address}>")).unwrap());
    NewMessage {
        id: id(number),
        at: NOW,
        person: PersonId(1),
        team: None,
        token: None,
        surface: Surface::Smtp,
        channel: CHANNEL,
        lane: Lane::Normal,
        envelope: Envelope {
            reverse_path: ReversePath::Null,
            recipients: recipients.iter().map(path).collect(),
            body: mail::BodyType::SevenBit,
            smtputf8: false,
            ret: None,
            envid: None,
        },
        from: "ana@example.com".into(),
        subject: format!("number {number}"),
        message_id: format!("{number}@example.com"),
        tags: vec![("a".into(), "b".into())],
        idempotency: None,
        scheduled_at: None,
        expires_at: None,
        body: Bytes::from(format!("Subject: number {number}\r\n\r\n{}\r\n", "x".repeat(700))),
    }
}

fn keyed(number: u8, recipients: &[&str], parts: bool, fingerprint: u8) -> NewMessage {
    let idempotency = Some(Idempotency { key: "k".into(), fingerprint: [fingerprint; 32], parts });
    NewMessage { idempotency, ..message(number, recipients) }
}

struct Bench {
    folder: tempfile::TempDir,
    disk: FakeDisk,
    queue: Option<Embedded<FakeDisk>>,
}

fn open(disk: &FakeDisk, folder: &Path) -> Embedded<FakeDisk> {
    let options = Options { min_free: 1000, segment_size: 3000, ..Options::new(folder, NOW) };
    Embedded::on_disk(Arc::new(disk.clone()), folder.join("index.sqlite"), options).unwrap()
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let disk = FakeDisk::default();
        let queue = Some(open(&disk, folder.path()));
        Self { folder, disk, queue }
    }

    fn queue(&self) -> &Embedded<FakeDisk> {
        self.queue.as_ref().unwrap()
    }

    fn restart(&mut self) {
        self.queue = None;
        self.queue = Some(open(&self.disk, self.folder.path()));
    }

    fn accept(&self, message: NewMessage) -> Result<Accepted, AcceptError> {
        self.queue().accept(vec![message]).wait().map(|accepted| accepted[0].clone())
    }

    fn states(&self, number: u8) -> Vec<RecipientState> {
        let view = self.queue().message(id(number)).unwrap().unwrap();
        view.recipients.iter().map(|recipient| recipient.state).collect()
    }
}

fn settlement(lease: &Lease, to: Move) -> Settlement {
    let row = |recipient: &LeasedRecipient| Settled {
        index: recipient.index,
        to,
        due: Timestamp(NOW.0 + 60_000),
        counts: to != Move::GiveBack,
        said: Diagnostic::own(None, format!("{to:?}")),
        cause: None,
    };
    Settlement {
        message: lease.message,
        channel: lease.channel,
        at: NOW,
        relay: "mx".into(),
        recipients: lease.recipients.iter().map(row).collect(),
    }
}

fn intent(lease: &Lease) -> Intent {
    let recipients = lease.recipients.iter().map(|recipient| recipient.index).collect();
    Intent { message: lease.message, channel: lease.channel, recipients, at: NOW }
}

#[test]
fn a_message_is_found_from_acceptance_to_its_end_and_after_a_restart() {
    let mut bench = Bench::new();
    bench.accept(message(1, &["luis@example.org", "eva@example.org"])).unwrap();
    assert_eq!(bench.states(1), [RecipientState::Queued; 2]);
    bench.restart();
    let lease = bench.queue().lease(CHANNEL, NOW, 9).pop().unwrap();
    assert_eq!(lease.recipients.len(), 2);
    assert_eq!(&*lease.from, "ana@example.com");
    assert_eq!(bench.queue().body(lease.message).unwrap(), message(1, &["x@y.example"]).body);
    bench.queue().record(AttemptRecord { settle: None, intend: Some(intent(&lease)) }).wait().unwrap();
    bench.queue().record(AttemptRecord { settle: Some(settlement(&lease, Move::Send)), intend: None }).wait().unwrap();
    assert_eq!(bench.states(1), [RecipientState::Sent; 2]);
    bench.restart();
    assert_eq!(bench.states(1), [RecipientState::Sent; 2]);
    let totals = bench.queue().totals();
    assert_eq!((totals.accepted, totals.by_state.iter().sum::<u64>(), totals.open_messages), (2, 2, 0));
    let kinds: Vec<&str> = bench.queue().events_of(id(1)).unwrap().iter().map(|event| event.kind.name()).collect();
    assert_eq!(kinds, ["message.queued", "message.sent", "message.sent"]);
    assert!(bench.queue().raw(id(1)).unwrap().is_some());
}

#[test]
fn an_open_intent_is_uncertain_after_a_restart_and_held_the_second_time() {
    let mut bench = Bench::new();
    bench.accept(message(1, &["luis@example.org"])).unwrap();
    for expected in [RecipientState::Queued, RecipientState::Held] {
        let later = Timestamp(NOW.0 + 120_000);
        let lease = bench.queue().lease(CHANNEL, later, 1).pop().unwrap();
        bench.queue().record(AttemptRecord { settle: None, intend: Some(intent(&lease)) }).wait().unwrap();
        bench.restart();
        assert_eq!(bench.states(1), [expected]);
    }
    assert!(bench.queue().lease(CHANNEL, Timestamp(i64::MAX), 1).is_empty());
}

#[test]
fn a_lease_without_intent_is_queued_again_after_a_restart() {
    let mut bench = Bench::new();
    bench.accept(message(1, &["luis@example.org"])).unwrap();
    assert_eq!(bench.queue().lease(CHANNEL, NOW, 1).len(), 1);
    assert!(bench.queue().lease(CHANNEL, NOW, 1).is_empty());
    bench.restart();
    assert_eq!(bench.queue().lease(CHANNEL, NOW, 1).len(), 1);
}

#[test]
fn mail_leaves_in_the_order_it_is_due() {
    let bench = Bench::new();
    for number in 1..=3 {
        bench.accept(NewMessage { at: Timestamp(NOW.0 - i64::from(number)), ..message(number, &["luis@example.org"]) }).unwrap();
    }
    let order: Vec<MessageId> = bench.queue().lease(CHANNEL, NOW, 9).iter().map(|lease| lease.message).collect();
    assert_eq!(order, [id(3), id(2), id(1)]);
}

#[test]
fn a_deferred_recipient_waits_for_its_time() {
    let bench = Bench::new();
    bench.accept(message(1, &["luis@example.org"])).unwrap();
    let lease = bench.queue().lease(CHANNEL, NOW, 1).pop().unwrap();
    bench.queue().record(AttemptRecord { settle: Some(settlement(&lease, Move::Defer)), intend: None }).wait().unwrap();
    assert!(bench.queue().lease(CHANNEL, NOW, 1).is_empty());
    assert_eq!(bench.queue().next_due(CHANNEL), Some(Timestamp(NOW.0 + 60_000)));
    let again = bench.queue().lease(CHANNEL, Timestamp(NOW.0 + 60_000), 1).pop().unwrap();
    assert_eq!(again.recipients[0].attempts, 1);
}

fn steer(number: u8, to: Move) -> Steer {
    Steer { message: id(number), recipients: vec![], to, channel: None, by: "ana".into(), at: NOW }
}

#[test]
fn a_person_moves_what_is_not_in_the_hands_of_a_delivery() {
    let bench = Bench::new();
    bench.accept(message(1, &["luis@example.org"])).unwrap();
    bench.accept(message(2, &["luis@example.org"])).unwrap();
    let lease = bench.queue().lease(CHANNEL, NOW, 1).pop().unwrap();
    assert_eq!(lease.message, id(1));
    assert_eq!(bench.queue().steer(steer(1, Move::Cancel)).wait(), Ok(vec![]));
    assert_eq!(bench.queue().steer(steer(2, Move::Hold)).wait(), Ok(vec![0]));
    assert_eq!(bench.queue().steer(steer(2, Move::Release)).wait(), Ok(vec![0]));
    assert_eq!(bench.queue().steer(steer(2, Move::Cancel)).wait(), Ok(vec![0]));
    assert!(bench.queue().lease(CHANNEL, NOW, 1).is_empty());
    assert_eq!(bench.states(2), [RecipientState::Cancelled]);
    assert_eq!(bench.queue().steer(steer(2, Move::Cancel)).wait(), Ok(vec![]));
    assert_eq!(bench.queue().steer(steer(9, Move::Cancel)).wait(), Err(StoreError::Unknown(id(9))));
}

#[test]
fn what_is_not_leased_cannot_be_settled() {
    let bench = Bench::new();
    bench.accept(message(1, &["luis@example.org"])).unwrap();
    let lease = bench.queue().lease(CHANNEL, NOW, 1).pop().unwrap();
    bench.queue().give_back(lease.message, &[0]);
    let settled = bench.queue().record(AttemptRecord { settle: Some(settlement(&lease, Move::Send)), intend: None }).wait();
    assert!(matches!(settled, Err(StoreError::Illegal(_))));
}

#[test]
fn the_same_key_sends_once_and_further_recipients_are_a_further_part() {
    let mut bench = Bench::new();
    let first = bench.accept(keyed(1, &["luis@example.org"], true, 7)).unwrap();
    assert_eq!(first, Accepted { id: id(1), replayed: false });
    for _ in 0..2 {
        assert_eq!(bench.accept(keyed(2, &["LUIS@example.org"], true, 7)).unwrap(), Accepted { id: id(1), replayed: true });
        assert!(matches!(bench.accept(keyed(3, &["luis@example.org"], true, 8)), Err(AcceptError::KeyReused { .. })));
        bench.restart();
    }
    let part = bench.accept(keyed(4, &["luis@example.org", "eva@example.org"], true, 7)).unwrap();
    assert_eq!(part, Accepted { id: id(4), replayed: false });
    assert_eq!(bench.queue().message(id(4)).unwrap().unwrap().recipients.len(), 1);
    let batch = vec![
        NewMessage { person: PersonId(2), ..keyed(5, &["a@b.example"], false, 1) },
        NewMessage { person: PersonId(2), ..keyed(6, &["a@b.example"], false, 1) },
    ];
    let both = bench.queue().accept(batch).wait().unwrap();
    assert_eq!((both[0].replayed, both[1].replayed, both[1].id), (false, true, id(5)));
}

#[test]
fn a_full_disk_refuses_and_takes_again_by_itself() {
    let mut bench = Bench::new();
    bench.accept(message(1, &["luis@example.org"])).unwrap();
    bench.disk.fail(Fault::NoSpace);
    for _ in 0..3 {
        assert!(matches!(bench.accept(message(2, &["luis@example.org"])), Err(AcceptError::NoSpace(_))));
    }
    assert!(matches!(bench.queue().steer(steer(1, Move::Cancel)).wait(), Err(StoreError::NoSpace(_))));
    bench.disk.fail(Fault::None);
    bench.accept(message(3, &["luis@example.org"])).unwrap();
    assert_eq!(bench.queue().lease(CHANNEL, NOW, 9).len(), 2);
    bench.restart();
    assert!(bench.queue().findings().damaged.is_empty());
    assert_eq!(bench.queue().totals().accepted, 2);
}

#[test]
fn below_the_floor_submissions_are_refused_and_outcomes_are_not() {
    let bench = Bench::new();
    bench.accept(message(1, &["luis@example.org"])).unwrap();
    bench.disk.set_free(999);
    assert!(matches!(bench.accept(message(2, &["luis@example.org"])), Err(AcceptError::NoSpace(_))));
    assert_eq!(bench.queue().steer(steer(1, Move::Cancel)).wait(), Ok(vec![0]));
    bench.disk.set_free(1000);
    bench.accept(message(3, &["luis@example.org"])).unwrap();
}

#[test]
fn after_a_failed_sync_nothing_is_ever_acknowledged_again() {
    for fault in [Fault::Sync, Fault::Write] {
        let bench = Bench::new();
        bench.accept(message(1, &["luis@example.org"])).unwrap();
        bench.disk.fail(fault);
        assert!(matches!(bench.accept(message(2, &["luis@example.org"])), Err(AcceptError::Closed(_))));
        bench.disk.fail(Fault::None);
        assert!(matches!(bench.accept(message(3, &["luis@example.org"])), Err(AcceptError::Closed(_))));
        assert!(bench.queue().accepting().is_err());
    }
}

#[test]
fn two_processes_do_not_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let first = Embedded::open(Options { min_free: 0, ..Options::new(folder.path(), NOW) }).unwrap();
    assert!(matches!(Embedded::open(Options::new(folder.path(), NOW)), Err(OpenError::Locked(_))));
    drop(first);
    std::fs::write(folder.path().join("format"), "sendero queue 9\n").unwrap();
    assert!(matches!(Embedded::open(Options::new(folder.path(), NOW)), Err(OpenError::Format { .. })));
}

#[test]
fn a_damaged_record_is_set_aside_and_the_rest_goes_on() {
    let bench = Bench::new();
    for number in 1..=3 {
        bench.accept(message(number, &["luis@example.org"])).unwrap();
    }
    let fresh = tempfile::tempdir().unwrap();
    bench.disk.flip(&log::name_of(1), 100);
    let queue = open(&bench.disk, fresh.path());
    assert_eq!(queue.findings().damaged.len(), 1);
    assert_eq!(queue.totals().accepted, 2);
    assert!(queue.message(id(2)).unwrap().is_some());
    assert!(!check::check_log(&bench.disk).unwrap().is_clean());
}

#[test]
fn pages_of_a_list_follow_each_other_and_filters_hold() {
    let bench = Bench::new();
    for number in 1..=5 {
        let to = if number == 3 { "eva@example.org" } else { "luis@example.org" };
        bench.accept(message(number, &[to])).unwrap();
    }
    let page = |after: Option<MessageId>| {
        let listing = bench.queue().list(&Filter::default(), &Page { after, before: None, limit: 2 }).unwrap();
        (listing.messages.iter().map(|view| view.id).collect::<Vec<_>>(), listing.has_more)
    };
    assert_eq!(page(None), (vec![id(5), id(4)], true));
    assert_eq!(page(Some(id(4))), (vec![id(3), id(2)], true));
    assert_eq!(page(Some(id(2))), (vec![id(1)], false));
    let filter = Filter { recipient: Some("EVA@example.org".into()), ..Filter::default() };
    let found = bench.queue().list(&filter, &Page { after: None, before: None, limit: 9 }).unwrap();
    assert_eq!(found.messages.iter().map(|view| view.id).collect::<Vec<_>>(), [id(3)]);
    let filter = Filter { states: vec![RecipientState::Sent], ..Filter::default() };
    assert!(bench.queue().list(&filter, &Page { after: None, before: None, limit: 9 }).unwrap().messages.is_empty());
}

/// What was acknowledged at each step of a recorded run.
#[derive(Clone, Default)]
struct Promised {
    accepted: Vec<u8>,
    ended: HashMap<u8, RecipientState>,
    intended: Vec<u8>,
}

/// A run of accepts, transactions, cancels and refusals, with what was promised after which step of the disk.
fn recorded_run(seed: u64) -> (FakeDisk, tempfile::TempDir, Vec<(usize, Promised)>) {
    let bench = Bench::new();
    let mut promised = Promised::default();
    let mut history = vec![(0, promised.clone())];
    let mut random = seed;
    let mut next = move |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let mut leased: Vec<(u8, Lease)> = Vec::new();
    let mut number = 0;
    for _ in 0..24 {
        match next(6) {
            0..=2 => {
                number += 1;
                bench.accept(message(number, &["luis@example.org"])).unwrap();
                promised.accepted.push(number);
            }
            3 => {
                if let Some(lease) = bench.queue().lease(CHANNEL, NOW, 1).pop() {
                    // Before the record is durable the intent may or may not be found.
                    let which = lease.message.0[7];
                    promised.intended.push(which);
                    history.push((bench.disk.steps(), promised.clone()));
                    bench.queue().record(AttemptRecord { settle: None, intend: Some(intent(&lease)) }).wait().unwrap();
                    leased.push((which, lease));
                }
            }
            4 => {
                if let Some((which, lease)) = leased.pop() {
                    bench
                        .queue()
                        .record(AttemptRecord { settle: Some(settlement(&lease, Move::Send)), intend: None })
                        .wait()
                        .unwrap();
                    promised.ended.insert(which, RecipientState::Sent);
                    promised.intended.retain(|open| *open != which);
                }
            }
            _ => {
                let which = (1 + next(u64::from(number) + 1)) as u8;
                if bench.queue().steer(steer(which, Move::Cancel)).wait().is_ok_and(|moved| !moved.is_empty()) {
                    promised.ended.insert(which, RecipientState::Cancelled);
                }
            }
        }
        history.push((bench.disk.steps(), promised.clone()));
    }
    let Bench { folder, disk, queue } = bench;
    drop(queue);
    (disk, folder, history)
}

/// Opens what a crash left behind and holds it against what was promised.
fn check_cut(disk: &FakeDisk, promised: &Promised, index: &Path) -> usize {
    let before = check::check_log(disk).unwrap();
    assert!(before.illegal.is_empty(), "{:?}", before.illegal);
    assert!(before.findings.damaged.is_empty(), "{:?}", before.findings);
    let queue = open(disk, index);
    let totals = queue.totals();
    assert_eq!(totals.accepted, totals.by_state.iter().sum::<u64>(), "one fate for each recipient");
    let mut doubts = 0;
    for number in &promised.accepted {
        let view = queue.message(id(*number)).unwrap().unwrap_or_else(|| panic!("message {number} was acknowledged and is lost"));
        let recipient = &view.recipients[0];
        doubts += recipient.doubts as usize;
        if let Some(state) = promised.ended.get(number) {
            assert_eq!(recipient.state, *state, "message {number}");
        }
        assert_ne!(recipient.state, RecipientState::Leased, "nothing is leased right after a start");
        if !recipient.state.is_final() {
            assert_eq!(queue.raw(id(*number)).unwrap().unwrap(), message(*number, &["x@y.example"]).body);
        }
    }
    assert!(doubts <= promised.intended.len() + 1, "{doubts} doubts for {} open transactions", promised.intended.len());
    doubts
}

#[test]
fn whatever_the_crash_nothing_acknowledged_is_lost_and_doubts_are_at_most_the_open_transactions() {
    let (mut cuts, mut doubts) = (0u64, 0u64);
    for seed in 1..=6 {
        let (disk, _folder, history) = recorded_run(seed);
        for step in 0..=disk.steps() {
            let promised = history.iter().rev().find(|(at, _)| *at <= step).map(|(_, promised)| promised.clone()).unwrap();
            for loss in Loss::ALL {
                let fresh = tempfile::tempdir().unwrap();
                let left = disk.after_crash(step, loss);
                doubts += check_cut(&left, &promised, fresh.path()) as u64;
                cuts += 1;
            }
            // The index as an earlier start left it: behind the log, never ahead.
            if step % 7 == 0 {
                let index = tempfile::tempdir().unwrap();
                let earlier = disk.after_crash(step / 2, Loss::Everything);
                drop(open(&earlier, index.path()));
                if only_a_prefix(&earlier, &disk.after_crash(step, Loss::Everything)) {
                    check_cut(&disk.after_crash(step, Loss::Everything), &promised, index.path());
                    cuts += 1;
                }
            }
        }
    }
    println!("SENDERO-FIGURE crash_points={cuts} lost=0 doubts={doubts}");
}

/// True when the earlier log was not written to by the start that made the index.
fn only_a_prefix(earlier: &FakeDisk, later: &FakeDisk) -> bool {
    earlier.list().unwrap().iter().all(|name| {
        let short = earlier.read_at(name, 0, usize::MAX / 2).unwrap();
        later.read_at(name, 0, short.len()).is_ok_and(|long| long == short)
    })
}
