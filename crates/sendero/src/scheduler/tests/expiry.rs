//! Times: not before, not after, and what a clock that was set changes.

use super::*;
use mail::EventKind;
use mail::channel::ChannelMove;

const MINUTE: u64 = 60;

impl World {
    /// A message of Ana's that leaves not before and not after so many minutes.
    async fn submit_timed(&self, number: u8, schedule: Option<i64>, expires: Option<i64>) -> MessageId {
        let id = MessageId::new(self.now(), [number; 10]);
        let in_minutes = |count: i64| Timestamp(self.now().0 + count * 60_000);
        let mut message =
            self.message(id, ANA, ReversePath::parse("<ana@example.com>").unwrap(), &format!("user{number}@example.org"));
        (message.scheduled_at, message.expires_at) = (schedule.map(in_minutes), expires.map(in_minutes));
        self.queue.accept(vec![message]).await.unwrap();
        id
    }

    fn is(&self, id: MessageId) -> RecipientState {
        self.recipient(id).state
    }
}

#[tokio::test(start_paused = true)]
async fn scheduled_mail_leaves_at_its_time_and_not_before() {
    let world = World::new();
    let (now, later) = (world.submit_timed(1, None, None).await, world.submit_timed(2, Some(90), None).await);
    world.after(90 * MINUTE - 1).await;
    assert_eq!((world.is(now), world.is(later)), (RecipientState::Sent, RecipientState::Queued));
    world.after(2).await;
    assert_eq!(world.is(later), RecipientState::Sent);
}

#[tokio::test(start_paused = true)]
async fn scheduled_mail_goes_by_the_wall_clock_and_a_release_does_not_send_it_early() {
    let world = World::new();
    let id = world.submit_timed(1, Some(5 * 60), None).await;
    let steer = |to| store::Steer { message: id, recipients: vec![], to, channel: None, by: "ana".into(), at: world.now() };
    for to in [mail::Move::Hold, mail::Move::Release] {
        world.queue.steer(steer(to)).await.unwrap();
    }
    world.after(2 * 3600).await;
    assert_eq!(world.is(id), RecipientState::Queued);
    // An hour forward: two more are left.
    world.clock.set(1);
    world.after(2 * 3600 - 15).await;
    assert_eq!(world.is(id), RecipientState::Queued);
    world.after(30).await;
    assert_eq!(world.is(id), RecipientState::Sent);
}

#[tokio::test(start_paused = true)]
async fn what_could_not_leave_in_time_expires_with_a_report_whatever_its_channel_does() {
    for parked in ["down", "paused", "paced", "deferred"] {
        let world = if parked == "paced" { World::held_to(&["1 message / 1 day"]) } else { World::new() };
        match parked {
            "down" => world.hop.down.store(true, Ordering::Relaxed),
            "paused" => world.scheduler.steer(world.channel(), ChannelMove::Pause { by: "ana".into() }).await,
            "deferred" => world.hop.defers.store(true, Ordering::Relaxed),
            _ => drop(world.submit_timed(9, None, None).await),
        }
        world.after(5).await;
        let id = world.submit_timed(1, None, Some(15)).await;
        world.after(15 * MINUTE - 1).await;
        assert_eq!(world.is(id), RecipientState::Queued, "{parked}");
        let seen = world.hop.seen.load(Ordering::Relaxed);
        world.after(2).await;
        let one = world.recipient(id);
        assert_eq!(one.state, RecipientState::Expired, "{parked}");
        assert!(one.said.contains("not to be sent"), "{}", one.said);
        assert_eq!(world.reports().len(), 1, "{parked}");
        let events = world.queue.events_of(id, 0, 100).unwrap();
        assert_eq!(events.last().unwrap().kind, EventKind::MessageExpired);
        world.hop.down.store(false, Ordering::Relaxed);
        world.hop.defers.store(false, Ordering::Relaxed);
        world.scheduler.steer(world.channel(), ChannelMove::Resume).await;
        world.after(3600).await;
        assert_eq!((world.is(id), world.hop.seen.load(Ordering::Relaxed)), (RecipientState::Expired, seen), "{parked}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_left_in_time_does_not_expire() {
    let world = World::new();
    let id = world.submit_timed(1, Some(10), Some(15)).await;
    world.after(3600).await;
    assert_eq!((world.is(id), world.reports().len()), (RecipientState::Sent, 0));
}

#[tokio::test(start_paused = true)]
async fn however_much_mail_comes_the_calendar_is_looked_at_once_a_second_and_mail_expires_within_one() {
    let world = World::new();
    world.scheduler.steer(world.channel(), ChannelMove::Pause { by: "ana".into() }).await;
    world.after(60).await;
    let looks = || world.clock.3.load(Ordering::Relaxed);
    let (before, mut timed) = (looks(), Vec::new());
    for number in 0..1000_u16 {
        if number % 100 == 50 {
            let id = MessageId::new(world.now(), [number as u8; 10]);
            let at = Timestamp(world.now().0 + 300);
            timed.push((id, at));
            let message = world.message(id, ANA, ReversePath::Null, "eva@example.org");
            world.queue.accept(vec![NewMessage { expires_at: Some(at), ..message }]).await.unwrap();
        }
        world.submit_in(number, Lane::Normal, 1).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        let late = |at: Timestamp| world.now().0 - at.0;
        for (id, at) in &timed {
            let is_over = world.is(*id) == RecipientState::Expired;
            assert!(if is_over { late(*at) >= 0 } else { late(*at) <= 1020 }, "{is_over}, {} ms", late(*at));
        }
    }
    let looks = looks() - before;
    assert!(looks <= 80, "{looks} in 20 seconds, for ten that expired");
}

#[tokio::test(start_paused = true)]
async fn mail_that_expires_while_the_disk_is_full_waits_for_room_and_is_not_tried_without_a_pause() {
    for clock_was_set in [false, true] {
        let world = World::new();
        let id = world.submit_timed(1, Some(10), Some(15)).await;
        world.scheduler.steer(world.channel(), ChannelMove::Pause { by: "ana".into() }).await;
        world.queue.set_full(true);
        world.after(15 * MINUTE + 1).await;
        world.clock.set(i64::from(clock_was_set));
        world.scheduler.steer(world.channel(), ChannelMove::Resume).await;
        world.after(3600).await;
        assert!(!world.is(id).is_final());
        world.clock.prove(world.began);
        world.queue.set_full(false);
        world.after(20).await;
        assert_eq!((world.is(id), world.reports().len()), (RecipientState::Expired, 1), "{clock_was_set}");
        assert_eq!(world.hop.seen.load(Ordering::Relaxed), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn after_the_clock_was_set_nothing_expires_and_nothing_is_sent_late_until_it_is_proved() {
    let world = World::new();
    let channel = world.channel();
    world.scheduler.steer(channel, ChannelMove::Pause { by: "ana".into() }).await;
    let (short, long) = (world.submit_timed(1, None, Some(15)).await, world.submit_timed(2, None, Some(600)).await);
    world.after(60).await;
    world.clock.set(5);
    world.after(60).await;
    assert_eq!(world.is(short), RecipientState::Queued, "nobody knows");
    world.scheduler.steer(channel, ChannelMove::Resume).await;
    world.after(10 * MINUTE).await;
    assert_eq!((world.is(short), world.is(long)), (RecipientState::Queued, RecipientState::Sent));
    // It was wrong, and is set back before its time is over.
    world.clock.set(0);
    world.clock.prove(world.began);
    world.after(80).await;
    assert_eq!(world.is(short), RecipientState::Sent);

    world.scheduler.steer(channel, ChannelMove::Pause { by: "ana".into() }).await;
    let third = world.submit_timed(3, None, Some(15)).await;
    world.clock.set(-3);
    world.after(3600).await;
    world.scheduler.steer(channel, ChannelMove::Resume).await;
    world.after(60).await;
    assert_eq!(world.is(third), RecipientState::Queued, "by the clock as it was its time is over");
    world.clock.set(0);
    world.clock.prove(world.began);
    world.after(80).await;
    assert_eq!(world.is(third), RecipientState::Expired);
}

#[tokio::test(start_paused = true)]
async fn what_is_in_doubt_is_put_off_by_the_hour_and_goes_as_soon_as_the_clock_is_proved() {
    let world = World::new();
    let channel = world.channel();
    world.scheduler.steer(channel, ChannelMove::Pause { by: "ana".into() }).await;
    let id = world.submit_timed(1, None, Some(6 * 60)).await;
    world.clock.set(7);
    world.after(60).await;
    world.scheduler.steer(channel, ChannelMove::Resume).await;
    world.after(5).await;
    let next = world.recipient(id).due.unwrap();
    assert_eq!(next.since(world.now()).as_secs().div_ceil(60), 60);
    world.after(4 * 3600).await;
    assert_eq!(world.is(id), RecipientState::Queued);
    // It is set right while there is time.
    world.clock.set(0);
    world.clock.prove(world.began);
    world.after(15).await;
    assert_eq!(world.is(id), RecipientState::Sent);
}

#[tokio::test(start_paused = true)]
async fn thirty_days_without_a_working_channel_hold_mail_and_a_release_gives_it_thirty_more() {
    const DAY: u64 = 24 * 3600;
    let mut world = World::held_to(&["1 connections"]);
    let first = world.submit(1, ANA).await;
    world.after(60).await;
    assert_eq!(world.is(first), RecipientState::Sent);
    world.hop.down.store(true, Ordering::Relaxed);
    let early = world.submit(2, ANA).await;
    world.after(20 * DAY).await;
    world.restart().await;
    let late = world.submit(3, ANA).await;
    world.after(10 * DAY - 7200).await;
    assert_eq!((world.is(early), world.is(late)), (RecipientState::Queued, RecipientState::Queued));
    world.after(4 * 3600).await;
    assert_eq!((world.is(early), world.is(late)), (RecipientState::Held, RecipientState::Queued));
    let said = world.recipient(early).said;
    assert_eq!(said, "held by the gateway, because channel 'mailbox' has not worked for 30 days");

    let release = store::Steer {
        message: early,
        recipients: vec![],
        to: mail::Move::Release,
        channel: None,
        by: "ana".into(),
        at: world.now(),
    };
    world.queue.steer(release).await.unwrap();
    world.scheduler.released(world.channel(), false).await;
    world.after(29 * DAY).await;
    assert_eq!((world.is(early), world.is(late)), (RecipientState::Queued, RecipientState::Queued));
    world.hop.down.store(false, Ordering::Relaxed);
    world.after(DAY).await;
    assert_eq!((world.is(early), world.is(late)), (RecipientState::Sent, RecipientState::Sent));
}

#[tokio::test(start_paused = true)]
async fn however_much_waits_in_vain_is_held_at_one_time() {
    let world = World::held_to(&["1 connections"]);
    world.hop.down.store(true, Ordering::Relaxed);
    world.fill(2500, Lane::Bulk).await;
    world.after(30 * 24 * 3600 - 7200).await;
    let held = || world.queue.totals().by_state[usize::from(RecipientState::Held.code())];
    assert_eq!(held(), 0);
    world.after(4 * 3600).await;
    assert_eq!(held(), 2500);
}

#[tokio::test(start_paused = true)]
async fn quota_replies_for_thirty_days_hold_mail_too_although_one_is_tried_each_hour() {
    let world = World::held_to(&["1 connections"]);
    *world.hop.says.lock().unwrap() = Some((Stage::FinalDot, 452, "4.3.1 the account is over its daily limit"));
    let ids = [world.submit(1, ANA).await, world.submit(2, ANA).await];
    world.after(29 * 24 * 3600).await;
    assert_eq!(ids.map(|id| world.is(id)), [RecipientState::Queued; 2]);
    world.after(30 * 3600).await;
    assert_eq!(ids.map(|id| world.is(id)), [RecipientState::Held; 2]);
}

#[tokio::test(start_paused = true)]
async fn mail_that_waits_for_a_place_on_a_working_channel_is_not_held() {
    let world = World::held_to(&["1 message / 1 day", "1 connections"]);
    let mut last = world.submit(0, ANA).await;
    for number in 1..35 {
        last = world.submit(number, ANA).await;
    }
    world.after(33 * 24 * 3600).await;
    assert_eq!(world.is(last), RecipientState::Queued);
    world.after(3 * 24 * 3600).await;
    assert_eq!(world.is(last), RecipientState::Sent);
}
