#![allow(clippy::unwrap_used)]
//! MailCaps of open mail, and the counts they go by.
use super::tests::{NOW, id, message};
use super::*;
use mail::{Surface, TokenId};

/// What the queue counts of open mail is what these messages, all that are open, add up to.
pub(super) fn assert_counted(queue: &dyn Queue, open: &[MessageView]) {
    for view in open {
        let team = view.team.into_iter().flat_map(|team| [Holder::Team(team), Holder::Member(team, view.person)]);
        for holder in view.token.map(Holder::Token).into_iter().chain([Holder::Person(view.person)]).chain(team) {
            let of = |other: &&MessageView| match holder {
                Holder::Token(token) => other.token == Some(token),
                Holder::Person(person) => other.person == person,
                Holder::Team(team) => other.team == Some(team),
                Holder::Member(team, person) => other.team == Some(team) && other.person == person,
            };
            let (messages, bytes) =
                open.iter().filter(of).fold((0, 0), |(messages, bytes), view| (messages + 1, bytes + view.size_bytes));
            assert_eq!(queue.open_mail(holder), OpenMail { messages, bytes }, "{holder:?}");
        }
    }
}

#[test]
fn many_connections_at_once_do_not_pass_a_cap_together() {
    let folder = tempfile::tempdir().unwrap();
    let most = OpenMail { messages: 20, bytes: u64::MAX };
    let caps = MailCaps { person: most, ..MailCaps::default() };
    let options = Options { min_free: 0, caps: Box::new(move |_| caps), ..Options::new(folder.path(), NOW) };
    let queue = Embedded::open(options).unwrap();
    let now = |number| NewMessage { lane: Lane::Now, ..message(number, &["luis@example.org"]) };
    let waiting: Vec<_> = (0..100).map(|number| queue.accept(vec![now(number)])).collect();
    let (taken, refused): (Vec<_>, Vec<_>) = waiting.into_iter().map(Commit::wait).partition(Result::is_ok);
    assert_eq!((taken.len(), refused.len()), (20, 80));
    assert!(refused.iter().all(|answer| matches!(answer, Err(AcceptError::OverCap(over)) if over.open == 20)), "{refused:?}");
    let report = NewMessage { surface: Surface::Gateway, ..now(200) };
    assert!(queue.accept(vec![report]).wait().is_ok(), "what the gateway itself says always passes");
    let order = Steer { message: id(0), recipients: vec![], to: Move::Cancel, channel: None, by: "ana".into(), at: NOW };
    queue.steer(order.clone()).wait().unwrap();
    assert!(queue.accept(vec![now(201)]).wait().is_err(), "the report counts");
    queue.steer(Steer { message: id(1), ..order }).wait().unwrap();
    assert!(queue.accept(vec![now(201)]).wait().is_ok(), "what has ended makes room");
}

#[test]
fn what_was_accepted_under_a_key_replays_over_any_cap() {
    let folder = tempfile::tempdir().unwrap();
    let caps = MailCaps { token: OpenMail { messages: 1, bytes: 1 }, ..MailCaps::default() };
    let options = Options { min_free: 0, caps: Box::new(move |_| caps), ..Options::new(folder.path(), NOW) };
    let queue = Embedded::open(options).unwrap();
    let keyed = |number, key: &str| NewMessage {
        token: Some(TokenId(1)),
        idempotency: Some(Idempotency { key: key.into(), fingerprint: [1; 32], parts: false }),
        ..message(number, &["luis@example.org"])
    };
    queue.accept(vec![keyed(1, "one")]).wait().unwrap();
    let again = queue.accept(vec![keyed(2, "one")]).wait().unwrap();
    assert_eq!((again[0].id, again[0].replayed), (id(1), true));
    assert!(matches!(queue.accept(vec![keyed(3, "two")]).wait(), Err(AcceptError::OverCap(_))));
}

#[test]
fn keys_are_known_at_once_and_nobody_makes_the_index_hurry_to_know_them() {
    let folder = tempfile::tempdir().unwrap();
    let queue = Embedded::open(Options { min_free: 0, ..Options::new(folder.path(), NOW) }).unwrap();
    let keyed = |number, key: &str| NewMessage {
        idempotency: Some(Idempotency { key: key.into(), fingerprint: [1; 32], parts: false }),
        ..message(number, &["luis@example.org"])
    };
    let assert_known = |asked: &dyn Queue| {
        let knows = |person, key| asked.knows_keys(PersonId(person), key).unwrap();
        let people = [0, 1, 9].map(|person| knows(person, None));
        let keys = [(1, "one"), (1, "two"), (0, "one")].map(|(person, key)| knows(person, Some(key)));
        assert_eq!((people, keys), ([false, true, false], [true, false, false]));
    };
    queue.shared.index_fault.store(true, Ordering::Relaxed);
    queue.accept(vec![keyed(1, "one")]).wait().unwrap();
    assert_known(&queue);
    assert!(!guard(&queue.shared.outbox).wanted, "the index lingers as it would");
    queue.shared.index_fault.store(false, Ordering::Relaxed);
    queue.shared.wait_until_indexed();
    assert_known(&queue);
    assert!(guard(&queue.shared.outbox).keys.is_empty(), "what is indexed is not kept twice");
}

#[test]
fn bytes_of_a_large_message_on_its_way_in_are_counted_until_it_is_stored_or_gone() {
    let folder = tempfile::tempdir().unwrap();
    let queue = Embedded::open(Options { min_free: 0, ..Options::new(folder.path(), NOW) }).unwrap();
    let spooled = || {
        let mut spool = queue.spool().unwrap();
        spool.write(&[b'x'; 998]).unwrap();
        spool
    };
    let gone = spooled();
    let kept = spooled().finish().unwrap();
    assert_eq!(queue.arriving_bytes(), 998 + 1000);
    drop(gone);
    assert_eq!(queue.arriving_bytes(), 1000);
    let one = message(1, &["luis@example.org"]);
    let (person, head) = (one.person, bytes::Bytes::from_static(b"Subject: x\r\n\r\n"));
    queue.accept(vec![NewMessage { body: Body::Spooled { head, rest: kept }, ..one }]).wait().unwrap();
    assert_eq!((queue.arriving_bytes(), queue.open_mail(Holder::Person(person)).bytes), (0, 1014));
}
