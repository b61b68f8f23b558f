//! The part for machines: `message/delivery-status` (RFC 3464), or its form for UTF-8 (RFC 6533).

use super::encode::{field, one_ascii_line, one_line};
use super::{Part, RecipientReport, Report};

pub(super) fn part(report: &Report<'_>) -> Part {
    // In the form for UTF-8 every field may hold it; in the other one none may.
    let utf8 = report.recipients.iter().any(|recipient| !is_ascii(recipient));
    let line = if utf8 { one_line } else { one_ascii_line };
    let mut text = field("Reporting-MTA", &format!("dns; {}", line(report.hostname)));
    if let Some(envid) = report.envid {
        text.push_str(&field("Original-Envelope-Id", &line(envid)));
    }
    text.push_str(&field("Arrival-Date", &report.arrival.to_rfc5322()));
    for recipient in report.recipients {
        text.push_str("\r\n");
        text.push_str(&fields(recipient, line));
    }
    let kind = if utf8 { "message/global-delivery-status" } else { "message/delivery-status" };
    Part::new(kind, None, text.as_bytes())
}

fn is_ascii(report: &RecipientReport<'_>) -> bool {
    let recipient = report.recipient;
    recipient.path.mailbox().is_ascii() && recipient.orcpt.as_deref().is_none_or(str::is_ascii)
}

fn fields(report: &RecipientReport<'_>, line: fn(&str) -> String) -> String {
    let mut text = String::new();
    if let Some((kind, address)) = report.recipient.orcpt.as_deref().and_then(|orcpt| orcpt.split_once(';')) {
        text.push_str(&field("Original-Recipient", &format!("{};{}", line(kind), line(address))));
    }
    let path = &report.recipient.path;
    let kind = if path.mailbox().is_ascii() { "rfc822" } else { "utf-8" };
    text.push_str(&field("Final-Recipient", &format!("{kind};{path}")));
    text.push_str(&field("Action", report.action.word()));
    text.push_str(&field("Status", &report.status.to_string()));
    if let Some(remote) = report.remote_mta {
        text.push_str(&field("Remote-MTA", &format!("dns; {}", line(remote))));
    }
    // Without digits nobody said it over SMTP: it is our own finding, and stands in the first part.
    if let Some(said) = report.said.filter(|said| said.code != 0) {
        text.push_str(&field("Diagnostic-Code", &format!("smtp; {}", line(&said.to_string()))));
    }
    if let Some(at) = report.last_attempt {
        text.push_str(&field("Last-Attempt-Date", &at.to_rfc5322()));
    }
    if let Some(until) = report.retry_until {
        text.push_str(&field("Will-Retry-Until", &until.to_rfc5322()));
    }
    text
}
