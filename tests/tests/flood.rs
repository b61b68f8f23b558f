//! A channel with a limit, and far more mail than it may carry.
#![allow(clippy::unwrap_used)]

use scenarios::gateway::{Gateway, Plan};
use scenarios::next_hop::NextHop;
use scenarios::submitter::Submitter;
use scenarios::tools::write;
use std::thread;
use std::time::{Duration, Instant};

const CONNECTIONS: usize = 16;
const EACH: usize = 400;
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
    let began = Instant::now();
    thread::scope(|scope| {
        for number in 0..CONNECTIONS {
            let port = gateway.trusted;
            scope.spawn(move || {
                let lane = ["now", "normal", "bulk", "bulk"][number % 4];
                let mut client = Submitter::connect(port).unwrap();
                for one in 0..EACH {
                    let text = format!("From: ana@example.com\r\nX-Sendero-Lane: {lane}\r\nSubject: {one}\r\n\r\nhello\r\n");
                    let answer = client.submit("ana@example.com", &["luis@example.org"], text.as_bytes()).unwrap();
                    assert!(answer.is_positive(), "{answer:?}");
                }
            });
        }
    });
    assert!(began.elapsed() < Duration::from_secs(50), "the first minute is not over");
    assert!(hop.wait(Duration::from_secs(10), |taken| taken.len() >= LIMIT));
    thread::sleep(Duration::from_secs(1));
    assert_eq!(hop.count(), LIMIT);
    let status = gateway.ask_json(&["status"]);
    assert_eq!(status["recipients"]["queued"], CONNECTIONS * EACH - LIMIT);
    println!("SENDERO-FIGURE flooded_messages={} refused=0 lost=0", CONNECTIONS * EACH);
}
