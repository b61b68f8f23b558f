//! Backups of a gateway that runs and of one that does not, put back, and what follows.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
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

/// One message an hour leaves, so the others wait.
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

/// A folder with settings, in which gateways run.
struct Site {
    folder: tempfile::TempDir,
}

struct Running(Child);

impl Site {
    fn new() -> Self {
        let site = Self { folder: tempfile::tempdir().unwrap() };
        fs::write(site.at("sendero.toml"), SETTINGS).unwrap();
        fs::write(site.at("directory.toml"), DIRECTORY).unwrap();
        site
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sendero"));
        command.current_dir(self.folder.path()).args(arguments);
        command
    }

    fn serve(&self, arguments: &[&str]) -> Running {
        let mut command = self.command(&[&["serve"], arguments].concat());
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
        let listens = |line: std::io::Result<String>| line.is_ok_and(|line| line.contains("listening") && line.contains("socket"));
        assert!(log.by_ref().any(listens), "it ended before it listened");
        std::thread::spawn(move || log.for_each(drop));
        Running(process)
    }

    fn ask(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
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

    /// The first is captured, two wait.
    fn send_three(&self) -> [String; 3] {
        let first = self.send();
        let captured = || self.json(&["message", "show", &first])["message"]["status"] == "captured";
        assert!((0..1000).any(|_| captured()), "{}", self.said(&["message", "show", &first]));
        [first, self.send(), self.send()]
    }

    fn status(&self, data: &str, id: &str) -> String {
        self.json(&["--data-dir", data, "message", "show", id])["message"]["status"].as_str().unwrap().to_owned()
    }
}

impl Running {
    /// Ends it politely.
    fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_backup_of_a_running_gateway_is_restored_held_and_released() {
    let site = Site::new();
    let gateway = site.serve(&["--apply", "directory.toml"]);
    let [first, second, third] = site.send_three();
    let said = site.said(&["backup", "backup"]);
    assert!(said.contains("2 messages, 2 recipients") && said.contains("NOT in it") && said.contains("master.key"), "{said}");
    assert!(site.refused(&["backup", "backup"]).contains("is there already"));
    assert!(site.refused(&["backup", "sendero-data/backup"]).contains("inside of the data folder"));
    assert!(site.refused(&["restore", "backup"]).contains("is not empty"));
    gateway.stop();
    let said = site.said(&["store", "check", "backup"]);
    assert!(said.contains("no problem found") && said.contains("2 recipients"), "{said}");
    let said = site.said(&["--data-dir", "new", "restore", "backup"]);
    assert!(said.contains("held") && said.contains("release --restored") && said.contains("master.key"), "{said}");
    let gateway = site.serve(&["--data-dir", "new"]);
    let states = [&first, &second, &third].map(|id| site.status("new", id));
    assert_eq!(states, ["captured", "held", "held"]);
    let why = site.said(&["--data-dir", "new", "message", "show", &second]);
    assert!(why.contains("restored from the backup of"), "{why}");
    let said = site.said(&["--data-dir", "new", "message", "release", "--restored", "--channel", "kept"]);
    assert!(said.contains("2 messages go on"), "{said}");
    assert_ne!(site.status("new", &third), "held");
    gateway.stop();
}

#[test]
fn a_stopped_data_folder_is_backed_up_copied_and_adopted() {
    let site = Site::new();
    let gateway = site.serve(&["--apply", "directory.toml"]);
    let [_, second, _] = site.send_three();
    assert!(site.refused(&["store", "adopt"]).contains("in use"));
    gateway.stop();
    let taken = site.json(&["backup", "backup"]);
    assert_eq!((&taken["state"], &taken["summary"]["open_messages"]), (&"done".into(), &2.into()));
    copy(&site.at("sendero-data"), &site.at("copied"));
    for _ in 0..2 {
        assert!(site.said(&["--data-dir", "copied", "store", "adopt"]).contains("every open message is held"));
    }
    let gateway = site.serve(&["--data-dir", "copied"]);
    assert_eq!(site.status("copied", &second), "held");
    gateway.stop();
    assert!(site.refused(&["--data-dir", "nothing", "store", "adopt"]).contains("nothing"));
    assert!(site.refused(&["--data-dir", "nothing", "backup", "other"]).contains("nothing to back up"));
}

#[test]
fn a_restore_that_did_not_finish_is_no_data_folder() {
    let site = Site::new();
    site.serve(&["--apply", "directory.toml"]).stop();
    site.said(&["backup", "backup"]);
    site.said(&["--data-dir", "new", "restore", "backup"]);
    fs::write(site.at("new/queue/log/restoring"), "").unwrap();
    assert!(site.refused(&["--data-dir", "new", "serve"]).contains("did not finish"));
    assert!(site.refused(&["--data-dir", "new", "restore", "backup"]).contains("did not finish"));
    let checked = site.ask(&["--data-dir", "new", "store", "check"]);
    assert!(!checked.status.success() && String::from_utf8_lossy(&checked.stdout).contains("did not finish"));
    for command in [&["--data-dir", "backup", "serve"][..], &["--data-dir", "backup", "store", "adopt"]] {
        assert!(site.refused(command).contains("is a backup"), "{command:?}");
    }
    assert_eq!(site.ask(&["store", "check", "backup"]).status.code(), Some(0), "nothing has touched it");
    fs::write(site.at("backup/queue/format"), "changed").unwrap();
    assert_eq!(site.ask(&["store", "check", "backup"]).status.code(), Some(1));
    assert!(site.refused(&["--data-dir", "other", "restore", "backup"]).contains("is damaged"));
    assert!(!site.at("other").exists());
    assert!(site.refused(&["--data-dir", "other", "restore", "directory.toml"]).contains("no whole backup"));
}

#[test]
fn an_address_is_forgotten_once_its_mail_has_ended_and_somebody_said_yes() {
    let site = Site::new();
    let gateway = site.serve(&["--apply", "directory.toml"]);
    let [first, second, third] = site.send_three();
    assert!(site.refused(&["forget", "luis@example.org", "--yes"]).contains(&second), "its mail is open");
    for id in [&second, &third] {
        site.said(&["message", "cancel", id]);
    }
    let said = site.refused(&["forget", "luis@example.org"]);
    assert!(said.contains("3 ended messages") && said.contains("--yes"), "{said}");
    assert!(site.said(&["message", "show", &first]).contains("luis@example.org"));
    let forgotten = site.json(&["forget", "luis@example.org", "--yes"]);
    assert_eq!((&forgotten["messages"], &forgotten["log_is_clean"]), (&3.into(), &true.into()), "{forgotten}");
    let shown = site.said(&["message", "show", &first]);
    assert!(!shown.contains("luis") && shown.contains(forgotten["pseudonym"].as_str().unwrap()), "{shown}");
    assert_eq!(site.ask(&["message", "show", "--raw", &first]).status.code(), Some(1));
    assert_eq!(site.json(&["forget", "LUIS@example.org", "--yes"])["messages"], 0);
    assert!(site.said(&["forget", "nobody@example.net", "--yes"]).contains("No ended mail"), "a slip of the pen is told");
    gateway.stop();
    assert!(site.said(&["store", "check"]).contains("no problem found"));
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (kind, target) = (entry.file_type().unwrap(), to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &target);
        } else if kind.is_file() {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
