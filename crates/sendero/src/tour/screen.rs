//! What the tour shows: a table that moves on a terminal, lines elsewhere, JSON lines for programs.

use super::capture_server::Captured;
use super::hop::Hop;
use super::letters::{ANA, Letter, Progress};
use super::paced::{CHANNEL, LIMIT, Picture};
use super::stage::Stage;
use crate::cli::Output;
use serde_json::{Value, json};
use std::io::{IsTerminal, Write};

/// Where the tour is shown.
pub(super) struct Screen {
    kind: Kind,
    /// What was said of each letter last, so that a line is written for a change alone.
    said: Vec<String>,
    drawn: usize,
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
        Self { kind, said: Vec::new(), drawn: 0 }
    }

    pub(super) fn hop(&self, hop: &Hop) {
        match self.kind {
            Kind::Json => line(&json!({ "event": "capture_server", "pid": hop.pid, "address": format!("127.0.0.1:{}", hop.port) })),
            Kind::Terminal | Kind::Lines => {
                print("Sendero: a short tour. Nothing leaves this machine.\n");
                print(&format!(
                    "  capture server   127.0.0.1:{} (process {}), the next hop: takes every message",
                    hop.port, hop.pid
                ));
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
                print("  message by ... -> accepted: safe on disk -> handed over -> captured, body compared\n");
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
        let width = usize::from(comfy_table::Table::new().width().unwrap_or(80)).saturating_sub(1).max(20);
        let mut picture = String::new();
        if self.drawn > 0 {
            picture.push_str(&format!("\x1b[{}A", self.drawn));
        }
        for (letter, words) in letters.iter().zip(now) {
            // A line that wraps would take two, and the picture would move.
            let line: String = format!("  {} {:<22} {words}", mark(letter), letter.door.long_name()).chars().take(width).collect();
            picture.push_str(&format!("\x1b[2K{line}\n"));
        }
        self.drawn = letters.len();
        write(&picture);
    }

    fn changes(&self, letters: &[Letter], now: &[String]) {
        for (at, (letter, words)) in letters.iter().zip(now).enumerate() {
            let is_new = self.said.get(at).is_none_or(|before| before != words);
            if is_new && letter.progress != Progress::Waiting {
                print(&format!("  {} {:<22} {words}", mark(letter), letter.door.long_name()));
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
    pub(super) fn paced_begins(&mut self, count: usize) {
        self.drawn = 0;
        match self.kind {
            Kind::Json => line(&json!({ "event": "paced", "channel": CHANNEL, "limit": LIMIT, "bulk": count })),
            Kind::Terminal | Kind::Lines => print(&format!(
                "\nA channel with a limit: '{CHANNEL}' keeps to {LIMIT}. {count} bulk messages wait on it; six one-off ones will pass them.\n"
            )),
        }
    }

    /// The window and the lanes at this moment.
    pub(super) fn paced(&mut self, picture: &Picture) {
        let Picture { used: (used, limit), waiting: [now, normal, bulk], arrived: (one_off, of_bulk), reason } = picture;
        let words = format!(
            "window {used:>2} of {limit} | waiting: now {now}, normal {normal}, bulk {bulk} | arrived: one-off {one_off}, bulk {of_bulk}"
        );
        if self.said.first() == Some(&words) {
            return;
        }
        match self.kind {
            Kind::Json => line(&json!({
                "event": "pace", "used": used, "limit": limit, "waiting": { "now": now, "normal": normal, "bulk": bulk },
                "arrived": { "one_off": one_off, "bulk": of_bulk }, "last_waits": reason,
            })),
            Kind::Lines => print(&format!("  {words}\n    {reason}")),
            Kind::Terminal => {
                let up = if self.drawn > 0 { format!("\x1b[{}A", self.drawn) } else { String::new() };
                write(&format!("{up}\x1b[2K  {words}\n\x1b[2K  {reason}\n"));
                self.drawn = 2;
            }
        }
        self.said = vec![words];
    }

    /// What the second scene came to.
    pub(super) fn paced_ends(&mut self, (one_off, bulk): (usize, usize), finish: Option<u64>) {
        self.said.clear();
        self.drawn = 0;
        match self.kind {
            Kind::Json => line(&json!({ "event": "paced_end", "one_off": one_off, "bulk": bulk, "rest_leaves_in_s": finish })),
            Kind::Terminal | Kind::Lines => {
                print(&format!("\n  {one_off} one-off messages passed the bulk, of which {bulk} had left."));
                if let Some(seconds) = finish {
                    print(&format!("  The rest leaves by itself within the limit, the last one in about {seconds} s."));
                }
            }
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
        print("\nPoint a mail client at it (its certificate is self-signed: accept it, or trust the file below):\n");
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
        print(&format!("Or look around:   sendero --data-dir {}/data status", stage.folder.display()));
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

    /// The end: what is missing, if anything is, and where it is safe.
    pub(super) fn end(&self, letters: &[Letter], stage: &Stage) {
        let missing: Vec<&Letter> = letters.iter().filter(|letter| !letter.arrived_unchanged()).collect();
        if self.kind == Kind::Json {
            for letter in &missing {
                line(&record(letter));
            }
            let safe_in = if missing.is_empty() { Value::Null } else { json!(stage.folder) };
            let arrived = letters.len() - missing.len();
            return line(
                &json!({ "event": "end", "ok": missing.is_empty(), "arrived": arrived, "missing": missing.len(), "safe_in": safe_in }),
            );
        }
        if missing.is_empty() {
            return print(&format!("\n{} of {} messages arrived, every body unchanged.", letters.len(), letters.len()));
        }
        print(&format!("\n{} of {} messages are missing at the capture server:", missing.len(), letters.len()));
        for letter in missing {
            let id = letter.id.as_deref().unwrap_or("not accepted");
            print(&format!("  {id}  {}: {}", letter.subject, state(letter)));
        }
        print(&format!(
            "\nWhat was accepted is safe in {0}/data;\n'sendero --data-dir {0}/data store check' reads it.",
            stage.folder.display()
        ));
    }
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

/// The id, as far as there is one, and how far the message has come.
fn words(letter: &Letter) -> String {
    match &letter.id {
        Some(id) => format!("{id} {}", state(letter)),
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
        Progress::Captured(_) if letter.arrived_unchanged() => "captured, body unchanged".to_owned(),
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
