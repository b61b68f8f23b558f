//! A channel's test, as a person sees it.

use super::*;
use crate::probe::{PATIENCE, probe};
use crate::scripted::{Fault, Point};
use mail::Stage;

fn stages(report: &crate::probe::Report) -> Vec<&'static str> {
    report.steps.iter().map(|step| step.stage.name()).collect()
}

#[tokio::test]
async fn a_channel_in_order_passes_every_step_and_no_message_is_sent() {
    let hop = Hop::start(Script::protected(TlsMode::Starttls, Arc::clone(&SERVER))).await;
    let sender = ReversePath::parse("<ana@example.com>").unwrap();
    let report = probe(&transport(AMPLE), &endpoint(&hop, TlsMode::Starttls), Some(&sender), PATIENCE).await;
    assert_eq!(report.failure, None);
    assert_eq!(stages(&report), ["resolve", "connect", "greeting", "ehlo", "starttls", "tls", "ehlo", "auth", "mail"]);
    assert!(report.steps.iter().any(|step| step.detail.starts_with("TLS 1.3")));
    let commands = hop.seen().commands;
    assert!(commands.ends_with(&["MAIL FROM:<ana@example.com>".into(), "RSET".into(), "QUIT".into()]), "{commands:?}");
}

#[tokio::test]
async fn without_a_sender_it_ends_with_the_login() {
    let hop = Hop::start(Script::protected(TlsMode::Implicit, Arc::clone(&SERVER))).await;
    let report = probe(&transport(AMPLE), &endpoint(&hop, TlsMode::Implicit), None, PATIENCE).await;
    assert_eq!((stages(&report), report.failure), (vec!["resolve", "connect", "tls", "greeting", "ehlo", "auth"], None));
    assert!(!hop.seen().commands.iter().any(|line| line.starts_with("MAIL") || line == "DATA"));
}

#[tokio::test]
async fn a_refused_login_says_so_and_what_may_help() {
    let hop = Hop::start(Script::protected(TlsMode::Starttls, Arc::clone(&SERVER)).with_fault(Point::Auth, Fault::Permanent)).await;
    let failure = probe(&transport(AMPLE), &endpoint(&hop, TlsMode::Starttls), None, PATIENCE).await.failure.unwrap();
    assert_eq!((failure.stage, failure.login_refused), (Stage::Auth, true));
    assert!(failure.fix.contains("app password"));
}

#[tokio::test]
async fn a_refused_sender_is_told_in_the_next_hops_words() {
    let hop = Hop::start(Script::clear().with_fault(Point::Mail, Fault::Permanent)).await;
    let report = probe(&transport(AMPLE), &endpoint(&hop, TlsMode::None), Some(&ReversePath::Null), PATIENCE).await;
    let failure = report.failure.unwrap();
    assert_eq!(failure.stage, Stage::Mail);
    assert!(failure.cause.contains("not ever"), "{failure:?}");
}

#[tokio::test]
async fn a_silent_next_hop_costs_no_more_than_the_patience_given() {
    let limit = Duration::from_millis(500);
    for (point, stage) in [
        (Point::Greeting, Stage::Greeting),
        (Point::Ehlo, Stage::Ehlo),
        (Point::StartTls, Stage::StartTls),
        (Point::Tls, Stage::Tls),
    ] {
        let hop = Hop::start(Script::protected(TlsMode::Starttls, Arc::clone(&SERVER)).with_fault(point, Fault::Stall)).await;
        let began = std::time::Instant::now();
        let failure = probe(&transport(AMPLE), &endpoint(&hop, TlsMode::Starttls), None, limit).await.failure.unwrap();
        assert_eq!(failure.stage, stage);
        assert!(began.elapsed() < Duration::from_secs(5));
    }
}
