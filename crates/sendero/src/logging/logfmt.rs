//! Lines of `key=value` pairs.

use super::Lines;
use std::fmt::Write as _;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Writes each event as one line: time, level, target, message, fields.
pub(super) struct Logfmt {
    lines: Lines,
}

impl Logfmt {
    pub(super) fn new(lines: Lines) -> Self {
        Self { lines }
    }
}

impl<S: Subscriber> Layer<S> for Logfmt {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = String::with_capacity(256);
        let level = event.metadata().level().as_str().to_ascii_lowercase();
        let _ = write!(line, "ts={:.3} level={level} target={}", jiff::Timestamp::now(), event.metadata().target());
        event.record(&mut Pairs(&mut line));
        line.push('\n');
        self.lines.0.add(line.as_bytes());
    }
}

struct Pairs<'a>(&'a mut String);

impl Pairs<'_> {
    fn add(&mut self, name: &str, value: &str) {
        self.0.push(' ');
        self.0.push_str(if name == "message" { "msg" } else { name });
        self.0.push('=');
        quoted(self.0, value);
    }
}

impl Visit for Pairs<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.add(field.name(), &format!("{value:?}"));
    }
}

/// A value as it stands in a line: in quotes unless it is of plain characters, and always on one line.
fn quoted(line: &mut String, value: &str) {
    let is_plain = |c: char| c.is_alphanumeric() || "-_.:/@+<>[]*,".contains(c);
    if !value.is_empty() && value.chars().all(is_plain) {
        line.push_str(value);
        return;
    }
    line.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => line.extend(['\\', c]),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            c if smtp::is_unseen(c) => {
                let _ = write!(line, "\\u{{{:x}}}", c as u32);
            }
            c => line.push(c),
        }
    }
    line.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_can_end_its_line_or_begin_another_field() {
        let mut line = String::new();
        quoted(&mut line, "250 ok\r\nlevel=error \"x\"\u{1b}[31m\u{202e}");
        assert_eq!(line, "\"250 ok\\r\\nlevel=error \\\"x\\\"\\u{1b}[31m\\u{202e}\"");
    }

    #[test]
    fn plain_values_stand_without_quotes() {
        let mut line = String::new();
        quoted(&mut line, "ana@example.com");
        assert_eq!(line, "ana@example.com");
        let mut line = String::new();
        quoted(&mut line, "");
        assert_eq!(line, "\"\"");
    }
}
