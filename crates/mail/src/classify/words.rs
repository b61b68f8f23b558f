//! The words of the rules, as types.

use crate::outcome::Stage;
use serde::Deserialize;

/// An enum whose values are words in the rules, in answers and in logs.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
        pub enum $name {
            $($(#[$doc])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// Every one, in the order of their declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }
    };
}

words! {
    /// What kind of refusal a reply is.
    Class {
        /// The login was refused, or is missing.
        AuthFailed = "auth_failed",
        /// Logins of this kind, or of this account, are switched off.
        AuthDisabled = "auth_disabled",
        /// This author may not send here.
        SenderDenied = "sender_denied",
        /// Too fast.
        RateLimited = "rate_limited",
        /// A day's, month's or lifetime allowance is used up.
        DailyLimit = "daily_limit",
        /// Too many connections at once.
        TooManyConnections = "too_many_connections",
        /// There is no such recipient, or not any more.
        RecipientUnknown = "recipient_unknown",
        /// The recipient has no room.
        MailboxFull = "mailbox_full",
        /// The message is too large.
        MessageTooLarge = "message_too_large",
        /// The content was refused.
        ContentRejected = "content_rejected",
        /// An account, address or network is blocked.
        Blocklisted = "blocklisted",
        /// Asked to come again, as strangers are.
        Greylisted = "greylisted",
        /// TLS is missing.
        TlsRequired = "tls_required",
        /// None of these.
        Other = "other",
    }
}

words! {
    /// What is at fault.
    Fault {
        /// This recipient alone.
        Recipient = "recipient",
        /// The message, or its author.
        Message = "message",
        /// The channel: login, quota, policy, ban.
        Channel = "channel",
        /// A remote server, whatever it claims: its throttle, its block.
        Destination = "destination",
        /// This connection.
        Connection = "connection",
    }
}

words! {
    /// How long a refusal will hold.
    Permanence {
        /// It passes.
        Temporary = "temporary",
        /// Until less was sent within the last 24 hours.
        Rolling24h = "rolling_24h",
        /// For good.
        Permanent = "permanent",
        /// Until the channel has another credential.
        UntilCredentialChange = "until_credential_change",
        /// Until a setting changes: ours, the account's, or a DNS record.
        UntilConfigChange = "until_config_change",
        /// Until the account's user does something at the provider.
        UntilUserAction = "until_user_action",
        /// Until an administrator of the account or the provider does something.
        UntilAdminAction = "until_admin_action",
        /// Until the allowance is renewed, or an administrator does something.
        UntilResetOrAdmin = "until_reset_or_admin",
    }
}

words! {
    /// What to do about a reply.
    Action {
        /// Park the channel; its owner renews the credential.
        PauseChannelReauth = "pause_channel_reauth",
        /// Park the channel; a person changes a setting, here or at the provider.
        PauseChannelAdmin = "pause_channel_admin",
        /// Park the channel for a time, then probe.
        PauseChannelUntil = "pause_channel_until",
        /// Lower the channel's pace.
        SlowChannel = "slow_channel",
        /// Fewer connections.
        ReduceConcurrency = "reduce_concurrency",
        /// A new access token and one more login, then as `pause_channel_reauth`.
        RefreshTokenOnce = "refresh_token_once",
        /// Hold the person's mail with this sender.
        HoldMessageFixSender = "hold_message_fix_sender",
        /// Stop this From domain towards this destination.
        PauseFromDomain = "pause_from_domain",
        /// Stop direct delivery to this destination.
        PauseDirectDelivery = "pause_direct_delivery",
        /// A new transaction for those refused, at once.
        SplitRecipients = "split_recipients",
        /// Again later.
        RetryLater = "retry_later",
        /// This recipient again later.
        RetryRecipient = "retry_recipient",
        /// Another connection.
        RetryConnection = "retry_connection",
        /// Final for this recipient.
        BounceRecipient = "bounce_recipient",
        /// Final for the message.
        BounceMessage = "bounce_message",
    }
}

impl Action {
    /// The scopes it makes sense for: what is at fault bears the consequence, and nothing else does.
    #[must_use]
    pub fn scopes(self) -> &'static [Fault] {
        match self {
            Self::PauseChannelReauth
            | Self::PauseChannelAdmin
            | Self::PauseChannelUntil
            | Self::SlowChannel
            | Self::RefreshTokenOnce => &[Fault::Channel],
            Self::ReduceConcurrency | Self::RetryConnection => &[Fault::Connection],
            Self::HoldMessageFixSender | Self::SplitRecipients | Self::BounceMessage => &[Fault::Message],
            Self::PauseFromDomain | Self::PauseDirectDelivery => &[Fault::Destination],
            Self::RetryLater => &[Fault::Message, Fault::Destination, Fault::Connection],
            Self::RetryRecipient | Self::BounceRecipient => &[Fault::Recipient],
        }
    }

    /// True when nothing more is tried for the recipient or message.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::BounceRecipient | Self::BounceMessage)
    }

    /// True when the next try comes by itself, after a time.
    #[must_use]
    pub fn waits(self) -> bool {
        match self {
            Self::PauseChannelUntil
            | Self::SlowChannel
            | Self::ReduceConcurrency
            | Self::PauseFromDomain
            | Self::PauseDirectDelivery
            | Self::RetryLater
            | Self::RetryRecipient
            | Self::RetryConnection => true,
            Self::PauseChannelReauth
            | Self::PauseChannelAdmin
            | Self::RefreshTokenOnce
            | Self::HoldMessageFixSender
            | Self::SplitRecipients
            | Self::BounceRecipient
            | Self::BounceMessage => false,
        }
    }
}

words! {
    /// How sure a rule is.
    Certainty {
        /// The provider's own text was read.
        Official = "official",
        /// The provider's published list, through a maintained project's copy.
        Transcribed = "transcribed",
        /// Seen in live transcripts, issues or code.
        Observed = "observed",
        /// A third party describes it.
        Secondary = "secondary",
        /// General knowledge, not re-checked.
        Memory = "memory",
    }
}

words! {
    /// Where a reply was given.
    Phase {
        /// Before the login: connection, greeting, EHLO, STARTTLS.
        Connect = "connect",
        /// AUTH.
        Auth = "auth",
        /// MAIL.
        Mail = "mail",
        /// RCPT.
        Rcpt = "rcpt",
        /// DATA and what follows it.
        Data = "data",
        /// An HTTP API; the code is the HTTP status.
        Api = "api",
        /// A token endpoint; the code is the HTTP status.
        Oauth = "oauth",
        /// A bounce that came back later.
        Ndr = "ndr",
    }
}

impl Phase {
    /// The phase of a stage of a session.
    #[must_use]
    pub fn of(stage: Stage) -> Self {
        match stage {
            Stage::Resolve | Stage::Connect | Stage::Greeting | Stage::Ehlo | Stage::StartTls | Stage::Tls | Stage::Quit => {
                Self::Connect
            }
            Stage::Auth => Self::Auth,
            Stage::Mail => Self::Mail,
            Stage::Rcpt => Self::Rcpt,
            Stage::Data | Stage::Body | Stage::FinalDot => Self::Data,
        }
    }

    /// True where nothing has been said of a message yet, so that no reply is about one.
    #[must_use]
    pub fn is_before_mail(self) -> bool {
        match self {
            Self::Connect | Self::Auth | Self::Oauth => true,
            Self::Mail | Self::Rcpt | Self::Data | Self::Api | Self::Ndr => false,
        }
    }

    /// True for MAIL, RCPT and DATA, between which servers move their refusals about.
    #[must_use]
    pub(super) fn is_in_transaction(self) -> bool {
        matches!(self, Self::Mail | Self::Rcpt | Self::Data)
    }
}
