//! A login that is refused: no mail is lost, no account is locked, and nobody has to be quick.

use super::gateway::{Gateway, incoming};
use crate::scheduler::{ChannelMove, Duration};
use mail::{EventKind, Lane, RecipientState, Stage};
use store::Queue;

const HOUR: u64 = 3600;

/// Of what waited, `now` leaves first; meanwhile `normal` has its one in five and bulk its one in twenty.
fn now_went_first(lanes: &[Lane], now: usize) {
    let last = lanes.iter().rposition(|lane| *lane == Lane::Now).expect("something urgent left");
    assert_eq!(lanes.iter().filter(|lane| **lane == Lane::Now).count(), now);
    let count = |lane: Lane| lanes[..last].iter().filter(|one| **one == lane).count();
    let (normal, bulk) = (count(Lane::Normal), count(Lane::Bulk));
    assert!(normal <= now.div_ceil(4) && bulk <= (now + normal).div_ceil(19), "{normal} and {bulk} left before urgent mail");
}

/// Pains 9 and 10: a changed password stops the channel after two logins, whatever is submitted, however long it
/// lasts and however often the process dies; once it is mended everything leaves once, what is urgent first.
#[tokio::test(start_paused = true)]
async fn fifty_thousand_messages_outlive_a_72_hour_login_outage_and_six_restarts() {
    let mut gateway = Gateway::held_to(&["1200 messages / 1 minute", "4 connections"]).await;
    gateway.provider().accepts_password("changed");
    gateway.submit(1000, Lane::Normal).await;
    gateway.after(5).await;
    assert_eq!(gateway.provider().logins(), 1);
    // A process that dies between the refusal and its confirmation does not begin to count again.
    gateway.restart_after(Duration::from_secs(3)).await;
    for hour in 1..=49 {
        let lane = if hour % 2 == 0 { Lane::Bulk } else { Lane::Normal };
        gateway.submit(if hour == 30 { 900 } else { 1000 }, lane).await;
        gateway.after(HOUR).await;
        if hour % 12 == 0 {
            gateway.restart_after(Duration::from_secs(60 * hour)).await;
        }
    }
    gateway.submit(100, Lane::Now).await;
    gateway.after(22 * HOUR).await;
    gateway.restart_after(Duration::from_secs(1)).await;
    gateway.after(HOUR).await;
    assert_eq!((gateway.provider().logins(), gateway.provider().refused_logins()), (2, 2));
    assert_eq!(gateway.channel_state(), "needs_attention");
    assert_eq!(gateway.all_are(&[RecipientState::Queued]), 50_000);

    gateway.set_password("changed");
    gateway.after(HOUR).await;
    assert_eq!(gateway.all_are(&[RecipientState::Sent]), 50_000);
    assert_eq!(gateway.provider().recipients_once(), 50_000);
    let lanes: Vec<Lane> = gateway.provider().taken().iter().map(|one| one.lane).collect();
    now_went_first(&lanes, 100);
    assert!(gateway.provider().most_in(60, |_| 1) <= 1200);
}

/// Pain 9: the channel stops within one confirmed failure, the door goes on to accept, and everything leaves once.
#[tokio::test(start_paused = true)]
async fn a_password_changed_at_work_keeps_the_door_open_for_ten_thousand_more() {
    let mut gateway = Gateway::held_to(&["2 connections"]).await;
    gateway.submit(50, Lane::Normal).await;
    gateway.after(60).await;
    assert_eq!(gateway.count(RecipientState::Sent), 50);
    gateway.provider().accepts_password("changed");
    let (door, began) = (gateway.intake(), gateway.now());
    door.accept(incoming(0, Lane::Normal)).await.unwrap();
    gateway.after(70).await;
    assert_eq!((gateway.channel_state(), gateway.provider().refused_logins()), ("needs_attention", 2));
    let events = gateway.queue().events_of_channel(gateway.channel(), 100).unwrap();
    let told = events.iter().filter(|event| event.kind == EventKind::ChannelNeedsAttention).collect::<Vec<_>>();
    assert_eq!(told.len(), 1);
    assert!(told[0].at.since(began) <= Duration::from_secs(61) && told[0].detail.contains("535"), "{told:?}");

    for number in 1..=10_000 {
        let lane = if number % 100 == 0 { Lane::Now } else { Lane::Normal };
        door.accept(incoming(number, lane)).await.unwrap();
    }
    gateway.after(HOUR).await;
    assert_eq!(gateway.provider().refused_logins(), 2);
    gateway.set_password("changed");
    gateway.after(HOUR).await;
    assert_eq!(gateway.all_are(&[RecipientState::Sent]), 10_051);
    assert_eq!(gateway.provider().recipients_once(), 10_051);
    let lanes: Vec<Lane> = gateway.provider().taken().iter().skip(50).map(|one| one.lane).collect();
    now_went_first(&lanes, 100);
}

/// Pain 10: a person who tries again with the same password costs the account two logins, and no more.
#[tokio::test(start_paused = true)]
async fn trying_again_with_the_same_password_costs_two_logins_each_time() {
    let gateway = Gateway::held_to(&["4 connections"]).await;
    gateway.provider().accepts_password("changed");
    gateway.submit(500, Lane::Normal).await;
    gateway.after(24 * HOUR).await;
    assert_eq!(gateway.provider().logins(), 2);
    for tries in 1..=3 {
        gateway.scheduler().steer(gateway.channel(), ChannelMove::Resume).await;
        gateway.after(24 * HOUR).await;
        assert_eq!(gateway.provider().logins(), 2 + 2 * tries);
        assert_eq!(gateway.channel_state(), "needs_attention");
    }
    assert_eq!(gateway.all_are(&[RecipientState::Queued]), 500);
}

/// Pain 11: 454 says that the login cannot be checked now. It asks for nobody, and the mail leaves by itself.
#[tokio::test(start_paused = true)]
async fn a_454_to_the_login_never_asks_for_a_person() {
    let gateway = Gateway::held_to(&["2 connections"]).await;
    gateway.provider().says(Stage::Auth, "454 4.7.0 Temporary authentication failure");
    gateway.submit(20, Lane::Normal).await;
    for _ in 0..24 * 6 {
        gateway.after(600).await;
        assert_eq!(gateway.channel_state(), "unreachable");
    }
    assert!((5..20).contains(&gateway.provider().logins()), "{}", gateway.provider().logins());
    assert_eq!(gateway.all_are(&[RecipientState::Queued]), 20);
    gateway.provider().says_yes();
    gateway.after(7 * HOUR).await;
    assert_eq!((gateway.all_are(&[RecipientState::Sent]), gateway.channel_state()), (20, "active"));
}

/// Pain 11: a lone 535 is confirmed by a second try after 30 to 60 seconds; a good one leaves one event of trouble.
#[tokio::test(start_paused = true)]
async fn a_lone_535_is_confirmed_within_a_minute_and_forgotten_when_it_was_none() {
    for _ in 0..5 {
        let gateway = Gateway::held_to(&["2 connections"]).await;
        gateway.provider().says(Stage::Auth, "535 5.7.8 authentication backend unavailable");
        gateway.submit(20, Lane::Normal).await;
        gateway.after(10).await;
        gateway.provider().says_yes();
        gateway.after(60).await;
        assert_eq!((gateway.all_are(&[RecipientState::Sent]), gateway.channel_state()), (20, "active"));
        let logins = gateway.provider().state().logins.clone();
        assert_eq!(logins.iter().filter(|(_, taken)| !taken).count(), 1);
        assert!((30_000..=60_100).contains(&(logins[1].0 - logins[0].0)), "{logins:?}");
        let events = gateway.queue().events_of_channel(gateway.channel(), 100).unwrap();
        let mut kinds: Vec<EventKind> = events.iter().map(|event| event.kind).collect();
        kinds.retain(|kind| !matches!(kind, EventKind::MessageQueued | EventKind::MessageSent));
        kinds.sort_by_key(|kind| *kind as u8);
        assert_eq!(kinds, [EventKind::ChannelConnected, EventKind::ChannelUnreachable]);
    }
}
