//! What is left of an address that was forgotten: in the index, in an index made anew, in the log and in the folder.
#![allow(clippy::unwrap_used)]
use super::tests::{NOW, id, intent, leases, message, settlement};
use super::*;
use mail::RecipientState;
use std::fs;

const LUIS: &str = "luis@example.org";
const PSEUDONYM: &str = "forgotten-1@forgotten.invalid";
/// Stands in each body and each subject about Luis.
const WORDS: &str = "deep-sea diving";

struct Site {
    home: tempfile::TempDir,
}

impl Site {
    fn open(&self) -> Embedded {
        let options = Options { min_free: 0, reserve: 0, segment_size: 20_000, ..Options::new(self.home.path(), NOW) };
        Embedded::open(options).unwrap()
    }

    /// Everything that lies in the folder.
    fn bytes(&self) -> Vec<u8> {
        let files = ["log", "bodies", "."].map(|name| self.home.path().join(name));
        let files = files.iter().flat_map(|folder| fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path());
        files.filter(|path| path.is_file()).flat_map(|path| fs::read(path).unwrap()).collect()
    }

    fn has(&self, words: &str) -> bool {
        memchr::memmem::find(&self.bytes(), words.as_bytes()).is_some()
    }
}

fn accept(queue: &Embedded, number: u8, to: &[&str], words: &str, is_large: bool) {
    let mut message = message(number, to);
    message.subject = format!("{words} {number}");
    message.body = Body::from(format!("Subject: {words} {number}\r\n\r\n{words}\r\n").into_bytes());
    if is_large {
        let mut spool = queue.spool().unwrap();
        spool.write(words.repeat(500).as_bytes()).unwrap();
        let head = Bytes::from(format!("Subject: {words} {number}\r\n\r\n"));
        message.body = Body::Spooled { head, rest: spool.finish().unwrap() };
    }
    queue.accept(vec![message]).wait().unwrap();
}

fn deliver(queue: &Embedded, to: Move) {
    while let Some(lease) = leases(queue, NOW, 1).pop() {
        queue.record(AttemptRecord { intend: Some(intent(&lease)), ..AttemptRecord::default() }).wait().unwrap();
        let mut settle = settlement(&lease, to);
        settle.recipients[0].said =
            mail::Diagnostic::own(None, format!("550 5.1.1 no such user {}", lease.envelope.recipients[0].path));
        if to == Move::Fail && lease.message == id(1) {
            settle.recipients[0].suppress = Some(LUIS.to_owned());
        }
        queue.record(AttemptRecord { settle: Some(settle), ..AttemptRecord::default() }).wait().unwrap();
    }
}

fn order() -> ForgetAddress {
    ForgetAddress {
        address: smtp::Mailbox::parse("Luis@Example.ORG").unwrap(),
        pseudonym: PSEUDONYM.to_owned(),
        with_suppressions: false,
        dry_run: false,
        by: "local administrator".to_owned(),
        at: NOW,
    }
}

/// Three that went to Luis, one of them large and one to somebody else, too; and one to Eva alone.
fn filled() -> (Site, Embedded) {
    let site = Site { home: tempfile::tempdir().unwrap() };
    let queue = site.open();
    accept(&queue, 1, &[LUIS], WORDS, false);
    accept(&queue, 2, &["\"luis\"@example.org"], WORDS, true);
    accept(&queue, 4, &["eva@example.org"], "knitting", false);
    deliver(&queue, Move::Fail);
    accept(&queue, 3, &[LUIS, "eva@example.org"], WORDS, false);
    deliver(&queue, Move::Send);
    (site, queue)
}

fn rows(queue: &Embedded, number: u8) -> (String, Vec<(String, RecipientState, String)>) {
    let view = queue.message(id(number)).unwrap().unwrap();
    (view.subject, view.recipients.into_iter().map(|one| (one.address, one.state, one.said)).collect())
}

fn is_forgotten(queue: &Embedded) {
    for number in 1..=3 {
        let (subject, rows) = rows(queue, number);
        assert_eq!((subject.as_str(), rows[0].0.as_str(), rows[0].2.as_str()), ("", PSEUDONYM, ""), "{number}");
        assert_eq!(queue.raw(id(number)).unwrap(), None, "its body is gone");
        assert_eq!(queue.envelope(id(number)).unwrap(), None);
        let events = queue.events_of(id(number), 0, 100).unwrap();
        assert!(!events.is_empty() && !format!("{events:?}").contains("luis"), "{events:?}");
    }
    assert_eq!(rows(queue, 3).1[1].0, "eva@example.org", "others stay who they are");
    assert!(rows(queue, 4).0.starts_with("knitting") && queue.raw(id(4)).unwrap().is_some(), "and what is not about it");
    let filter = |address: &str| Filter { recipient: Some(address.to_owned()), ..Filter::default() };
    let page = Page { after: None, before: None, limit: 100 };
    assert_eq!(queue.list(&filter(LUIS), &page).unwrap().messages.len(), 0);
    assert_eq!(queue.list(&filter(PSEUDONYM), &page).unwrap().messages.len(), 3, "counts stay right");
}

fn let_go(queue: &Embedded) {
    // Bodies are kept for a week, and nothing is that old.
    let mut keeper = queue.shared.keeper(queue.shared.policy).unwrap();
    for _ in 0..4 {
        queue.shared.tidy(&mut keeper);
    }
}

#[test]
fn a_forgotten_address_is_a_pseudonym_and_stays_one_in_an_index_made_anew() {
    let (site, queue) = filled();
    let before = queue.totals();
    let forgot = queue.forget(&order()).unwrap();
    assert_eq!((forgot.messages, forgot.sent, forgot.files, forgot.suppressions), (3, 0, 1, 1), "{forgot:?}");
    is_forgotten(&queue);
    assert_eq!(queue.totals(), before);
    let audited = queue.events(0, 1000).unwrap().pop().unwrap();
    assert_eq!(audited.kind, EventKind::AddressForgotten);
    assert!(audited.detail.contains(PSEUDONYM) && audited.detail.contains("local administrator"), "{audited:?}");
    drop(queue);
    for anew in [false, true] {
        if anew {
            fs::remove_file(site.home.path().join("index.sqlite")).unwrap();
        }
        is_forgotten(&site.open());
    }
    assert!(check(site.home.path()).unwrap().is_clean());
}

#[test]
fn the_last_bytes_go_with_their_segments_before_their_time() {
    let (site, queue) = filled();
    assert!(site.has(WORDS));
    queue.forget(&order()).unwrap();
    assert!(queue.has_forgotten_bytes(), "the answer says that it is not done");
    drop(queue);
    // A restart in between changes nothing.
    let queue = site.open();
    assert!(queue.has_forgotten_bytes());
    let_go(&queue);
    assert!(!queue.has_forgotten_bytes());
    assert!(!site.has(WORDS), "what was said is nowhere any more, and not in the index's journal");
    drop(queue);
    let queue = site.open();
    assert_eq!(queue.suppressions(&[], None, 10).unwrap()[0].address, LUIS, "it is still not written to");
    let view = queue.message(id(1)).unwrap().unwrap();
    assert_eq!(view.recipients[0].address, PSEUDONYM);
}

#[test]
fn with_its_suppressions_nothing_is_left_of_the_address() {
    let (site, queue) = filled();
    let forgot = queue.forget(&ForgetAddress { with_suppressions: true, ..order() }).unwrap();
    assert_eq!(forgot.suppressions, 1);
    let_go(&queue);
    assert!(!queue.has_forgotten_bytes());
    assert!(!site.has("luis"), "not in the index's journal either");
}

#[test]
fn open_mail_is_named_and_nothing_is_forgotten() {
    let (site, queue) = filled();
    accept(&queue, 9, &[LUIS], WORDS, false);
    let refused = queue.forget(&order()).unwrap_err();
    assert!(refused.to_string().contains(&id(9).to_string()) && refused.to_string().contains("cancel"), "{refused}");
    assert_eq!(rows(&queue, 1).1[0].0, LUIS);
    let cancel = Steer { message: id(9), recipients: vec![], to: Move::Cancel, channel: None, by: "ana".into(), at: NOW };
    queue.steer(cancel).wait().unwrap();
    let looked = queue.forget(&ForgetAddress { dry_run: true, ..order() }).unwrap();
    assert_eq!((looked.messages, rows(&queue, 1).1[0].0.as_str()), (4, LUIS), "a look changes nothing");
    assert_eq!(queue.forget(&order()).unwrap().messages, 4);
    assert_eq!(queue.forget(&order()).unwrap().messages, 0, "twice is once");
    drop((queue, site));
}

#[test]
fn a_sender_is_forgotten_with_what_it_sent() {
    let (_site, queue) = filled();
    let sender = smtp::Mailbox::parse("ana@example.com").unwrap();
    let forgot = queue.forget(&ForgetAddress { address: sender, ..order() }).unwrap();
    assert_eq!((forgot.messages, forgot.sent), (4, 4));
    let view = queue.message(id(4)).unwrap().unwrap();
    assert!(!format!("{view:?}").contains("ana@"), "{view:?}");
    assert_eq!(view.recipients[0].address, "eva@example.org");
}

#[test]
fn while_somebody_reads_the_journal_of_the_index_is_said_to_have_it() {
    let (site, queue) = filled();
    let reads = index::reader(&site.home.path().join("index.sqlite")).unwrap();
    reads.execute_batch("BEGIN; SELECT COUNT(*) FROM messages").unwrap();
    queue.forget(&order()).unwrap();
    let_go(&queue);
    assert!(queue.has_forgotten_bytes() && site.has(WORDS));
    reads.execute_batch("COMMIT").unwrap();
    let_go(&queue);
    assert!(!queue.has_forgotten_bytes() && !site.has(WORDS));
}

fn with_key(number: u8, key: &str, parts: bool, to: &[&str]) -> NewMessage {
    let idempotency = Some(Idempotency { key: key.into(), fingerprint: [7; 32], parts });
    NewMessage { idempotency, ..message(number, to) }
}

/// Repeats what was sent with two keys before it was forgotten: at once, and in parts with somebody new.
fn repeats_are_known(queue: &Embedded, number: u8, news: &str) {
    let again = queue.accept(vec![with_key(number, "whole", false, &["Luis@example.org", "eva@example.org"])]).wait().unwrap();
    assert_eq!(again, [Accepted { id: id(11), replayed: true }]);
    let part = queue.accept(vec![with_key(number, "parts", true, &[LUIS])]).wait().unwrap();
    assert_eq!(part, [Accepted { id: id(12), replayed: true }]);
    let part = queue.accept(vec![with_key(number, "parts", true, &[LUIS, news])]).wait().unwrap();
    assert_eq!(part, [Accepted { id: id(number), replayed: false }]);
    let added: Vec<String> = rows(queue, number).1.into_iter().map(|(address, ..)| address).collect();
    assert_eq!(added, [news], "who is new is written to, and nobody else");
    deliver(queue, Move::Send);
}

#[test]
fn a_repeat_of_what_was_forgotten_is_a_replay_and_no_second_delivery() {
    let (site, queue) = filled();
    let keyed = [with_key(11, "whole", false, &[LUIS, "eva@example.org"]), with_key(12, "parts", true, &[LUIS])];
    queue.accept(keyed.to_vec()).wait().unwrap();
    deliver(&queue, Move::Send);
    queue.forget(&ForgetAddress { with_suppressions: true, ..order() }).unwrap();
    let_go(&queue);
    assert!(!site.has("luis"), "the keys have nothing of it");
    repeats_are_known(&queue, 13, "nils@example.org");
    drop(queue);
    // The segments with the messages are gone: what was written again says it.
    fs::remove_file(site.home.path().join("index.sqlite")).unwrap();
    let queue = site.open();
    repeats_are_known(&queue, 14, "maja@example.org");
}

#[test]
fn keys_that_are_written_again_in_the_batch_that_forgets_have_nothing_of_it() {
    let (site, queue) = filled();
    queue.accept(vec![with_key(11, "whole", false, &[LUIS])]).wait().unwrap();
    deliver(&queue, Move::Send);
    let first = (PersonId(0), String::new(), MessageId([0; 16]));
    let keys = queue.read(|connection| index::ended_keys(connection, &first, 10)).unwrap();
    assert_eq!(keys[0].recipients, [LUIS]);
    let answers: Vec<_> = {
        // The writer waits with something else in its hands.
        let _open = lock(&queue.shared.open);
        drop(queue.shared.carry(|answer| Op::Base(0, answer)));
        while !guard(&queue.shared.inbox).ops.is_empty() {
            std::thread::yield_now();
        }
        let carried = Box::new(record::Carried { keys, ..record::Carried::default() });
        let messages =
            [1, 2, 3, 11].map(|number| record::ForgottenMessage { id: id(number), sender: false, recipients: vec![0], file: None });
        let (pseudonym, messages) = (PSEUDONYM.to_owned(), messages.to_vec());
        let forgotten = Box::new(record::Forgotten { pseudonym, messages, below: 0, told: None, at: NOW });
        let forget = queue.shared.carry(|answer| Op::Forget(forgotten, core::Closing::Now, answer));
        vec![queue.shared.carry(|answer| Op::Carry(carried, answer)), forget]
    };
    for answer in answers {
        answer.wait().unwrap();
    }
    let newest = log::segments(&*queue.shared.disk).unwrap().into_iter().max().unwrap();
    let written = fs::read(site.home.path().join("log").join(log::name_of(newest))).unwrap();
    assert!(memchr::memmem::find(&written, b"whole").is_some(), "the key is in the segment that stays");
    assert!(memchr::memmem::find(&written, b"luis").is_none());
}

#[test]
fn keys_of_a_message_are_found_without_looking_at_all_of_them() {
    let (_site, queue) = filled();
    let sql = "EXPLAIN QUERY PLAN SELECT person, key FROM keys WHERE message = x'00'";
    let plan = queue.read(|connection| Ok(connection.query_row(sql, [], |row| row.get::<_, String>(3))?)).unwrap();
    assert!(plan.starts_with("SEARCH"), "{plan}");
}

#[test]
fn wherever_forgetting_is_cut_off_it_says_who_began_it_and_the_lists_go_last() {
    use crate::disk::fake::{FakeDisk, Loss};
    let disk = FakeDisk::default();
    let open = |disk: &FakeDisk| {
        let home = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let options = Options { min_free: 0, reserve: 0, ..Options::new(home.path(), NOW) };
        (Embedded::on_disk(Arc::new(disk.clone()), home.path().join("index.sqlite"), options).unwrap(), home)
    };
    let (queue, _home) = open(&disk);
    for number in 1..=5 {
        queue.accept(vec![message(number, &[LUIS])]).wait().unwrap();
    }
    while let Some(lease) = leases(&queue, NOW, 1).pop() {
        queue.record(AttemptRecord { intend: Some(intent(&lease)), ..AttemptRecord::default() }).wait().unwrap();
        let mut settle = settlement(&lease, Move::Fail);
        settle.recipients[0].suppress = Some(LUIS.to_owned());
        queue.record(AttemptRecord { settle: Some(settle), ..AttemptRecord::default() }).wait().unwrap();
    }
    let begun = disk.steps();
    let everything = ForgetAddress { with_suppressions: true, ..order() };
    assert_eq!(queue.forget(&everything).unwrap().messages, 5);
    drop(queue);
    let (mut cut, mut told) = (0, 0);
    for step in begun..=disk.steps() {
        let (queue, _home) = open(&disk.after_crash(step, Loss::ALL[0]));
        let names: Vec<String> =
            (1..=5).map(|number| queue.message(id(number)).unwrap().unwrap().recipients[0].address.clone()).collect();
        let hidden = names.iter().filter(|name| *name == PSEUDONYM).count();
        let events = queue.events(0, 1000).unwrap();
        let said = events.iter().filter(|event| event.kind == EventKind::AddressForgotten).count();
        assert_eq!(said, usize::from(hidden > 0), "after step {step}: {names:?}");
        assert!(hidden == 5 || queue.suppressions(&[], None, 10).unwrap().len() == 1, "after step {step}: {names:?}");
        cut += usize::from((1..5).contains(&hidden));
        told += said;
        // Asked again, the rest is done.
        queue.forget(&everything).unwrap();
        assert_eq!((queue.forget(&everything).unwrap().messages, queue.suppressions(&[], None, 10).unwrap().len()), (0, 0));
    }
    assert!(cut > 0 && told > 0, "some are cut off in between");
}

#[test]
fn while_a_backup_is_taken_nothing_is_forgotten() {
    let (_site, queue) = filled();
    *guard(&queue.shared.held_back) = backup::HeldBack::Above(0);
    let refused = queue.forget(&order()).unwrap_err();
    assert!(matches!(refused, ForgetError::BackupRuns), "{refused}");
    assert_eq!(rows(&queue, 1).1[0].0, LUIS);
    assert_eq!(queue.forget(&ForgetAddress { dry_run: true, ..order() }).unwrap().messages, 3, "it may be looked");
    *guard(&queue.shared.held_back) = backup::HeldBack::No;
    assert_eq!(queue.forget(&order()).unwrap().files, 1);
}

#[test]
fn the_copy_of_an_earlier_index_goes_with_what_is_forgotten() {
    let (site, queue) = filled();
    let copy = site.home.path().join("index.sqlite.format-4");
    fs::write(&copy, WORDS).unwrap();
    assert_eq!(queue.forget(&ForgetAddress { dry_run: true, ..order() }).unwrap().copies, 1);
    assert!(copy.exists());
    assert_eq!(queue.forget(&order()).unwrap().copies, 1);
    assert!(!copy.exists());
    assert_eq!(queue.forget(&order()).unwrap().copies, 0);
}
