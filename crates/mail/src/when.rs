//! When a message may leave at the earliest, and after when not any more.

use crate::time::Timestamp;
use std::time::Duration;

/// A time lies at most this far ahead: a year.
pub const MOST_AHEAD: Duration = Duration::from_secs(366 * 24 * 3600);

/// A moment, as a submitter names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// A moment of the wall clock.
    At(Timestamp),
    /// So long after the message was accepted.
    In(Duration),
}

/// The times of a message, by the wall clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Not before.
    pub scheduled_at: Option<Timestamp>,
    /// Not after.
    pub expires_at: Option<Timestamp>,
}

/// Times that make no sense: what is wrong, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WhenError {
    /// Neither a time nor a span.
    #[error(
        "{name}: '{given}' is no time; write one with its offset, as 2026-11-25T09:00:00+01:00, or a span from now, as 15m, 2h or 3d"
    )]
    NoTime {
        /// The field.
        name: &'static str,
        /// What stands there.
        given: String,
    },
    /// Asked for more than once.
    #[error("{0} is asked for more than once, and not alike; ask once")]
    Twice(&'static str),
    /// More than a year.
    #[error("the time {0} is more than a year ahead; name one within a year")]
    TooFar(Timestamp),
    /// The message would be dead on arrival.
    #[error("the message was not to be sent after {0}, and that has passed; send it with a later time, or with none")]
    Past(Timestamp),
    /// No moment is left at which it could leave.
    #[error(
        "the message may not be sent before {scheduled_at} and not after {expires_at}, so never; let it expire later, or leave earlier"
    )]
    Never {
        /// Not before.
        scheduled_at: Timestamp,
        /// Not after.
        expires_at: Timestamp,
    },
}

impl When {
    /// Reads an RFC 3339 time with offset, or a span: a number and one of s, m, h, d, w.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        span(text).map(Self::In).or_else(|| Timestamp::parse(text).map(Self::At))
    }

    /// The moment, for a message that was accepted at `accepted`.
    #[must_use]
    pub fn from(self, accepted: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::In(span) => accepted.plus(span),
        }
    }
}

fn span(text: &str) -> Option<Duration> {
    let unit = text.chars().next_back().filter(char::is_ascii_alphabetic)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 24 * 3600,
        'w' => 7 * 24 * 3600,
        _ => return None,
    };
    let digits = &text[..text.len() - 1];
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok().filter(|count| *count > 0)?;
    count.checked_mul(seconds).map(Duration::from_secs)
}

impl Times {
    /// The times of a message that comes in at `now`, when they make sense together.
    ///
    /// A `scheduled_at` that has passed asks for nothing: the message may leave at once.
    ///
    /// # Errors
    /// A time more than [`MOST_AHEAD`] ahead, an `expires_at` that has passed, or one that is not after `scheduled_at`.
    pub fn new(scheduled_at: Option<Timestamp>, expires_at: Option<Timestamp>, now: Timestamp) -> Result<Self, WhenError> {
        if let Some(far) = scheduled_at.into_iter().chain(expires_at).find(|at| *at > now.plus(MOST_AHEAD)) {
            return Err(WhenError::TooFar(far));
        }
        if let Some(expires_at) = expires_at.filter(|expires_at| *expires_at <= now) {
            return Err(WhenError::Past(expires_at));
        }
        match (scheduled_at, expires_at) {
            (Some(scheduled_at), Some(expires_at)) if expires_at <= scheduled_at => {
                Err(WhenError::Never { scheduled_at, expires_at })
            }
            _ => Ok(Self { scheduled_at, expires_at }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Timestamp = Timestamp(1_795_608_000_000);

    fn hours(count: i64) -> Option<Timestamp> {
        Some(Timestamp(NOON.0 + count * 3_600_000))
    }

    #[test]
    fn a_time_is_written_with_its_offset_or_as_a_span() {
        let read = |text: &str| When::parse(text).map(|when| when.from(NOON).to_string());
        for (text, at) in [
            ("2026-11-25T13:30:00+01:00", "2026-11-25T12:30:00.000Z"),
            ("2026-11-25T12:30:00Z", "2026-11-25T12:30:00.000Z"),
            ("90s", "2026-11-25T12:01:30.000Z"),
            ("15m", "2026-11-25T12:15:00.000Z"),
            ("2h", "2026-11-25T14:00:00.000Z"),
            ("3d", "2026-11-28T12:00:00.000Z"),
            ("1w", "2026-12-02T12:00:00.000Z"),
        ] {
            assert_eq!(read(text).as_deref(), Some(at), "{text}");
        }
        for text in
            ["", "m", "0m", "-5m", "+5m", "1.5h", "15", "15 m", "15M", "1y", "99999999999999999999d", "9223372036854775807w"]
        {
            assert_eq!(When::parse(text), None, "{text}");
        }
        for text in ["tomorrow", "2026-11-25T13:30:00", "2026-11-25", "13:30", "1795608000", "\u{e9}", "15\u{e9}"] {
            assert_eq!(When::parse(text), None, "{text}");
        }
    }

    #[test]
    fn times_that_leave_no_moment_are_refused_with_what_to_do() {
        let refused =
            |schedule, expires| Times::new(schedule, expires, NOON).err().map(|error| error.to_string()).unwrap_or_default();
        for (schedule, expires, words) in [
            (None, hours(0), "has passed; send it with a later time"),
            (None, hours(-1), "has passed"),
            (hours(2), hours(1), "let it expire later, or leave earlier"),
            (hours(2), hours(2), "so never"),
            (hours(366 * 24 + 1), None, "within a year"),
            (None, hours(366 * 24 + 1), "within a year"),
        ] {
            assert!(refused(schedule, expires).contains(words), "{}", refused(schedule, expires));
        }
        for (schedule, expires) in
            [(None, None), (hours(-5), None), (hours(366 * 24), None), (hours(1), hours(2)), (hours(-1), hours(1))]
        {
            assert!(Times::new(schedule, expires, NOON).is_ok());
        }
    }
}
