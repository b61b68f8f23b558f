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

    /// Everything that lies in the folder, but what SQLite writes over in its time.
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
    let forgot = queue.forget(&order()).unwrap();
    assert!(forgot.log_until > 0, "the answer says that it is not done");
    drop(queue);
    // A restart in between changes nothing.
    let queue = site.open();
    assert!(queue.forgotten_until() > 0);
    let_go(&queue);
    assert_eq!(queue.forgotten_until(), 0);
    drop(queue);
    assert!(!site.has(WORDS), "what was said is nowhere any more");
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
    assert_eq!(queue.forgotten_until(), 0);
    drop(queue);
    assert!(!site.has("luis"));
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
