//! What a header asks of the gateway.

use super::{Field, Header, has_prefix, shown};
use crate::envelope::Lane;
use crate::when::{When, WhenError};

/// Most tags of one message.
pub const MAX_TAGS: usize = 10;

/// What the header asks of the gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// `X-Sendero-Channel`.
    pub channel: Option<String>,
    /// `X-Sendero-Lane`.
    pub lane: Option<Lane>,
    /// `X-Sendero-Tag`, each `name=value` or `name`.
    pub tags: Vec<(String, String)>,
    /// `Idempotency-Key`.
    pub idempotency_key: Option<String>,
    /// `X-Sendero-Schedule`: not before.
    pub schedule: Option<When>,
    /// `X-Sendero-Expires`: not after.
    pub expires: Option<When>,
}

/// A wish that cannot be granted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WishError {
    /// The value makes no sense.
    #[error("{0} has no valid value; {1}")]
    Value(&'static str, &'static str),
    /// A time that is none, or that leaves no moment to send at.
    #[error("{0}")]
    When(#[from] WhenError),
    /// Not in this version.
    #[error("{0} is not in this version; leave it out")]
    NotInThisVersion(String),
}

impl Header<'_> {
    /// What it asks of the gateway.
    ///
    /// # Errors
    /// A wish that is not understood or not in this version.
    pub fn wishes(&self) -> Result<Wishes, WishError> {
        let mut wishes = Wishes::default();
        for field in &self.fields {
            if field.is("Idempotency-Key") || has_prefix(field.name, "X-Sendero-") {
                wishes.add(field)?;
            }
        }
        Ok(wishes)
    }
}

impl Wishes {
    fn add(&mut self, field: &Field<'_>) -> Result<(), WishError> {
        let value = field.unfolded();
        if field.is("Idempotency-Key") {
            let key = idempotency_key(&value);
            return once("Idempotency-Key", "write 1 to 255 visible characters, once", &mut self.idempotency_key, key);
        }
        if field.is("X-Sendero-Channel") {
            let name = Some(value).filter(|name| is_text(name, 1..=128));
            return once("X-Sendero-Channel", "write the name of one channel, once", &mut self.channel, name);
        }
        if field.is("X-Sendero-Lane") {
            return once("X-Sendero-Lane", "write now, normal or bulk, once", &mut self.lane, Lane::parse(&value));
        }
        if field.is("X-Sendero-Tag") {
            let tag = tag(&value).filter(|_| self.tags.len() < MAX_TAGS);
            self.tags.push(tag.ok_or(WishError::Value("X-Sendero-Tag", "write at most ten, each name=value"))?);
            return Ok(());
        }
        if field.is("X-Sendero-Schedule") {
            return time("X-Sendero-Schedule", &mut self.schedule, &value);
        }
        if field.is("X-Sendero-Expires") {
            return time("X-Sendero-Expires", &mut self.expires, &value);
        }
        Err(WishError::NotInThisVersion(shown(field.name)))
    }
}

fn time(name: &'static str, place: &mut Option<When>, value: &str) -> Result<(), WishError> {
    if place.is_some() {
        return Err(WhenError::Twice(name).into());
    }
    let no_time = || WhenError::NoTime { name, given: shown(value).replace(char::is_control, " ") };
    *place = Some(When::parse(value.trim()).ok_or_else(no_time)?);
    Ok(())
}

/// The first value for a wish is taken; a second one, or one that makes no sense, is refused.
fn once<T>(field: &'static str, help: &'static str, place: &mut Option<T>, value: Option<T>) -> Result<(), WishError> {
    match value {
        Some(value) if place.is_none() => {
            *place = Some(value);
            Ok(())
        }
        _ => Err(WishError::Value(field, help)),
    }
}

/// A key as the header field or HTTP gives it: bare, or as a quoted string.
#[must_use]
pub fn idempotency_key(value: &str) -> Option<String> {
    let inner = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
    let valid = (1..=255).contains(&inner.len()) && inner.bytes().all(|byte| (0x20..0x7f).contains(&byte) && byte != b'"');
    valid.then(|| inner.to_owned())
}

/// A tag as it is written: `name=value` or `name`, at most 64 and 256 bytes, no control characters.
#[must_use]
pub fn tag(value: &str) -> Option<(String, String)> {
    let (name, value) = value.split_once('=').unwrap_or((value, ""));
    let (name, value) = (name.trim(), value.trim());
    (is_text(name, 1..=64) && is_text(value, 0..=256)).then(|| (name.to_owned(), value.to_owned()))
}

fn is_text(value: &str, length: std::ops::RangeInclusive<usize>) -> bool {
    length.contains(&value.len()) && !value.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn wishes(header: &str) -> Result<Wishes, WishError> {
        let message = header.replace('\n', "\r\n") + "\r\n\r\n";
        Header::parse(message.as_bytes()).unwrap().wishes()
    }

    #[test]
    fn wishes_are_read_in_any_case() {
        let wishes = wishes(
            "X-Sendero-Channel: office\nx-sendero-lane: NOW\nX-Sendero-Tag: job = 42\nX-Sendero-Tag: vip\nIdempotency-Key: \"k 1\"",
        )
        .unwrap();
        assert_eq!(wishes.channel.as_deref(), Some("office"));
        assert_eq!(wishes.lane, Some(Lane::Now));
        assert_eq!(wishes.tags, [("job".to_owned(), "42".to_owned()), ("vip".to_owned(), String::new())]);
        assert_eq!(wishes.idempotency_key.as_deref(), Some("k 1"));
    }

    #[test]
    fn a_wish_that_makes_no_sense_is_refused_with_what_to_write() {
        let long = format!("X-Sendero-Channel: {}", "c".repeat(129));
        let many = "X-Sendero-Tag: a\n".repeat(11);
        for (header, words) in [
            ("X-Sendero-Lane: fast", "now, normal or bulk"),
            ("X-Sendero-Lane: now\nX-Sendero-Lane: bulk", "once"),
            ("X-Sendero-Channel:", "name of one channel"),
            ("X-Sendero-Channel: a\nx-sendero-channel: a", "once"),
            ("X-Sendero-Channel: a\u{1b}[2J", "name of one channel"),
            (&long, "name of one channel"),
            ("X-Sendero-Tag: =x", "name=value"),
            ("X-Sendero-Tag: a\u{7}=x", "name=value"),
            (many.trim_end(), "at most ten"),
            ("Idempotency-Key:", "1 to 255"),
            ("Idempotency-Key: a\nIdempotency-Key: a", "once"),
            ("Idempotency-Key: \u{f1}", "visible"),
        ] {
            let error = wishes(header).unwrap_err().to_string();
            assert!(error.contains(words), "{header}: {error}");
        }
    }

    #[test]
    fn times_are_read_as_times_and_as_spans_and_nonsense_is_refused_with_what_to_write() {
        let read = wishes("X-Sendero-Schedule: 2026-11-25T09:00:00+01:00\nx-sendero-expires: 3d").unwrap();
        assert_eq!(read.schedule, Some(When::At(crate::Timestamp(1_795_593_600_000))));
        assert_eq!(read.expires, Some(When::In(std::time::Duration::from_secs(3 * 86_400))));
        for (header, words) in [
            ("X-Sendero-Expires: tomorrow", "X-Sendero-Expires: 'tomorrow' is no time; write one with its offset"),
            ("X-Sendero-Schedule:", "as 15m, 2h or 3d"),
            ("X-Sendero-Expires: 1h\nX-Sendero-Expires: 1h", "ask once"),
            ("X-Sendero-Expires: a\u{1b}[2J", "'a [2J' is no time"),
        ] {
            let error = wishes(header).unwrap_err().to_string();
            assert!(error.contains(words), "{header}: {error}");
        }
    }

    #[test]
    fn a_wish_of_a_later_version_is_refused_by_its_name() {
        let error = wishes("x-sendero-whatever: tomorrow").unwrap_err();
        assert_eq!(error.to_string(), "x-sendero-whatever is not in this version; leave it out");
        let long = wishes(&format!("X-Sendero-{}: 1", "x".repeat(5000))).unwrap_err().to_string();
        assert!(long.len() < 200, "{long}");
    }
}
