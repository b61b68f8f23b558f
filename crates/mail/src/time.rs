//! Wall-clock time as a value.

use std::fmt;
use std::time::Duration;

/// A moment of the wall clock: milliseconds since 1970-01-01T00:00:00Z.
///
/// Printed as RFC 3339 in UTC with milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// This moment moved forward by `by`, stopping at the end of time.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(millis))
    }

    /// How long after `earlier` this moment is; zero when it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        let millis = self.0.saturating_sub(earlier.0).max(0);
        Duration::from_millis(millis.unsigned_abs())
    }

    /// Reads what [`Display`](fmt::Display) prints, and any other RFC 3339 time with offset.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let parsed: jiff::Timestamp = text.parse().ok()?;
        Some(Self(parsed.as_millisecond()))
    }

    /// The date-time of RFC 5322 §3.3, in UTC: `Wed, 25 Nov 2026 08:00:00 +0000`.
    #[must_use]
    pub fn to_rfc5322(self) -> String {
        let zoned = self.jiff().to_zoned(jiff::tz::TimeZone::UTC);
        zoned.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
    }

    /// The moment itself, or the first or last one that can be printed.
    fn jiff(self) -> jiff::Timestamp {
        let end = if self.0 < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
        jiff::Timestamp::from_millisecond(self.0).unwrap_or(end)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.jiff())
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(from)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not an RFC 3339 time with offset"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_time_reads_back_as_it_was_printed() {
        let at = Timestamp(1_795_593_600_123);
        assert_eq!(at.to_string(), "2026-11-25T08:00:00.123Z");
        assert_eq!(Timestamp::parse(&at.to_string()), Some(at));
        assert_eq!(Timestamp::parse("2026-11-25T09:00:00.123+01:00"), Some(at));
        assert_eq!(at.to_rfc5322(), "Wed, 25 Nov 2026 08:00:00 +0000");
    }

    #[test]
    fn a_moment_beyond_what_can_be_printed_is_printed_as_the_last_one() {
        let (first, last) = ("-009999-01-02T01:59:59.000Z", "9999-12-30T22:00:00.999Z");
        assert_eq!((Timestamp(i64::MIN).to_string().as_str(), Timestamp(i64::MAX).to_string().as_str()), (first, last));
        assert_eq!(Timestamp(253_402_207_200_999).to_string(), last);
        assert_eq!(Timestamp(i64::MAX).to_rfc5322(), "Thu, 30 Dec 9999 22:00:00 +0000");
    }

    #[test]
    fn the_time_between_is_never_negative() {
        assert_eq!(Timestamp(5).since(Timestamp(9)), Duration::ZERO);
        assert_eq!(Timestamp(9).since(Timestamp(5)), Duration::from_millis(4));
    }
}
