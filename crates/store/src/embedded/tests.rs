#![allow(clippy::unwrap_used)]
use super::*;
use crate::disk::fake::{FakeDisk, Fault};
use mail::{Diagnostic, Envelope, Lane, PersonId, Recipient, RecipientState, Surface};
use smtp::{ForwardPath, ReversePath};

pub(super) const CHANNEL: ChannelId = ChannelId(1);
pub(super) const NOW: Timestamp = Timestamp(1_000_000);

pub(super) fn id(number: u8) -> MessageId {
    MessageId::new(Timestamp(1_000), [number; 10])
}

pub(super) fn message(number: u8, recipients: &[&str]) -> NewMessage {
    let path = |address: &&str| Recipient::new(ForwardPath::parse(&format!("<{address}>")).unwrap());
    NewMessage {
        id: id(number),
        at: NOW,
        due: NOW,
        person: PersonId(1),
        team: None,
        token: None,
        surface: Surface::Smtp,
        channel: CHANNEL,
        lane: Lane::Normal,
        lane_reason: String::new(),
        retry_of: None,
        suppressed: Vec::new(),
        envelope: Envelope {
            reverse_path: ReversePath::Null,
            recipients: recipients.iter().map(path).collect(),
            body: mail::BodyType::SevenBit,
            smtputf8: false,
            ret: None,
            envid: None,
        },
        author: "ana@example.com".into(),
        from: "Ana <ana@example.com>".into(),
        subject: format!("number {number}"),
        message_id: format!("{number}@example.com"),
        tags: vec![("a".into(), "b".into())],
        idempotency: None,
        scheduled_at: None,
        expires_at: None,
        body: format!("Subject: number {number}\r\n\r\n{}\r\n", "x".repeat(700)).into_bytes().into(),
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
    let options =
        Options { min_free: 1000, reserve: 0, segment_size: 3000, keep_bodies: Duration::ZERO, ..Options::new(folder, NOW) };
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

    /// Lets go what may go, whatever it takes to write open mail again.
    fn tidy(&self) {
        let shared = &self.queue().shared;
        let mut keeper = shared.keeper(head::Policy { keep_bodies: Duration::ZERO, slack: 0, share: u64::MAX }).unwrap();
        shared.tidy(&mut keeper);
    }

    fn accept(&self, message: NewMessage) -> Result<Accepted, AcceptError> {
        self.queue().accept(vec![message]).wait().map(|accepted| accepted[0].clone())
    }

    fn states(&self, number: u8) -> Vec<RecipientState> {
        let view = self.queue().message(id(number)).unwrap().unwrap();
        view.recipients.iter().map(|recipient| recipient.state).collect()
    }
}

/// Takes up to so many messages of the normal lane.
pub(super) fn leases(queue: &dyn Queue, now: Timestamp, limit: usize) -> Vec<Lease> {
    let next = || queue.lease(CHANNEL, Lane::Normal, now, u32::MAX, &Skip::default());
    std::iter::from_fn(next).take(limit).collect()
}

pub(super) fn settlement(lease: &Lease, to: Move) -> Settlement {
    let row = |recipient: &LeasedRecipient| Settled {
        index: recipient.index,
        to,
        due: Timestamp(NOW.0 + 60_000),
        counts: to != Move::GiveBack,
        said: Diagnostic::own(None, format!("{to:?}")),
        cause: None,
        suppress: None,
    };
    Settlement {
        message: lease.message,
        channel: lease.channel,
        at: NOW,
        relay: "mx".into(),
        spending: Spending::Uncounted,
        recipients: lease.recipients.iter().map(row).collect(),
    }
}

pub(super) fn intent(lease: &Lease) -> Intent {
    let recipients = lease.recipients.iter().map(|recipient| recipient.index).collect();
    Intent { message: lease.message, channel: lease.channel, recipients, at: NOW, spend: None }
}

#[test]
fn the_times_of_a_message_outlive_a_restart_and_an_index_of_the_format_before() {
    let hour = |count: i64| Timestamp(NOW.0 + count * 3_600_000);
    let mut bench = Bench::new();
    let timed = NewMessage { scheduled_at: Some(hour(2)), expires_at: Some(hour(3)), ..message(1, &["luis@example.org"]) };
    bench.accept(timed).unwrap();
    bench.accept(message(2, &["eva@example.org"])).unwrap();
    for _ in 0..2 {
        bench.restart();
        let view = bench.queue().message(id(1)).unwrap().unwrap();
        assert_eq!((view.scheduled_at, view.expires_at), (Some(hour(2)), Some(hour(3))));
        assert_eq!(bench.queue().waiting_since(CHANNEL, hour(1), 9), [id(2)], "its time has not come");
        assert_eq!(bench.queue().next_expiry(), Some(hour(3)));
        assert!(bench.queue().lease_expired(Timestamp(hour(3).0 - 1)).is_none());
    }
    // By a wall clock that is an hour ahead of the steady one its time comes an hour sooner.
    bench.queue().follow_wall(3_600_000);
    assert_eq!(bench.queue().waiting_since(CHANNEL, Timestamp(hour(1).0 + 1), 9), [id(1), id(2)]);
    let over = bench.queue().lease_expired(hour(3)).unwrap();
    assert_eq!((over.message, over.expires_at, over.recipients.len()), (id(1), Some(hour(3)), 1));
    assert_eq!(bench.queue().next_expiry(), None);
    bench.queue().give_back(id(1), &[0]);
    bench
        .queue()
        .record(AttemptRecord {
            settle: Some(settlement(&bench.queue().lease_expired(hour(3)).unwrap(), Move::Expire)),
            ..AttemptRecord::default()
        })
        .wait()
        .unwrap();
    assert_eq!((bench.states(1), bench.queue().next_expiry()), (vec![RecipientState::Expired], None));

    bench.queue = None;
    let index = rusqlite::Connection::open(bench.folder.path().join("index.sqlite")).unwrap();
    let before = "ALTER TABLE messages DROP COLUMN since; ALTER TABLE messages DROP COLUMN scheduled_at;
                  ALTER TABLE messages DROP COLUMN expires_at; DROP TABLE counts; PRAGMA user_version = 3;
                  UPDATE recipients SET address = substr(address, instr(address, '@') + 1) || '@' ||
                  substr(address, 1, instr(address, '@') - 1);";
    index.execute_batch(before).unwrap();
    drop(index);
    bench.restart();
    let kept = bench.folder.path().join("index.sqlite.format-3");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&kept).unwrap().permissions());
    assert_eq!(mode & 0o077, 0, "it is for nobody else");
    let kept = rusqlite::Connection::open(kept).unwrap();
    let (format, rows): (i64, i64) = kept
        .query_row("SELECT (SELECT user_version FROM pragma_user_version), count(*) FROM messages", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    assert_eq!((format, rows), (3, 2), "it is kept as it was");
    assert_eq!(bench.queue().waiting_since(CHANNEL, hour(1), 9), [id(2)]);
    let second = bench.queue().message(id(2)).unwrap().unwrap();
    assert_eq!((second.expires_at, second.recipients[0].address.as_str()), (None, "eva@example.org"));
    assert_eq!(bench.queue().counts(&Counted::default()).unwrap(), [1, 0, 0, 0, 0, 1, 0, 0, 0]);
    let filter = Filter { recipient: Some("@example.org".into()), ..Filter::default() };
    let listing = bench.queue().list(&filter, &Page { after: None, before: None, limit: 9 }).unwrap();
    assert_eq!(listing.messages.len(), 2);
    bench.accept(NewMessage { expires_at: Some(hour(5)), ..message(3, &["luis@example.org"]) }).unwrap();
    bench.restart();
    assert_eq!(bench.queue().next_expiry(), Some(hour(5)));
}

#[test]
fn a_message_is_found_from_acceptance_to_its_end_and_after_a_restart() {
    let mut bench = Bench::new();
    bench.accept(message(1, &["luis@example.org", "eva@example.org"])).unwrap();
    assert_eq!(bench.states(1), [RecipientState::Queued; 2]);
    bench.restart();
    let lease = leases(bench.queue(), NOW, 9).pop().unwrap();
    assert_eq!(lease.recipients.len(), 2);
    assert_eq!(&*lease.author, "ana@example.com");
    assert_eq!(bench.queue().body(lease.message).unwrap(), message(1, &["x@y.example"]).body);
    bench.queue().record(AttemptRecord { intend: Some(intent(&lease)), ..AttemptRecord::default() }).wait().unwrap();
    bench
        .queue()
        .record(AttemptRecord { settle: Some(settlement(&lease, Move::Send)), ..AttemptRecord::default() })
        .wait()
        .unwrap();
    assert_eq!(bench.states(1), [RecipientState::Sent; 2]);
    bench.restart();
    assert_eq!(bench.states(1), [RecipientState::Sent; 2]);
    let totals = bench.queue().totals();
    assert_eq!((totals.accepted, totals.by_state.iter().sum::<u64>(), totals.open_messages), (2, 2, 0));
    let kinds: Vec<&str> = bench.queue().events_of(id(1), 0, 1000).unwrap().iter().map(|event| event.kind.name()).collect();
    assert_eq!(kinds, ["message.queued", "message.sent", "message.sent"]);
    assert!(bench.queue().raw(id(1)).unwrap().is_some());
}

#[test]
fn an_open_intent_is_uncertain_after_a_restart_and_held_the_second_time() {
    let mut bench = Bench::new();
    bench.accept(message(1, &["luis@example.org"])).unwrap();
    for expected in [RecipientState::Queued, RecipientState::Held] {
        let later = Timestamp(NOW.0 + 120_000);
        let lease = leases(bench.queue(), later, 1).pop().unwrap();
        bench.queue().record(AttemptRecord { intend: Some(intent(&lease)), ..AttemptRecord::default() }).wait().unwrap();
        bench.restart();
        assert_eq!(bench.states(1), [expected]);
    }
    assert!(leases(bench.queue(), Timestamp(i64::MAX), 1).is_empty());
}

#[test]
fn a_lease_without_intent_is_queued_again_after_a_restart() {
    let mut bench = Bench::new();
    bench.accept(message(1, &["luis@example.org"])).unwrap();
    assert_eq!(leases(bench.queue(), NOW, 1).len(), 1);
    assert!(leases(bench.queue(), NOW, 1).is_empty());
    bench.restart();
    assert_eq!(leases(bench.queue(), NOW, 1).len(), 1);
}

#[test]
fn mail_that_another_found_due_is_due_for_whoever_looks_with_an_older_moment() {
    let bench = Bench::new();
    let due = Timestamp(NOW.0 + 1);
    bench.accept(NewMessage { due, ..message(1, &["luis@example.org", "eva@example.org"]) }).unwrap();
    let (queue, skip) = (bench.queue(), Skip::default());
    assert!(queue.heads(CHANNEL, due, &skip)[Lane::Normal as usize].is_some());
    let recipients = queue.heads(CHANNEL, NOW, &skip)[Lane::Normal as usize].map(|head| head.recipients);
    let lease = queue.lease(CHANNEL, Lane::Normal, NOW, 9, &skip).map(|lease| lease.recipients.len());
    assert_eq!((recipients, lease), (Some(2), Some(2)));
}

#[test]
fn mail_leaves_in_the_order_it_is_due() {
    let bench = Bench::new();
    for number in 1..=3 {
        bench.accept(NewMessage { due: Timestamp(NOW.0 - i64::from(number)), ..message(number, &["luis@example.org"]) }).unwrap();
    }
    let order: Vec<MessageId> = leases(bench.queue(), NOW, 9).iter().map(|lease| lease.message).collect();
    assert_eq!(order, [id(3), id(2), id(1)]);
}

#[test]
fn a_deferred_recipient_waits_for_its_time() {
    let bench = Bench::new();
    bench.accept(message(1, &["luis@example.org"])).unwrap();
    let lease = leases(bench.queue(), NOW, 1).pop().unwrap();
    bench
        .queue()
        .record(AttemptRecord { settle: Some(settlement(&lease, Move::Defer)), ..AttemptRecord::default() })
        .wait()
        .unwrap();
    assert!(leases(bench.queue(), NOW, 1).is_empty());
    assert_eq!(bench.queue().next_due(CHANNEL), Some(Timestamp(NOW.0 + 60_000)));
    let again = leases(bench.queue(), Timestamp(NOW.0 + 60_000), 1).pop().unwrap();
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
    let lease = leases(bench.queue(), NOW, 1).pop().unwrap();
    assert_eq!(lease.message, id(1));
    assert_eq!(bench.queue().steer(steer(1, Move::Cancel)).wait(), Ok(vec![]));
    assert_eq!(bench.queue().steer(steer(2, Move::Hold)).wait(), Ok(vec![0]));
    assert_eq!(bench.queue().steer(steer(2, Move::Release)).wait(), Ok(vec![0]));
    assert_eq!(bench.queue().steer(steer(2, Move::Cancel)).wait(), Ok(vec![0]));
    assert!(leases(bench.queue(), NOW, 1).is_empty());
    assert_eq!(bench.states(2), [RecipientState::Cancelled]);
    assert_eq!(bench.queue().steer(steer(2, Move::Cancel)).wait(), Ok(vec![]));
    assert_eq!(bench.queue().steer(steer(9, Move::Cancel)).wait(), Err(StoreError::Unknown(id(9))));
}

#[test]
fn released_mail_may_leave_at_once_whatever_the_wall_clock_says() {
    let bench = Bench::new();
    bench.accept(message(1, &["luis@example.org"])).unwrap();
    for ahead in [40 * 86_400_000, -86_400_000] {
        assert_eq!(bench.queue().steer(steer(1, Move::Hold)).wait(), Ok(vec![0]));
        let released = Steer { at: Timestamp(NOW.0 + ahead), ..steer(1, Move::Release) };
        assert_eq!(bench.queue().steer(released).wait(), Ok(vec![0]));
        let lease = leases(bench.queue(), NOW, 1).pop().unwrap();
        bench.queue().give_back(lease.message, &[0]);
    }
}

#[test]
fn what_is_not_leased_cannot_be_settled() {
    let bench = Bench::new();
    bench.accept(message(1, &["luis@example.org"])).unwrap();
    let lease = leases(bench.queue(), NOW, 1).pop().unwrap();
    bench.queue().give_back(lease.message, &[0]);
    let settled =
        bench.queue().record(AttemptRecord { settle: Some(settlement(&lease, Move::Send)), ..AttemptRecord::default() }).wait();
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
    assert_eq!(leases(bench.queue(), NOW, 9).len(), 2);
    bench.restart();
    assert!(bench.queue().findings().damaged.is_empty());
    assert_eq!(bench.queue().totals().accepted, 2);
}

#[test]
fn on_a_full_disk_outcomes_are_kept_in_the_reserve_and_submissions_wait_until_it_is_there_again() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), FakeDisk::default());
    let options = Options { min_free: 0, reserve: 4000, ..Options::new(folder.path(), NOW) };
    let queue = Embedded::on_disk(Arc::new(disk.clone()), folder.path().join("index.sqlite"), options).unwrap();
    let accept = |number| queue.accept(vec![message(number, &["luis@example.org"])]).wait();
    for number in 1..=3 {
        accept(number).unwrap();
    }
    let all = leases(&queue, NOW, 9);
    disk.fail(Fault::NoSpace);
    for lease in &all[..2] {
        queue.record(AttemptRecord { settle: Some(settlement(lease, Move::Send)), ..AttemptRecord::default() }).wait().unwrap();
        assert!(matches!(accept(9), Err(AcceptError::NoSpace(why)) if why.contains("reserve")));
    }
    disk.fail(Fault::None);
    accept(10).unwrap();
    disk.fail(Fault::NoSpace);
    let settle = Some(settlement(&all[2], Move::Send));
    queue.record(AttemptRecord { settle, ..AttemptRecord::default() }).wait().expect("the reserve is there again");
    assert_eq!(queue.totals().by_state[usize::from(RecipientState::Sent.code())], 3);
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

#[test]
fn a_page_ends_early_where_its_messages_have_very_many_recipients() {
    let bench = Bench::new();
    let recipients: Vec<&str> = vec!["luis@example.org"; 4_000];
    for number in 1..=5 {
        bench.accept(message(number, &recipients)).unwrap();
    }
    let page = |after, before| {
        let listing = bench.queue().list(&Filter::default(), &Page { after, before, limit: 5 }).unwrap();
        (listing.messages.iter().map(|view| view.id).collect::<Vec<_>>(), listing.has_more)
    };
    assert_eq!(page(None, None), (vec![id(5), id(4)], true));
    assert_eq!(page(Some(id(4)), None), (vec![id(3), id(2)], true));
    assert_eq!(page(Some(id(2)), None), (vec![id(1)], false));
    assert_eq!(page(None, Some(id(1))), (vec![id(3), id(2)], true));
}

#[test]
fn a_search_that_no_index_leads_stops_in_time_and_goes_on_from_there() {
    let bench = Bench::new();
    let many = |number: u32| {
        let mut random = [0; 10];
        random[6..].copy_from_slice(&number.to_be_bytes());
        let subject = if number.is_multiple_of(699) { "Gr\u{dc}\u{df}e" } else { "nothing" };
        NewMessage { id: MessageId::new(NOW, random), subject: subject.into(), ..message(1, &["luis@example.org"]) }
    };
    bench.queue().accept((0..700).map(many).collect()).wait().unwrap();
    let filter = Filter { subject: Some("gr\u{fc}\u{df}".into()), ..Filter::default() };
    for is_backwards in [false, true] {
        let (mut cursor, mut found, mut stops) = (is_backwards.then_some(MessageId([0; 16])), Vec::new(), 0);
        loop {
            let (after, before) = if is_backwards { (None, cursor) } else { (cursor, None) };
            let listing = bench.queue().list(&filter, &Page { after, before, limit: 9 }).unwrap();
            found.extend(listing.messages.iter().map(|view| view.id));
            assert_eq!(listing.has_more, listing.stopped.is_some());
            let Some(stopped) = listing.stopped else { break };
            (cursor, stops) = (Some(stopped), stops + 1);
        }
        let mut expected = [many(699).id, many(0).id];
        if is_backwards {
            expected.reverse();
        }
        assert_eq!((found, stops), (expected.to_vec(), 2));
    }
    // An index leads there at once.
    let rare = Filter { recipient: Some("@example.net".into()), ..filter };
    let listing = bench.queue().list(&rare, &Page { after: None, before: None, limit: 9 }).unwrap();
    assert!(listing.messages.is_empty() && listing.stopped.is_none());
}

/// Messages of which none is like another but for what is set apart.
fn many(numbers: std::ops::Range<u32>, make: impl Fn(NewMessage) -> NewMessage) -> Vec<NewMessage> {
    let one = |number: u32| {
        let mut random = [0; 10];
        random[6..].copy_from_slice(&number.to_be_bytes());
        make(NewMessage { id: MessageId::new(NOW, random), ..message(1, &["luis@example.org"]) })
    };
    numbers.map(one).collect()
}

fn cancel(queue: &dyn Queue, message: MessageId) {
    let (recipients, to) = (vec![0], Move::Cancel);
    queue.steer(Steer { message, recipients, to, channel: None, by: "ana".into(), at: NOW }).wait().unwrap();
}

/// How many messages a list finds in one page, and whether it had to stop.
fn found(queue: &dyn Queue, filter: &Filter) -> (usize, bool) {
    let listing = queue.list(filter, &Page { after: None, before: None, limit: 20 }).unwrap();
    (listing.messages.len(), listing.stopped.is_some())
}

#[test]
fn what_waits_on_a_channel_or_for_a_person_is_found_beside_what_ended_there_and_waits_elsewhere() {
    let bench = Bench::new();
    let queue = bench.queue();
    let (sales, ana) = (ChannelId(2), PersonId(7));
    let accept = |messages: Vec<NewMessage>| queue.accept(messages).wait().unwrap();
    accept(many(0..5, |one| NewMessage { channel: sales, person: ana, lane: Lane::Now, ..one }));
    let ended = accept(many(10..410, |one| NewMessage { channel: sales, person: ana, lane: Lane::Now, ..one }));
    ended.iter().for_each(|one| cancel(queue, one.id));
    accept(many(500..900, |one| one));
    let queued = Filter { states: vec![RecipientState::Queued], ..Filter::default() };
    assert_eq!(found(queue, &Filter { channel: Some(sales), ..queued.clone() }), (5, false));
    assert_eq!(found(queue, &Filter { person: Some(ana), ..queued.clone() }), (5, false));
    // Beside others' on the same channel, too, of which there are more than are looked at for a page.
    accept(many(1000..1400, |one| NewMessage { channel: sales, ..one }));
    assert_eq!(found(queue, &Filter { person: Some(ana), ..queued.clone() }), (5, false));
    assert_eq!(found(queue, &Filter { channel: Some(sales), lane: Some(Lane::Now), ..queued }), (5, false));
}

#[test]
fn more_channels_than_are_merged_hide_nothing_that_waits() {
    let bench = Bench::new();
    let queue = bench.queue();
    queue.accept(many(0..24, |one| NewMessage { channel: ChannelId(2 + u32::from(one.id.0[15]) % 12), ..one })).wait().unwrap();
    let ended = queue.accept(many(100..500, |one| one)).wait().unwrap();
    ended.iter().for_each(|one| cancel(queue, one.id));
    let queued = Filter { states: vec![RecipientState::Queued], ..Filter::default() };
    assert_eq!(found(queue, &queued), (20, false));
    assert_eq!(found(queue, &Filter { channel: Some(ChannelId(3)), ..queued }), (2, false));
}

#[test]
fn a_person_with_more_authors_than_are_merged_finds_their_own_mail() {
    let bench = Bench::new();
    let queue = bench.queue();
    let (ana, team) = (PersonId(7), Some(mail::TeamId(3)));
    let by = |one: NewMessage| NewMessage { author: format!("order-{}@example.com", one.id.0[15]), ..one };
    queue.accept(many(0..60, |one| by(NewMessage { person: ana, team, ..one }))).wait().unwrap();
    queue.accept(many(100..500, |one| one)).wait().unwrap();
    let subject = Some("number".to_owned());
    assert_eq!(found(queue, &Filter { person: Some(ana), subject: subject.clone(), ..Filter::default() }), (20, false));
    assert_eq!(found(queue, &Filter { team, subject: subject.clone(), ..Filter::default() }), (20, false));
    let author = Some("order-5@example.com".to_owned());
    assert_eq!(found(queue, &Filter { author, subject, ..Filter::default() }), (1, false));
}

#[test]
fn a_way_too_long_to_be_counted_is_not_taken_for_a_short_one() {
    let bench = Bench::new();
    let queue = bench.queue();
    let cancelled = queue.accept(many(0..61, |one| NewMessage { author: format!("{}@example.com", one.id.0[15]), ..one }));
    cancelled.wait().unwrap().iter().for_each(|one| cancel(queue, one.id));
    queue.accept(many(100..500, |one| NewMessage { author: "7@example.com".into(), ..one })).wait().unwrap();
    let author = Some("7@example.com".to_owned());
    let filter = Filter { author, states: vec![RecipientState::Cancelled], ..Filter::default() };
    assert_eq!(found(queue, &filter), (1, false));
}

#[test]
fn an_index_without_room_waits_and_goes_on_by_itself() {
    let bench = Bench::new();
    bench.accept(message(1, &["luis@example.org"])).unwrap();
    bench.states(1);
    bench.queue().shared.index_fault.store(true, Ordering::Relaxed);
    bench.accept(message(2, &["luis@example.org"])).unwrap();
    // Reads say so at once instead of waiting, and so do submissions.
    let refused = (0..1_000_000).map(|_| bench.queue().message(id(2))).find(Result::is_err);
    assert!(matches!(refused, Some(Err(StoreError::Io(_)))));
    assert!(matches!(bench.accept(message(3, &["luis@example.org"])), Err(AcceptError::NoSpace(_))));
    assert!(matches!(bench.queue().accepting(), Err(AcceptError::NoSpace(_))));
    // What is there goes on leaving.
    let lease = leases(bench.queue(), NOW, 1).pop().unwrap();
    bench
        .queue()
        .record(AttemptRecord { settle: Some(settlement(&lease, Move::Send)), ..AttemptRecord::default() })
        .wait()
        .unwrap();
    bench.queue().shared.index_fault.store(false, Ordering::Relaxed);
    bench.queue().shared.wait_until_indexed();
    assert_eq!(bench.states(1), [RecipientState::Sent]);
    bench.accept(message(4, &["luis@example.org"])).unwrap();
}

#[test]
fn what_a_crash_left_open_is_settled_when_a_full_disk_has_room_again() {
    let mut bench = Bench::new();
    bench.accept(message(1, &["luis@example.org"])).unwrap();
    let lease = leases(bench.queue(), NOW, 1).pop().unwrap();
    bench.queue().record(AttemptRecord { intend: Some(intent(&lease)), ..AttemptRecord::default() }).wait().unwrap();
    bench.queue = None;
    bench.disk.fail(Fault::NoSpace);
    bench.queue = Some(open(&bench.disk, bench.folder.path()));
    assert_eq!(bench.states(1), [RecipientState::Leased]);
    bench.disk.fail(Fault::None);
    bench.queue().set_channel_state(CHANNEL, ChannelState::Active, NOW).wait().unwrap();
    assert_eq!(bench.states(1), [RecipientState::Queued]);
    assert_eq!(bench.queue().message(id(1)).unwrap().unwrap().recipients[0].doubts, 1);
}

#[test]
fn mail_whose_log_is_partly_missing_is_held_for_a_person() {
    let bench = Bench::new();
    for number in 1..=9 {
        bench.accept(message(number, &["luis@example.org"])).unwrap();
    }
    assert!(bench.disk.list().unwrap().len() > 2);
    let fresh = tempfile::tempdir().unwrap();
    bench.disk.remove(&log::name_of(2)).unwrap();
    let queue = open(&bench.disk, fresh.path());
    assert_eq!(queue.findings().missing_segments, 1);
    assert!(leases(&queue, NOW, 9).is_empty());
    let view = queue.message(id(1)).unwrap().unwrap();
    assert_eq!(view.recipients[0].state, RecipientState::Held);
    assert_eq!(queue.steer(steer(1, Move::Release)).wait(), Ok(vec![0]));
    assert_eq!(leases(&queue, NOW, 9).len(), 1);
}

#[test]
fn a_segment_goes_when_its_mail_is_done_and_its_keys_stay() {
    let mut bench = Bench::new();
    for number in 1..=9 {
        let idempotency = Some(Idempotency { key: format!("k{number}"), fingerprint: [1; 32], parts: false });
        bench.accept(NewMessage { idempotency, ..message(number, &["luis@example.org"]) }).unwrap();
    }
    let before = bench.disk.list().unwrap();
    for lease in leases(bench.queue(), NOW, 6) {
        bench
            .queue()
            .record(AttemptRecord { settle: Some(settlement(&lease, Move::Send)), ..AttemptRecord::default() })
            .wait()
            .unwrap();
    }
    bench.tidy();
    bench.restart();
    let after = bench.disk.list().unwrap();
    assert!(before.len() > 2 && !after.contains(&before[0]), "{before:?} {after:?}");
    assert_eq!(bench.states(1), [RecipientState::Sent]);
    assert_eq!(bench.queue().raw(id(1)), Ok(None));
    assert_eq!(leases(bench.queue(), NOW, 9).len(), 3);
    let idempotency = Some(Idempotency { key: "k1".into(), fingerprint: [1; 32], parts: false });
    let again = bench.accept(NewMessage { idempotency, ..message(50, &["luis@example.org"]) }).unwrap();
    assert_eq!(again, Accepted { id: id(1), replayed: true });
}

#[test]
fn a_key_used_while_the_disk_was_full_is_free_and_one_used_before_is_not() {
    let bench = Bench::new();
    bench.accept(keyed(1, &["luis@example.org"], true, 7)).unwrap();
    bench.disk.fail(Fault::NoSpace);
    bench.accept(keyed(2, &["eva@example.org"], true, 7)).unwrap_err();
    bench.disk.fail(Fault::None);
    assert_eq!(bench.accept(keyed(3, &["eva@example.org"], true, 7)).unwrap(), Accepted { id: id(3), replayed: false });
    assert_eq!(bench.accept(keyed(4, &["luis@example.org"], true, 7)).unwrap(), Accepted { id: id(1), replayed: true });
}

#[test]
fn a_check_finds_nothing_in_a_whole_folder_and_names_what_index_and_log_disagree_about() {
    let folder = tempfile::tempdir().unwrap();
    let queue = Embedded::open(Options { min_free: 0, ..Options::new(folder.path(), NOW) }).unwrap();
    for number in 1..=3 {
        queue.accept(vec![message(number, &["luis@example.org"])]).wait().unwrap();
    }
    let lease = leases(&queue, NOW, 1).pop().unwrap();
    queue.record(AttemptRecord { settle: Some(settlement(&lease, Move::Send)), ..AttemptRecord::default() }).wait().unwrap();
    drop(queue);
    let report = check(folder.path()).unwrap();
    assert!(report.is_clean(), "{:?}", report.illegal);
    assert_eq!((report.messages, report.open_recipients, report.unindexed), (3, 2, 0));
    let index = Connection::open(folder.path().join("index.sqlite")).unwrap();
    index.execute("UPDATE messages SET open = 0 WHERE id = ?1", [id(2).0]).unwrap();
    index.execute("UPDATE recipients SET state = 2 WHERE message = ?1", [id(3).0]).unwrap();
    drop(index);
    let mut found = check(folder.path()).unwrap().illegal;
    found.sort();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("in the log and not in the index") && found[1].contains("other states"), "{found:?}");
    assert!(check(&folder.path().join("nowhere")).is_err());
}

#[test]
fn a_damaged_index_is_found_and_made_anew_once_it_is_moved_away() {
    let folder = tempfile::tempdir().unwrap();
    let options = || Options { min_free: 0, ..Options::new(folder.path(), NOW) };
    let queue = Embedded::open(options()).unwrap();
    for number in 1..=200 {
        queue.accept(vec![message(number, &["luis@example.org"])]).wait().unwrap();
    }
    drop(queue);
    let index = folder.path().join("index.sqlite");
    let checkpointed = Connection::open(&index).unwrap();
    checkpointed.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(checkpointed);
    let whole = std::fs::read(&index).unwrap();
    for from in [0, whole.len() / 4, whole.len() / 2] {
        let mut damaged = whole.clone();
        damaged[from..].iter_mut().take(20_000).for_each(|byte| *byte = 0x5a);
        std::fs::write(&index, damaged).unwrap();
        let found = check(folder.path()).unwrap().illegal;
        assert!(found.iter().any(|one| one.starts_with("index: ")), "{from}: {found:?}");
    }
    std::fs::write(&index, vec![0x5a; 50_000]).unwrap();
    let refused = Embedded::open(options()).err().unwrap().to_string();
    assert!(refused.contains("move index.sqlite") && refused.contains("from the log"), "{refused}");
    std::fs::remove_file(&index).unwrap();
    let queue = Embedded::open(options()).unwrap();
    assert_eq!(queue.totals().by_state[0], 200);
    drop(queue);
    assert!(check(folder.path()).unwrap().is_clean());
}

#[test]
fn people_of_a_lane_share_it_fairly_whoever_came_first() {
    let bench = Bench::new();
    for number in 1..=10 {
        bench.accept(NewMessage { person: PersonId(1), ..message(number, &["luis@example.org"]) }).unwrap();
    }
    for number in 11..=13 {
        bench.accept(NewMessage { person: PersonId(2), ..message(number, &["eva@example.org"]) }).unwrap();
    }
    let people: Vec<u32> = leases(bench.queue(), NOW, 8).iter().map(|lease| lease.person.0).collect();
    assert_eq!(people, [1, 2, 1, 2, 1, 2, 1, 1]);
    // Who was away has saved up nothing.
    bench.accept(NewMessage { person: PersonId(2), ..message(14, &["eva@example.org"]) }).unwrap();
    let people: Vec<u32> = leases(bench.queue(), NOW, 3).iter().map(|lease| lease.person.0).collect();
    assert_eq!(people, [2, 1, 1]);
}

#[test]
fn a_lease_that_is_given_back_was_not_served() {
    let bench = Bench::new();
    for number in 1..=10 {
        bench.accept(NewMessage { person: PersonId(1), ..message(number, &["luis@example.org"]) }).unwrap();
    }
    let three = ["eva@example.org", "leo@example.org", "mia@example.org"];
    bench.accept(NewMessage { person: PersonId(2), ..message(11, &three) }).unwrap();
    let first = leases(bench.queue(), NOW, 2);
    assert_eq!(first.iter().map(|lease| lease.person.0).collect::<Vec<_>>(), [1, 2]);
    bench.queue().give_back(first[1].message, &[0, 1, 2]);
    let people: Vec<u32> = leases(bench.queue(), NOW, 5).iter().map(|lease| lease.person.0).collect();
    assert_eq!(people, [2, 1, 1, 1, 1]);
}

#[test]
fn a_suppressed_recipient_is_final_at_once_and_the_others_go() {
    let mut bench = Bench::new();
    bench.accept(NewMessage { suppressed: vec![1], ..message(1, &["luis@example.org", "eva@example.org"]) }).unwrap();
    bench.accept(NewMessage { suppressed: vec![0], ..message(2, &["eva@example.org"]) }).unwrap();
    for _ in 0..2 {
        let states =
            |number| bench.queue().message(id(number)).unwrap().unwrap().recipients.iter().map(|one| one.state).collect::<Vec<_>>();
        assert_eq!(states(1), [RecipientState::Queued, RecipientState::Suppressed]);
        assert_eq!(states(2), [RecipientState::Suppressed]);
        assert_eq!(bench.queue().totals().open_messages, 1);
        bench.restart();
    }
    let leased = leases(bench.queue(), NOW, 9);
    assert_eq!((leased.len(), leased[0].recipients.len()), (1, 1));
}

#[test]
fn what_was_open_at_a_crash_is_spent_from_a_time_out_later() {
    let mut bench = Bench::new();
    bench.accept(message(1, &["luis@example.org"])).unwrap();
    let lease = leases(bench.queue(), NOW, 1).pop().unwrap();
    let spend = Spend { account: "ana".into(), from: "".into(), units: mail::pace::Units::transaction(1, 100) };
    let intent = Intent { spend: Some(spend), ..intent(&lease) };
    bench.queue().record(AttemptRecord { intend: Some(intent), ..AttemptRecord::default() }).wait().unwrap();
    assert!(bench.queue().spent().unwrap().is_empty(), "it is open");
    bench.restart();
    let spent = bench.queue().spent().unwrap();
    assert_eq!(spent.len(), 1);
    assert!(spent[0].age_from.since(NOW) >= Duration::from_secs(600));
}

#[test]
fn what_is_brought_forward_is_due_then_until_a_restart() {
    let mut bench = Bench::new();
    bench.accept(message(1, &["luis@example.org", "eva@example.org"])).unwrap();
    let lease = leases(bench.queue(), NOW, 9).pop().unwrap();
    let mut later = settlement(&lease, Move::GiveBack);
    let hour = Timestamp(NOW.0 + 3_600_000);
    later.recipients.iter_mut().for_each(|settled| settled.due = hour);
    bench.queue().record(AttemptRecord { settle: Some(later), ..AttemptRecord::default() }).wait().unwrap();
    let put_off = |number, recipient, until| PutOff { message: id(number), recipient, until };
    let moved_since = put_off(1, 0, Timestamp(hour.0 - 1));
    bench.queue().bring_forward(&[put_off(1, 1, hour), put_off(1, 7, hour), put_off(2, 0, hour), moved_since], NOW);
    bench.queue().bring_forward(&[put_off(1, 1, NOW)], hour);
    let lease = leases(bench.queue(), NOW, 9).pop().unwrap();
    assert_eq!(lease.recipients.iter().map(|recipient| recipient.index).collect::<Vec<_>>(), [1]);
    bench.restart();
    assert_eq!(bench.queue().next_due(CHANNEL), Some(hour));
}
