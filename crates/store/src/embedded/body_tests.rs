//! Files of large bodies, from the first byte to their removal.
#![allow(clippy::unwrap_used)]
use super::tests::{CHANNEL, NOW, id, intent, leases, message, settlement};
use super::*;
use crate::disk::fake::{FakeDisk, Fault};
use mail::steady::Reading;

/// How long bodies are kept here.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

struct Bench {
    folder: tempfile::TempDir,
    disk: FakeDisk,
    queue: Option<Embedded<FakeDisk>>,
}

impl Bench {
    fn new() -> Self {
        let mut bench = Self { folder: tempfile::tempdir().unwrap(), disk: FakeDisk::default(), queue: None };
        bench.restart();
        bench
    }

    fn restart(&mut self) {
        self.queue = None;
        let options = Options { min_free: 1000, reserve: 0, segment_size: 3000, ..Options::new(self.folder.path(), NOW) };
        let index = self.folder.path().join("index.sqlite");
        self.queue = Some(Embedded::on_disk(Arc::new(self.disk.clone()), index, options).unwrap());
    }

    fn queue(&self) -> &Embedded<FakeDisk> {
        self.queue.as_ref().unwrap()
    }

    fn files(&self) -> Vec<String> {
        self.disk.list().unwrap().into_iter().filter(|name| name.ends_with(".body")).collect()
    }

    fn spooled(&self) -> Result<Body, AcceptError> {
        let mut spool = self.queue().spool()?;
        (0..10).try_for_each(|_| spool.write(&[b'x'; 50_000]))?;
        Ok(Body::Spooled { head: Bytes::from_static(b"Subject: large\r\n\r\n"), rest: spool.finish()? })
    }

    /// A large message, settled so.
    fn settled(&self, number: u8, to: Move) {
        let body = self.spooled().unwrap();
        self.queue().accept(vec![NewMessage { body, ..message(number, &["luis@example.org"]) }]).wait().unwrap();
        let lease = leases(self.queue(), NOW, 1).remove(0);
        self.record(AttemptRecord { intend: Some(intent(&lease)), ..AttemptRecord::default() });
        self.record(AttemptRecord { settle: Some(settlement(&lease, to)), ..AttemptRecord::default() });
    }

    fn record(&self, record: AttemptRecord) {
        self.queue().record(record).wait().unwrap();
    }

    fn tidy(&self) {
        let shared = &self.queue().shared;
        let mut keeper = shared.keeper(shared.policy).unwrap();
        shared.tidy(&mut keeper);
    }

    /// What the wall clock said last.
    fn beat(&self, wall: Timestamp) {
        let reading = Reading { boot: [0; 16], since_boot: Duration::ZERO, wall, proved: true };
        self.queue().beat(Heartbeat { reading, steady: wall, owed: None, doubted: false }, None).wait().unwrap();
    }
}

#[test]
fn messages_that_are_held_up_on_their_way_in_take_half_of_the_room_and_no_more() {
    let bench = Bench::new();
    let mut held_up = bench.queue().spool().unwrap();
    held_up.write(&[b'x'; 50_000]).unwrap();
    bench.disk.set_free(1000 + 49_000);
    assert!(matches!(held_up.write(b"more"), Err(AcceptError::NoSpace(why)) if why.contains("half of the room")));
    let small = message(1, &["luis@example.org"]);
    bench.queue().accept(vec![small]).wait().expect("small mail goes on");
    drop(held_up);
    bench.queue().spool().unwrap().write(&[b'x'; 40_000]).unwrap();
}

#[test]
fn a_large_body_is_read_back_with_its_size_after_a_restart() {
    let mut bench = Bench::new();
    let body = bench.spooled().unwrap();
    let whole = body.read().unwrap();
    bench.queue().accept(vec![NewMessage { body, ..message(1, &["luis@example.org"]) }]).wait().unwrap();
    for _ in 0..2 {
        assert_eq!(bench.queue().message(id(1)).unwrap().unwrap().size_bytes, whole.len() as u64);
        assert_eq!(bench.queue().totals().open_bytes, whole.len() as u64);
        assert_eq!(bench.queue().heads(CHANNEL, NOW, &Skip::default())[1].unwrap().size_bytes, whole.len() as u64);
        assert_eq!(bench.queue().raw(id(1)).unwrap().unwrap().read().unwrap(), whole);
        bench.restart();
    }
    let lease = leases(bench.queue(), NOW, 1).remove(0);
    assert_eq!(lease.size_bytes, whole.len() as u64);
    assert_eq!(bench.queue().body(id(1)).unwrap().read().unwrap(), whole);
}

#[test]
fn a_file_goes_when_its_message_was_sent_and_rests_for_a_week_when_it_may_be_asked_for() {
    let mut bench = Bench::new();
    for (number, to, files) in [(1, Move::Send, 0), (2, Move::Fail, 1), (3, Move::Capture, 2)] {
        bench.settled(number, to);
        bench.tidy();
        assert_eq!(bench.files().len(), files, "{to:?}");
    }
    bench.restart();
    assert_eq!(bench.files().len(), 2);
    assert!(bench.queue().raw(id(3)).unwrap().unwrap().read().is_ok(), "what was captured is shown");
    assert!(bench.queue().message(id(1)).unwrap().unwrap().size_bytes > 500_000, "its size is history");
    bench.beat(NOW.plus(KEPT / 2));
    bench.tidy();
    assert_eq!(bench.files().len(), 2);
    bench.beat(NOW.plus(KEPT));
    bench.tidy();
    assert!(bench.files().is_empty());
    assert!(bench.queue().raw(id(3)).unwrap().is_none());
}

#[test]
fn whoever_goes_away_or_is_refused_leaves_no_file() {
    let bench = Bench::new();
    let mut spool = bench.queue().spool().unwrap();
    spool.write(b"half of it").unwrap();
    assert_eq!(bench.files().len(), 1);
    drop(spool);
    drop(bench.spooled().unwrap());
    bench.tidy();
    assert!(bench.files().is_empty());
    let key = |fingerprint| Some(Idempotency { key: "k".into(), fingerprint: [fingerprint; 32], parts: false });
    let keyed = |number, fingerprint| NewMessage {
        body: bench.spooled().unwrap(),
        idempotency: key(fingerprint),
        ..message(number, &["luis@example.org"])
    };
    bench.queue().accept(vec![keyed(1, 1)]).wait().unwrap();
    assert!(bench.queue().accept(vec![keyed(2, 1)]).wait().unwrap()[0].replayed);
    assert!(bench.queue().accept(vec![keyed(3, 2)]).wait().is_err());
    bench.tidy();
    assert_eq!(bench.files().len(), 1);
}

#[test]
fn a_disk_that_fills_up_while_a_body_comes_refuses_it_for_now_and_nothing_else() {
    let bench = Bench::new();
    bench.queue().accept(vec![message(1, &["luis@example.org"])]).wait().unwrap();
    let mut spool = bench.queue().spool().unwrap();
    spool.write(&[b'x'; 50_000]).unwrap();
    bench.disk.fail(Fault::NoSpace);
    assert!(matches!(spool.write(&[b'x'; 50_000]), Err(AcceptError::NoSpace(_))));
    drop(spool);
    bench.disk.fail(Fault::None);
    bench.tidy();
    assert!(bench.files().is_empty());
    let body = bench.spooled().unwrap();
    bench.disk.fail(Fault::NoSpace);
    let refused = bench.queue().accept(vec![NewMessage { body, ..message(2, &["luis@example.org"]) }]).wait();
    assert!(matches!(refused, Err(AcceptError::NoSpace(_))));
    bench.disk.fail(Fault::None);
    bench.tidy();
    assert!(bench.files().is_empty(), "its record was cut off again");
    std::thread::sleep(LOOK_AGAIN);
    bench.disk.set_free(999);
    assert!(matches!(bench.queue().spool().map(drop), Err(AcceptError::NoSpace(_))), "the floor holds for files, too");
    bench.disk.set_free(u64::MAX);
    assert_eq!(bench.queue().totals().open_messages, 1);
}

#[test]
fn a_body_that_cannot_be_synced_ends_all_writing() {
    let bench = Bench::new();
    let mut spool = bench.queue().spool().unwrap();
    spool.write(b"a body").unwrap();
    bench.disk.fail(Fault::Sync);
    assert!(matches!(spool.finish().map(drop), Err(AcceptError::Closed(_))));
    bench.disk.fail(Fault::None);
    let refused = bench.queue().accept(vec![message(1, &["luis@example.org"])]).wait();
    assert!(matches!(refused, Err(AcceptError::Closed(_))));
}

#[test]
fn a_queue_that_fails_with_a_batch_on_its_way_still_closes() {
    for _ in 0..60 {
        let bench = Bench::new();
        let answers: Vec<_> = (1..=8).map(|number| bench.queue().accept(vec![message(number, &["luis@example.org"])])).collect();
        // As the side of a connection does whose body could not be synced.
        bench.queue().shared.fail("a test says so");
        answers.into_iter().for_each(|answer| drop(answer.wait()));
        let (told, closed) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            bench.queue().close();
            let _ = told.send(());
        });
        closed.recv_timeout(Duration::from_secs(20)).expect("it closes");
    }
}

#[test]
fn what_is_to_be_forgotten_when_the_index_has_ended_keeps_nobody_waiting() {
    let bench = Bench::new();
    bench.queue().close();
    bench.queue().shared.forget_history();
    bench.queue().shared.wait_for_index().unwrap();
}

#[test]
fn a_closed_queue_holds_on_to_no_large_body() {
    let mut bench = Bench::new();
    let body = bench.spooled().unwrap();
    bench.queue().accept(vec![NewMessage { body, ..message(1, &["luis@example.org"]) }]).wait().unwrap();
    let shared = Arc::downgrade(&bench.queue().shared);
    bench.queue = None;
    assert!(shared.upgrade().is_none());
}

#[test]
fn a_file_that_is_damaged_or_missing_is_told_and_never_passes_for_the_message() {
    let mut bench = Bench::new();
    let body = bench.spooled().unwrap();
    bench.queue().accept(vec![NewMessage { body, ..message(1, &["luis@example.org"]) }]).wait().unwrap();
    let name = bench.files().remove(0);
    bench.disk.flip(&name, 123_456);
    bench.restart();
    leases(bench.queue(), NOW, 1);
    let pieces: Vec<_> = bench.queue().body(id(1)).unwrap().pieces().collect();
    assert!(matches!(pieces.last(), Some(Err(StoreError::Damaged(_)))));
    bench.disk.truncate(&name, 100).unwrap();
    assert!(matches!(bench.queue().body(id(1)), Err(StoreError::Damaged(_))));
    bench.disk.remove(&name).unwrap();
    assert!(matches!(bench.queue().body(id(1)), Err(StoreError::Damaged(_))));
}
