//! How much open mail one token, one person and one team may have at once.

use super::read::Reader;
use super::units;
use store::{MailCaps, OpenMail};

/// Bytes of the least cap, so that some messages fit under it.
const LEAST_BYTES: u64 = 1 << 20;
/// Most messages that may be set.
const MOST_MESSAGES: u64 = 1_000_000_000;

/// How much open mail one token, one person and one team may have at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenCaps {
    /// What came in with one token.
    pub token: OpenCap,
    /// What is one person's.
    pub person: OpenCap,
    /// What goes through one team.
    pub team: OpenCap,
}

/// One cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenCap {
    /// Messages.
    pub messages: u64,
    /// Their bytes, where they are set.
    pub bytes: Option<u64>,
}

impl OpenCaps {
    /// A campaign to a hundred thousand fits ten times over, and a million messages fit into the memory of a small machine.
    pub(super) fn read(reader: &mut Reader) -> Self {
        let mut of = |whose: &str, messages: u64| OpenCap {
            messages: reader.value(&format!("queue.open_messages_per_{whose}"), read_messages).unwrap_or(messages),
            bytes: reader.value(&format!("queue.open_bytes_per_{whose}"), read_bytes),
        };
        Self { token: of("token", 1_000_000), person: of("person", 1_000_000), team: of("team", 2_000_000) }
    }

    /// What holds on a disk that has so many bytes for open mail: what is free, and what open mail has of it already.
    ///
    /// Where nothing is set one program, or one person, leaves half of it to the others, and a team a quarter.
    #[must_use]
    pub fn of(&self, room: u64) -> MailCaps {
        let cap = |cap: OpenCap, share: u64, most: u64| OpenMail {
            messages: cap.messages,
            bytes: cap.bytes.unwrap_or_else(|| share.min(most).max(LEAST_BYTES)),
        };
        MailCaps {
            token: cap(self.token, room / 2, 20 << 30),
            person: cap(self.person, room / 2, 20 << 30),
            team: cap(self.team, room / 4 * 3, 40 << 30),
        }
    }
}

fn read_messages(text: &str) -> Result<u64, String> {
    let found = text.parse().ok().filter(|count| (1..=MOST_MESSAGES).contains(count));
    found.ok_or_else(|| format!("'{text}' is no number from 1 to {MOST_MESSAGES}"))
}

fn read_bytes(text: &str) -> Result<u64, String> {
    match units::size(text)? {
        size if size >= LEAST_BYTES => Ok(size),
        _ => Err(format!("'{text}' is less than {}MiB", LEAST_BYTES >> 20)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::Settings;

    #[test]
    fn where_nothing_is_set_nobody_gets_more_than_a_share_of_the_disk() {
        let open = Settings::defaults().queue.open;
        let small = open.of(8 << 30);
        assert_eq!([small.token.bytes, small.person.bytes, small.team.bytes], [4 << 30, 4 << 30, 6 << 30]);
        let large = open.of(u64::MAX);
        assert_eq!([large.token.bytes, large.person.bytes, large.team.bytes], [20 << 30, 20 << 30, 40 << 30]);
        assert!(large.token.messages >= 100_000, "a campaign of one person fits");
    }
}
