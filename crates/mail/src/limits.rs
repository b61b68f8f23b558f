//! What a provider allows: limits in sliding windows, caps, and how both are written in a directory file.

use std::time::Duration;

/// Longest window of a limit.
pub const LONGEST_WINDOW: Duration = Duration::from_secs(366 * 24 * 3600);

/// Caps of a channel: what one connection, one message, or one moment may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Open connections at the same time.
    pub connections: u32,
    /// Messages on one connection before it is closed; `None` means no cap.
    pub messages_per_connection: Option<u32>,
    /// Recipients of one transaction; a message with more is split.
    pub recipients_per_message: Option<u32>,
    /// Bytes of one message as it is handed over.
    pub message_size: Option<u64>,
}

impl Default for Caps {
    fn default() -> Self {
        Self { connections: 4, messages_per_connection: None, recipients_per_message: None, message_size: None }
    }
}

/// At most `count` of `unit` in any `window`, however it is laid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Limit {
    /// How many.
    pub count: u64,
    /// Of what.
    pub unit: Unit,
    /// In how long.
    pub window: Duration,
    /// Counted over what.
    pub scope: LimitScope,
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Transactions.
    Messages,
    /// Recipients of transactions.
    Recipients,
    /// Bytes handed over, each transaction's message once.
    Bytes,
}

impl Unit {
    /// As it is written in a directory file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Recipients => "recipients",
            Self::Bytes => "bytes",
        }
    }
}

/// Over what a limit is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitScope {
    /// Everything that leaves by the account.
    Account,
    /// What leaves by the account from one From address.
    From,
}

/// All limits of a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// In sliding windows.
    pub windows: Vec<Limit>,
    /// Caps.
    pub caps: Caps,
}

/// Why a limit in a directory file is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// No limit at all.
    #[error("'{text}' is not a limit: {problem}")]
    Malformed {
        /// What was written.
        text: String,
        /// Which part of it is wrong, and what belongs there.
        problem: String,
    },
    /// Beyond what can be kept.
    #[error("'{0}': a window is at least 1 second and at most 366 days long")]
    Window(String),
    /// Two that say different things about the same.
    #[error("'{0}' says something else than another limit about the same; keep the stricter one")]
    Twice(String),
}

impl Limits {
    /// Reads limits as written in a directory file.
    ///
    /// # Errors
    /// The first one that is malformed, out of range, or contradicts another.
    pub fn parse<S: AsRef<str>>(limits: &[S]) -> Result<Self, LimitError> {
        let mut read = Self::default();
        let mut connections = None;
        for limit in limits {
            read.add(limit.as_ref(), &mut connections)?;
        }
        read.caps.connections = connections.unwrap_or(read.caps.connections);
        Ok(read)
    }

    fn add(&mut self, text: &str, connections: &mut Option<u32>) -> Result<(), LimitError> {
        let malformed = |problem: String| LimitError::Malformed { text: text.escape_debug().to_string(), problem };
        let mut parts = text.split('/').map(str::trim);
        let first = parts.next().unwrap_or_default();
        let begins = || malformed(format!("'{}' is no number and unit, as in '30 messages'", first.escape_debug()));
        let (count, unit) = amount(first).ok_or_else(begins)?;
        let rest: Vec<&str> = parts.collect();
        let small = || u32::try_from(count).map_err(|_| malformed(format!("{count} is too many")));
        match (unit, &rest[..]) {
            ("connections" | "connection", []) => once(text, connections, small()?),
            ("messages" | "message", ["connection"]) => once(text, &mut self.caps.messages_per_connection, small()?),
            ("recipients" | "recipient", ["message"]) => once(text, &mut self.caps.recipients_per_message, small()?),
            ("bytes", ["message"]) => once(text, &mut self.caps.message_size, count),
            ("connections" | "connection", _) => {
                Err(malformed("connections are not counted over a time; write '3 connections'".into()))
            }
            (unit, [window, scope @ ..]) => {
                let unit = match unit {
                    "messages" | "message" => Unit::Messages,
                    "recipients" | "recipient" => Unit::Recipients,
                    "bytes" => Unit::Bytes,
                    other => {
                        let known = "messages, recipients, connections, or KB, MB, GB, KiB, MiB, GiB";
                        return Err(malformed(format!("'{}' cannot be counted; there are {known}", other.escape_debug())));
                    }
                };
                let scope = match scope {
                    [] => LimitScope::Account,
                    ["from"] => LimitScope::From,
                    other => {
                        let other = other.join(" / ");
                        let problem =
                            format!("'{}' stands where 'from' may, as in '100 messages / 1 hour / from'", other.escape_debug());
                        return Err(malformed(problem));
                    }
                };
                let window = duration(window).ok_or_else(|| {
                    let window = window.escape_debug();
                    malformed(format!("'{window}' is no time, as '1 minute' or '24 hours', nor a cap of {}", unit.name()))
                })?;
                if window < Duration::from_secs(1) || window > LONGEST_WINDOW {
                    return Err(LimitError::Window(text.escape_debug().to_string()));
                }
                let same = |known: &&Limit| (known.unit, known.window, known.scope) == (unit, window, scope);
                match self.windows.iter().find(same) {
                    Some(known) if known.count != count => Err(LimitError::Twice(text.escape_debug().to_string())),
                    Some(_) => Ok(()),
                    None => {
                        self.windows.push(Limit { count, unit, window, scope });
                        Ok(())
                    }
                }
            }
            _ => Err(malformed(format!("say in how long, as in '{} / 1 minute'", first.escape_debug()))),
        }
    }
}

fn once<T: PartialEq>(text: &str, place: &mut Option<T>, value: T) -> Result<(), LimitError> {
    match place {
        Some(known) if *known != value => Err(LimitError::Twice(text.escape_debug().to_string())),
        _ => {
            *place = Some(value);
            Ok(())
        }
    }
}

/// `30 messages`; amounts of bytes become bytes.
fn amount(text: &str) -> Option<(u64, &str)> {
    let (number, unit) = text.split_once(' ')?;
    let count = number.parse::<u64>().ok().filter(|count| *count > 0)?;
    let bytes = |each: u64| count.checked_mul(each).map(|count| (count, "bytes"));
    match unit.trim() {
        "KB" => bytes(1000),
        "MB" => bytes(1_000_000),
        "GB" => bytes(1_000_000_000),
        "KiB" => bytes(1 << 10),
        "MiB" => bytes(1 << 20),
        "GiB" => bytes(1 << 30),
        unit => Some((count, unit)),
    }
}

/// `1 minute`, `24 hours`, `hour`.
fn duration(text: &str) -> Option<Duration> {
    let (count, unit) = text.split_once(' ').unwrap_or(("1", text));
    let count = count.parse::<u64>().ok()?;
    let seconds = match unit.trim() {
        "second" | "seconds" => 1,
        "minute" | "minutes" => 60,
        "hour" | "hours" => 3600,
        "day" | "days" => 24 * 3600,
        _ => return None,
    };
    Some(Duration::from_secs(count.checked_mul(seconds)?))
}

/// As it is written in a directory file.
impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} / {}", self.count, self.unit.name(), words(self.window))?;
        match self.scope {
            LimitScope::Account => Ok(()),
            LimitScope::From => f.write_str(" / from"),
        }
    }
}

/// A window in its largest whole unit: `24 hours`, `1 minute`.
fn words(window: Duration) -> String {
    let seconds = window.as_secs();
    let (count, unit) = match seconds {
        _ if seconds.is_multiple_of(86_400) && seconds > 86_400 => (seconds / 86_400, "day"),
        _ if seconds.is_multiple_of(3600) => (seconds / 3600, "hour"),
        _ if seconds.is_multiple_of(60) => (seconds / 60, "minute"),
        _ => (seconds, "second"),
    };
    if count == 1 { format!("1 {unit}") } else { format!("{count} {unit}s") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn windows(text: &str) -> Vec<Limit> {
        Limits::parse(&[text]).unwrap().windows
    }

    #[test]
    fn limits_of_a_provider_are_written_as_people_say_them() {
        let limits = Limits::parse(&[
            "30 messages / 1 minute",
            "10000 recipients / 24 hours",
            "50 MB / 5 minutes",
            "100 messages / hour / from",
            "3 connections",
            "50 messages / connection",
            "100 recipients / message",
            "35 MB / message",
        ]);
        let limits = limits.unwrap();
        let shown: Vec<String> = limits.windows.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            ["30 messages / 1 minute", "10000 recipients / 24 hours", "50000000 bytes / 5 minutes", "100 messages / 1 hour / from"]
        );
        let caps = limits.caps;
        assert_eq!((caps.connections, caps.messages_per_connection), (3, Some(50)));
        assert_eq!((caps.recipients_per_message, caps.message_size), (Some(100), Some(35_000_000)));
    }

    #[test]
    fn a_limit_is_read_back_as_it_is_shown() {
        for text in ["1 messages / 1 second", "7 recipients / 90 seconds", "5 bytes / 2 days / from", "9 messages / 24 hours"] {
            assert_eq!(windows(text)[0].to_string(), text);
        }
    }

    #[test]
    fn nonsense_is_refused_with_examples() {
        for text in ["", "many", "0 messages / 1 minute", "-1 connections", "3 connections / 1 minute", "5 apples / 1 hour"] {
            assert!(matches!(Limits::parse(&[text]), Err(LimitError::Malformed { .. })), "{text}");
        }
        for (text, part) in [
            ("many", "'many' is no number and unit"),
            ("0 messages / 1 minute", "'0 messages' is no number and unit"),
            ("10 mesages / hour", "'mesages' cannot be counted"),
            ("10 messages / minutte", "'minutte' is no time"),
            ("10 messages / 1 hour / sender", "'sender' stands where 'from' may"),
            ("10 messages", "'10 messages / 1 minute'"),
            ("3 connections / 1 minute", "'3 connections'"),
        ] {
            let problem = Limits::parse(&[text]).unwrap_err().to_string();
            assert!(problem.contains(part), "{text}: {problem}");
        }
        for text in ["1 messages / 0 seconds", "1 messages / 400 days"] {
            assert!(matches!(Limits::parse(&[text]), Err(LimitError::Window(_))), "{text}");
        }
        assert!(Limits::parse(&["18446744073709551615 GB / message"]).is_err());
        assert!(Limits::parse(&["1 messages / 18446744073709551615 days"]).is_err());
    }

    #[test]
    fn two_limits_about_the_same_must_agree() {
        assert!(Limits::parse(&["3 connections", "3 connections"]).is_ok());
        assert!(matches!(Limits::parse(&["3 connections", "4 connections"]), Err(LimitError::Twice(_))));
        assert!(matches!(Limits::parse(&["3 messages / hour", "4 messages / 1 hour"]), Err(LimitError::Twice(_))));
        assert_eq!(Limits::parse(&["3 messages / hour", "3 messages / 1 hour"]).unwrap().windows.len(), 1);
    }
}
