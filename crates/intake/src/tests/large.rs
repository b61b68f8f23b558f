//! Messages that are larger than what is kept whole.

use super::world::*;
use crate::accept::{ExplicitWishes, Repeat};
use crate::arrival::Submitted;
use crate::caps::Caps;
use crate::door::Deadlines;
use crate::refusal::AcceptRefusal;
use bytes::Bytes;
use mail::{BodyType, Lane, Surface};
use store::{AcceptError, Queue, WHOLE_UP_TO};

const HEADER: &str = "From: Ana <ana@example.com>\r\nTo: luis@example.org\r\nSubject: hi\r\nBcc: eva@example.org\r\n\r\n";

fn large_world() -> World {
    world_up_to(10 * WHOLE_UP_TO as u64, people(), Caps::new(1000, 50), Deadlines::for_size(4096))
}

/// A message of so many bytes.
fn message(size: usize) -> Vec<u8> {
    let mut message = HEADER.as_bytes().to_vec();
    message.extend(b"0123456789abcde\r\n".iter().cycle().take(size - HEADER.len() - 2));
    message.truncate(size - 2);
    if message.ends_with(b"\r") {
        message.pop();
        message.push(b'x');
    }
    message.extend_from_slice(b"\r\n");
    message
}

/// The message as it arrives, cut into pieces of this size.
async fn arrive(world: &World, surface: Surface, message: &[u8], piece: usize) -> Result<Submitted, AcceptRefusal> {
    let envelope = envelope("ana@example.com", &["luis@example.org"]);
    let mut arrival = world.intake.arrive(surface, Some((&envelope, Default::default())));
    for piece in message.chunks(piece) {
        arrival = arrival.write(Bytes::copy_from_slice(piece)).await?;
    }
    arrival.finish(Bytes::new()).await
}

#[tokio::test]
async fn a_large_message_is_kept_as_a_small_one_is_however_it_is_cut() {
    let world = large_world();
    let mut large = message(3 * WHOLE_UP_TO);
    let last = large.len() - 4;
    large[last] = 0xe9;
    let whole = world.intake.accept(Submission::of(Surface::Http, large.clone().into())).await.unwrap();
    let first = world.queue.last();
    for piece in [1000, HEADER.len() - 2, WHOLE_UP_TO + 1, large.len()] {
        let submitted = arrive(&world, Surface::Http, &large, piece).await.unwrap();
        let receipt = world.intake.accept(Submission::of(Surface::Http, submitted)).await.unwrap();
        assert_eq!(receipt.size_bytes, whole.size_bytes);
        let kept = world.queue.last();
        assert!(!kept.body.is_whole() && kept.body.head().ends_with(b"Subject: hi\r\n\r\n"));
        let same = |id: String, body: &[u8]| String::from_utf8_lossy(body).replace(&id, "ID");
        let bodies = [&first, &kept].map(|kept| same(kept.id.to_string(), &kept.body.read().unwrap()));
        assert_eq!(bodies[0], bodies[1], "pieces of {piece}");
        assert_eq!((kept.envelope.body, kept.subject), (BodyType::EightBitMime, first.subject.clone()));
    }
}

#[tokio::test]
async fn what_fits_is_kept_whole_and_one_byte_more_is_a_file() {
    let world = large_world();
    for (size, is_whole) in [(WHOLE_UP_TO, true), (WHOLE_UP_TO + 1, false)] {
        let submitted = arrive(&world, Surface::Smtp, &message(size), 7000).await.unwrap();
        assert_eq!((matches!(submitted, Submitted::Whole(_)), submitted.len()), (is_whole, size as u64));
    }
}

#[tokio::test]
async fn a_missing_last_line_end_is_supplied_in_the_file() {
    let world = large_world();
    let mut large = message(2 * WHOLE_UP_TO);
    large.truncate(large.len() - 2);
    let submitted = arrive(&world, Surface::Http, &large, 9000).await.unwrap();
    world.intake.accept(Submission::of(Surface::Http, submitted)).await.unwrap();
    let body = world.queue.last().body.read().unwrap();
    assert!(body.ends_with(&[&large[large.len() - 50..], b"\r\n"].concat()));
}

#[tokio::test]
async fn a_key_knows_a_message_again_whether_it_came_whole_or_in_pieces() {
    let world = large_world();
    let large = message(2 * WHOLE_UP_TO);
    for surface in [Surface::Http, Surface::Cli] {
        let mut prints = Vec::new();
        for piece in [500, 70_000, usize::MAX] {
            let submitted = match piece {
                usize::MAX => large.clone().into(),
                _ => arrive(&world, surface, &large, piece).await.unwrap(),
            };
            let wishes = ExplicitWishes { idempotency_key: Some("k".into()), ..ExplicitWishes::default() };
            world.intake.accept(crate::Incoming { wishes, ..Submission::of(surface, submitted) }).await.unwrap();
            prints.push(world.queue.last().idempotency.unwrap().fingerprint);
        }
        prints.dedup();
        assert_eq!(prints.len(), 1, "{surface:?}");
    }
}

#[tokio::test]
async fn what_may_not_be_in_a_message_is_found_in_every_piece() {
    let world = large_world();
    for (at, byte) in [(100_000, b'\n'), (WHOLE_UP_TO + 10, 0), (150_000, b'\r')] {
        let mut odd = message(3 * WHOLE_UP_TO);
        odd[at] = byte;
        odd[at + 1] = b'x';
        for piece in [333, 70_000] {
            let refusal = arrive(&world, Surface::Http, &odd, piece).await.unwrap_err();
            assert_eq!(refusal.code(), "validation_failed", "{byte} at {at}");
        }
    }
    let refusal = arrive(&world, Surface::Http, &message(11 * WHOLE_UP_TO), 70_000).await.unwrap_err();
    assert_eq!(refusal.http_status(), 413);
    let endless = [b"From: ana@example.com\r\nX: ".to_vec(), vec![b'x'; 300_000]].concat();
    let refusal = arrive(&world, Surface::Http, &endless, 10_000).await.unwrap_err();
    assert!(refusal.to_string().contains("262144 bytes"), "{refusal}");
    assert!(world.queue.kept().is_empty());
}

#[tokio::test]
async fn a_full_disk_refuses_for_now_and_by_both_doors_in_their_words() {
    let world = large_world();
    world.queue.will(Will::Refuse(AcceptError::NoSpace("full".into())));
    let refusal = arrive(&world, Surface::Http, &message(2 * WHOLE_UP_TO), 10_000).await.unwrap_err();
    assert_eq!((refusal.http_status(), smtp::Reply::from(&refusal).code()), (507, 452));
}

#[tokio::test]
async fn what_is_tried_again_has_a_file_of_its_own() {
    let world = large_world();
    let submitted = arrive(&world, Surface::Http, &message(2 * WHOLE_UP_TO), 10_000).await.unwrap();
    world.intake.accept(Submission::of(Surface::Http, submitted)).await.unwrap();
    let first = world.queue.last();
    let repeat = Repeat {
        principal: incoming(Surface::Http, MESSAGE).principal,
        surface: Surface::Http,
        of: first.id,
        channel: "ana-mailbox".into(),
        lane: Lane::Normal,
        lane_reason: "default".into(),
        tags: vec![],
        envelope: envelope("ana@example.com", &["luis@example.org"]),
        body: first.body.clone(),
    };
    world.queue.will(Will::Refuse(AcceptError::NoSpace("full".into())));
    let by_no_channel = Repeat { channel: "nobodys".into(), ..repeat.clone() };
    let refusal = world.intake.repeat(by_no_channel).await.unwrap_err();
    assert_eq!(refusal.code(), "channel_not_found", "it is judged before its body is copied");
    world.queue.will(Will::Full);
    let refusal = world.intake.repeat(repeat.clone()).await.unwrap_err();
    assert_eq!(refusal.code(), "gateway_rate_limited", "a cap is told before its body is copied");
    world.queue.will(Will::Replay(first.id));
    assert!(world.intake.repeat(repeat.clone()).await.unwrap().replayed);
    world.queue.will(Will::Keep);
    world.intake.repeat(repeat).await.unwrap();
    let again = world.queue.last();
    assert_eq!(again.retry_of, Some(first.id));
    assert_ne!(again.body, first.body, "not the same file");
    assert_eq!(again.body.read().unwrap(), first.body.read().unwrap());
    assert!(world.queue.accepting().is_ok());
}

struct Submission;

impl Submission {
    fn of(surface: Surface, submitted: Submitted) -> crate::Incoming {
        crate::Incoming { submitted, ..incoming(surface, MESSAGE) }
    }
}
