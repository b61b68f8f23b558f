//! What the tour shows: a table that moves on a terminal, lines elsewhere, JSON lines for programs.

use super::capture_server::Captured;
use super::hop::Hop;
use super::letters::{ANA, Letter, Progress};
use super::live::{Live, Size};
use super::paced::{CHANNEL, Ending, LIMIT, Picture, Wait};
use super::stage::Stage;
use crate::cli::Output;
use serde_json::{Value, json};
use std::io::{IsTerminal, Write};

/// Where the tour is shown.
pub(super) struct Screen {
    kind: Kind,
    /// What was said of each letter last, so that a line is written for a change alone.
    said: Vec<String>,
    live: Live,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Terminal,
    Lines,
    Json,
}

impl Screen {
    pub(super) fn new(output: Output) -> Self {
        let kind = match output {
            Output::Json => Kind::Json,
            Output::Table if std::io::stdout().is_terminal() => Kind::Terminal,
            Output::Table => Kind::Lines,
        };
        Self { kind, said: Vec::new(), live: Live::default() }
    }

    pub(super) fn hop(&self, hop: &Hop) {
        match self.kind {
            Kind::Json => line(&json!({ "event": "capture_server", "pid": hop.pid, "address": format!("127.0.0.1:{}", hop.port) })),
            Kind::Terminal | Kind::Lines => {
                print("Sendero: a short tour. Nothing leaves this machine.\n");
                print(&format!("  capture server   127.0.0.1:{} (process {}), takes every message", hop.port, hop.pid));
            }
        }
    }

    pub(super) fn stage(&self, stage: &Stage) {
        let listeners = format!("SMTP {} (STARTTLS), {} (TLS), HTTP {}", stage.starttls, stage.implicit, stage.http);
        match self.kind {
            Kind::Json => line(&json!({ "event": "gateway", "folder": stage.folder, "listens": listeners })),
            Kind::Terminal | Kind::Lines => {
                print(&format!("  gateway          {listeners}"));
                print(&format!("  kept in          {}\n", stage.folder.display()));
                print("  a door -> accepted: safe on disk -> handed over -> captured, body compared\n");
            }
        }
    }

    /// Shows how far each letter has come.
    pub(super) fn show(&mut self, letters: &[Letter]) {
        let now: Vec<String> = letters.iter().map(words).collect();
        if now == self.said {
            return;
        }
        match self.kind {
            Kind::Terminal => self.draw(letters, &now),
            Kind::Lines => self.changes(letters, &now),
            Kind::Json => self.arrivals(letters),
        }
        self.said = now;
    }

    fn draw(&mut self, letters: &[Letter], now: &[String]) {
        let lines: Vec<String> = letters.iter().zip(now).map(|(letter, words)| letter_line(letter, words)).collect();
        write(&self.live.draw(&lines, Size::of_terminal()));
    }

    fn changes(&self, letters: &[Letter], now: &[String]) {
        for (at, (letter, words)) in letters.iter().zip(now).enumerate() {
            let is_new = self.said.get(at).is_none_or(|before| before != words);
            if is_new && letter.progress != Progress::Waiting {
                print(&letter_line(letter, words));
            }
        }
    }

    fn arrivals(&self, letters: &[Letter]) {
        for (at, letter) in letters.iter().enumerate() {
            let before = self.said.get(at).map_or("", String::as_str);
            if letter.captured_sha256().is_some() && before != words(letter) {
                line(&record(letter));
            }
        }
    }

    /// The second scene begins: so much bulk waits.
    pub(super) fn paced_begins(&mut self, bulk: usize) {
        self.live.leave();
        match self.kind {
            Kind::Json => line(&json!({ "event": "paced", "channel": CHANNEL, "limit": LIMIT, "bulk": bulk })),
            Kind::Terminal | Kind::Lines => {
                print(&format!("\nA channel with a limit: '{CHANNEL}' keeps to {LIMIT}."));
                print(&format!("{bulk} bulk messages wait on it; one-off ones will pass them and fill the window.\n"));
            }
        }
    }

    /// The window, the lanes and what waits at this moment.
    pub(super) fn paced(&mut self, picture: &Picture) {
        let words = picture.words();
        match self.kind {
            Kind::Json if self.is_news(&words) => line(&picture.record()),
            Kind::Lines if self.is_news(&words) => print(&format!("  {words}")),
            Kind::Json | Kind::Lines => {}
            Kind::Terminal => {
                let size = Size::of_terminal();
                let mut lines = vec![format!("  {words}")];
                // One row is the window's, one may be needed for those that find no room.
                let room = size.room().saturating_sub(2).max(1);
                lines.extend(picture.waits.iter().take(room).map(|wait| format!("    {}", wait.words())));
                if picture.waits.len() > room {
                    lines.push(format!("    ... and {} more", picture.waits.len() - room));
                }
                write(&self.live.draw(&lines, size));
            }
        }
        self.said = vec![words];
    }

    /// All that waits, each with its reason, where it is not on the screen all the time.
    pub(super) fn waits(&self, waits: &[Wait]) {
        match self.kind {
            Kind::Json => line(&json!({ "event": "waits", "messages": waits.iter().map(Wait::record).collect::<Vec<_>>() })),
            Kind::Lines => waits.iter().for_each(|wait| print(&format!("    {}", wait.words()))),
            Kind::Terminal => {}
        }
    }

    fn is_news(&self, words: &String) -> bool {
        self.said.first() != Some(words)
    }

    /// What the second scene came to.
    pub(super) fn paced_ends(&mut self, ending: &Ending) {
        self.said.clear();
        self.live.leave();
        match self.kind {
            Kind::Json => line(&ending.record()),
            Kind::Terminal | Kind::Lines => print(&ending.words()),
        }
    }

    /// How to point a mail client at the gateway.
    pub(super) fn invitation(&self, stage: &Stage) {
        if self.kind == Kind::Json {
            return line(&json!({
                "event": "ready", "user": ANA, "password": stage.password,
                "starttls": stage.starttls, "implicit": stage.implicit, "http": stage.http,
            }));
        }
        print("\nPoint a mail client at it (accept its self-signed certificate, or trust the file):\n");
        print(&format!(
            "  server       {}   port {} with STARTTLS, or {} with TLS",
            stage.starttls.ip(),
            stage.starttls.port(),
            stage.implicit.port()
        ));
        print(&format!("  user name    {ANA}"));
        print(&format!("  password     {}", stage.password));
        print(&format!("  send as      {ANA}"));
        print(&format!("  certificate  {}", stage.certificate().display()));
        print(&format!(
            "\nOr send by HTTP:  curl -H 'Authorization: Bearer {}' -H 'Content-Type: message/rfc822' \\",
            stage.password
        ));
        print(&format!("                       --data-binary @letter.eml http://{}/api/v1/messages/raw", stage.http));
        print("\nOr look around from a second terminal:");
        print(&format!("  {} --data-dir {}/data status", program(), stage.folder.display()));
        print("\nIt stays up, and shows what arrives, until Ctrl-C.\n");
    }

    /// A message that somebody else sent while the tour stays up.
    pub(super) fn visitor(&self, captured: &Captured) {
        match self.kind {
            Kind::Json => line(&json!({ "event": "captured", "message": captured })),
            Kind::Terminal | Kind::Lines => {
                let subject: String = captured.subject.chars().filter(|c| !smtp::is_unseen(*c)).collect();
                print(&format!("  captured: {subject} ({} bytes)", captured.size));
            }
        }
    }

    /// The end: what is missing, if anything is, what still waits, and where it is safe.
    pub(super) fn end(&self, letters: &[Letter], waiting: u64, stage: &Stage) {
        let missing: Vec<&Letter> = letters.iter().filter(|letter| !letter.arrived_unchanged()).collect();
        let (folder, arrived) = (stage.folder.display(), letters.len() - missing.len());
        if self.kind == Kind::Json {
            for letter in &missing {
                line(&record(letter));
            }
            let safe_in = if missing.is_empty() && waiting == 0 { Value::Null } else { json!(stage.folder) };
            return line(&json!({
                "event": "end", "ok": missing.is_empty(), "arrived": arrived, "missing": missing.len(),
                "waiting": waiting, "safe_in": safe_in,
            }));
        }
        if missing.is_empty() {
            print(&format!("\n{arrived} of {arrived} messages of the first scene arrived, every body unchanged."));
        } else {
            print(&format!("\n{} of {} messages are missing at the capture server:", missing.len(), letters.len()));
        }
        for letter in missing {
            let id = letter.id.as_deref().unwrap_or("not accepted");
            print(&format!("  {id}  {}: {}", letter.subject, state(letter)));
        }
        if waiting > 0 {
            print(&format!("\n{waiting} messages still wait, safe in {folder}/data; this reads them:"));
            print(&format!("  {} --data-dir {folder}/data store check", program()));
            print("The folder stays, with this mail, the master key and the token in it; once you are done:");
            print(&format!("  rm -r {folder}"));
        }
    }
}

/// The program that runs, as a shell finds it again.
fn program() -> String {
    std::env::current_exe().map_or_else(|_| "sendero".to_owned(), |path| path.display().to_string())
}

fn mark(letter: &Letter) -> &'static str {
    match &letter.progress {
        Progress::Waiting => " ",
        Progress::Refused(_) => "x",
        Progress::Accepted(_) => ".",
        Progress::HandingOver | Progress::Sent => ">",
        Progress::Captured(_) if letter.arrived_unchanged() => "*",
        Progress::Captured(_) => "!",
    }
}

fn letter_line(letter: &Letter, words: &str) -> String {
    format!("  {} {:<19} {words}", mark(letter), letter.door.long_name())
}

/// How far the message has come, and its id, which a narrow terminal cuts first.
fn words(letter: &Letter) -> String {
    match &letter.id {
        Some(id) => format!("{} {id}", state(letter)),
        None => state(letter),
    }
}

fn state(letter: &Letter) -> String {
    match &letter.progress {
        Progress::Waiting => String::new(),
        Progress::Refused(problem) => format!("not accepted: {problem}"),
        Progress::Accepted(reason) if reason.is_empty() => {
            format!("accepted in {:.1} ms: safe on disk", letter.took.as_secs_f64() * 1000.0)
        }
        Progress::Accepted(reason) => format!("safe on disk; {reason}"),
        Progress::HandingOver => "being handed over".to_owned(),
        Progress::Sent => "handed over: the next hop said 250".to_owned(),
        Progress::Captured(_) if letter.arrived_unchanged() => "captured unchanged".to_owned(),
        Progress::Captured(_) => "captured, but ITS BODY CHANGED".to_owned(),
    }
}

fn record(letter: &Letter) -> Value {
    json!({
        "event": "message",
        "id": letter.id,
        "surface": letter.door.name(),
        "message_id": letter.message_id,
        "accepted_sha256": letter.id.as_ref().map(|_| &letter.sha256),
        "captured_sha256": letter.captured_sha256(),
        "equal": letter.arrived_unchanged(),
        "state": state(letter),
    })
}

fn line(value: &Value) {
    print(&value.to_string());
}

fn print(text: &str) {
    write(&format!("{text}\n"));
}

fn write(text: &str) {
    let mut out = std::io::stdout().lock();
    // A reader that has gone away ends nothing: the tour goes on and ends with its own code.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
