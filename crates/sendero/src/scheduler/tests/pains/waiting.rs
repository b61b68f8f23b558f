//! Whoever asks why a message has not left is told one reason, and when it ends.

use super::gateway::Gateway;
use crate::scheduler::ChannelMove;
use mail::{Lane, MessageId, Move, RecipientState, Stage, WaitingKind};
use store::{Queue, Steer};

const HOUR: u64 = 3600;

/// The message waits for this, says so with these words, and says when it is tried unless a person must act.
fn waits(gateway: &Gateway, id: MessageId, kind: WaitingKind, words: &str) {
    let reason = gateway.waits(id).unwrap_or_else(|| panic!("{:?} waits for nothing", gateway.recipient(id)));
    assert_eq!(reason.kind, kind, "{reason:?}");
    assert!(reason.text.contains(words) && !reason.ends.is_empty(), "{reason:?}");
    let person_acts = reason.ends.contains("somebody");
    assert_eq!(reason.next_try.is_none(), person_acts, "{reason:?}");
    assert!(reason.next_try.is_none_or(|at| at >= gateway.now()), "{reason:?}");
}

async fn steer(gateway: &Gateway, message: MessageId, to: Move) {
    let order = Steer { message, recipients: vec![], to, channel: None, by: "ana".into(), at: gateway.now() };
    assert_eq!(gateway.queue().steer(order).await.unwrap(), [0]);
}

/// Pain 27: paced, put off, in doubt, in hand, held.
#[tokio::test(start_paused = true)]
async fn a_message_in_every_open_state_waits_for_one_thing() {
    let mut gateway = Gateway::held_to(&["2 messages / 1 minute", "1 connections"]).await;
    let ids = gateway.submit(5, Lane::Normal).await;
    gateway.after(5).await;
    assert_eq!(gateway.waits(ids[0]), None, "what is sent waits for nothing");
    waits(&gateway, ids[2], WaitingKind::Pace, "2 messages");
    waits(&gateway, ids[4], WaitingKind::Pace, "go before it");
    gateway.after(300).await;
    assert_eq!(gateway.all_are(&[RecipientState::Sent]), 5);

    gateway.provider().says(Stage::Rcpt, "450 4.2.1 mailbox busy");
    let put_off = gateway.submit(1, Lane::Normal).await[0];
    gateway.after(5).await;
    waits(&gateway, put_off, WaitingKind::Retry, "mailbox busy");
    gateway.provider().says_yes();
    gateway.after(300).await;

    gateway.provider().state().is_silent = true;
    let in_hand = gateway.submit(1, Lane::Normal).await[0];
    gateway.after(5).await;
    assert_eq!(gateway.recipient(in_hand).state, RecipientState::Leased);
    waits(&gateway, in_hand, WaitingKind::Delivery, "handed over");
    gateway.provider().state().is_silent = false;
    gateway.restart_after(std::time::Duration::from_secs(1)).await;
    assert_eq!(gateway.recipient(in_hand).doubts, 1);
    waits(&gateway, in_hand, WaitingKind::Uncertain, "may have it");
    gateway.after(1800).await;
    assert_eq!(gateway.waits(in_hand), None);

    gateway.submit(2, Lane::Normal).await;
    let held = gateway.submit(1, Lane::Normal).await[0];
    gateway.after(2).await;
    steer(&gateway, held, Move::Hold).await;
    waits(&gateway, held, WaitingKind::Person, "held");
    steer(&gateway, held, Move::Release).await;
    gateway.after(300).await;
    assert_eq!(gateway.waits(held), None);
}

/// Pain 27: whatever keeps the channel back is what its mail names.
#[tokio::test(start_paused = true)]
async fn mail_of_a_channel_that_does_not_go_names_what_the_channel_waits_for() {
    let mut gateway = Gateway::held_to(&["2 connections"]).await;
    let channel = gateway.channel();
    gateway.scheduler().steer(channel, ChannelMove::Pause { by: "luis@example.com".into() }).await;
    let id = gateway.submit(1, Lane::Normal).await[0];
    waits(&gateway, id, WaitingKind::Channel, "paused by luis@example.com");
    gateway.provider().says(Stage::Connect, "connection refused");
    gateway.scheduler().steer(channel, ChannelMove::Resume).await;
    gateway.after(5).await;
    waits(&gateway, id, WaitingKind::Channel, "cannot be reached: connection refused");
    gateway.provider().says(Stage::FinalDot, "452 4.3.1 the account is over its daily limit");
    gateway.after(HOUR).await;
    assert_eq!(gateway.channel_state(), "throttled");
    waits(&gateway, id, WaitingKind::Channel, "at a limit of its provider: 452");
    gateway.provider().says(Stage::Auth, "535 5.7.8 authentication failed");
    gateway.after(2 * HOUR).await;
    assert_eq!(gateway.channel_state(), "needs_attention");
    waits(&gateway, id, WaitingKind::Channel, "needs attention: the login was refused");
    gateway.set_password("another");
    gateway.after(5).await;
    waits(&gateway, id, WaitingKind::Channel, "login refused once");
    gateway.provider().says_yes();
    gateway.provider().accepts_password("another");
    gateway.after(120).await;
    assert_eq!((gateway.waits(id), gateway.recipient(id).state), (None, RecipientState::Sent));
}
