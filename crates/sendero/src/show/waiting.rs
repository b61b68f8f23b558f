//! What waits and what was given up, on a terminal.

use super::{json, line, plain, print, size, table, time};
use crate::cli::Output;
use mail::{Timestamp, WaitingKind};
use web::view;

pub(crate) fn queue(lines: &[view::QueueLine], output: Output) {
    if output == Output::Json {
        return json(&lines);
    }
    if lines.iter().all(|line| line.queued + line.leased + line.held == 0) {
        return print("nothing waits");
    }
    let row = |line: &view::QueueLine| {
        let lanes: Vec<String> = line.lanes.iter().map(|lane| format!("{} {}", lane.messages, lane.lane.name())).collect();
        let slot = line.lanes.iter().filter_map(|lane| lane.next_slot).min();
        let shown = |at: Option<Timestamp>| at.map(time).unwrap_or_default();
        vec![
            line.channel.clone(),
            line.state.clone(),
            lanes.join(", "),
            causes(&line.causes),
            size(line.bytes),
            shown(slot),
            shown(line.finishes_at),
            line.reason.clone(),
        ]
    };
    table(&["CHANNEL", "STATE", "LANES", "WAITS", "SIZE", "NEXT", "DONE ABOUT", "REASON"], lines.iter().map(row));
}

/// `12 wait for pace, 3 for retry, 1 for a person`.
fn causes(causes: &[view::QueueCause]) -> String {
    let mut said_wait = false;
    let words = causes.iter().map(|cause| {
        let (count, what) = (cause.count, waited_for(cause.kind));
        match cause.kind {
            WaitingKind::Delivery => format!("{count} being handed over"),
            _ if std::mem::replace(&mut said_wait, true) => format!("{count} for {what}"),
            _ if count == 1 => format!("1 waits for {what}"),
            _ => format!("{count} wait for {what}"),
        }
    });
    words.collect::<Vec<_>>().join(", ")
}

fn waited_for(kind: WaitingKind) -> &'static str {
    match kind {
        WaitingKind::Turn => "their turn",
        WaitingKind::Delivery => "a reply",
        WaitingKind::Retry => "retry",
        WaitingKind::Channel => "the channel",
        WaitingKind::Pace => "pace",
        WaitingKind::Schedule => "their time",
        WaitingKind::Person => "a person",
        WaitingKind::Uncertain => "a second look",
    }
}

pub(crate) fn estimate(estimate: &view::Estimate, output: Output) {
    if output == Output::Json {
        return json(estimate);
    }
    let at = |at: Option<Timestamp>| at.map_or_else(|| "nobody can say".to_owned(), |at| format!("about {}", time(at)));
    line("channel", &estimate.channel);
    line("lane", estimate.lane.name());
    line("messages", &format!("{} in {} transactions", estimate.messages, estimate.transactions));
    line("before them", &format!("{} messages", estimate.ahead));
    line("first", &at(estimate.starts_at));
    line("last", &at(estimate.finishes_at));
    if estimate.finishes_at.is_none() {
        print(&plain(&estimate.text));
    }
}

pub(crate) fn retried(retried: &view::Retried, output: Output) {
    if output == Output::Json {
        return json(retried);
    }
    let again = if retried.replayed { " (it was tried again before as this message; nothing is sent twice)" } else { "" };
    print(&format!("{} tries {} again, by channel '{}'{again}", retried.id, retried.recipients.join(", "), retried.channel));
}

pub(crate) fn suppressions(page: &view::Page<view::Suppression>, output: Output) {
    if output == Output::Json {
        return json(page);
    }
    if page.data.is_empty() {
        return print("no address is suppressed");
    }
    let row = |one: &view::Suppression| {
        vec![one.address.clone(), one.owner.clone(), time(one.at), one.origin.clone(), one.reason.clone()]
    };
    table(&["ADDRESS", "LIST", "SINCE", "MESSAGE", "REASON"], page.data.iter().map(row));
    if let Some(next) = &page.next {
        print(&format!("there are more: --after {next}"));
    }
}

pub(crate) fn unsuppressed(removed: &view::Unsuppressed, output: Output) {
    if output == Output::Json {
        return json(removed);
    }
    print(&format!("{} may be written to again; taken off {}", plain(&removed.address), removed.removed_from.join(", ")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_read_as_a_sentence() {
        let of = |counts: &[(WaitingKind, u64)]| {
            let all: Vec<view::QueueCause> =
                counts.iter().map(|(kind, count)| view::QueueCause { kind: *kind, count: *count }).collect();
            causes(&all)
        };
        let (pace, retry) = (WaitingKind::Pace, WaitingKind::Retry);
        assert_eq!(of(&[(pace, 12), (retry, 3), (WaitingKind::Person, 1)]), "12 wait for pace, 3 for retry, 1 for a person");
        assert_eq!(of(&[(WaitingKind::Person, 4)]), "4 wait for a person");
        assert_eq!(of(&[(WaitingKind::Channel, 1)]), "1 waits for the channel");
        assert_eq!(of(&[(WaitingKind::Delivery, 2)]), "2 being handed over");
        assert_eq!(of(&[]), "");
    }
}
