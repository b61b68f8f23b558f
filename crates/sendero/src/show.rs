//! How answers look on a terminal, and as JSON for programs.

mod backups;
mod channels;
mod explained;
mod forgotten;
mod waiting;

pub(crate) use backups::{adopted, backup, released, restored};
pub(crate) use channels::{channel, channel_detail, channels};
pub(crate) use explained::explained;
pub(crate) use forgotten::{forgotten, to_forget};
pub(crate) use waiting::{estimate, queue, retried, suppressions, unsuppressed};

use crate::cli::Output;
use crate::commands::send::Sent;
use comfy_table::{ContentArrangement, Table, presets};
use mail::{RecipientState, Timestamp, WaitingKind, WaitingOn};
use serde::Serialize;
use store::backup::Manifest;
use store::embedded::Report;
use web::view;

fn json<T: Serialize>(value: &T) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => print(&text),
        Err(problem) => eprintln!("sendero: the answer cannot be written as JSON: {problem}"),
    }
}

/// Prints a line. A reader that has gone away, as `head` does, is no error.
fn print(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn table(headings: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_header(headings);
    for row in rows {
        table.add_row(row.iter().map(|cell| plain(cell)).collect::<Vec<_>>());
    }
    print(&table.trim_fmt());
}

/// What others wrote may hold characters that a terminal would obey, or that no eye sees.
fn plain(text: &str) -> String {
    text.chars().map(|c| if smtp::is_unseen(c) && c != '\n' { '\u{fffd}' } else { c }).collect()
}

fn line(name: &str, value: &str) {
    if !value.is_empty() {
        print(&format!("{name:<12} {}", plain(value)));
    }
}

fn time(at: Timestamp) -> String {
    let text = at.to_string();
    text.split_once('.').map_or(text.clone(), |(seconds, _)| format!("{}Z", seconds.replace('T', " ")))
}

fn waits(reason: Option<&WaitingOn>) -> String {
    let Some(reason) = reason else { return String::new() };
    match reason.next_try {
        Some(at) if is_estimate(reason.kind) => format!("{} (about {})", reason.text, time(at)),
        Some(at) => format!("{} (next try {})", reason.text, time(at)),
        None => format!("{} (until {})", reason.text, reason.ends),
    }
}

/// A place in line gives an estimate; other times are set.
fn is_estimate(kind: WaitingKind) -> bool {
    matches!(kind, WaitingKind::Pace | WaitingKind::Turn)
}

fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} B"),
        10_000..10_000_000 => format!("{} KiB", bytes / 1024),
        _ => format!("{} MiB", bytes >> 20),
    }
}

pub(crate) fn submitted(sent: &Sent, output: Output) {
    if output == Output::Json {
        return json(&serde_json::json!({ "message": sent.submitted, "replayed": sent.replayed }));
    }
    let message = &sent.submitted;
    let again = if sent.replayed { " (it had been sent under this key before; nothing was sent twice)" } else { "" };
    print(&format!("{} is safe, and leaves by channel '{}'{again}", message.id, message.channel));
    line("waiting on", &waits(message.waiting_on.as_ref()));
}

pub(crate) fn messages(page: &view::Page<view::Message>, output: Output) {
    if output == Output::Json {
        return json(page);
    }
    if page.data.is_empty() && page.looked_until.is_none() {
        return print("no messages");
    }
    let row = |message: &view::Message| {
        let to = match message.recipients.as_slice() {
            [] => String::new(),
            [one] => one.address.clone(),
            [first, rest @ ..] => format!("{} +{}", first.address, rest.len()),
        };
        let (status, channel) = (message.status.name().to_owned(), message.channel.clone());
        vec![message.id.clone(), time(message.created_at), status, channel, to, message.subject.clone()]
    };
    if !page.data.is_empty() {
        table(&["ID", "ACCEPTED", "STATUS", "CHANNEL", "TO", "SUBJECT"], page.data.iter().map(row));
    }
    match (page.looked_until, page.next.as_ref().filter(|_| page.has_more)) {
        (Some(until), Some(next)) => print(&format!("looked back to {}; more: --after {next}", time(until))),
        (None, Some(next)) => print(&format!("there are more: --after {next}")),
        (_, None) => {}
    }
}

pub(crate) fn counts(counts: &view::Counts, output: Output) {
    if output == Output::Json {
        return json(counts);
    }
    for state in RecipientState::ALL.map(RecipientState::name) {
        line(state, &counts.recipients.get(state).copied().unwrap_or(0).to_string());
    }
    line("in all", &format!("{} recipients", counts.total));
}

pub(crate) fn message(message: &view::Message, events: &[view::Event], output: Output) {
    if output == Output::Json {
        return json(&serde_json::json!({ "message": message, "events": events }));
    }
    line("id", &message.id);
    line("accepted", &format!("{} by {}", time(message.created_at), format!("{:?}", message.surface).to_lowercase()));
    line("person", &message.person);
    line("from", &message.from);
    line("subject", &message.subject);
    line("channel", &message.channel);
    let why = if message.lane_reason.is_empty() { String::new() } else { format!(": {}", message.lane_reason) };
    line("lane", &format!("{}{why}", message.lane.name()));
    line("retry of", message.retry_of.as_deref().unwrap_or_default());
    line("not before", &message.scheduled_at.map(time).unwrap_or_default());
    line("not after", &message.expires_at.map(time).unwrap_or_default());
    line("size", &size(message.size));
    let tags: Vec<String> = message.tags.iter().map(|(name, value)| format!("{name}={value}")).collect();
    line("tags", &tags.join(", "));
    line("waiting on", &waits(message.waiting_on.as_ref()));
    line("ends with", message.waiting_on.as_ref().map(|reason| reason.ends.as_str()).unwrap_or_default());
    print("");
    let row = |one: &view::Recipient| {
        let said = if one.waiting_on.is_some() { waits(one.waiting_on.as_ref()) } else { one.said.clone() };
        vec![one.address.clone(), one.state.name().to_owned(), time(one.since), one.attempts.to_string(), one.relay.clone(), said]
    };
    table(&["RECIPIENT", "STATE", "SINCE", "ATTEMPTS", "RELAY", "LAST WORDS"], message.recipients.iter().map(row));
    print("");
    let row = |event: &view::Event| {
        vec![time(event.at), event.kind.clone(), event.recipient.clone().unwrap_or_default(), event.detail.clone()]
    };
    table(&["TIME", "EVENT", "RECIPIENT", "DETAIL"], events.iter().map(row));
}

pub(crate) fn steered(steered: &view::Steered, verb: &str, output: Output) {
    if output == Output::Json {
        return json(steered);
    }
    let done = match verb {
        "cancel" => "cancelled",
        "hold" => "held",
        _ => "released",
    };
    print(&format!("{done}: {}", steered.moved.join(", ")));
    for (address, state) in &steered.left {
        print(&format!("left alone: {address} is {}", state.name()));
    }
}

pub(crate) fn test(report: &view::TestReport, output: Output) {
    if output == Output::Json {
        return json(report);
    }
    for step in &report.steps {
        let mark = if step.ok { "ok" } else { "FAILED" };
        print(&format!("{:<12} {mark:<6} {:>5} ms  {}", step.step, step.elapsed_ms, plain(&step.detail)));
        if !step.fix.is_empty() {
            print(&format!("{:<12} what to do: {}", "", plain(&step.fix)));
        }
    }
    print(if report.ok { "the channel works" } else { "the channel does not work" });
}

pub(crate) fn applied(applied: &view::Applied, output: Output) {
    if output == Output::Json {
        return json(applied);
    }
    for change in &applied.changes {
        let fields = if change.fields.is_empty() { String::new() } else { format!(": {}", change.fields.join(", ")) };
        print(&format!("{} {} '{}'{fields}", change.action, change.kind, change.name));
    }
    let would = if applied.dry_run { "would change" } else { "changed" };
    print(&format!("{} {would}, {} stay as they are", applied.changes.len(), applied.unchanged));
    for made in &applied.made_tokens {
        print("");
        print("made a token; this secret is shown here and never again:");
        line("user name", &made.person);
        line("token", &made.name);
        line("secret", &made.secret);
    }
}

pub(crate) fn status(status: &view::Status, output: Output) {
    if output == Output::Json {
        return json(status);
    }
    line("version", &status.version);
    line("hostname", &status.hostname);
    line("data folder", &status.data_dir);
    line("running for", &format!("{} s", status.now.since(status.started_at).as_secs()));
    line("takes mail", &status.refusing.as_ref().map_or_else(|| "yes".to_owned(), |why| format!("NO: {why}")));
    for listener in &status.listeners {
        line("listens", &format!("{} {} ({})", listener.service, listener.address, listener.tls));
    }
    let unset = "not set up: failure reports are shown here and in 'message show' only; set [notices] channel and from";
    line("notices", status.notices.as_deref().unwrap_or(unset));
    line("trouble", status.notices_trouble.as_deref().unwrap_or_default());
    line("open", &format!("{} messages, {}", status.open_messages, size(status.open_bytes)));
    let counts: Vec<String> =
        status.recipients.iter().filter(|(_, count)| **count > 0).map(|(state, count)| format!("{count} {state}")).collect();
    line("recipients", &format!("{} accepted: {}", status.accepted, counts.join(", ")));
    line("held", &held(status));
    for trouble in &status.channels_in_trouble {
        let next = trouble.next_try.map_or_else(|| "waits for you".to_owned(), |at| format!("next try {}", time(at)));
        line("trouble", &format!("channel '{}' is {}: {} ({next})", trouble.channel, trouble.state, trouble.reason));
    }
}

/// Nobody else tells a person of what waits for one: it does not expire.
fn held(status: &view::Status) -> String {
    match status.recipients.get(RecipientState::Held.name()) {
        None | Some(0) => String::new(),
        Some(1) => "1 recipient waits for you; 'sendero message list --status held' shows it".to_owned(),
        Some(count) => format!("{count} recipients wait for you; 'sendero message list --status held' shows them"),
    }
}

pub(crate) fn store_report(report: &Report, backup: Option<&(Manifest, Vec<String>)>, output: Output) {
    let damaged: Vec<String> = report
        .findings
        .damaged
        .iter()
        .map(|(segment, offset, bytes)| format!("segment {segment}, offset {offset}: {bytes} bytes set aside"))
        .collect();
    if output == Output::Json {
        return json(&serde_json::json!({
            "records": report.records,
            "messages": report.messages,
            "open_recipients": report.open_recipients,
            "torn_bytes": report.findings.torn_bytes,
            "damaged": damaged,
            "illegal": report.illegal,
            "clean": report.is_clean() && backup.is_none_or(|(_, problems)| problems.is_empty()),
            "backup": backup.map(|(manifest, problems)| serde_json::json!({
                "at": manifest.at,
                "program": manifest.program,
                "files": manifest.files.len(),
                "bytes": manifest.bytes(),
                "problems": problems,
            })),
        }));
    }
    let damaged_files = backup.map(|(_, problems)| problems.as_slice()).unwrap_or_default();
    if let Some((manifest, _)) = backup {
        line("backup of", &format!("{}, by version {}", time(manifest.at), manifest.program));
        line("files", &format!("{}, {}", manifest.files.len(), size(manifest.bytes())));
    }
    for text in damaged_files {
        line("file", text);
    }
    line("records", &report.records.to_string());
    line("messages", &report.messages.to_string());
    line("open", &format!("{} recipients", report.open_recipients));
    if report.findings.torn_bytes > 0 {
        line("torn end", &format!("{} bytes, never acknowledged", report.findings.torn_bytes));
    }
    for text in &damaged {
        line("damaged", text);
    }
    for text in &report.illegal {
        line("illegal", text);
    }
    print(if report.is_clean() && damaged_files.is_empty() { "no problem found" } else { "problems found" });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_mail_has_a_line_in_status_with_where_to_look() {
        let line = |count: u64| {
            let status = serde_json::json!({
                "version": "0", "hostname": "gw.example.com", "data_dir": "", "started_at": "2026-11-25T08:00:00Z",
                "now": "2026-11-25T08:00:00Z", "refusing": null, "listeners": [], "accepted": count,
                "recipients": {"held": count}, "open_messages": 0, "open_bytes": 0, "channels_in_trouble": [],
            });
            held(&serde_json::from_value(status).expect("a status"))
        };
        assert_eq!(line(0), "");
        assert!(line(3).starts_with("3 recipients wait for you") && line(3).contains("--status held"));
    }
}
