//! What SMTP carries around a message (RFC 5321 §2.3.1), and how the message came.

use smtp::{ForwardPath, ReversePath};

/// The envelope of one message: where trouble is reported, and whom it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// `MAIL FROM`.
    pub reverse_path: ReversePath,
    /// `RCPT TO`, in the order given, each mailbox once; never empty once accepted.
    pub recipients: Vec<Recipient>,
    /// What the body holds, as the submitter declared it.
    pub body: BodyType,
    /// The submitter asked for SMTPUTF8 (RFC 6531): addresses or header fields hold UTF-8.
    pub smtputf8: bool,
    /// `RET=` of RFC 3461.
    pub ret: Option<Ret>,
    /// `ENVID=` of RFC 3461, decoded.
    pub envid: Option<String>,
}

/// One recipient of an envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// The address.
    pub path: ForwardPath,
    /// `NOTIFY=` of RFC 3461; `None` when not given.
    pub notify: Option<Notify>,
    /// `ORCPT=` of RFC 3461 as `type;address`, decoded.
    pub orcpt: Option<String>,
}

impl Recipient {
    /// A recipient without wishes about reports.
    #[must_use]
    pub fn new(path: ForwardPath) -> Self {
        Self { path, notify: None, orcpt: None }
    }
}

/// When a report is wanted (RFC 3461 §4.1). All false is `NEVER`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notify {
    /// `SUCCESS`.
    pub success: bool,
    /// `FAILURE`.
    pub failure: bool,
    /// `DELAY`.
    pub delay: bool,
}

/// What a failure report returns of the message (RFC 3461 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ret {
    /// The whole message.
    Full,
    /// Its header section.
    Headers,
}

/// What a message's bytes hold (RFC 6152).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyType {
    /// Seven-bit text.
    #[default]
    SevenBit,
    /// Text with eight-bit bytes; the next hop must offer 8BITMIME.
    EightBitMime,
}

/// How urgent a message is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    /// A person or a one-time code waits.
    Now,
    /// Everything else that was written to somebody.
    #[default]
    Normal,
    /// Written to many.
    Bulk,
}

/// The door a message came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Surface {
    /// SMTP submission (RFC 6409).
    Smtp,
    /// The HTTP API.
    Http,
    /// The command line.
    Cli,
    /// The web pages.
    Web,
    /// The gateway itself: reports and notices.
    Gateway,
}
