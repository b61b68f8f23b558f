//! A gateway that runs, asked by its command line why mail waits and what can be done about it.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

const SETTINGS: &str = r#"
hostname = "gw.example"
submission = []

[http]
listen = ["127.0.0.1:0"]

[queue]
min_free = "1MiB"

[secrets]
master_key_file = "master.key"
"#;

const DIRECTORY: &str = r#"
[[team]]
name = "sales"
domains = ["example.com"]

[[person]]
email = "ana@example.com"
teams = ["sales"]

[[channel]]
name = "kept"
owner = "team:sales"
transport = "capture"
default = true
limits = ["1 messages / 1 hour"]
"#;

/// A gateway in a folder of its own; it ends with the test.
struct Running {
    folder: tempfile::TempDir,
    process: Child,
}

impl Running {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("sendero.toml"), SETTINGS).unwrap();
        std::fs::write(folder.path().join("directory.toml"), DIRECTORY).unwrap();
        let mut process = sendero(folder.path())
            .args(["serve", "--apply", "directory.toml"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
        let listens = |line: std::io::Result<String>| line.is_ok_and(|line| line.contains("listening") && line.contains("socket"));
        assert!(log.by_ref().any(listens), "it ended before it listened");
        // It is read to its end, so that the gateway never waits for a full pipe.
        std::thread::spawn(move || log.for_each(drop));
        Self { folder, process }
    }

    fn ask(&self, arguments: &[&str]) -> Output {
        sendero(self.folder.path()).args(arguments).output().unwrap()
    }

    fn said(&self, arguments: &[&str]) -> String {
        let output = self.ask(arguments);
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{arguments:?}: {said}");
        said
    }

    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.ask(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.said(&[arguments, &["--output", "json"]].concat())).unwrap()
    }

    fn send(&self) -> String {
        let sent = self.json(&["send", "--from", "ana@example.com", "--to", "luis@example.org", "--text", "hello"]);
        sent["message"]["id"].as_str().unwrap().to_owned()
    }

    fn until_captured(&self, id: &str) {
        let captured = || self.json(&["message", "show", id])["message"]["status"] == "captured";
        assert!((0..1000).any(|_| captured()), "{}", self.said(&["message", "show", id]));
    }

    /// The first message takes the only place of the hour; the second one waits for the next.
    fn send_until_one_waits(&self) -> (String, String) {
        let first = self.send();
        self.until_captured(&first);
        (first, self.send())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn sendero(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sendero"));
    command.current_dir(folder);
    command
}

#[test]
fn a_message_over_the_limit_is_shown_with_lane_reason_use_and_time() {
    let gateway = Running::start();
    let (_, waits) = gateway.send_until_one_waits();
    let shown = gateway.said(&["message", "show", &waits]);
    for words in ["normal: nothing asks for another lane", "1 messages / 1 hour (1 of 1 used)", "(about ", "room under the limit"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    let queue = gateway.said(&["queue"]);
    assert!(queue.contains("1 normal") && queue.contains("1 waits for pace"), "{queue}");
    let line = gateway.json(&["queue"])[0].clone();
    assert_eq!((line["channel"].as_str(), line["causes"][0]["kind"].as_str()), (Some("kept"), Some("pace")));
    assert!(line["lanes"][0]["next_slot"].is_string() && line["finishes_at"].is_string(), "{line}");
    let channel = gateway.said(&["channel", "show", "kept"]);
    assert!(channel.contains("1 messages / 1 hour (1 of 1 used, room again"), "{channel}");
    assert_eq!(gateway.json(&["channel", "show", "kept"])["limits"][0]["used"], 1);
}

#[test]
fn a_channel_is_paused_and_resumed_and_its_mail_says_so() {
    let gateway = Running::start();
    assert_eq!(gateway.json(&["channel", "pause", "kept"])["state"], "paused");
    let id = gateway.send();
    let waits = gateway.json(&["message", "show", &id])["message"]["waiting_on"].clone();
    assert_eq!((waits["kind"].as_str(), waits["next_try"].is_null()), (Some("channel"), true), "{waits}");
    assert!(gateway.said(&["channel", "show", "kept"]).contains("channel.paused"), "its history has it");
    assert!(gateway.said(&["estimate", "--channel", "kept", "--messages", "5"]).contains("waits for a person"));
    gateway.said(&["channel", "resume", "kept"]);
    gateway.until_captured(&id);
}

#[test]
fn a_message_is_held_released_cancelled_and_tried_again() {
    let gateway = Running::start();
    let (first, id) = gateway.send_until_one_waits();
    assert!(gateway.said(&["message", "hold", &id]).contains("held: luis@example.org"));
    assert!(gateway.said(&["message", "show", &id]).contains("until somebody releases or cancels it"));
    assert!(gateway.said(&["message", "release", &id, "--recipient", "luis@example.org"]).contains("released: luis@example.org"));
    assert!(gateway.said(&["message", "cancel", &id]).contains("cancelled: luis@example.org"));
    let retried = gateway.json(&["message", "retry", &id]);
    assert_eq!((&retried["retry_of"], retried["channel"].as_str()), (&id.as_str().into(), Some("kept")));
    let again = retried["id"].as_str().unwrap();
    assert!(gateway.said(&["message", "show", again]).contains(&format!("retry of     {id}")));
    assert_eq!(gateway.said(&["message", "show", again, "--raw"]), gateway.said(&["message", "show", &id, "--raw"]));
    assert!(gateway.said(&["message", "show", &id]).contains("message.retried"));
    assert!(gateway.said(&["message", "retry", &id]).contains("nothing is sent twice"));
    assert!(gateway.refused(&["message", "retry", &first]).contains("luis@example.org is captured"));
    assert!(gateway.refused(&["message", "hold", &id]).contains("is cancelled"));
}

#[test]
fn an_estimate_says_when_mail_that_is_not_sent_yet_would_be_through() {
    let gateway = Running::start();
    gateway.send_until_one_waits();
    let estimate = gateway.json(&["estimate", "--from", "ana@example.com", "--lane", "bulk", "--messages", "10"]);
    assert_eq!((estimate["channel"].as_str(), estimate["ahead"].as_u64()), (Some("kept"), Some(1)), "{estimate}");
    let (starts, finishes) = (estimate["starts_at"].as_str().unwrap(), estimate["finishes_at"].as_str().unwrap());
    assert!(starts < finishes, "an hour for each: {estimate}");
    assert!(gateway.said(&["estimate", "--channel", "kept", "--messages", "1"]).contains("about 20"));
    assert!(gateway.refused(&["estimate", "--channel", "none", "--messages", "1"]).contains("there is no channel 'none'"));
    for wrong in [&["estimate", "--messages", "1"][..], &["estimate", "--channel", "kept", "--messages", "0"]] {
        assert_eq!(gateway.ask(wrong).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn a_list_without_addresses_says_so() {
    let gateway = Running::start();
    assert!(gateway.said(&["suppression", "list", "--team", "sales"]).contains("no address is suppressed"));
    assert_eq!(gateway.json(&["suppression", "list"])["data"].as_array().unwrap().len(), 0);
    assert!(gateway.refused(&["suppression", "list", "--team", "none"]).contains("there is no team 'none'"));
    let missing = gateway.refused(&["suppression", "remove", "luis@example.org", "--team", "sales"]);
    assert!(missing.contains("luis@example.org is on no such list"), "{missing}");
}

#[test]
fn a_message_may_have_a_time_before_and_one_after_which_it_is_not_sent() {
    const LETTER: [&str; 7] = ["send", "--from", "ana@example.com", "--to", "luis@example.org", "--text", "hi"];
    let gateway = Running::start();
    let timed = |times: &[&'static str]| [&LETTER, times].concat();
    let far = gateway.refused(&timed(&["--schedule", "2h", "--expires", "2099-01-01T10:00:00+01:00"]));
    assert!(far.contains("within a year"), "{far}");
    let never = gateway.refused(&timed(&["--schedule", "2h", "--expires", "1h"]));
    assert!(never.contains("so never"), "{never}");
    let odd = gateway.ask(&timed(&["--schedule", "soon"]));
    assert!(!odd.status.success() && String::from_utf8_lossy(&odd.stderr).contains("15m, 2h or 3d"), "{odd:?}");

    let sent = gateway.json(&timed(&["--schedule", "2h", "--expires", "3d"]));
    assert_eq!(sent["message"]["waiting_on"]["kind"], "schedule");
    let shown = gateway.said(&["message", "show", sent["message"]["id"].as_str().unwrap()]);
    for words in ["not before   20", "not after    20", "scheduled: it is not sent before 20"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    assert!(gateway.said(&["queue"]).contains("1 waits for their time"));

    let short = gateway.json(&timed(&["--schedule", "1s", "--expires", "2s"]));
    let paused = gateway.said(&["channel", "pause", "kept"]);
    let id = short["message"]["id"].as_str().unwrap();
    let over = || gateway.json(&["message", "show", id])["message"]["status"] == "expired";
    assert!((0..1000).any(|_| over()), "{paused}{}", gateway.said(&["message", "show", id]));
}

#[test]
fn messages_are_found_by_every_option_and_counted() {
    let gateway = Running::start();
    let (first, second) = gateway.send_until_one_waits();
    let found = |options: &[&str]| -> Vec<String> {
        let page = gateway.json(&[&["message", "list"], options].concat());
        page["data"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(found(&["--team", "sales", "--lane", "normal", "--from", "ana@example.com"]), [second.clone(), first.clone()]);
    assert_eq!(found(&["--status", "captured", "--recipient", "@example.org"]), [first]);
    assert_eq!(found(&["--waiting-on", "pace", "--channel", "kept", "--person", "ana@example.com"]), [second]);
    assert_eq!(found(&["--tag", "campaign=spring"]), [] as [&str; 0]);
    assert_eq!(found(&["--subject", "no such words"]), [] as [&str; 0]);
    let counted = gateway.said(&["message", "list", "--count", "--team", "sales"]);
    assert!(counted.contains("captured     1\n") && counted.contains("2 recipients"), "{counted}");
    assert!(gateway.refused(&["message", "list", "--count", "--subject", "x"]).contains("'subject' is not counted by"));
}
