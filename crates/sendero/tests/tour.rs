//! The tour as a newcomer runs it, and with its capture server killed half-way.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

fn tour(folder: &Path, pause_millis: u32) -> Child {
    tour_with(&["--exit"], folder, pause_millis)
}

fn tour_with(options: &[&str], folder: &Path, pause_millis: u32) -> Child {
    Command::new(env!("CARGO_BIN_EXE_sendero"))
        .args(["try", "--output", "json"])
        .args(options)
        .env("SENDERO_TRY_PAUSE", pause_millis.to_string())
        .env("TMPDIR", folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn lines(child: &mut Child) -> impl Iterator<Item = Value> + use<> {
    BufReader::new(child.stdout.take().unwrap()).lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap())
}

fn is(line: &Value, event: &str) -> bool {
    line["event"] == event
}

#[test]
fn every_message_of_the_tour_arrives_with_the_body_it_was_accepted_with() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = tour(folder.path(), 20);
    let all: Vec<Value> = lines(&mut child).collect();
    assert!(child.wait().unwrap().success(), "{all:#?}");
    let messages: Vec<&Value> = all.iter().filter(|line| is(line, "message")).collect();
    assert_eq!(messages.len(), 9);
    for message in &messages {
        assert_eq!(message["accepted_sha256"].as_str().unwrap().len(), 64);
        assert_eq!(message["accepted_sha256"], message["captured_sha256"]);
        assert!(message["id"].as_str().unwrap().starts_with("msg_"));
    }
    let paced: Vec<&Value> = all.iter().filter(|line| is(line, "pace")).collect();
    assert!(paced.iter().any(|line| line["waiting"]["bulk"].as_u64() > Some(30)), "{paced:#?}");
    assert!(paced.iter().any(|line| line["last_waits"].as_str().unwrap().contains("30 messages / 1 minute")), "{paced:#?}");
    assert!(paced.iter().any(|line| line["used"] == 30 && line["waiting"]["bulk"].as_u64() > Some(20)), "full: {paced:#?}");
    let waits: Vec<&Value> = all.iter().filter(|line| is(line, "waits")).collect();
    assert_eq!(waits.len(), 2, "at the start, and when the window is full");
    for waits in &waits {
        let waits = waits["messages"].as_array().unwrap();
        assert!(waits.len() > 30);
        for wait in waits {
            assert!(!wait["reason"].as_str().unwrap().is_empty() && wait["leaves_in_s"].is_u64(), "{wait}");
        }
    }
    let end = all.iter().find(|line| is(line, "paced_end")).unwrap();
    assert!(end["arrived"]["one_off"].as_u64() > Some(6) && end["full"] == true, "{end}");
    assert!(end["arrived"]["bulk"].as_u64() < Some(10), "one-off mail passed the bulk: {end}");
    assert!(end["rest_leaves_in_s"].as_u64() > end["undisturbed_in_s"].as_u64(), "others took places before the bulk: {end}");
    let bulk = |wait: &Value| (wait["lane"] == "bulk").then(|| wait["leaves_in_s"].as_u64()).flatten();
    let last = waits[1]["messages"].as_array().unwrap().iter().filter_map(bulk).max().unwrap();
    let rest = end["rest_leaves_in_s"].as_u64().unwrap();
    assert!(rest.abs_diff(last) < 10, "the rest is through with its last message, which leaves in {last} s: {end}");
    for surface in ["smtp", "cli", "http"] {
        assert_eq!(messages.iter().filter(|message| message["surface"] == surface).count(), 3);
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the folder of a tour that went well is removed");
}

#[test]
fn a_tour_that_is_left_while_mail_waits_says_how_much_and_where() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = tour_with(&[], folder.path(), 20);
    let mut lines = lines(&mut child);
    lines.find(|line| is(line, "ready")).unwrap();
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let end = lines.last().unwrap();
    assert!(child.wait().unwrap().success(), "what was to arrive did: {end}");
    assert_eq!((is(&end, "end"), end["missing"].as_u64()), (true, Some(0)));
    assert!(end["waiting"].as_u64() > Some(20), "{end}");
    assert!(Path::new(end["safe_in"].as_str().unwrap()).join("data/queue").is_dir());
}

#[test]
fn with_its_capture_server_killed_half_way_the_tour_fails_and_names_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = tour(folder.path(), 400);
    let mut lines = lines(&mut child);
    let server = lines.find(|line| is(line, "capture_server")).unwrap();
    let first = lines.find(|line| is(line, "message")).unwrap();
    let killed = Command::new("kill").args(["-9", &server["pid"].to_string()]).status().unwrap();
    assert!(killed.success());
    let rest: Vec<Value> = lines.collect();
    assert!(!child.wait().unwrap().success(), "{rest:#?}");
    assert_eq!(first["equal"], true);
    let missing: Vec<&Value> = rest.iter().filter(|line| is(line, "message") && line["equal"] == false).collect();
    let end = rest.last().unwrap();
    assert_eq!((is(end, "end"), end["ok"].as_bool(), end["missing"].as_u64()), (true, Some(false), Some(missing.len() as u64)));
    assert!(missing.len() >= 4, "{rest:#?}");
    for message in missing {
        assert!(message["id"].as_str().is_some_and(|id| id.starts_with("msg_")), "accepted all the same: {message}");
        assert!(message["state"].as_str().unwrap().contains("safe on disk"), "{message}");
    }
    assert!(Path::new(end["safe_in"].as_str().unwrap()).join("data/queue").is_dir());
}
