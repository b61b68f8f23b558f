//! A channel with a limit, and far more mail than it may carry.
#![allow(clippy::unwrap_used)]

use scenarios::gateway::{Gateway, Plan};
use scenarios::next_hop::NextHop;
use scenarios::submitter::{Answer, Submitter};
use scenarios::tools::write;
use std::thread;
use std::time::{Duration, Instant};

const CONNECTIONS: usize = 16;
const EACH: usize = 400;
const MESSAGES: usize = CONNECTIONS * EACH;
const LIMIT: usize = 120;

#[test]
fn pain_26_a_flood_over_the_limit_is_queued_and_never_refused() {
    let hop = NextHop::start();
    let gateway = Gateway::start(Plan::for_next_hop(hop.port()));
    let directory = std::fs::read_to_string(gateway.path("directory.toml")).unwrap();
    let limits = format!("\"8 connections\", \"{LIMIT} messages / 1 minute\"");
    let file = write(gateway.path("limited.toml"), directory.replace("\"8 connections\"", &limits));
    let applied = gateway.ask(&["apply", file.to_str().unwrap()]);
    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    let (port, began) = (gateway.trusted, Instant::now());
    let refusals: Vec<Answer> = thread::scope(|scope| {
        let client = |number| scope.spawn(move || flood(port, ["now", "normal", "bulk", "bulk"][number % 4]));
        let clients: Vec<_> = (0..CONNECTIONS).map(client).collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    assert!(began.elapsed() < Duration::from_secs(50), "the first minute is not over");
    assert!(hop.wait(Duration::from_secs(10), |taken| taken.len() >= LIMIT));
    thread::sleep(Duration::from_secs(1));
    let queued = gateway.ask_json(&["status"])["recipients"]["queued"].as_u64().unwrap() as usize;
    let lost = MESSAGES.saturating_sub(refusals.len() + hop.count() + queued);
    println!("SENDERO-FIGURE flooded_messages={MESSAGES} refused={} lost={lost}", refusals.len());
    assert!(refusals.is_empty(), "{:?}", refusals[0]);
    assert_eq!((hop.count(), queued), (LIMIT, MESSAGES - LIMIT));
}

/// Submits its messages by one connection. What was refused is the result.
fn flood(port: u16, lane: &str) -> Vec<Answer> {
    let mut client = Submitter::connect(port).unwrap();
    let submit = |number: usize| {
        let text = format!("From: ana@example.com\r\nX-Sendero-Lane: {lane}\r\nSubject: {number}\r\n\r\nhello\r\n");
        client.submit("ana@example.com", &["luis@example.org"], text.as_bytes()).unwrap()
    };
    (0..EACH).map(submit).filter(|answer| !answer.is_positive()).collect()
}
