//! Accepting, whichever door it is.

use super::world::*;
use crate::accept::{ExplicitWishes, Principal, Repeat};
use crate::caps::Caps;
use crate::clock::Clock;
use crate::door::Deadlines;
use crate::refusal::AcceptRefusal;
use mail::{BodyType, Lane, MessageId, Surface, Timestamp};
use smtp::Reply;
use store::AcceptError;

fn text(body: &[u8]) -> String {
    String::from_utf8(body.to_vec()).unwrap()
}

#[tokio::test]
async fn every_surface_gets_the_same_channel_and_the_same_bytes() {
    let world = world();
    let mut bodies = Vec::new();
    for surface in [Surface::Smtp, Surface::Http, Surface::Cli, Surface::Web] {
        let receipt = world.intake.accept(incoming(surface, MESSAGE)).await.unwrap();
        assert_eq!((receipt.channel, receipt.lane, receipt.replayed), (ANA_MAILBOX, Lane::Normal, false));
        let kept = world.queue.last();
        assert_eq!((kept.id, kept.surface, kept.size()), (receipt.id, surface, receipt.size_bytes));
        bodies.push(text(kept.body.head()).replace(&kept.id.to_string(), "ID"));
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    assert!(bodies[0].ends_with(MESSAGE) && bodies[0].starts_with("Received: from laptop.example"));
    assert_eq!(world.intake.counters().read().accepted, 4);
}

trait Size {
    fn size(&self) -> u64;
}

impl Size for store::NewMessage {
    fn size(&self) -> u64 {
        self.body.len()
    }
}

/// The last message again, for these recipients.
fn again(world: &World, to: &[&str]) -> Repeat {
    let kept = world.queue.last();
    Repeat {
        principal: incoming(Surface::Http, MESSAGE).principal,
        surface: Surface::Http,
        of: kept.id,
        channel: "ana-mailbox".into(),
        lane: Lane::Bulk,
        lane_reason: "precedence".into(),
        tags: kept.tags,
        envelope: envelope("ana@example.com", to),
        body: kept.body,
    }
}

/// Limits and refusals of a From go by it: who could choose it, could send past a limit, or use up the limit of others.
#[tokio::test]
async fn an_author_is_known_by_the_address_read_strictly_however_the_field_is_written() {
    let world = world();
    let long = format!("=?utf-8?q?=3Cluis=40example=2Ecom=3E?= {} <ana@example.com>", "x".repeat(300));
    for from in [
        "ana@example.com (<x1@elsewhere.example>)",
        "\"Ana <luis@example.com>\" <ana@example.com>",
        "\"ana\"@example.com",
        "=?utf-8?q?=3Cluis=40example=2Ecom=3E?= <Ana@EXAMPLE.com> (<x2@elsewhere.example>)",
        &long,
    ] {
        let message = MESSAGE.replacen("Ana <ana@example.com>", from, 1);
        assert!(message.contains(from), "the message has a From to be replaced");
        world.intake.accept(incoming(Surface::Smtp, &message)).await.unwrap();
        assert_eq!(world.queue.last().author, "ana@example.com", "{from}");
    }
}

#[tokio::test]
async fn an_address_is_suppressed_however_it_is_written() {
    let world = world();
    let to = ["luis@example.org", "\"gone\"@example.org", "\"G\\one\"@EXAMPLE.org"];
    let mut submission = incoming(Surface::Smtp, MESSAGE);
    submission.envelope = envelope("ana@example.com", &to);
    world.intake.accept(submission).await.unwrap();
    assert_eq!(world.queue.last().suppressed, [1, 2]);
}

#[tokio::test]
async fn what_is_tried_again_has_the_bytes_the_lane_and_the_channel_of_the_first_try() {
    let world = world();
    world.intake.accept(incoming(Surface::Http, MESSAGE)).await.unwrap();
    let first = world.queue.last();
    let receipt = world.intake.repeat(again(&world, &["eva@example.org"])).await.unwrap();
    let kept = world.queue.last();
    assert_eq!((kept.id, kept.retry_of, receipt.id), (receipt.id, Some(first.id), receipt.id));
    assert_eq!((kept.lane, kept.lane_reason.as_str(), kept.channel), (Lane::Bulk, "precedence", first.channel));
    assert_eq!((kept.body, kept.message_id, kept.subject), (first.body, first.message_id, first.subject));
    assert_ne!(kept.id, first.id);
    assert!(kept.idempotency.is_some_and(|key| key.parts && key.key.contains(&first.id.to_string())));
}

#[tokio::test]
async fn what_is_tried_again_needs_the_same_permission_as_at_its_first_try() {
    let world = world();
    world.intake.accept(incoming(Surface::Http, MESSAGE)).await.unwrap();
    let good = again(&world, &["eva@example.org"]);
    let others_channel = Repeat { principal: Principal { person: HOST, token: None }, ..good.clone() };
    assert_eq!(world.intake.repeat(others_channel).await.unwrap_err().code(), "channel_not_found");
    let gone = Repeat { channel: "nobodys".into(), ..good.clone() };
    assert_eq!(world.intake.repeat(gone).await.unwrap_err().code(), "channel_not_found");
    let stranger = Repeat { envelope: envelope("luis@example.net", &["eva@example.org"]), ..good };
    assert_eq!(world.intake.repeat(stranger).await.unwrap_err().code(), "sender_not_allowed");
}

#[tokio::test]
async fn the_address_of_somebody_who_signed_in_is_shown_to_nobody() {
    let world = world();
    let mut message = incoming(Surface::Smtp, MESSAGE);
    message.trace.helo = "[192.0.2.7]".into();
    world.intake.accept(message.clone()).await.unwrap();
    assert!(!text(world.queue.last().body.head()).contains("192.0.2.7"));
    message.principal = Principal { person: HOST, token: None };
    world.intake.accept(message).await.unwrap();
    assert!(text(world.queue.last().body.head()).starts_with("Received: from [192.0.2.7] ([192.0.2.7])\r\n"));
}

#[tokio::test]
async fn each_refusal_has_its_code_its_status_and_its_reply() {
    let many: Vec<String> = (0..4).map(|number| format!("a{number}@example.org")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let foreign = MESSAGE.replace("ana@example.com", "luis@example.com");
    let large = format!("{MESSAGE}{}\r\n", "x".repeat(5000));
    type Case<'a> = (&'a str, &'a str, &'a [&'a str], &'a str, u16, &'a str);
    let cases: [Case; 8] = [
        (&foreign, "ana@example.com", &["l@example.org"], "sender_not_allowed", 403, "550 5.7.1"),
        (MESSAGE, "eva@example.com", &["l@example.org"], "sender_not_allowed", 403, "550 5.7.1"),
        (&large, "ana@example.com", &["l@example.org"], "message_too_large", 413, "552 5.3.4"),
        (MESSAGE, "ana@example.com", &[], "validation_failed", 422, "554 5.5.1"),
        (MESSAGE, "ana@example.com", &many, "recipient_limit_exceeded", 422, "550 5.5.3"),
        ("To: nobody\r\n\r\n", "ana@example.com", &["l@example.org"], "validation_failed", 422, "550 5.6.0"),
        (
            &MESSAGE.replace("\r\n\r\n", "\r\n\r\na\nb"),
            "ana@example.com",
            &["l@example.org"],
            "validation_failed",
            422,
            "550 5.6.0",
        ),
        (
            "X-Sendero-Channel: nowhere\r\nFrom: ana@example.com\r\n\r\n",
            "ana@example.com",
            &["l@example.org"],
            "channel_not_found",
            404,
            "550 5.7.1",
        ),
    ];
    let world = world();
    for (message, from, to, code, status, reply) in cases {
        let mut message = incoming(Surface::Http, message);
        message.envelope = envelope(from, to);
        let refusal = world.intake.accept(message).await.unwrap_err();
        assert_eq!((refusal.code(), refusal.http_status()), (code, status), "{refusal}");
        assert!(Reply::from(&refusal).to_string().starts_with(reply), "{refusal}");
        assert!(refusal.is_permanent());
    }
    assert!(world.queue.kept().is_empty());
    assert_eq!(world.intake.counters().read().refused, 8);
}

#[tokio::test]
async fn what_the_store_cannot_take_is_told_in_the_words_of_each_surface() {
    let id = MessageId::new(Timestamp(1), [1; 10]);
    let cases = [
        (AcceptError::NoSpace("x".into()), "storage_full", 507, "452 4.3.1", false),
        (AcceptError::Closed("x".into()), "dependency_unavailable", 503, "451 4.3.0", false),
        (AcceptError::KeyReused { key: "k-1".into(), id }, "idempotency_key_reused", 422, "554 5.5.0", true),
    ];
    for (error, code, status, reply, permanent) in cases {
        let refusal = AcceptRefusal::from(error);
        assert_eq!((refusal.code(), refusal.http_status(), refusal.is_permanent()), (code, status, permanent));
        let shown = Reply::from(&refusal).to_string();
        assert!(shown.starts_with(reply), "{shown}");
        assert_eq!(shown.contains("k-1"), permanent, "the key is named: {shown}");
    }
}

#[tokio::test]
async fn a_repeated_submission_is_known_by_its_key() {
    let world = world();
    let keyed = format!("Idempotency-Key: \"k-1\"\r\n{MESSAGE}");
    world.intake.accept(incoming(Surface::Smtp, &keyed)).await.unwrap();
    let first = world.queue.last();
    let key = first.idempotency.clone().unwrap();
    assert_eq!((key.key.as_str(), key.parts), ("k-1", true));
    assert!(!text(first.body.head()).contains("Idempotency-Key"));

    // The same message for somebody else is a further part by SMTP, and another request by HTTP.
    let mut other = incoming(Surface::Smtp, &keyed);
    other.envelope = envelope("ana@example.com", &["eva@example.org"]);
    world.intake.accept(other.clone()).await.unwrap();
    assert_eq!(world.queue.last().idempotency.unwrap().fingerprint, key.fingerprint);
    other.surface = Surface::Http;
    world.intake.accept(other).await.unwrap();
    let by_http = world.queue.last().idempotency.unwrap();
    world.intake.accept(incoming(Surface::Http, &keyed)).await.unwrap();
    assert_ne!(world.queue.last().idempotency.unwrap().fingerprint, by_http.fingerprint);
    assert!(!by_http.parts);

    world.queue.will(Will::Replay(first.id));
    let receipt = world.intake.accept(incoming(Surface::Smtp, &keyed)).await.unwrap();
    assert_eq!((receipt.id, receipt.replayed), (first.id, true));
    let counts = world.intake.counters().read();
    assert_eq!((counts.accepted, counts.replayed), (4, 1));
}

#[tokio::test]
async fn times_come_from_header_or_beside_and_make_another_request_of_the_same_key() {
    let world = world();
    let at = |seconds: i64| Some(Timestamp(Noon.now().0 + 1000 * seconds));
    let timed = format!("X-Sendero-Schedule: 1h\r\nX-Sendero-Expires: 2h\r\n{MESSAGE}");
    world.intake.accept(incoming(Surface::Smtp, &timed)).await.unwrap();
    let kept = world.queue.last();
    assert_eq!((kept.scheduled_at, kept.expires_at), (at(3600), at(7200)));
    assert!(!text(kept.body.head()).contains("X-Sendero"));

    let keyed = |schedule, expires| {
        let mut message = incoming(Surface::Http, MESSAGE);
        message.wishes =
            ExplicitWishes { scheduled_at: schedule, expires_at: expires, idempotency_key: Some("k".into()), ..Default::default() };
        message
    };
    let mut prints = Vec::new();
    for (schedule, expires) in [(None, None), (at(60), None), (None, at(60)), (at(60), at(90)), (at(60), at(90))] {
        world.intake.accept(keyed(schedule, expires)).await.unwrap();
        let kept = world.queue.last();
        assert_eq!((kept.scheduled_at, kept.expires_at), (schedule, expires));
        prints.push(kept.idempotency.unwrap().fingerprint);
    }
    assert_eq!(prints[3], prints[4]);
    prints.sort_unstable();
    prints.dedup();
    assert_eq!(prints.len(), 4);

    for (schedule, expires, words) in
        [(None, at(-1), "has passed"), (at(90), at(60), "so never"), (at(367 * 86_400), None, "within a year")]
    {
        let refusal = world.intake.accept(keyed(schedule, expires)).await.unwrap_err();
        assert_eq!((refusal.code(), refusal.http_status()), ("validation_failed", 422));
        assert!(Reply::from(&refusal).to_string().starts_with("554 5.6.0 "), "{}", Reply::from(&refusal));
        assert!(refusal.to_string().contains(words), "{refusal}");
    }
    let mut two = incoming(Surface::Http, &timed);
    two.wishes.expires_at = at(7201);
    assert!(world.intake.accept(two).await.unwrap_err().to_string().contains("ask once"));
}

#[tokio::test]
async fn the_order_of_recipients_does_not_make_another_request() {
    let world = world();
    let mut prints = Vec::new();
    for to in [["a@example.org", "b@example.org"], ["b@example.org", "a@example.org"]] {
        let mut message = incoming(Surface::Http, MESSAGE);
        message.envelope = envelope("ana@example.com", &to);
        message.wishes.idempotency_key = Some("k".into());
        world.intake.accept(message).await.unwrap();
        prints.push(world.queue.last().idempotency.unwrap());
    }
    assert_eq!(prints[0], prints[1]);
}

#[tokio::test]
async fn a_wish_beside_the_message_and_one_in_it_must_agree() {
    let world = world();
    let wishing = format!("X-Sendero-Channel: office\r\nX-Sendero-Tag: a=1\r\n{MESSAGE}");
    let ask = |channel: &str| {
        let mut message = incoming(Surface::Http, &wishing);
        message.wishes = ExplicitWishes {
            channel: Some(channel.into()),
            lane: Some(Lane::Now),
            tags: vec![("b".into(), "2".into())],
            ..ExplicitWishes::default()
        };
        message
    };
    let receipt = world.intake.accept(ask("office")).await.unwrap();
    assert_eq!((receipt.channel, receipt.lane), (OFFICE, Lane::Now));
    assert_eq!(world.queue.last().tags, [("a".into(), "1".into()), ("b".into(), "2".into())]);
    assert_eq!(world.intake.accept(ask("ana-mailbox")).await.unwrap_err().code(), "validation_failed");
}

#[tokio::test]
async fn what_the_next_hop_must_offer_is_read_from_the_message() {
    let cases = [
        (MESSAGE.to_owned(), BodyType::SevenBit, false),
        (MESSAGE.replace("hello", "héllo"), BodyType::EightBitMime, false),
        (MESSAGE.replace("hi", "hí"), BodyType::EightBitMime, true),
    ];
    let world = world();
    for (message, body, smtputf8) in cases {
        world.intake.accept(incoming(Surface::Smtp, &message)).await.unwrap();
        let envelope = world.queue.last().envelope;
        assert_eq!((envelope.body, envelope.smtputf8), (body, smtputf8), "{message}");
    }
    let mut message = incoming(Surface::Http, MESSAGE);
    message.envelope = envelope("ana@example.com", &["josé@example.org"]);
    world.intake.accept(message).await.unwrap();
    assert!(world.queue.last().envelope.smtputf8);
}

#[tokio::test]
async fn the_lane_is_asked_for_or_the_tokens_or_read_from_the_message() {
    let listed = format!("List-Id: <news.example.com>\r\n{MESSAGE}");
    let asking = format!("X-Sendero-Lane: now\r\n{listed}");
    for (token, message, expected) in [
        (None, MESSAGE, Lane::Normal),
        (None, &listed, Lane::Bulk),
        (None, &asking, Lane::Now),
        (Some(Lane::Normal), &listed, Lane::Normal),
        (Some(Lane::Bulk), MESSAGE, Lane::Bulk),
        // The lane of a token is the most urgent that may be asked for with it.
        (Some(Lane::Bulk), &asking, Lane::Bulk),
        (Some(Lane::Now), &asking, Lane::Now),
    ] {
        let world = world_of(people_with(token), Caps::new(1000, 50), Deadlines::for_size(4096));
        let receipt = world.intake.accept(incoming(Surface::Smtp, message)).await.unwrap();
        assert_eq!((receipt.lane, world.queue.last().lane), (expected, expected), "{token:?} {message}");
    }
}
