//! Limits, as providers count them.

use super::gateway::Gateway;
use super::provider::Transaction;
use mail::{Lane, MessageId, PersonId, RecipientState};

const HOUR: u64 = 3600;
/// A window as it is kept: a thousandth longer, in milliseconds.
const DAY: i64 = 24 * 3_600_000 / 1000 * 1001;

/// Pain 1: every account has its own limit, and one does not wait for the other.
#[tokio::test(start_paused = true)]
async fn thirty_and_six_hundred_a_minute_run_side_by_side() {
    let slow: &[&str] = &["30 messages / 1 minute", "2 connections"];
    let fast: &[&str] = &["600 messages / 1 minute", "4 connections"];
    let gateway = Gateway::of("microsoft365", &[("home", slow), ("office", fast)]).await;
    gateway.submit_by("home", 1000, Lane::Normal, 1).await;
    gateway.submit_by("office", 1000, Lane::Normal, 1).await;
    gateway.after(30).await;
    assert_eq!((gateway.provider_of("home").taken().len(), gateway.provider_of("office").taken().len()), (30, 600));
    gateway.after(60).await;
    assert_eq!((gateway.provider_of("home").taken().len(), gateway.provider_of("office").taken().len()), (60, 1000));
    gateway.after(33 * 60).await;
    assert_eq!(gateway.all_are(&[RecipientState::Sent]), 2000);
    for (name, limit) in [("home", 30), ("office", 600)] {
        let provider = gateway.provider_of(name);
        assert_eq!((provider.most_in(60, |_| 1), provider.recipients_once()), (limit, 1000), "{name}");
    }
}

/// Pain 2: a unit is free when a day and a thousandth of it have passed since the reply that it was spent for, and
/// recipients are counted, not messages.
#[tokio::test(start_paused = true)]
async fn the_10_001st_recipient_leaves_to_the_second_when_the_oldest_has_aged_out() {
    let gateway = Gateway::held_to(&["10000 recipients / 24 hours", "3 connections"]).await;
    let begun = |number: usize| gateway.provider().state().transactions[number].began;
    let answered = |number: usize| gateway.provider().state().transactions[number].answered.unwrap();
    let leaves_with = |oldest: i64, number: usize| {
        let after = begun(number) - (oldest + DAY);
        assert!((0..1000).contains(&after), "transaction {number} left {after} ms after its unit was free");
    };
    gateway.submit_by("mailbox", 1, Lane::Normal, 200).await;
    gateway.after(1).await;
    gateway.submit(9_800, Lane::Normal).await;
    gateway.after(2 * HOUR).await;
    assert_eq!(gateway.count(RecipientState::Sent), 10_000);
    gateway.submit(201, Lane::Normal).await;
    gateway.after(21 * HOUR).await;
    assert_eq!(gateway.provider().seen(), 9_801, "the day is used up");
    gateway.after(2 * HOUR).await;
    // The oldest was one message to 200: as many leave together, at the pace of three connections.
    let oldest = answered(0);
    leaves_with(oldest, 9_801);
    assert!(begun(9_801 + 199) < oldest + DAY + 6_000);
    assert!(begun(9_801 + 200) > oldest + DAY, "the 201st waits for the next oldest");
    leaves_with(answered(1).max(begun(9_801 + 199) - DAY), 9_801 + 200);
    let recipients = |one: &Transaction| one.recipients;
    assert_eq!(gateway.provider().most_in(24 * HOUR, recipients), 10_000);
    assert_eq!(gateway.provider().recipients_once(), 10_201);
}

/// Pain 18: behind ten thousand of bulk an urgent message has the next free slot, time after time; bulk goes on.
#[tokio::test(start_paused = true)]
async fn a_now_message_behind_ten_thousand_of_bulk_leaves_within_two_seconds() {
    let gateway = Gateway::held_to(&["30 messages / 1 minute", "3 connections"]).await;
    gateway.submit(10_000, Lane::Bulk).await;
    gateway.after(600).await;
    let mut asked = Vec::new();
    for pause in (0..40).map(|step| 61 + step * 37 % 60) {
        gateway.after(pause).await;
        asked.push(gateway.now().0 - super::super::EPOCH);
        gateway.submit(1, Lane::Now).await;
    }
    gateway.after(10).await;
    let taken = gateway.provider().taken();
    let urgent: Vec<i64> = taken.iter().filter(|one| one.lane == Lane::Now).map(|one| one.began).collect();
    assert_eq!(urgent.len(), asked.len());
    for (asked, began) in asked.iter().zip(urgent) {
        assert!((0..=2_100).contains(&(began - asked)), "{} ms", began - asked);
    }
    let minutes = (gateway.now().0 - super::super::EPOCH) as f64 / 60_000.0;
    let bulk = taken.iter().filter(|one| one.lane == Lane::Bulk).count() as f64;
    assert!(bulk >= 28.0 * minutes * 0.97, "bulk got {bulk} in {minutes} minutes");
    assert!(gateway.provider().most_in(60, |_| 1) <= 30);
}

/// Mail marked as urgent delays the rest and does not stop it; who waits behind it is told the true time.
#[tokio::test(start_paused = true)]
async fn a_flood_of_now_leaves_one_unit_in_five_to_normal_and_the_estimate_knows_it() {
    let gateway = Gateway::held_to(&["60 messages / 1 minute", "1 connections"]).await;
    gateway.submit(240, Lane::Now).await;
    gateway.after(5).await;
    let normal = gateway.submit(2, Lane::Normal).await;
    gateway.after(1).await;
    let told = gateway.waits(normal[0]).and_then(|waits| waits.next_try).unwrap();
    gateway.after(70).await;
    let taken = gateway.provider().taken();
    let places: Vec<usize> = (0..taken.len()).filter(|place| taken[*place].lane == Lane::Normal).collect();
    assert_eq!(places, [64, 69]);
    let left = super::super::EPOCH + taken[64].began;
    assert!((told.0 - left).abs() < 5_000, "told {} ms apart", told.0 - left);
}

/// So many messages of a person, of so many bytes each.
async fn submit_bytes(gateway: &Gateway, person: u32, count: usize, bytes: usize) -> Vec<MessageId> {
    let message = || {
        let mut new = gateway.message(gateway.channel(), Lane::Normal, 1);
        let mut body = new.body.head().to_vec();
        body.resize(bytes, b'x');
        (new.person, new.body) = (PersonId(person), body.into());
        new
    };
    gateway.accept((0..count).map(|_| message()).collect()).await
}

fn sent(gateway: &Gateway, ids: &[MessageId]) -> usize {
    ids.iter().filter(|id| gateway.recipient(**id).state == RecipientState::Sent).count()
}

/// Where bytes are scarce, bytes are shared: who sends a little is not served once for each large message of others.
#[tokio::test(start_paused = true)]
async fn small_mail_does_not_wait_while_the_large_mail_of_another_person_fills_the_window() {
    let gateway = Gateway::held_to(&["1000000 bytes / 1 minute", "1 connections"]).await;
    let large = submit_bytes(&gateway, 1, 2, 590_000).await;
    gateway.after(1).await;
    let small = submit_bytes(&gateway, 2, 30, 300).await;
    gateway.after(10).await;
    assert_eq!((sent(&gateway, &large), sent(&gateway, &small)), (1, 30));
    gateway.after(60).await;
    assert_eq!(sent(&gateway, &large), 2);
}

/// What waits for hours for its bytes is passed by, until others have had as many: then it books what is free.
#[tokio::test(start_paused = true)]
async fn a_large_message_that_waits_for_hours_neither_stops_others_nor_starves() {
    let gateway = Gateway::held_to(&["1000000 bytes / 24 hours", "1 connections"]).await;
    let before = submit_bytes(&gateway, 1, 1, 500_000).await;
    gateway.after(10).await;
    assert_eq!(sent(&gateway, &before), 1, "{:?}", gateway.recipient(before[0]));
    let large = submit_bytes(&gateway, 1, 1, 590_000).await;
    let mut small = submit_bytes(&gateway, 2, 1, 10_000).await;
    gateway.after(10).await;
    assert_eq!((sent(&gateway, &large), sent(&gateway, &small)), (0, 1), "others go before it");
    for _ in 0..29 * 4 {
        gateway.after(900).await;
        small.extend(submit_bytes(&gateway, 2, 1, 10_000).await);
    }
    assert_eq!(sent(&gateway, &large), 1, "{} small ones left", sent(&gateway, &small));
    assert!(sent(&gateway, &small) >= 59, "{} small ones left", sent(&gateway, &small));
}
