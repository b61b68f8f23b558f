//! Who is at fault for a refusal: a recipient, a message, a person or the channel.

use super::*;

const LUIS: PersonId = PersonId(2);

impl World {
    /// A message of a person to an address.
    async fn submit_of(&self, person: PersonId, number: u8, to: &str) -> MessageId {
        let mut message = self.message(MessageId::new(self.now(), [number; 10]), ANA, ReversePath::Null, to);
        message.person = person;
        let id = message.id;
        self.queue.accept(vec![message]).await.unwrap();
        id
    }

    async fn submit_many(&self, person: PersonId, numbers: std::ops::Range<u8>, domain: &str) -> Vec<MessageId> {
        let mut ids = Vec::new();
        for number in numbers {
            ids.push(self.submit_of(person, number, &format!("user{number}@{domain}")).await);
        }
        ids
    }

    fn states(&self, ids: &[MessageId]) -> Vec<RecipientState> {
        ids.iter().map(|id| self.recipient(*id).state).collect()
    }

    fn says_of(&self, to: &'static str, stage: Stage, code: u16, text: &'static str) {
        self.hop.says_of.lock().unwrap().insert(to, (stage, code, text));
    }

    fn kept_back(&self) -> usize {
        self.scheduler.outlook(self.channel()).paused_people.len()
    }
}

/// A world of one connection that has been up for a second, so that anybody's mail may leave.
async fn world() -> World {
    let world = World::held_to(&["1 connections"]);
    world.after(1).await;
    world
}

#[tokio::test(start_paused = true)]
async fn words_that_only_repeat_the_recipient_do_not_stop_the_channel() {
    let world = world().await;
    let to = "\"relay access denied\"@example.org";
    world.says_of(to, Stage::Rcpt, 554, "5.7.1 <\"relay access denied\"@example.org>: not here");
    let gone = world.submit_of(PersonId(1), 1, to).await;
    world.after(5).await;
    assert_eq!((world.recipient(gone).state, world.state()), (RecipientState::Failed, "active"));
}

#[tokio::test(start_paused = true)]
async fn a_subject_is_only_repeated_however_long_it_is_and_whatever_no_eye_sees_in_it() {
    let world = world().await;
    // Replies are read without what no eye sees, lists show a space for it, and only the beginning.
    let long = "a".repeat(300);
    for (number, to, subject, reply) in [
        (1, "one@example.org", "authentication re\u{200b}quired", "5.7.0 blocked for authentication re\u{200b}quired".to_owned()),
        (
            2,
            "two@example.org",
            &*format!("{long} authentication required"),
            format!("5.7.0 blocked: {long} authentication required"),
        ),
    ] {
        world.says_of(to, Stage::FinalDot, 552, reply.leak());
        let mut message = world.message(MessageId::new(world.now(), [number; 10]), ANA, ReversePath::Null, to);
        message.body = format!("From: {ANA}\r\nSubject: {subject}\r\n\r\nhello\r\n").into_bytes().into();
        let id = message.id;
        world.queue.accept(vec![message]).await.unwrap();
        world.after(5).await;
        assert_eq!((world.recipient(id).state, world.state()), (RecipientState::Failed, "active"), "{to}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_blames_the_channel_alone_is_held_and_others_go_on() {
    let world = world().await;
    world.says_of("poison@example.org", Stage::FinalDot, 552, "5.7.0 authentication required, says the filter");
    let poison = world.submit_of(PersonId(1), 1, "poison@example.org").await;
    let others = world.submit_many(LUIS, 10..20, "example.org").await;
    world.after(5).await;
    assert_eq!((world.states(&others), world.state()), (vec![RecipientState::Sent; 10], "active"));
    assert_eq!(world.recipient(poison).state, RecipientState::Queued);
    world.after(120).await;
    let held = world.recipient(poison);
    assert_eq!((held.state, held.attempts, world.state()), (RecipientState::Held, 0, "active"));
    assert!(held.said.contains("authentication required"), "{held:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stopped_channel_is_freed_by_the_next_message_and_not_stopped_by_the_same_again() {
    let world = world().await;
    world.says_of("poison@example.org", Stage::Rcpt, 554, "5.7.1 relay access denied");
    let poison = world.submit_of(PersonId(1), 1, "poison@example.org").await;
    world.after(5).await;
    assert_eq!(world.state(), "needs_attention", "there is no other message to ask");
    let others = world.submit_many(LUIS, 10..13, "example.org").await;
    world.scheduler.steer(world.channel(), ChannelMove::Resume).await;
    world.after(300).await;
    assert_eq!((world.states(&others), world.state()), (vec![RecipientState::Sent; 3], "active"));
    assert_ne!(world.recipient(poison).state, RecipientState::Failed);
}

#[tokio::test(start_paused = true)]
async fn messages_of_one_person_that_blame_the_channel_keep_that_person_back() {
    let world = world().await;
    for (number, to) in [(1, "one@example.org"), (2, "two@example.org")] {
        world.says_of(to, Stage::FinalDot, 552, "5.7.0 authentication required, says the filter");
        world.submit_of(PersonId(1), number, to).await;
    }
    let others = world.submit_many(LUIS, 10..14, "example.org").await;
    world.after(5).await;
    assert_eq!((world.states(&others), world.state()), (vec![RecipientState::Sent; 4], "active"));
}

#[tokio::test(start_paused = true)]
async fn equal_refusals_of_recipients_stop_neither_the_channel_nor_a_person() {
    let world = world().await;
    world.says(Stage::Rcpt, 554, "5.7.1 Recipient address rejected: blocked by policy");
    let refused = world.submit_many(PersonId(1), 1..9, "example.org").await;
    world.after(10).await;
    assert_eq!(world.states(&refused), vec![RecipientState::Failed; 8]);
    assert_eq!((world.kept_back(), world.state()), (0, "active"));
}

#[tokio::test(start_paused = true)]
async fn five_equal_refusals_of_one_persons_messages_keep_that_person_back_until_a_probe_is_accepted() {
    let world = world().await;
    world.says(Stage::FinalDot, 554, "5.6.0 message content rejected for reason 17");
    let refused = world.submit_many(PersonId(1), 1..21, "example.org").await;
    world.after(60).await;
    assert_eq!((world.kept_back(), world.state(), world.hop.seen.load(Ordering::Relaxed)), (1, "active", 5));
    world.says_yes();
    let others = world.submit_many(LUIS, 30..34, "example.org").await;
    world.after(5).await;
    assert_eq!(world.states(&others), vec![RecipientState::Sent; 4]);
    world.after(15 * 60).await;
    assert_eq!(world.states(&refused[5..]), vec![RecipientState::Sent; 15]);
    assert_eq!(world.kept_back(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_person_is_kept_back_for_the_first_reason_until_a_message_is_accepted() {
    let world = world().await;
    let reason = |world: &World| world.scheduler.outlook(world.channel()).paused_people[0].2.clone();
    world.says(Stage::Rcpt, 550, "5.1.1 user unknown");
    world.fill(60, Lane::Normal).await;
    world.after(60).await;
    let first = reason(&world);
    assert!(first.contains("user unknown"), "{first}");
    world.says(Stage::Rcpt, 550, "5.1.1 there is nobody of that name");
    world.after(16 * 60).await;
    assert_eq!((world.hop.seen.load(Ordering::Relaxed), reason(&world)), (21, first));
}

#[tokio::test(start_paused = true)]
async fn a_person_who_is_kept_back_is_tried_with_one_message_after_15_30_and_60_minutes() {
    let world = world().await;
    world.says(Stage::Rcpt, 550, "5.1.1 user unknown");
    world.fill(60, Lane::Normal).await;
    let mut seen = Vec::new();
    for minutes in [10, 10, 30, 60, 60] {
        world.after(minutes * 60).await;
        seen.push(world.hop.seen.load(Ordering::Relaxed));
    }
    assert_eq!(seen, [20, 21, 22, 23, 24]);
    world.says_yes();
    world.after(65 * 60).await;
    assert_eq!((world.kept_back(), world.hop.taken.lock().unwrap().len()), (0, 36));
}

#[tokio::test(start_paused = true)]
async fn unknown_recipients_of_one_message_are_no_row_of_bad_luck() {
    let world = world().await;
    world.says(Stage::Rcpt, 550, "5.1.1 user unknown");
    for number in 0..3 {
        world.submit_in(number, Lane::Normal, 40).await;
    }
    world.after(10).await;
    assert_eq!(world.kept_back(), 0);
    world.submit_in(3, Lane::Normal, 40).await;
    world.after(10).await;
    assert_eq!(world.kept_back(), 1, "four messages of five each");
}

#[tokio::test(start_paused = true)]
async fn equal_refusals_of_several_people_for_several_domains_park_the_channel_and_a_probe_frees_it() {
    let world = world().await;
    world.says(Stage::FinalDot, 554, "5.6.0 message content rejected for reason 17");
    for number in 0..24 {
        let domain = ["example.org", "example.net", "example.com"][usize::from(number) % 3];
        world.submit_many(PersonId(1 + u32::from(number) % 2), number..number + 1, domain).await;
    }
    world.after(60).await;
    assert_eq!(world.state(), "throttled");
    assert_eq!(world.hop.seen.load(Ordering::Relaxed), 5);
    let reason = world.scheduler.channel_state(world.channel()).reason().to_owned();
    let event = world.queue.events_of_channel(world.channel(), 1).unwrap().remove(0);
    assert!(reason.contains("rejected") && reason.contains("(message msg_") && event.detail == reason, "{reason}: {event:?}");
    world.says_yes();
    world.after(15 * 60).await;
    assert_eq!((world.state(), world.kept_back()), ("active", 0));
    assert_eq!(world.hop.taken.lock().unwrap().len(), 19);
}
