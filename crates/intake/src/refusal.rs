//! Why a submission was not accepted, and what each surface says of it.

use mail::MessageId;
use mail::resolve::Refusal;
use smtp::Reply;
use store::AcceptError;

/// Why a submission was not accepted. Its text says what happened, why, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AcceptRefusal {
    /// The message or its sender is not what may be sent here. Sending it again changes nothing.
    #[error("{0}")]
    Mail(#[from] Refusal),
    /// The key was used for another message.
    #[error("idempotency key '{key}' was used for another message, {id}; use a new key for a new message")]
    KeyReused {
        /// The key.
        key: String,
        /// The message it stands for.
        id: MessageId,
    },
    /// No space to keep it. Trying later may help.
    #[error("there is no space to keep the message; try again later")]
    NoSpace,
    /// The store is closing, or has failed. Trying later may help.
    #[error("the message was not stored; try again later")]
    Closed,
}

impl AcceptRefusal {
    /// The stable code of the API.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Mail(refusal) => refusal.code(),
            Self::KeyReused { .. } => "idempotency_key_reused",
            Self::NoSpace => "storage_full",
            Self::Closed => "dependency_unavailable",
        }
    }

    /// The status of the API.
    #[must_use]
    pub fn http_status(&self) -> u16 {
        match self {
            Self::Mail(refusal) => refusal.http_status(),
            Self::KeyReused { .. } => 422,
            Self::NoSpace => 507,
            Self::Closed => 503,
        }
    }

    /// True when the same submission will never be accepted.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Mail(_) | Self::KeyReused { .. } => true,
            Self::NoSpace | Self::Closed => false,
        }
    }
}

impl From<AcceptError> for AcceptRefusal {
    fn from(error: AcceptError) -> Self {
        match error {
            AcceptError::NoSpace(_) => Self::NoSpace,
            AcceptError::KeyReused { key, id } => Self::KeyReused { key, id },
            AcceptError::Closed(_) => Self::Closed,
        }
    }
}

impl From<&AcceptRefusal> for Reply {
    fn from(refusal: &AcceptRefusal) -> Self {
        match refusal {
            AcceptRefusal::Mail(refusal) => refusal.reply(),
            AcceptRefusal::KeyReused { .. } => Self::new(554, (5, 5, 0), refusal.to_string()),
            AcceptRefusal::NoSpace => Self::new(452, (4, 3, 1), refusal.to_string()),
            AcceptRefusal::Closed => Self::new(451, (4, 3, 0), refusal.to_string()),
        }
    }
}
