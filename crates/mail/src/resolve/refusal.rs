//! Why a submission is refused, and what each surface says of it.

use crate::header::{HeaderError, WishError};
use smtp::{Mailbox, Reply};

/// Why a submission is refused: what happened, why, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The header.
    #[error("{0}; mend the message and send it again")]
    Header(#[from] HeaderError),
    /// A wish in the header.
    #[error("{0}")]
    Wish(#[from] WishError),
    /// It goes in circles.
    #[error("the message has passed more than 50 servers: it goes in circles; look at your forwarding rules")]
    TooManyHops,
    /// Orders to a provider.
    #[error("the header field {0} gives orders to a provider and is not taken from submitters; leave it out")]
    ControlField(String),
    /// An address that is not the person's.
    #[error("{0} is not yours to send as; ask your administrator to add it to your send_as")]
    SenderNotAllowed(Mailbox),
    /// The token is narrower than its person.
    #[error("this token may not send as {0}; use another token, or ask your administrator to add it to the token's send_as")]
    TokenForbids(Mailbox),
    /// The person is switched off, or gone.
    #[error("you may not send; ask your administrator to enable your account")]
    PersonDisabled,
    /// The token is switched off, or gone, or another person's.
    #[error("this token is no longer valid; sign in with another one")]
    TokenDisabled,
    /// No such channel, or none that this person may use.
    #[error("there is no channel '{0}' that you may use; 'sendero channel list' shows the names")]
    ChannelNotFound(String),
    /// A channel was asked for and another is fixed on the token.
    #[error("channel '{asked}' was asked for, and this token is fixed to '{fixed}'; use another token, or do not ask")]
    ChannelFixed {
        /// Asked for.
        asked: String,
        /// Fixed.
        fixed: String,
    },
    /// The channel may not carry this From.
    #[error("channel '{channel}' may not send as {author}; {remedy}")]
    ChannelForbids {
        /// The channel.
        channel: String,
        /// Whom it may not send as.
        author: Mailbox,
        /// What to do.
        remedy: &'static str,
    },
    /// The channel asked for is switched off.
    #[error("channel '{0}' is disabled; enable it, or use another")]
    ChannelDisabled(String),
    /// Nothing left to go by.
    #[error(
        "no channel may send as {author} for you; connect a mailbox with this address, or ask your administrator for a team channel that has its domain"
    )]
    NoChannel {
        /// For this author.
        author: Mailbox,
    },
    /// No recipient.
    #[error("the message has no recipient; name at least one")]
    NoRecipients,
    /// Too many.
    #[error("a message may have {most} recipients here, this one has {found}; send it in parts")]
    TooManyRecipients {
        /// Given.
        found: usize,
        /// Allowed.
        most: usize,
    },
    /// Too large.
    #[error("a message may have {most} bytes here, this one has {found}; make it smaller, or send a link")]
    TooLarge {
        /// Given.
        found: u64,
        /// Allowed.
        most: u64,
    },
    /// Too large for the channel.
    #[error(
        "{} takes at most {most} bytes, this message has {found}; make it smaller, send a link, or use another channel",
        whose(.channel, *.by_next_hop)
    )]
    TooLargeForChannel {
        /// Which channel.
        channel: String,
        /// Given.
        found: u64,
        /// Allowed.
        most: u64,
        /// Its next hop has announced that, not its row.
        by_next_hop: bool,
    },
    /// Bytes that are no legal message.
    #[error("a message's lines end with CRLF, and it holds a bare CR, a bare LF or a NUL; encode it")]
    OddBytes,
}

impl Refusal {
    /// The stable code of the API.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Header(_) | Self::Wish(_) | Self::TooManyHops | Self::ControlField(_) | Self::NoRecipients | Self::OddBytes => {
                "validation_failed"
            }
            Self::SenderNotAllowed(_)
            | Self::TokenForbids(_)
            | Self::ChannelForbids { .. }
            | Self::NoChannel { .. }
            | Self::PersonDisabled => "sender_not_allowed",
            Self::TokenDisabled => "token_disabled",
            Self::ChannelNotFound(_) | Self::ChannelDisabled(_) => "channel_not_found",
            Self::ChannelFixed { .. } => "scope_missing",
            Self::TooManyRecipients { .. } => "recipient_limit_exceeded",
            Self::TooLarge { .. } | Self::TooLargeForChannel { .. } => "message_too_large",
        }
    }

    /// The status of the API.
    #[must_use]
    pub fn http_status(&self) -> u16 {
        match self.code() {
            "token_disabled" => 401,
            "sender_not_allowed" | "scope_missing" => 403,
            "channel_not_found" => 404,
            "message_too_large" => 413,
            _ => 422,
        }
    }

    /// The reply of SMTP.
    #[must_use]
    pub fn reply(&self) -> Reply {
        let (code, enhanced) = match self {
            Self::Header(_) | Self::OddBytes => (550, (5, 6, 0)),
            Self::Wish(WishError::When(_)) => (554, (5, 6, 0)),
            Self::Wish(_) => (550, (5, 5, 4)),
            Self::TooManyHops => (554, (5, 4, 6)),
            Self::ControlField(_)
            | Self::SenderNotAllowed(_)
            | Self::TokenForbids(_)
            | Self::PersonDisabled
            | Self::TokenDisabled
            | Self::ChannelNotFound(_)
            | Self::ChannelFixed { .. }
            | Self::ChannelForbids { .. }
            | Self::ChannelDisabled(_)
            | Self::NoChannel { .. } => (550, (5, 7, 1)),
            Self::NoRecipients => (554, (5, 5, 1)),
            Self::TooManyRecipients { .. } => (550, (5, 5, 3)),
            Self::TooLarge { .. } | Self::TooLargeForChannel { .. } => (552, (5, 3, 4)),
        };
        Reply::new(code, enhanced, self.to_string())
    }
}

fn whose(channel: &str, by_next_hop: bool) -> String {
    if by_next_hop { format!("the server behind channel '{channel}'") } else { format!("channel '{channel}'") }
}
