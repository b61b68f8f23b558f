//! A polite stop: nothing is lost and nothing is sent twice.

#![allow(clippy::unwrap_used)]

use scenarios::{Gateway, Load, Manner, NextHop, Plan, message};
use scenarios::{Submitter, tools};
use std::sync::Arc;
use std::time::Duration;

#[test]
fn a_stop_in_the_middle_of_the_load_loses_nothing_and_doubles_nothing() {
    let hop = Arc::new(NextHop::start());
    hop.behave(Manner { reply_delay: Duration::from_millis(20), ..Manner::default() });
    let mut gateway = Gateway::start(Plan::for_next_hop(hop.port()));
    let mut load = Load::start(8, gateway.trusted, &hop);
    for _ in 0..3 {
        load.wait_for_more(300, Duration::from_secs(20));
        let (status, took) = gateway.stop();
        assert!(status.success(), "ended with {status}");
        assert!(took < Duration::from_secs(30), "took {took:?}");
        hop.wait_until_alone();
        gateway.launch();
        gateway.wait_until_it_greets();
    }
    load.wait_for_more(50, Duration::from_secs(10));
    load.stop();
    assert!(load.arrived(&hop, Duration::from_secs(40)), "mail is missing: {:?}", load.verdict(&hop).lost);
    let (status, _) = gateway.stop();
    assert!(status.success(), "ended with {status}");
    let verdict = load.verdict(&hop);
    println!("SENDERO-FIGURE stops=4 lost={} doubles={}", verdict.lost.len(), verdict.doubles);
    assert_eq!(verdict.lost, Vec::<String>::new());
    assert_eq!(verdict.altered, Vec::<String>::new());
    assert_eq!((verdict.doubles, verdict.strangers), (0, 0), "{verdict:?}");
}

#[test]
fn mail_for_a_next_hop_that_is_down_waits_through_a_restart_and_leaves_when_it_is_back() {
    let hop = NextHop::start();
    hop.behave(Manner { down: true, ..Manner::default() });
    let mut gateway = Gateway::start(Plan::for_next_hop(hop.port()));
    let mut client = Submitter::connect(gateway.trusted).unwrap();
    for number in 0..20 {
        let text = message::numbered(&format!("waiting-{number}"), 2000);
        let answer = client.submit("ana@example.com", &[&format!("luis-{number}@example.org")], &text).unwrap();
        assert!(answer.is(250, "2.0.0 queued as msg_"), "{answer:?}");
    }
    assert!(client.command("QUIT").unwrap().is_positive());
    let (status, _) = gateway.stop();
    assert!(status.success(), "{status}");
    gateway.launch();
    gateway.wait_until_it_greets();
    assert_eq!(hop.count(), 0);
    let queue = tools::said(&gateway.ask(&["queue"]));
    assert!(queue.contains("hop") && queue.contains("20"), "{queue}");
    hop.behave(Manner::default());
    assert!(hop.wait(Duration::from_secs(40), |taken| taken.len() >= 20), "{} came back:\n{}", hop.count(), gateway.log());
    let mut recipients = hop.look(|taken| taken.iter().flat_map(|message| message.recipients.clone()).collect::<Vec<_>>());
    recipients.sort_unstable();
    recipients.dedup();
    assert_eq!((recipients.len(), hop.count()), (20, 20));
}
