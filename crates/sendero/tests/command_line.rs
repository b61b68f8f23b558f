//! The command line as people type it.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn sendero(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sendero")).current_dir(folder).args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_command_without_a_gateway_ends_with_69_and_says_how_to_start_one() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&["status"][..], &["queue"], &["message", "list"], &["channel", "list"]] {
        let output = sendero(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(69), "{arguments:?}");
        assert!(said(&output).contains("sendero serve"), "{}", said(&output));
    }
}

#[test]
fn wrong_usage_ends_with_2() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&["bogus"][..], &["send"], &["message", "list", "--limit", "0"], &["channel", "show"], &[]] {
        assert_eq!(sendero(folder.path(), arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn wrong_settings_end_with_1_and_name_file_key_and_remedy() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("sendero.toml"), "[queue]\nmin_fre = \"1GiB\"\n").unwrap();
    for arguments in [&["config", "check"][..], &["serve"], &["status"]] {
        let output = sendero(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let said = said(&output);
        assert!(said.contains("sendero.toml") && said.contains("queue.min_fre") && said.contains("'queue.min_free'"), "{said}");
    }
}

#[test]
fn right_settings_are_said_to_be_right() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("own.toml"), "hostname = \"mail.example.com\"\n").unwrap();
    let output = sendero(folder.path(), &["--config", "own.toml", "config", "check"]);
    assert!(output.status.success() && said(&output).contains("own.toml: no problem found"), "{}", said(&output));
}

#[test]
fn a_reply_is_explained_without_a_gateway_by_the_settings_rules() {
    let folder = tempfile::tempdir().unwrap();
    let explain = |arguments: &[&str]| sendero(folder.path(), &[&["explain"], arguments].concat());
    let quota =
        explain(&["554-5.2.0 a\n554 5.2.0 SubmissionQuotaExceededException", "--provider", "microsoft365", "--phase", "data"]);
    assert!(quota.status.success() && said(&quota).contains("daily_limit") && said(&quota).contains("kept"), "{}", said(&quota));
    let unknown = said(&explain(&["550 5.1.1 nobody", "--output", "json"]));
    let json: serde_json::Value = serde_json::from_str(&unknown).unwrap();
    assert_eq!((&json["scope"], &json["rule"]["provider"]), (&"recipient".into(), &"*".into()));
    for (arguments, words) in [
        (&["550 x", "--provider", "gmial"][..], "did you mean 'gmail'? there are: amazon_ses"),
        (&["550 x", "--phase", "rctp"], "did you mean 'rcpt'? there are: connect"),
        (&["no such user"], "as in \"550 5.1.1"),
        (&["250 ok"], "no refusal"),
    ] {
        let output = explain(arguments);
        assert!(output.status.code() == Some(1) && said(&output).contains(words), "{arguments:?}: {}", said(&output));
    }
    std::fs::write(folder.path().join("sendero.toml"), "[replies]\nrules = \"own.toml\"\n").unwrap();
    let missing = sendero(folder.path(), &["config", "check"]);
    assert!(missing.status.code() == Some(1) && said(&missing).contains("own.toml: cannot be read"), "{}", said(&missing));
    std::fs::write(folder.path().join("own.toml"), OWN_RULE).unwrap();
    let own = said(&explain(&["550 the moon is blue tonight"]));
    assert!(own.contains("of your rules, for provider *") && own.contains("2 min"), "{own}");
}

const OWN_RULE: &str = r#"
[[reply]]
provider = "*"
phase = "any"
code = 550
text_fragment = "moon is blue"
class = "rate_limited"
scope = "channel"
permanence = "temporary"
action = "pause_channel_until"
retry_after = 120
"#;

#[test]
fn a_message_on_standard_input_is_read_to_its_end_before_it_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("sendero-data")).unwrap();
    let listener = UnixListener::bind(folder.path().join("sendero-data/sendero.sock")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sendero"));
    command.current_dir(folder.path()).args(["send", "--file", "-", "--to", "luis@example.org"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"From: <ana@example.com>\n\nGood morning.\n").unwrap();
    drop(input);
    let (gateway, _) = listener.accept().unwrap();
    let lines = BufReader::new(gateway).lines().map(|line| line.unwrap().to_lowercase());
    let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    assert!(head.contains(&"content-length: 42".to_owned()), "its length is known: {head:?}");
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn a_message_that_cannot_be_read_is_named_with_the_cause() {
    let folder = tempfile::tempdir().unwrap();
    for (file, cause) in [(".", "directory"), ("none.eml", "No such file")] {
        let output = sendero(folder.path(), &["send", "--file", file]);
        let said = said(&output);
        assert!(output.status.code() == Some(1) && said.contains(&format!("{file}: ")) && said.contains(cause), "{said}");
    }
}

#[test]
fn help_shows_what_people_use_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let help = said(&sendero(folder.path(), &["--help"]));
    let words = ["serve", "try", "apply", "send", "message", "queue", "estimate", "suppression", "channel", "status", "explain"];
    for word in words.into_iter().chain(["config", "store"]) {
        assert!(help.contains(word), "{word}");
    }
    assert!(!help.contains("capture-server"));
}
