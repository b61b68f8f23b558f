//! Names of things: a message's id, and the row numbers of people, teams, channels and tokens.

use crate::time::Timestamp;
use std::fmt;
use std::str::FromStr;

/// The id of an accepted message: a UUIDv7 (RFC 9562 §5.7), so ids sort by time of acceptance.
///
/// Written `msg_` and 26 characters of Crockford base32.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub [u8; 16]);

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

impl MessageId {
    /// An id of moment `at`; `random` makes it unlike every other of that millisecond.
    #[must_use]
    pub fn new(at: Timestamp, random: [u8; 10]) -> Self {
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&at.0.to_be_bytes()[2..]);
        bytes[6..].copy_from_slice(&random);
        bytes[6] = 0x70 | (bytes[6] & 0x0f);
        bytes[8] = 0x80 | (bytes[8] & 0x3f);
        Self(bytes)
    }

    /// The moment that it is of.
    #[must_use]
    pub fn at(self) -> Timestamp {
        Timestamp(self.0[..6].iter().fold(0, |at, byte| at << 8 | i64::from(*byte)))
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = u128::from_be_bytes(self.0);
        let mut text = *b"msg_00000000000000000000000000";
        for (place, out) in text[4..].iter_mut().enumerate() {
            *out = ALPHABET[((value >> (5 * (25 - place))) & 31) as usize];
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is no message id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message id is msg_ and 26 letters and digits")]
pub struct NotAnId;

impl FromStr for MessageId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let digits = text.strip_prefix("msg_").ok_or(NotAnId)?.as_bytes();
        if digits.len() != 26 || digits[0] > b'7' {
            return Err(NotAnId);
        }
        let mut value = 0u128;
        for digit in digits {
            let at = ALPHABET.iter().position(|c| c == digit).ok_or(NotAnId)?;
            value = value << 5 | at as u128;
        }
        Ok(Self(value.to_be_bytes()))
    }
}

macro_rules! row_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u32);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

row_id!(/// A person's row in the directory; never used again for another.
    PersonId, "per_");
row_id!(/// A team's row in the directory; never used again for another.
    TeamId, "team_");
row_id!(/// A channel's row in the directory; never used again for another.
    ChannelId, "chn_");
row_id!(/// A token's row in the directory; never used again for another.
    TokenId, "tok_");

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_id_reads_back_as_it_was_printed() {
        let id = MessageId::new(Timestamp(1_795_593_600_123), [0xff; 10]);
        assert_eq!(id.to_string().len(), 30);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.at(), Timestamp(1_795_593_600_123));
    }

    #[test]
    fn ids_sort_by_time_as_bytes_and_as_text() {
        let early = MessageId::new(Timestamp(1_000), [0xff; 10]);
        let late = MessageId::new(Timestamp(1_001), [0; 10]);
        assert!(early < late && early.to_string() < late.to_string());
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in ["", "msg_", "msg_8zzzzzzzzzzzzzzzzzzzzzzzzz", "msg_0000000000000000000000000u", "00000000000000000000000000"] {
            assert_eq!(text.parse::<MessageId>(), Err(NotAnId), "{text}");
        }
    }
}
