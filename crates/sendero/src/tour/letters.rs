//! The messages of the tour, and how far each has come.

use crate::compose::{Draft, compose};
use aws_lc_rs::digest;
use bytes::Bytes;
use std::time::Duration;

/// The person of the tour.
pub(super) const ANA: &str = "ana@example.com";
const LUIS: &str = "luis@example.org";

/// The door a message comes in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    Smtp,
    Cli,
    Http,
}

impl Door {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Smtp => "smtp",
            Self::Cli => "cli",
            Self::Http => "http",
        }
    }

    pub(super) fn long_name(self) -> &'static str {
        match self {
            Self::Smtp => "SMTP, TLS and login",
            Self::Cli => "sendero send",
            Self::Http => "HTTP with a token",
        }
    }
}

/// How far a message has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Waiting,
    Refused(String),
    /// On stable storage; the second field says why it waits.
    Accepted(String),
    /// In the hands of a delivery.
    HandingOver,
    /// The capture server said 250.
    Sent,
    /// The capture server has it, with this digest of its body.
    Captured(String),
}

/// One message of the tour.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    pub(super) door: Door,
    pub(super) subject: String,
    pub(super) bytes: Bytes,
    pub(super) message_id: String,
    /// SHA-256 of its body, as it was submitted.
    pub(super) sha256: String,
    pub(super) id: Option<String>,
    pub(super) took: Duration,
    pub(super) progress: Progress,
}

impl Letter {
    /// `each` messages by every door, the doors taking turns.
    pub(super) fn all(each: usize) -> Vec<Self> {
        let doors = [Door::Smtp, Door::Cli, Door::Http];
        (0..each).flat_map(|round| doors.map(|door| Self::new(door, round))).collect()
    }

    fn new(door: Door, round: usize) -> Self {
        let subject = format!("Hello {} by {}", round + 1, door.name());
        let message_id = format!("tour-{}-{}-{}@example.com", uuid::Uuid::now_v7().simple(), door.name(), round + 1);
        let text = format!("Message {} by {}.\n\nA line that begins with a dot:\n.dot\n..two dots\n", round + 1, door.long_name());
        let draft =
            Draft { from: format!("Ana <{ANA}>"), to: vec![LUIS.to_owned()], subject: subject.clone(), text, ..Draft::default() };
        let composed = compose(&draft).expect("the addresses of the tour are valid");
        let mut bytes = format!("Message-ID: <{message_id}>\r\n").into_bytes();
        bytes.extend_from_slice(&composed);
        let bytes = Bytes::from(bytes);
        let sha256 = body_digest(&bytes);
        let took = Duration::ZERO;
        Self { door, subject, bytes, message_id, sha256, id: None, took, progress: Progress::Waiting }
    }

    pub(super) fn accepted(&mut self, id: String, took: Duration) {
        self.id = Some(id);
        self.took = took;
        self.progress = Progress::Accepted(String::new());
    }

    pub(super) fn is_under_way(&self) -> bool {
        match self.progress {
            Progress::Waiting | Progress::Refused(_) | Progress::Captured(_) => false,
            Progress::Accepted(_) | Progress::HandingOver | Progress::Sent => true,
        }
    }

    pub(super) fn arrived_unchanged(&self) -> bool {
        self.captured_sha256() == Some(&self.sha256)
    }

    pub(super) fn captured_sha256(&self) -> Option<&str> {
        match &self.progress {
            Progress::Captured(sha256) => Some(sha256),
            Progress::Waiting | Progress::Refused(_) | Progress::Accepted(_) | Progress::HandingOver | Progress::Sent => None,
        }
    }
}

/// SHA-256 of what stands behind a message's header section.
pub(super) fn body_digest(message: &[u8]) -> String {
    let at = message.windows(4).position(|window| window == b"\r\n\r\n").map_or(message.len(), |at| at + 4);
    let digest = digest::digest(&digest::SHA256, &message[at..]);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_body_counts_as_arrived() {
        let mut letter = Letter::new(Door::Smtp, 0);
        assert!(!letter.arrived_unchanged());
        letter.progress = Progress::Captured(body_digest(b"Received: x\r\n\r\nanother body\r\n"));
        assert!(!letter.arrived_unchanged());
        let relayed = [b"Received: x\r\n", &letter.bytes[..]].concat();
        letter.progress = Progress::Captured(body_digest(&relayed));
        assert!(letter.arrived_unchanged());
    }
}
