//! The part for people: what happened to whom, in whose words, and what to do.

use super::encode::{one_line, quoted_printable};
use super::original::About;
use super::{Action, Part, RecipientReport, Report};
use smtp::EnhancedCode;

/// Longest line of the text, in characters, where it has spaces.
const WIDTH: usize = 72;
/// Longest line where it has none, in characters.
const LONGEST: usize = 240;
/// Longest subject of the message that is repeated, in characters.
const MAX_SUBJECT: usize = 100;

pub(super) fn subject(report: &Report<'_>, about: &About) -> String {
    let what = match gravest(report) {
        Action::Failed => "Not delivered",
        Action::Delayed => "Delayed",
        Action::Delivered => "Delivered",
        Action::Relayed | Action::Expanded => "Handed over",
    };
    let original: String = about.subject.chars().take(MAX_SUBJECT).collect();
    let original = if original.is_empty() { "your message" } else { &original };
    format!("{what}: {original}")
}

fn gravest(report: &Report<'_>) -> Action {
    let order = [Action::Failed, Action::Delayed, Action::Relayed, Action::Expanded];
    let has = |action: &Action| report.recipients.iter().any(|recipient| recipient.action == *action);
    order.into_iter().find(has).unwrap_or(Action::Delivered)
}

pub(super) fn part(report: &Report<'_>, about: &About, unnamed: usize) -> Part {
    let text = text(report, about, unnamed);
    if text.is_ascii() {
        return Part::new("text/plain; charset=us-ascii", None, text.as_bytes());
    }
    Part::new("text/plain; charset=utf-8", Some("quoted-printable"), &quoted_printable(&text))
}

fn text(report: &Report<'_>, about: &About, unnamed: usize) -> String {
    let mut page = Page::default();
    page.paragraph("", &format!("This is the mail gateway {}. It tells you about a message of yours.", one_line(report.hostname)));
    for (action, heading) in [
        (Action::Failed, "It was NOT delivered, and is not tried any more, to:"),
        (Action::Delayed, "It has not been delivered yet, and is still tried, to:"),
        (Action::Delivered, "It was delivered to:"),
        (Action::Relayed, "It was handed over to a server that sends no reports, for:"),
        (Action::Expanded, "It was handed over to a list, for:"),
    ] {
        let mut concerned = report.recipients.iter().filter(|recipient| recipient.action == action).peekable();
        if concerned.peek().is_some() {
            page.blank();
            page.paragraph("", heading);
        }
        for recipient in concerned {
            page.blank();
            one(&mut page, recipient);
        }
    }
    if unnamed > 0 {
        page.blank();
        let more = format!("And {unnamed} more, for which there is no room here: look the message up by the id below.");
        page.paragraph("", &more);
    }
    page.blank();
    page.paragraph("", "The message:");
    for (name, value) in [
        ("Subject", about.subject.clone()),
        ("Date", about.date.clone()),
        ("Message-ID", about.message_id.as_ref().map(|id| format!("<{id}>")).unwrap_or_default()),
        ("Taken here", report.arrival.to_rfc5322()),
        ("Known here as", one_line(report.queue_id)),
    ] {
        if !value.is_empty() {
            page.paragraph("  ", &format!("{name}: {value}"));
        }
    }
    page.text
}

fn one(page: &mut Page, report: &RecipientReport<'_>) {
    page.paragraph("  ", &format!("<{}>", report.recipient.path));
    if let Some(said) = report.said {
        let who = match report.remote_mta {
            Some(remote) if said.code != 0 => format!("{} said:", one_line(remote)),
            _ => "What is known:".to_owned(),
        };
        page.paragraph("    ", &who);
        page.paragraph("      ", &one_line(&said.to_string()));
    }
    if let Some(until) = report.retry_until {
        page.paragraph("    ", &format!("It is tried until {}.", until.to_rfc5322()));
    }
    page.paragraph("    ", if report.suppressed { OFF_THE_LIST } else { what_to_do(report.action, report.status) });
}

/// Advice about an address to which nothing is sent any more.
const OFF_THE_LIST: &str = "What to do: look whether the address is written right. It is now on the list of addresses that are not \
                            written to, and mail to it goes no further. If it is right, ask your administrator to take it off the \
                            list (sendero suppression remove), and then send the message again.";

/// Advice by status (RFC 3463 §3).
fn what_to_do(action: Action, status: EnhancedCode) -> &'static str {
    match action {
        Action::Delayed => "You need not do anything; you are told if it is given up.",
        Action::Delivered => "You need not do anything.",
        Action::Relayed | Action::Expanded => "You need not do anything; whether it arrives is not reported to you.",
        Action::Failed => match (status.subject, status.detail) {
            (1, 7 | 8) => "What to do: the server does not take mail from your address; show this to your administrator.",
            (1, _) => "What to do: look whether the address is written right, and send the message again.",
            (2, 2) => "What to do: the mailbox is full; tell the person in another way, or send it again later.",
            (2, 3) | (3, 4) => "What to do: the message is too large for them; send it smaller, or as a link.",
            (2, _) => "What to do: the mailbox takes no mail; ask the person in another way.",
            (4, 7) => "What to do: the time for it is over; send it again, or ask your administrator what was in the way.",
            (4, _) => "What to do: send it again later; if it happens again, show this to your administrator.",
            (6, _) => "What to do: the server cannot take a message of this kind; send it in another form.",
            (7, _) => "What to do: the server refused it by its rules; change the message, or show this to your administrator.",
            _ => "What to do: send it again; if it happens again, show this to your administrator.",
        },
    }
}

/// Lines of text, none of them too long.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn blank(&mut self) {
        self.text.push_str("\r\n");
    }

    fn paragraph(&mut self, indent: &str, text: &str) {
        let mut line = String::new();
        let mut length = 0;
        for word in text.split(' ').flat_map(pieces).filter(|word| !word.is_empty()) {
            let more = word.chars().count();
            if length > 0 && indent.len() + length + 1 + more > WIDTH {
                self.line(indent, &line);
                (line, length) = (String::new(), 0);
            }
            if length > 0 {
                line.push(' ');
                length += 1;
            }
            line.push_str(word);
            length += more;
        }
        self.line(indent, &line);
    }

    fn line(&mut self, indent: &str, line: &str) {
        self.text.push_str(indent);
        self.text.push_str(line);
        self.text.push_str("\r\n");
    }
}

/// A word, in pieces where nobody would call it one.
fn pieces(mut word: &str) -> Vec<&str> {
    let mut all = Vec::new();
    while let Some((end, _)) = word.char_indices().nth(LONGEST) {
        all.push(&word[..end]);
        word = &word[end..];
    }
    all.push(word);
    all
}
