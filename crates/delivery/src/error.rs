//! Why a session could not be opened. All of it is about the channel, none of it about a message.

use mail::Stage;
use smtp::Reply;

/// Why a session could not be opened, in words for people.
///
/// Before the next hop has spoken SMTP nothing of what it sent is shown: only a class of error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The login was refused for good: 5xx to AUTH.
    #[error("the login was refused: {0}")]
    Login(Reply),
    /// The login cannot be checked now: 4xx to AUTH.
    #[error("the login cannot be checked now: {0}")]
    LoginLater(Reply),
    /// The next hop said no.
    #[error("refused at {stage}: {1}", stage = .0.name())]
    Refused(Stage, Reply),
    /// No connection, or none that speaks SMTP and TLS as it should.
    #[error("{1}")]
    Broken(Stage, String),
    /// The host, the port or clear text is not allowed; no contact was made.
    #[error("{0}")]
    NotAllowed(String),
    /// TLS is required and STARTTLS is not offered; nothing was sent.
    #[error("the server does not offer STARTTLS, so nothing was sent")]
    StartTlsNotOffered,
    /// A login is set and AUTH is not offered in a form that can be used; nothing was sent.
    #[error("the server does not offer a login that can be used (PLAIN or LOGIN), so nothing was sent")]
    AuthNotOffered,
    /// The channel itself makes no sense.
    #[error("{0}")]
    Misconfigured(String),
    /// The gateway is stopping.
    #[error("the gateway is stopping")]
    Stopped,
}

impl OpenError {
    /// Where it happened.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match self {
            Self::Login(_) | Self::LoginLater(_) | Self::AuthNotOffered => Stage::Auth,
            Self::Refused(stage, _) | Self::Broken(stage, _) => *stage,
            Self::NotAllowed(_) | Self::Misconfigured(_) | Self::Stopped => Stage::Resolve,
            Self::StartTlsNotOffered => Stage::StartTls,
        }
    }

    /// True when the credential was refused for good: trying it again and again would lock the account.
    #[must_use]
    pub fn is_login_refusal(&self) -> bool {
        matches!(self, Self::Login(_))
    }

    /// What a person may do about it.
    #[must_use]
    pub fn fix(&self) -> &'static str {
        match self {
            Self::Login(_) => "check the user name and password; many providers want an app password here",
            Self::LoginLater(_) | Self::Stopped => "try again later",
            Self::Refused(..) => "ask the provider what its answer means",
            Self::Broken(Stage::Resolve, _) => "check the spelling of the host, and this machine's DNS",
            Self::Broken(Stage::Connect, _) => "check host and port, and whether a firewall stands between",
            Self::Broken(Stage::Tls, _) => {
                "check the host name and the port's kind of TLS (465 implicit, 587 starttls); an own authority belongs in [network] trust"
            }
            Self::Broken(..) => "check the port and its kind of TLS (465 implicit, 587 starttls)",
            Self::NotAllowed(_) => {
                "use a public host on port 25, 465, 587, 2525 or 2587, or have the operator add it to [network] allow"
            }
            Self::StartTlsNotOffered => "use tls = \"implicit\" on port 465, or another port",
            Self::AuthNotOffered => "use the provider's submission port (465 or 587), or auth = \"none\" if it wants no login",
            Self::Misconfigured(_) => "correct the channel",
        }
    }
}

/// The word for a stage of the wire in the terms of outcomes.
pub(crate) fn stage_of(stage: smtp::client::Stage) -> Stage {
    use smtp::client::Stage as Wire;
    match stage {
        Wire::Greeting => Stage::Greeting,
        Wire::Ehlo => Stage::Ehlo,
        Wire::StartTls => Stage::StartTls,
        Wire::Tls => Stage::Tls,
        Wire::Auth => Stage::Auth,
        Wire::Mail => Stage::Mail,
        Wire::Rcpt => Stage::Rcpt,
        Wire::Data => Stage::Data,
        Wire::Body => Stage::Body,
        Wire::FinalDot => Stage::FinalDot,
        Wire::Quit => Stage::Quit,
    }
}
