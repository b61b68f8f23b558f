//! `kill -9` at random moments: nothing acknowledged is lost, and doubles stay within what was open.

#![allow(clippy::unwrap_used)]

use scenarios::{Gateway, Load, Manner, NextHop, Plan, Random};
use serde_json::Value;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

const KILLS: u64 = 50;

#[test]
fn nothing_acknowledged_is_lost_when_the_process_is_killed_at_any_moment() {
    let mut random = Random::seeded("kills");
    let hop = Arc::new(NextHop::start());
    hop.behave(Manner { reply_delay: Duration::from_millis(3), ..Manner::default() });
    let mut gateway = Gateway::start(Plan::for_next_hop(hop.port()));
    let mut load = Load::start(8, gateway.trusted, &hop);
    let mut allowed = 0;
    for _ in 0..KILLS {
        // One in five dies while it starts, reads its log or resumes what was open.
        let early = random.below(5) == 0;
        let (open, opened) = (hop.open() as u64, hop.opened());
        if !early {
            gateway.wait_until_it_greets();
            load.wait_for_more(usize::try_from(random.below(150)).unwrap_or(0), Duration::from_secs(5));
        }
        // The moment itself is what is random here.
        thread::sleep(Duration::from_micros(random.below(if early { 120_000 } else { 20_000 })));
        let open = if early { open } else { hop.open() as u64 };
        let opened = if early { opened } else { hop.opened() };
        gateway.kill();
        // A transaction needs a connection: those that were open, and those opened while it was dying.
        allowed += open + hop.opened() - opened;
        hop.wait_until_alone();
        gateway.launch();
    }
    gateway.wait_until_it_greets();
    load.wait_for_more(50, Duration::from_secs(10));
    load.stop();
    settle(&gateway, &load, &hop);
    let verdict = load.verdict(&hop);
    println!("{} acknowledged, {} unknown", verdict.acknowledged, verdict.unknown);
    println!("SENDERO-FIGURE kills={KILLS} lost={} doubles={} allowed_doubles={allowed}", verdict.lost.len(), verdict.doubles);
    assert_eq!(verdict.lost, Vec::<String>::new(), "acknowledged and never seen again");
    assert_eq!(verdict.altered, Vec::<String>::new());
    assert_eq!(verdict.strangers, 0);
    assert!(verdict.acknowledged > 1000, "hardly any load: {verdict:?}");
    assert!(verdict.doubles as u64 <= allowed, "more doubles than were open: {verdict:?}");
    let (status, _) = gateway.stop();
    assert!(status.success(), "{status}");
    let report = gateway.ask(&["store", "check"]);
    assert!(report.status.success(), "{}", scenarios::tools::said(&report));
}

/// Until everything has arrived. What was twice in a transaction when the process died waits for a
/// person, who lets it go.
fn settle(gateway: &Gateway, load: &Load, hop: &NextHop) {
    for _ in 0..20 {
        if load.arrived(hop, Duration::from_secs(3)) {
            return;
        }
        let held = gateway.ask_json(&["message", "list", "--status", "held", "--limit", "1000"]);
        let held: Vec<Value> = held["data"].as_array().cloned().unwrap_or_default();
        for message in held {
            let id = message["id"].as_str().unwrap_or_default();
            let released = gateway.ask(&["message", "release", id]);
            assert!(released.status.success(), "{}", scenarios::tools::said(&released));
        }
    }
}
