//! What a reply costs: the recipient, the message, the channel, or nobody.

use super::gateway::Gateway;
use crate::scheduler::{Duration, Ordering};
use mail::{EventKind, Lane, RecipientState, Stage, Surface};
use smtp::ReversePath;
use store::Queue;

const MINUTE: u64 = 60;
const HOUR: u64 = 3600;

/// Pains 5 and 6: a quota said with a 5xx parks the channel, spends no attempt, and ends no message.
#[tokio::test(start_paused = true)]
async fn a_quota_in_a_permanent_reply_keeps_every_message() {
    let outlook = "554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException; Failed to process message";
    for (speaks, stage, text) in [
        ("gmail", Stage::FinalDot, "550 5.4.5 Daily user sending limit exceeded. Learn more at support"),
        ("gmail", Stage::Rcpt, "550 5.4.5 Daily user sending limit exceeded. Learn more at support"),
        ("microsoft365", Stage::FinalDot, outlook),
        ("godaddy", Stage::Rcpt, "552 5.2.0 You have reached your daily relay quota"),
    ] {
        let gateway = Gateway::of(speaks, &[("mailbox", &["3 connections"])]).await;
        gateway.provider().says(stage, text);
        let ids = gateway.submit(68, Lane::Normal).await;
        gateway.after(2 * 24 * HOUR).await;
        assert_eq!((gateway.channel_state(), gateway.all_are(&[RecipientState::Queued])), ("throttled", 68), "{text}");
        assert!(ids.iter().all(|id| gateway.recipient(*id).attempts == 0), "{text}");
        gateway.provider().says_yes();
        gateway.after(61 * MINUTE).await;
        assert_eq!((gateway.channel_state(), gateway.all_are(&[RecipientState::Sent])), ("active", 68), "{text}");
        assert_eq!(gateway.provider().recipients_once(), 68);
        assert!(ids.iter().all(|id| gateway.recipient(*id).attempts == 1), "{text}");
    }
}

/// Pain 7: one message is tried after 15, 30 and then every 60 minutes; the first one taken opens the channel.
#[tokio::test(start_paused = true)]
async fn after_a_quota_one_message_probes_and_the_first_acceptance_reopens() {
    let gateway = Gateway::of("gmail", &[("mailbox", &["1 connections"])]).await;
    gateway.provider().says(Stage::FinalDot, "550 5.4.5 Daily user sending limit exceeded.");
    gateway.submit(40, Lane::Normal).await;
    gateway.after(3 * HOUR).await;
    let begun: Vec<i64> = gateway.provider().state().transactions.iter().map(|one| one.began).collect();
    let minutes: Vec<i64> = begun.windows(2).map(|two| (two[1] - two[0] + 30_000) / 60_000).collect();
    assert_eq!(minutes, [0, 15, 30, 60, 60], "another message confirms it at once");
    gateway.provider().says_yes();
    gateway.after(61 * MINUTE).await;
    assert_eq!((gateway.all_are(&[RecipientState::Sent]), gateway.channel_state()), (40, "active"));

    // A quota that ends early is noticed by the first probe; another one later begins at 15 minutes again.
    gateway.provider().says(Stage::FinalDot, "550 5.4.5 Daily user sending limit exceeded.");
    let before = gateway.provider().seen();
    gateway.submit(10, Lane::Normal).await;
    gateway.after(5 * MINUTE).await;
    gateway.provider().says_yes();
    gateway.after(11 * MINUTE).await;
    assert_eq!(gateway.count(RecipientState::Sent), 50);
    assert_eq!(gateway.provider().seen(), before + 12, "the first, the one that confirms it, and ten that are taken");
}

/// Pain 8: of two connections there is never a third.
#[tokio::test(start_paused = true)]
async fn two_connections_are_two_at_every_moment() {
    let gateway = Gateway::held_to(&["2 connections", "7 messages / connection"]).await;
    for lane in [Lane::Normal, Lane::Bulk, Lane::Now, Lane::Normal] {
        gateway.submit(200, lane).await;
        gateway.after(3).await;
    }
    gateway.after(HOUR).await;
    assert_eq!(gateway.all_are(&[RecipientState::Sent]), 800);
    assert_eq!(gateway.provider().state().most_open, 2);
}

/// Pain 8: a reply about too many connections lowers the cap, is recorded, and costs no message anything.
#[tokio::test(start_paused = true)]
async fn a_reply_about_concurrent_connections_lowers_the_cap_and_is_recorded() {
    let at_office = "432 4.3.2 Concurrent connections limit exceeded. Visit the support page";
    let at_amazon = "421 Too many concurrent SMTP connections; please try again later";
    for (speaks, stage, text, allowed, room) in [
        ("microsoft365", Stage::FinalDot, at_office, 4, 2),
        ("microsoft365", Stage::FinalDot, at_office, 2, 1),
        ("amazon_ses", Stage::Greeting, at_amazon, 4, 2),
    ] {
        let gateway = Gateway::of(speaks, &[("mailbox", &[&format!("{allowed} connections")])]).await;
        gateway.provider().state().room = Some((room, stage, text));
        let ids = gateway.submit(300, Lane::Normal).await;
        gateway.after(5).await;
        let cap = gateway.scheduler().outlook(gateway.channel()).lessons.cap.expect("the reply teaches a cap");
        assert!(cap.connections < allowed && cap.said.contains("oncurrent"), "{cap:?}");
        assert_eq!(gateway.queue().lessons().len(), 1, "it is durable");
        let events = gateway.queue().events_of_channel(gateway.channel(), 1000).unwrap();
        let told = |event: &mail::Event| event.kind == EventKind::ChannelLimitLearned && event.detail.contains("oncurrent");
        assert!(events.iter().any(told), "{text}");
        gateway.after(HOUR).await;
        assert_eq!((gateway.all_are(&[RecipientState::Sent]), gateway.channel_state()), (300, "active"), "{text}");
        assert_eq!(gateway.provider().recipients_once(), 300);
        assert!(ids.iter().all(|id| gateway.recipient(*id).attempts == 1), "{text}");
        let refused = gateway.provider().seen() - gateway.provider().taken().len();
        assert!(refused <= allowed as usize - room, "the surplus goes away after its first refusal: {refused}");
    }
}

/// Pain 19: whenever the process dies, what is shown as sent was taken by the provider.
#[tokio::test(start_paused = true)]
async fn a_crash_before_the_final_acceptance_never_shows_sent() {
    let mut gateway = Gateway::held_to(&["1 connections"]).await;
    let (mut early, mut late) = (0, 0);
    for moment in (0..100).step_by(2) {
        let id = gateway.submit(1, Lane::Normal).await[0];
        tokio::time::sleep(Duration::from_millis(moment)).await;
        let shown = gateway.recipient(id);
        gateway.restart_after(Duration::from_millis(1)).await;
        let (found, taken) = (gateway.recipient(id), gateway.provider().state().taken.contains_key(&shown.address));
        assert!(taken || (shown.state != RecipientState::Sent && found.state != RecipientState::Sent), "after {moment} ms");
        assert!(matches!(found.state, RecipientState::Queued | RecipientState::Sent), "after {moment} ms: {found:?}");
        (early, late) = (early + u32::from(!taken), late + u32::from(found.state == RecipientState::Sent));
        gateway.after(5 * MINUTE).await;
        assert_eq!(gateway.recipient(id).state, RecipientState::Sent, "after {moment} ms");
    }
    assert!(early > 10 && late > 5, "{early} died before, {late} after the acceptance was durable");
    assert!(gateway.provider().state().taken.values().all(|count| *count <= 2), "one doubt, one more try");
}

/// Pain 28: a deferred message is tried by the schedule, moved by chance, for five days; then its submitter is told.
#[tokio::test(start_paused = true)]
async fn a_deferred_message_is_tried_for_five_days_then_expires_and_is_reported() {
    let gateway = Gateway::held_to(&["2 connections"]).await;
    gateway.provider().says(Stage::Rcpt, "450 4.2.1 mailbox busy");
    let mut message = gateway.message(gateway.channel(), Lane::Normal, 1);
    message.envelope.reverse_path = ReversePath::parse("<ana@example.com>").unwrap();
    let id = gateway.accept(vec![message]).await[0];
    gateway.after(4 * 24 * HOUR).await;
    assert_eq!(gateway.recipient(id).state, RecipientState::Queued);
    gateway.after(2 * 24 * HOUR).await;
    let expired = gateway.recipient(id);
    assert_eq!((expired.state, gateway.events(EventKind::MessageExpired)), (RecipientState::Expired, 1));

    let begun: Vec<i64> = gateway.provider().state().transactions.iter().map(|one| one.began).collect();
    let waits: Vec<f64> = begun.windows(2).map(|two| (two[1] - two[0]) as f64 / 60_000.0).collect();
    let steps = [1.0, 5.0, 15.0, 60.0, 180.0].into_iter().chain(std::iter::repeat(360.0));
    let ratios: Vec<f64> = waits.iter().zip(steps).map(|(wait, step)| wait / step).collect();
    assert!(ratios.iter().all(|ratio| (0.9..1.11).contains(ratio)), "{ratios:?}");
    assert!(ratios.iter().any(|ratio| *ratio < 0.97) && ratios.iter().any(|ratio| *ratio > 1.03), "chance moves them: {ratios:?}");
    let days = (begun[begun.len() - 1] - begun[0]) as f64 / 86_400_000.0;
    assert!((4.5..5.5).contains(&days), "{days} days");

    let page = store::Page { after: None, before: None, limit: 100 };
    let all = gateway.queue().list(&store::Filter::default(), &page).unwrap().messages;
    let reports = all.iter().filter(|message| message.surface == Surface::Gateway);
    let texts = reports.map(|report| String::from_utf8(gateway.queue().raw(report.id).unwrap().unwrap().head().to_vec()).unwrap());
    let failures: Vec<String> = texts.filter(|text| text.contains("Action: failed")).collect();
    assert_eq!(failures.len(), 1);
    assert!(failures[0].contains("450 4.2.1 mailbox busy") && failures[0].contains(&expired.address), "{}", failures[0]);
}

/// Pain 28: what is wrong with the host is the channel's wait, however many messages are behind it.
#[tokio::test(start_paused = true)]
async fn a_host_that_is_down_is_tried_by_the_channel_and_not_by_each_message() {
    let gateway = Gateway::held_to(&["4 connections"]).await;
    gateway.provider().says(Stage::Connect, "connection refused");
    let ids = gateway.submit(500, Lane::Normal).await;
    gateway.after(2 * 24 * HOUR).await;
    let tried = gateway.scheduler().counters().open_failures.load(Ordering::Relaxed);
    assert!((10..=14).contains(&tried), "six steps and then every six hours: {tried}");
    assert!(ids.iter().all(|id| gateway.recipient(*id).attempts == 0));
    gateway.provider().says_yes();
    gateway.after(7 * HOUR).await;
    assert_eq!(gateway.all_are(&[RecipientState::Sent]), 500);
}
