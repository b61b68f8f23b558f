//! The tour as a newcomer runs it, and with its capture server killed half-way.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

fn tour(folder: &Path, pause_millis: u32) -> Child {
    Command::new(env!("CARGO_BIN_EXE_sendero"))
        .args(["try", "--exit", "--output", "json"])
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
    let end = all.iter().find(|line| is(line, "paced_end")).unwrap();
    assert_eq!(end["one_off"], 6);
    assert!(end["bulk"].as_u64() < Some(10), "one-off mail passed the bulk: {end}");
    for surface in ["smtp", "cli", "http"] {
        assert_eq!(messages.iter().filter(|message| message["surface"] == surface).count(), 3);
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the folder of a tour that went well is removed");
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
