//! What came of a session and of its transactions.

use crate::reply::{EnhancedCode, Reply, ReplyError};

/// Where in a session something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The opening 220.
    Greeting,
    /// EHLO or HELO.
    Ehlo,
    /// The STARTTLS command.
    StartTls,
    /// The TLS handshake.
    Tls,
    /// AUTH.
    Auth,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// The DATA command.
    Data,
    /// The message's bytes, before the final dot.
    Body,
    /// The final dot has left, its reply has not come.
    FinalDot,
    /// Between transactions: idle, RSET or QUIT.
    Quit,
}

impl Stage {
    /// The name used in logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Greeting => "greeting",
            Self::Ehlo => "ehlo",
            Self::StartTls => "starttls",
            Self::Tls => "tls",
            Self::Auth => "auth",
            Self::Mail => "mail",
            Self::Rcpt => "rcpt",
            Self::Data => "data",
            Self::Body => "body",
            Self::FinalDot => "final_dot",
            Self::Quit => "quit",
        }
    }
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a session is over. The connection must be closed, and nothing more be written to it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The next hop closes the connection: 421.
    #[error("the next hop closes the connection at {0}: {1}")]
    Closing(Stage, Reply),
    /// The greeting, EHLO, STARTTLS or RSET was refused.
    #[error("refused at {0}: {1}")]
    Refused(Stage, Reply),
    /// STARTTLS is required and not offered; nothing was sent.
    #[error("the next hop does not offer STARTTLS")]
    StartTlsNotOffered,
    /// A login is required, and AUTH with a mechanism we may use is not offered; nothing was sent.
    #[error("the next hop does not offer a login of a kind that can be used")]
    AuthNotOffered,
    /// A login is required, the connection is not encrypted, and this is not allowed; nothing was sent.
    #[error("a login must not be sent over a connection without TLS")]
    AuthInClear,
    /// The login was refused for good: 5xx.
    #[error("the login was refused: {0}")]
    LoginRefused(Reply),
    /// The next hop cannot check logins now: 454 (RFC 4954 §6).
    #[error("the next hop cannot check the login now: {0}")]
    LoginUnavailable(Reply),
    /// The login was put off by another 4xx.
    #[error("the login was put off: {0}")]
    LoginDeferred(Reply),
    /// The reply makes no sense here, or nobody asked for it.
    #[error("a reply that does not belong at {0}: {1}")]
    Unexpected(Stage, Reply),
    /// Bytes that nobody asked for stand behind a reply.
    #[error("the next hop sent more than was asked for at {0}")]
    Unasked(Stage),
    /// Bytes in the clear stand behind the reply to STARTTLS.
    #[error("bytes were injected before TLS")]
    Injected,
    /// The bytes are no reply.
    #[error("the next hop does not speak SMTP at {0}: {1}")]
    BadReply(Stage, ReplyError),
    /// The connection ended.
    #[error("the connection was lost at {0}")]
    Lost(Stage),
}

impl SessionError {
    /// Where it happened.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match self {
            Self::Closing(stage, _)
            | Self::Refused(stage, _)
            | Self::Unexpected(stage, _)
            | Self::Unasked(stage)
            | Self::BadReply(stage, _)
            | Self::Lost(stage) => *stage,
            Self::StartTlsNotOffered | Self::Injected => Stage::StartTls,
            Self::AuthNotOffered
            | Self::AuthInClear
            | Self::LoginRefused(_)
            | Self::LoginUnavailable(_)
            | Self::LoginDeferred(_) => Stage::Auth,
        }
    }

    /// The next hop's words, where it said something.
    #[must_use]
    pub fn reply(&self) -> Option<&Reply> {
        match self {
            Self::Closing(_, reply)
            | Self::Refused(_, reply)
            | Self::Unexpected(_, reply)
            | Self::LoginRefused(reply)
            | Self::LoginUnavailable(reply)
            | Self::LoginDeferred(reply) => Some(reply),
            Self::StartTlsNotOffered
            | Self::AuthNotOffered
            | Self::AuthInClear
            | Self::Unasked(_)
            | Self::Injected
            | Self::BadReply(..)
            | Self::Lost(_) => None,
        }
    }
}

/// Why a transaction was not begun; nothing of it was sent, and the session goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BeginError {
    /// The session is not ready for a transaction: a mistake of the caller, or it is over.
    #[error("the session is not ready for a transaction")]
    NotReady,
    /// There is nobody to send to.
    #[error("the transaction has no recipients")]
    NoRecipients,
    /// The message is larger than the next hop takes.
    #[error("the message is larger than the {0} bytes that the next hop takes")]
    TooLarge(u64),
    /// The message has bytes over 127, and 8BITMIME is not offered.
    #[error("the message has 8-bit content, which the next hop does not take")]
    EightBit,
    /// An address or header field needs UTF-8, and SMTPUTF8 is not offered.
    #[error("the message needs SMTPUTF8, which the next hop does not offer")]
    SmtpUtf8,
}

impl BeginError {
    /// The enhanced status code that says so; `None` for a mistake of the caller.
    #[must_use]
    pub fn enhanced(&self) -> Option<EnhancedCode> {
        match self {
            Self::NotReady | Self::NoRecipients => None,
            Self::TooLarge(_) => Some(EnhancedCode::new(5, 3, 4)),
            Self::EightBit => Some(EnhancedCode::new(5, 6, 3)),
            Self::SmtpUtf8 => Some(EnhancedCode::new(5, 6, 7)),
        }
    }
}

/// What came of one recipient in a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Taken, with the final reply.
    Accepted(Reply),
    /// Not taken: the reply that said so, and to what.
    Refused(Stage, Reply),
    /// The session ended before the final dot: the next hop does not have it, trying again is safe.
    NotSent(SessionError),
    /// The session ended between the final dot and its reply: the next hop may have it.
    Uncertain(SessionError),
}

/// The end of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionResult {
    /// One for each recipient, in the order of [`Transaction::recipients`](super::Transaction::recipients).
    pub verdicts: Vec<Verdict>,
}
