//! Limits, lanes and replies, as the next hop sees them.

use super::super::verdict::Verdict;
use super::*;
use mail::classify::ForChannel;
use mail::steady::Credit;
use store::Skip;

impl World {
    /// The most that the next hop answered in any window of so many seconds.
    fn most_in(&self, seconds: i64) -> usize {
        let answered = self.hop.answered.lock().unwrap();
        let within = |from: i64| answered.iter().filter(|(at, _)| (from..from + seconds * 1000).contains(at)).count();
        answered.iter().map(|(at, _)| within(*at)).max().unwrap_or(0)
    }

    fn answered(&self) -> usize {
        self.hop.answered.lock().unwrap().len()
    }

    pub(super) fn says_yes(&self) {
        *self.hop.says.lock().unwrap() = None;
    }

    /// A channel that has just sent by so many connections; what follows is counted from here.
    async fn with_open_connections(count: u16) -> Self {
        let world = Self::held_to(&[&format!("{count} connections")]);
        world.submit_in(900, Lane::Normal, 1).await;
        world.after(1).await;
        for number in 1..3 * count {
            world.submit_in(900 + number, Lane::Normal, 1).await;
        }
        world.after(1).await;
        assert_eq!(world.hop.open.load(Ordering::Relaxed), usize::from(count));
        world.hop.seen.store(0, Ordering::Relaxed);
        world.hop.answered.lock().unwrap().clear();
        world
    }

    fn seen(&self) -> usize {
        self.hop.seen.load(Ordering::Relaxed)
    }

    pub(super) fn state(&self) -> &'static str {
        self.scheduler.channel_state(self.channel()).name()
    }

    pub(super) async fn fill(&self, count: u16, lane: Lane) -> Vec<MessageId> {
        let mut ids = Vec::new();
        for number in 0..count {
            ids.push(self.submit_in(number, lane, 1).await);
        }
        ids
    }
}

/// Pain 1: the limit is used and never exceeded.
#[tokio::test(start_paused = true)]
async fn thirty_a_minute_are_thirty_in_every_minute_and_never_more() {
    let world = World::held_to(&["30 messages / 1 minute", "3 connections"]);
    world.fill(400, Lane::Normal).await;
    world.after(600).await;
    let (count, most) = (world.answered(), world.most_in(60));
    assert!(most <= 30, "{most} in a minute");
    assert!(count >= 297, "{count} in ten minutes");
}

/// Pain 4: over the limit is no state of its own, and nobody has to do anything.
#[tokio::test(start_paused = true)]
async fn pain_4_1800_messages_at_600_an_hour_end_in_three_hours_without_anybody() {
    let world = World::held_to(&["600 messages / 1 hour", "3 connections"]);
    world.fill(1800, Lane::Normal).await;
    for _ in 0..3 * 60 {
        world.after(60).await;
        let counts = world.queue.totals().by_state;
        let of = |state: RecipientState| counts[usize::from(state.code())];
        assert_eq!(of(RecipientState::Queued) + of(RecipientState::Leased) + of(RecipientState::Sent), 1800);
        assert_eq!(world.state(), "active");
    }
    assert_eq!(world.answered(), 1800);
    assert!(world.most_in(3600) <= 600);
    assert_eq!(world.state(), "active");
}

/// Pain 18: the reserve is there for it.
#[tokio::test(start_paused = true)]
async fn pain_18_a_now_message_behind_bulk_leaves_in_the_next_free_slot() {
    let world = World::held_to(&["30 messages / 1 minute", "3 connections"]);
    world.fill(500, Lane::Bulk).await;
    world.after(95).await;
    let before = world.answered();
    assert!(before > 30, "bulk progresses: {before}");
    world.submit_in(900, Lane::Now, 1).await;
    world.after(2).await;
    let answered = world.hop.answered.lock().unwrap().clone();
    assert!(answered.iter().any(|(_, lane)| *lane == Lane::Now), "the reserve is kept for it");
    world.after(600).await;
    assert!(world.most_in(60) <= 30);
}

#[tokio::test(start_paused = true)]
async fn a_message_for_many_is_split_over_windows_and_nobody_gets_it_twice() {
    let world = World::held_to(&["20 recipients / 1 minute", "8 recipients / message", "3 connections"]);
    let id = world.submit_in(1, Lane::Normal, 50).await;
    world.after(50).await;
    let sent = |world: &World| {
        let view = world.queue.message(id).unwrap().unwrap();
        view.recipients.iter().filter(|one| one.state == RecipientState::Sent).count()
    };
    assert!(sent(&world) <= 20, "{}", sent(&world));
    world.after(400).await;
    assert_eq!(sent(&world), 50);
    assert_eq!(world.hop.seen.load(Ordering::Relaxed), 7, "six of eight and one of two");
}

/// Pain 6: a permanent code about a quota is no verdict on a message.
#[tokio::test(start_paused = true)]
async fn pain_6_a_quota_said_with_a_5xx_parks_the_channel_and_ends_no_message() {
    let world = World::with_open_connections(3).await;
    world.says(Stage::FinalDot, 550, "5.4.5 Daily user sending quota exceeded");
    let ids = world.fill(30, Lane::Normal).await;
    world.after(5).await;
    assert_eq!((world.state(), world.seen()), ("throttled", 4), "one on each connection, and one that is to confirm it");
    // Three replies of one burst are one reply: the next try is not put off as after three in a row.
    for (minutes, probes) in [(14, 0), (2, 1), (28, 1), (2, 2), (58, 2), (2, 3), (58, 3), (2, 4)] {
        world.after(minutes * 60).await;
        assert_eq!(world.seen(), 4 + probes, "probes after 15, 30, 60, 60 minutes");
    }
    for id in &ids {
        let one = world.recipient(*id);
        assert_eq!((one.state, one.attempts), (RecipientState::Queued, 0));
    }
    world.says_yes();
    world.after(3700).await;
    assert_eq!((world.answered(), world.state()), (30, "active"));
}

/// Pain 5: what is about the account costs the message nothing.
#[tokio::test(start_paused = true)]
async fn a_login_wanted_on_several_connections_at_once_is_confirmed_by_one_more_try() {
    let world = World::with_open_connections(3).await;
    world.says(Stage::Mail, 530, "5.7.57 SMTP; Client was not authenticated to send mail");
    let logins = world.hop.logins.load(Ordering::Relaxed);
    let ids = world.fill(30, Lane::Normal).await;
    world.after(5).await;
    assert_eq!((world.state(), world.seen()), ("confirming", 3));
    world.after(90).await;
    assert_eq!((world.state(), world.seen()), ("needs_attention", 4));
    world.after(72 * 3600).await;
    assert_eq!((world.seen(), world.hop.logins.load(Ordering::Relaxed)), (4, logins + 1));
    assert!(ids.iter().all(|id| (world.recipient(*id).state, world.recipient(*id).attempts) == (RecipientState::Queued, 0)));
}

#[tokio::test(start_paused = true)]
async fn a_changed_row_frees_a_channel_that_was_parked_before_the_start() {
    for looked_at_before in [true, false] {
        let mut world = World::held_to(&["1 connections"]);
        world.says(Stage::FinalDot, 550, "5.4.5 Daily user sending quota exceeded");
        let ids = world.fill(5, Lane::Normal).await;
        world.after(5).await;
        if !looked_at_before {
            // Without mail nobody looks at the channel before the row changes.
            for message in ids {
                let (to, by) = (mail::Move::Cancel, "ana".into());
                let order = store::Steer { message, recipients: Vec::new(), to, channel: None, by, at: world.now() };
                world.queue.steer(order).await.unwrap();
            }
        }
        world.restart().await;
        assert_eq!(world.state(), "throttled");
        world.says_yes();
        let mut wanted = wanted_with("right", true, &["1 connections"]);
        wanted.channels[0].username = Some("other".into());
        apply(&world.directory, &wanted);
        world.submit_in(11, Lane::Normal, 1).await;
        world.after(70).await;
        assert_eq!((world.answered(), world.state()), (if looked_at_before { 6 } else { 1 }, "active"));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_accepted_of_a_burst_does_not_end_the_wait_for_a_limit() {
    let world = World::with_open_connections(2).await;
    world.hop.stalls.store(true, Ordering::Relaxed);
    world.submit_in(1, Lane::Normal, 1).await;
    world.after(1).await;
    world.says(Stage::FinalDot, 550, "5.4.5 Daily user sending quota exceeded");
    world.submit_in(2, Lane::Normal, 1).await;
    world.after(1).await;
    assert_eq!(world.state(), "throttled");
    world.hop.takes_late.store(true, Ordering::Relaxed);
    world.hop.lost.notify_waiters();
    world.after(60).await;
    assert_eq!((world.answered(), world.state(), world.seen()), (1, "throttled", 2), "nothing is tried before its time");
}

#[tokio::test(start_paused = true)]
async fn a_new_password_ends_no_stop_for_a_quota_and_another_account_does() {
    let world = World::new();
    world.says(Stage::FinalDot, 550, "5.4.5 Daily user sending quota exceeded");
    world.fill(3, Lane::Normal).await;
    world.after(5).await;
    let seen = world.hop.seen.load(Ordering::Relaxed);
    *world.hop.password.lock().unwrap() = "another".into();
    let mut wanted = wanted("another", true);
    apply(&world.directory, &wanted);
    world.after(60).await;
    assert_eq!((world.state(), world.hop.seen.load(Ordering::Relaxed)), ("throttled", seen));
    world.says_yes();
    wanted.channels[0].username = Some("other".into());
    apply(&world.directory, &wanted);
    world.after(5).await;
    assert_eq!((world.state(), world.answered()), ("active", 3));
}

#[tokio::test(start_paused = true)]
async fn pain_5_quota_replies_for_days_spend_no_attempt() {
    let world = World::new();
    world.says(Stage::FinalDot, 452, "4.3.1 the account is over its daily limit");
    let ids = world.fill(68, Lane::Normal).await;
    world.after(5).await;
    let burst = world.seen();
    assert!((2..=4).contains(&burst), "one, and then one on each connection that is to confirm it: {burst}");
    world.after(10 * 24 * 3600).await;
    let probes = world.seen() - burst;
    assert!((239..=242).contains(&probes), "probes after 15 and 30 minutes, then one an hour: {probes}");
    assert!(ids.iter().all(|id| world.recipient(*id).attempts == 0 && world.recipient(*id).state == RecipientState::Queued));
    world.says_yes();
    world.after(2 * 3600).await;
    assert_eq!(world.answered(), 68);
}

/// Pain 20: a throttle says nothing about an address.
#[tokio::test(start_paused = true)]
async fn pain_20_an_unknown_recipient_is_suppressed_and_a_throttle_is_not() {
    let world = World::new();
    world.says(Stage::Rcpt, 550, "5.1.1 user unknown");
    let to_gone = world.message(MessageId::new(world.now(), [1; 10]), ANA, ReversePath::Null, "\"Gone\"@EXAMPLE.org");
    let gone = to_gone.id;
    world.queue.accept(vec![to_gone]).await.unwrap();
    world.after(2).await;
    assert_eq!(world.recipient(gone).state, RecipientState::Failed);
    let listed = world.queue.suppressions(&[], None, 9).unwrap();
    assert_eq!(listed.iter().map(|one| one.address.as_str()).collect::<Vec<_>>(), ["gone@example.org"]);
    world.says(Stage::Rcpt, 450, "4.7.1 too many messages, slow down");
    world.submit_in(2, Lane::Normal, 1).await;
    world.after(2).await;
    assert_eq!(world.queue.suppressions(&[], None, 9).unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn twenty_unknown_recipients_in_a_row_keep_that_persons_mail_back_until_a_release_or_a_resume() {
    for by_release in [true, false] {
        let world = World::held_to(&["1 connections"]);
        world.says(Stage::Rcpt, 550, "5.1.1 user unknown");
        world.fill(40, Lane::Normal).await;
        world.after(300).await;
        assert_eq!(world.hop.seen.load(Ordering::Relaxed), 20);
        let outlook = world.scheduler.outlook(world.channel());
        assert_eq!((outlook.paused_people.len(), world.state()), (1, "active"));
        assert_eq!(world.scheduler.kept_back().len(), 1);
        world.says_yes();
        if by_release {
            world.scheduler.released(world.channel(), true).await;
        } else {
            world.scheduler.steer(world.channel(), ChannelMove::Resume).await;
        }
        world.after(30).await;
        assert_eq!((world.answered(), world.scheduler.kept_back().len()), (20, 0), "released: {by_release}");
    }
}

#[tokio::test(start_paused = true)]
async fn while_a_login_is_confirmed_nobody_can_say_when_mail_leaves() {
    let world = World::held_to(&["1 connections"]);
    let forecast = || world.scheduler.forecast(world.channel(), Lane::Normal, Ahead::default());
    assert!(forecast().is_some());
    *world.hop.password.lock().unwrap() = "changed".into();
    world.fill(1, Lane::Normal).await;
    world.after(2).await;
    assert_eq!((world.state(), forecast()), ("confirming", None));
}

#[tokio::test(start_paused = true)]
async fn a_changed_row_lets_mail_go_that_was_kept_back_for_its_person() {
    let world = World::held_to(&["1 connections"]);
    world.says(Stage::Rcpt, 550, "5.1.1 user unknown");
    world.fill(40, Lane::Normal).await;
    world.after(300).await;
    world.says_yes();
    apply(&world.directory, &wanted_with("right", true, &["2 connections"]));
    world.after(30).await;
    assert_eq!(world.answered(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_a_from_counts_all_its_mail_however_the_field_is_written() {
    let world = World::held_to(&["3 messages / 1 hour / from"]);
    for number in 0..12 {
        world.submit(number, &format!("Ana <ana@example.com> (<x{number}@y.example>)")).await;
    }
    world.after(3590).await;
    assert_eq!(world.answered(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_sender_that_the_provider_refuses_is_held_and_others_go_on() {
    let world = World::held_to(&["1 connections"]);
    world.says(Stage::Mail, 550, "5.7.60 SMTP; Client does not have permissions to send as this sender");
    let held = world.submit(1, "sales@example.com").await;
    world.after(2).await;
    assert_eq!(world.recipient(held).state, RecipientState::Held);
    world.says_yes();
    let also = world.submit(2, "sales@example.com").await;
    let other = world.submit(3, ANA).await;
    world.after(5).await;
    assert_eq!((world.recipient(also).state, world.recipient(other).state), (RecipientState::Held, RecipientState::Sent));
    assert_eq!(world.scheduler.outlook(world.channel()).refused_senders.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refused_sender_of_one_person_holds_nobody_elses_mail_and_no_other_reverse_path() {
    let world = World::held_to(&["1 connections"]);
    let (sales, not_hers) = ("sales@example.com", ReversePath::parse("<ana@example.com>").unwrap());
    world.says(Stage::Mail, 553, "5.7.1 ana@example.com: Sender address rejected: not owned by user");
    let held = world.submit_with(1, sales, not_hers.clone()).await;
    world.after(2).await;
    world.says_yes();
    let again = world.submit_with(2, sales, not_hers.clone()).await;
    let right = world.submit_with(3, sales, ReversePath::parse("<sales@example.com>").unwrap()).await;
    let mut message = world.message(MessageId::new(world.now(), [4; 10]), sales, not_hers, "user4@example.org");
    message.person = PersonId(2);
    let of_another = message.id;
    world.queue.accept(vec![message]).await.unwrap();
    world.after(5).await;
    let states = [held, again, right, of_another].map(|id| world.recipient(id).state);
    assert_eq!(states, [RecipientState::Held, RecipientState::Held, RecipientState::Sent, RecipientState::Sent]);
    let refused = world.scheduler.outlook(world.channel()).refused_senders;
    assert!(matches!(&refused[..], [one] if one.address == "ana@example.com" && one.person == PersonId(1)), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn each_message_that_is_held_is_held_before_the_next_one_leaves() {
    let world = World::held_to(&["1 connections"]);
    world.says(Stage::Mail, 550, "5.7.60 SMTP; Client does not have permissions to send as this sender");
    world.submit(1, "sales@example.com").await;
    world.after(2).await;
    world.says_yes();
    world.hop.stalls.store(true, Ordering::Relaxed);
    let mut held = Vec::new();
    for number in 2..7 {
        held.push(world.submit(number, "sales@example.com").await);
    }
    world.submit(9, ANA).await;
    world.after(2).await;
    for id in held {
        assert_eq!(world.recipient(id).state, RecipientState::Held);
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_asks_for_a_lower_pace_lowers_it_and_it_recovers() {
    let world = World::held_to(&["600 messages / 1 minute", "3 connections"]);
    world.fill(300, Lane::Normal).await;
    world.after(20).await;
    world.says(Stage::FinalDot, 421, "4.4.2 Message submission rate for this client has exceeded the configured limit");
    world.submit_in(900, Lane::Normal, 1).await;
    world.after(3).await;
    world.says_yes();
    let lessons = world.scheduler.outlook(world.channel()).lessons;
    let learned = lessons.pace.expect("the reply teaches a pace");
    assert!(learned.per_minute < 300 && learned.said.contains("submission rate"), "{learned:?}");
    assert_eq!(world.queue.lessons().len(), 1, "it is durable");
    for number in 901..909 {
        world.after(11 * 60).await;
        world.submit_in(number, Lane::Normal, 1).await;
        world.after(2).await;
    }
    assert_eq!(world.answered(), 309);
    assert_eq!(world.scheduler.outlook(world.channel()).lessons.pace, None, "step by step, in about an hour");
    assert_eq!(world.queue.lessons().values().filter(|lessons| lessons.pace.is_some()).count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_a_reply_has_parked_goes_on_by_itself() {
    let world = World::held_to(&["2 recipients / message", "1 connections"]);
    world.says(Stage::Rcpt, 550, "5.4.5 Daily user sending quota exceeded");
    // Of a message in parts one is put off, and the other stays due: nothing becomes due later and wakes the channel.
    world.submit_in(1, Lane::Normal, 3).await;
    world.after(5).await;
    assert_eq!(world.state(), "throttled");
    world.says_yes();
    world.after(2 * 3600).await;
    assert_eq!((world.answered(), world.state()), (2, "active"));
}

#[tokio::test(start_paused = true)]
async fn a_login_that_changes_under_an_open_transaction_leaves_the_units_with_the_old_one() {
    let limits = ["1 messages / 1 minute", "1 connections"];
    let world = World::held_to(&limits);
    world.fill(1, Lane::Normal).await;
    world.after(1).await;
    let mut other = wanted_with("right", true, &limits);
    other.channels[0].username = Some("another".into());
    world.after(120).await;
    world.hop.stalls.store(true, Ordering::Relaxed);
    world.submit_in(10, Lane::Normal, 1).await;
    world.after(1).await;
    apply(&world.directory, &other);
    world.hop.stalls.store(false, Ordering::Relaxed);
    world.hop.lost.notify_waiters();
    world.after(5).await;
    assert_eq!(world.scheduler.outlook(world.channel()).limits[0].used, 0, "the new login has spent nothing");
    apply(&world.directory, &wanted_with("right", true, &limits));
    world.submit_in(11, Lane::Normal, 1).await;
    world.after(1).await;
    assert_eq!(world.scheduler.outlook(world.channel()).limits[0].used, 1, "what the old one spent is still its own");
    world.after(1300).await;
    assert_eq!(world.hop.answered.lock().unwrap().len(), 3, "and grows old");
}

#[tokio::test(start_paused = true)]
async fn a_lesson_of_a_transaction_from_before_the_row_changed_leaves_the_limits_of_the_new_row() {
    let world = World::held_to(&["600 messages / 1 minute", "1 connections"]);
    let before = world.directory.directory();
    let (shared, way) = (&world.scheduler.0, world.scheduler.0.way(world.channel()));
    let began = way.begin(world.now()).expect("nothing is known against it");
    world.scheduler.steer(world.channel(), ChannelMove::Pause { by: "ana".into() }).await;
    world.submit(1, ANA).await;
    let lease = world.queue.lease(world.channel(), Lane::Normal, world.now(), 1, &Skip::default()).unwrap();
    apply(&world.directory, &wanted_with("right", true, &["30 messages / 1 minute", "1 connections"]));
    world.after(1).await;
    let set = || {
        let limits = world.scheduler.outlook(world.channel()).limits.into_iter();
        limits.filter(|one| !one.learned).map(|one| one.limit.count).collect::<Vec<_>>()
    };
    assert_eq!(set(), [30]);
    let verdict = Verdict {
        recipients: Vec::new(),
        channel: Some((ForChannel::Slow { after: None }, Diagnostic::own(None, "slow down"))),
        refuses_from: None,
        may_mean_message: false,
        refusals: Vec::new(),
        accepted: false,
    };
    let outgoing = Outgoing { lease, body: Default::default(), reverse_path: ReversePath::Null };
    shared.heed(&way, before.channel(world.channel()).unwrap(), &outgoing, &verdict, began).await;
    assert!(world.scheduler.outlook(world.channel()).lessons.pace.is_some());
    assert_eq!(set(), [30]);
}

#[tokio::test(start_paused = true)]
async fn a_from_at_its_limit_goes_on_as_soon_as_the_limit_is_lifted() {
    let world = World::held_to(&["1 messages / 1 hour / from", "1 connections"]);
    world.fill(3, Lane::Normal).await;
    world.after(5).await;
    assert_eq!(world.answered(), 1);
    apply(&world.directory, &wanted_with("right", true, &["1 connections"]));
    world.after(5).await;
    assert_eq!(world.answered(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_from_at_its_limit_goes_on_as_soon_as_the_time_off_is_credited() {
    let world = World::held_to(&["1 messages / 1 hour / from", "1 connections"]);
    world.fill(3, Lane::Normal).await;
    world.after(5).await;
    assert_eq!(world.answered(), 1);
    world.scheduler.credited(&Credit { before: world.now(), by: Duration::from_secs(7200) });
    world.after(5).await;
    assert_eq!(world.answered(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_login_that_is_seen_before_it_is_followed_is_counted_from_its_first_message_on() {
    let limits = ["1 messages / 1 hour", "1 connections"];
    let world = World::held_to(&limits);
    let accounts = Accounts::new(&world.directory.directory(), Vec::new());
    let mut other = wanted_with("right", true, &limits);
    other.channels[0].username = Some("another".into());
    apply(&world.directory, &other);
    let directory = world.directory.directory();
    let row = directory.channel(world.channel()).unwrap();
    let account = accounts.of(row, &directory);
    assert!(account.is_limited());
    account.ledger().spend(None, mail::pace::Units::transaction(1, 1));
    accounts.follow(&directory, &|| world.now(), || Ok(Vec::new())).unwrap();
    assert_eq!(accounts.of(row, &directory).ledger().used(&row.limits[0], None, world.now()), 1);
}

#[tokio::test(start_paused = true)]
async fn what_leaves_by_a_channel_without_limits_counts_on_the_login_it_shares() {
    let world = World::held_to(&["2 messages / 1 hour", "1 connections"]);
    let mut both = wanted_with("right", true, &["2 messages / 1 hour", "1 connections"]);
    let mut free = wanted_with("right", true, &["1 connections"]).channels.swap_remove(0);
    (free.name, free.default) = ("free".into(), false);
    both.channels.push(free);
    apply(&world.directory, &both);
    let mut message = world.message(MessageId::new(world.now(), [1; 10]), ANA, ReversePath::Null, "luis@example.org");
    message.channel = world.directory.directory().channel_named("free").unwrap().id;
    world.queue.accept(vec![message]).await.unwrap();
    world.after(5).await;
    assert_eq!(world.scheduler.outlook(world.channel()).limits[0].used, 1);
    world.fill(5, Lane::Normal).await;
    world.after(60).await;
    assert_eq!(world.answered(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_is_set_later_counts_what_was_spent_before() {
    let world = World::held_to(&["30 messages / 1 minute", "1 connections"]);
    world.fill(5, Lane::Normal).await;
    world.after(600).await;
    assert_eq!(world.scheduler.outlook(world.channel()).limits[0].used, 0, "the minute has let them go");
    apply(&world.directory, &wanted_with("right", true, &["30 messages / 1 minute", "6 messages / 24 hours", "1 connections"]));
    world.submit_in(10, Lane::Normal, 1).await;
    world.submit_in(11, Lane::Normal, 1).await;
    world.after(600).await;
    assert_eq!(world.answered(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_message_larger_than_a_window_that_was_set_later_is_held_and_stops_nobody() {
    for window in ["33 bytes / 5 minutes", "33 bytes / 5 minutes / from"] {
        let world = World::held_to(&["1 connections"]);
        world.scheduler.steer(world.channel(), ChannelMove::Pause { by: "ana".into() }).await;
        let large = world.submit(1, "sales@example.com").await;
        let small = world.submit(2, ANA).await;
        apply(&world.directory, &wanted_with("right", true, &["1 connections", window]));
        world.scheduler.steer(world.channel(), ChannelMove::Resume).await;
        world.after(5).await;
        assert_eq!(world.recipient(large).state, RecipientState::Held, "{window}");
        assert!(world.recipient(large).said.contains("takes at most 33"), "{}", world.recipient(large).said);
        assert_eq!(world.recipient(small).state, RecipientState::Sent, "{window}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_next_hop_without_room_is_left_alone_for_as_long_as_its_rule_says() {
    for connections in ["1 connections", "3 connections"] {
        let world = World::held_to(&[connections]);
        let mut postfix = wanted_with("right", true, &[connections]);
        postfix.channels[0].provider = Some("postfix".into());
        apply(&world.directory, &postfix);
        world.fill(20, Lane::Normal).await;
        world.after(1).await;
        world.says(Stage::Mail, 452, "4.3.1 Insufficient system storage");
        let before = world.hop.seen.load(Ordering::Relaxed);
        let ids = [world.submit_in(900, Lane::Normal, 1).await, world.submit_in(901, Lane::Normal, 1).await];
        world.after(5).await;
        assert_eq!(world.state(), "unreachable", "{connections}");
        world.after(3600).await;
        let seen = world.hop.seen.load(Ordering::Relaxed) - before;
        assert!((3..=8).contains(&seen), "once for each connection, then every fifteen minutes and later: {seen}");
        assert!(ids.iter().all(|id| (world.recipient(*id).state, world.recipient(*id).attempts) == (RecipientState::Queued, 0)));
        world.says_yes();
        world.after(3 * 3600).await;
        assert_eq!((world.answered(), world.state()), (22, "active"));
    }
}

#[tokio::test(start_paused = true)]
async fn the_outlook_names_a_from_at_its_limit_and_when_it_goes_on() {
    let world = World::held_to(&["1 messages / 1 hour / from", "1 connections"]);
    world.fill(3, Lane::Normal).await;
    world.after(5).await;
    let outlook = world.scheduler.outlook(world.channel());
    let [full] = &outlook.full_froms[..] else { panic!("{outlook:?}") };
    assert_eq!(full.from, mail::pace::FromId::of(ANA));
    let hour = full.until.unwrap().since(world.now()).as_secs();
    assert!((3590..=3604).contains(&hour), "{hour}");
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_asks_for_fewer_connections_takes_one_away_and_mail_goes_on_by_the_others() {
    let world = World::held_to(&["3 connections"]);
    world.fill(9, Lane::Normal).await;
    world.after(1).await;
    world.hop.stalls.store(true, Ordering::Relaxed);
    for number in 10..13 {
        world.submit_in(number, Lane::Normal, 1).await;
    }
    world.after(1).await;
    assert_eq!(world.hop.open.load(Ordering::Relaxed), 3);
    world.hop.most_open.store(2, Ordering::Relaxed);
    world.hop.stalls.store(false, Ordering::Relaxed);
    world.hop.lost.notify_waiters();
    for number in 20..70 {
        world.submit_in(number, Lane::Normal, 1).await;
    }
    world.after(20).await;
    assert_eq!(world.scheduler.outlook(world.channel()).lessons.cap.expect("taught").connections, 2);
    assert_eq!((world.answered(), world.state()), (59, "active"));
}

#[tokio::test(start_paused = true)]
async fn what_a_channel_keeps_back_outlives_a_restart_and_is_told_until_a_person_lets_it_go() {
    let mut world = World::held_to(&["1 connections"]);
    world.says(Stage::Rcpt, 550, "5.1.1 user unknown");
    world.fill(40, Lane::Normal).await;
    world.after(300).await;
    world.says(Stage::Mail, 550, "5.7.60 SMTP; Client does not have permissions to send as this sender");
    let other = MessageId::new(world.now(), [99; 10]);
    let message =
        NewMessage { person: PersonId(2), ..world.message(other, "sales@example.com", ReversePath::Null, "eva@example.org") };
    world.queue.accept(vec![message]).await.unwrap();
    world.after(30).await;
    world.says_yes();
    world.restart().await;
    world.after(300).await;
    let outlook = world.scheduler.outlook(world.channel());
    assert_eq!((outlook.paused_people.len(), outlook.refused_senders.len(), world.answered()), (1, 1, 0));
    let also = world.submit(200, "sales@example.com").await;
    world.scheduler.steer(world.channel(), ChannelMove::Resume).await;
    world.after(60).await;
    assert_eq!((world.answered(), world.recipient(also).state), (21, RecipientState::Sent));
    world.restart().await;
    let outlook = world.scheduler.outlook(world.channel());
    assert_eq!((outlook.paused_people.len(), outlook.refused_senders.len()), (0, 0));
    let mut told = world.queue.events_of_channel(world.channel(), 50).unwrap();
    told.retain(|event| !event.kind.name().starts_with("channel.conn"));
    told.reverse();
    let told: Vec<String> = told.iter().map(|event| format!("{} {}", event.kind.name(), event.detail)).collect();
    let begins = [
        "channel.person_paused ana@example.com: 20 recipients in a row were refused",
        "channel.sender_revoked sales@example.com: 550 5.7.",
        "channel.person_resumed ana@example.com: somebody resumed the channel",
        "channel.sender_restored sales@example.com: somebody resumed the channel",
    ];
    assert_eq!(told.len(), begins.len(), "{told:#?}");
    assert!(told.iter().zip(begins).all(|(told, begins)| told.starts_with(begins)), "{told:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_login_that_is_refused_at_mail_again_after_it_succeeded_needs_a_person() {
    for (code, text) in [(530, "5.7.0 Authentication required"), (535, "5.7.8 Error: authentication failed")] {
        let world = World::new();
        world.says(Stage::Mail, code, text);
        let ids = world.fill(20, Lane::Normal).await;
        world.after(24 * 3600).await;
        let logins = world.hop.logins.load(Ordering::Relaxed);
        assert_eq!((world.state(), logins <= 4), ("needs_attention", true), "{logins} logins");
        assert!(ids.iter().all(|id| world.recipient(*id).attempts == 0));
        world.says_yes();
        world.scheduler.steer(world.channel(), ChannelMove::Resume).await;
        world.after(60).await;
        assert_eq!((world.answered(), world.state()), (20, "active"));
        // Mail has left since: one refusal more is confirmed first.
        world.says(Stage::Mail, code, text);
        world.fill(1, Lane::Now).await;
        world.after(2).await;
        assert_eq!(world.state(), "confirming");
        world.says_yes();
        world.after(120).await;
        assert_eq!((world.answered(), world.state()), (21, "active"));
    }
}
