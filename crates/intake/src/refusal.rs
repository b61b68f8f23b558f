//! Why a submission was not accepted, and what each surface says of it.

use crate::accept::Principal;
use mail::resolve::Refusal;
use mail::{Directory, MessageId};
use smtp::Reply;
use std::fmt;
use store::{AcceptError, CapUnit, Holder, OverCap};

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
    /// Somebody has as much open mail as they may. Trying later may help.
    #[error("{0}")]
    OverCap(Box<Reached>),
    /// The store is closing, or has failed. Trying later may help.
    #[error("the message was not stored; try again later")]
    Closed,
}

/// A cap of open mail that is reached. Its text says which, how much is open, how to see it and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Which, and how much is open.
    pub over: OverCap,
    /// Whose open mail it is, for people.
    pub whose: String,
    /// What leads `sendero message list` to it.
    pub listed_by: String,
}

impl Reached {
    pub(crate) fn new(over: OverCap, principal: Principal, directory: &Directory) -> Self {
        let person = directory.person(principal.person).map(|person| person.email.to_string());
        let person = person.unwrap_or_else(|| principal.person.to_string());
        let whose = match over.holder {
            Holder::Token(id) => match directory.token(id) {
                Some(token) => format!("token '{}' of {person}", token.name),
                None => format!("your token, of {person},"),
            },
            Holder::Person(_) => person.clone(),
            Holder::Team(id) | Holder::Member(id, _) => match directory.team(id) {
                Some(team) => format!("team '{}'", team.name),
                None => "your team".to_owned(),
            },
        };
        let team = match over.holder {
            Holder::Team(id) | Holder::Member(id, _) => directory.team(id),
            Holder::Token(_) | Holder::Person(_) => None,
        };
        let listed_by = match team {
            Some(team) => format!("--team \"{}\"", team.name),
            None => format!("--person {person}"),
        };
        Self { over, whose, listed_by }
    }

    /// The name of the setting.
    #[must_use]
    pub fn setting(&self) -> &'static str {
        match (self.over.holder, self.over.unit) {
            (Holder::Token(_), CapUnit::Messages) => "queue.open_messages_per_token",
            (Holder::Person(_), CapUnit::Messages) => "queue.open_messages_per_person",
            (Holder::Team(_) | Holder::Member(..), CapUnit::Messages) => "queue.open_messages_per_team",
            (Holder::Token(_), CapUnit::Bytes) => "queue.open_bytes_per_token",
            (Holder::Person(_), CapUnit::Bytes) => "queue.open_bytes_per_person",
            (Holder::Team(_) | Holder::Member(..), CapUnit::Bytes) => "queue.open_bytes_per_team",
        }
    }
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { over, whose, listed_by } = self;
        let (open, most) = match over.unit {
            CapUnit::Messages => (format!("{} messages", over.open), over.most.to_string()),
            CapUnit::Bytes => (size(over.open), size(over.most)),
        };
        let kept = match over.holder {
            _ if !over.is_kept => "",
            Holder::Team(_) => "; what is left is kept for urgent mail and for members who have little",
            _ => "; what is left is kept for urgent mail",
        };
        write!(
            f,
            "{whose} has {open} of mail that has not left, and may have {most} ({}){kept}; send it again when some has left. \
             'sendero message list {listed_by} --status queued --status leased --status held' shows what waits; \
             your administrator can raise the limit",
            self.setting()
        )
    }
}

/// So many bytes, for people: in the largest unit of which there is one, with a tenth.
fn size(bytes: u64) -> String {
    let units = [(1u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let Some((unit, name)) = units.into_iter().find(|(unit, _)| bytes >= *unit) else { return format!("{bytes} bytes") };
    match (bytes / unit, bytes % unit * 10 / unit) {
        (whole, 0) => format!("{whole} {name}"),
        (whole, tenth) => format!("{whole}.{tenth} {name}"),
    }
}

impl AcceptRefusal {
    /// The stable code of the API.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Mail(refusal) => refusal.code(),
            Self::KeyReused { .. } => "idempotency_key_reused",
            Self::NoSpace => "storage_full",
            Self::OverCap(_) => "gateway_rate_limited",
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
            Self::OverCap(_) => 429,
            Self::Closed => 503,
        }
    }

    /// True when the same submission will never be accepted.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Mail(_) | Self::KeyReused { .. } => true,
            Self::NoSpace | Self::OverCap(_) | Self::Closed => false,
        }
    }
}

impl From<AcceptError> for AcceptRefusal {
    fn from(error: AcceptError) -> Self {
        match error {
            AcceptError::NoSpace(_) => Self::NoSpace,
            AcceptError::KeyReused { key, id } => Self::KeyReused { key, id },
            // Whoever knows names says more: see `Intake::not_accepted`.
            AcceptError::OverCap(_) | AcceptError::Closed(_) => Self::Closed,
        }
    }
}

impl From<&AcceptRefusal> for Reply {
    fn from(refusal: &AcceptRefusal) -> Self {
        match refusal {
            AcceptRefusal::Mail(refusal) => refusal.reply(),
            AcceptRefusal::KeyReused { .. } => Self::new(554, (5, 5, 0), refusal.to_string()),
            AcceptRefusal::OverCap(_) => Self::new(451, (4, 7, 1), refusal.to_string()),
            AcceptRefusal::NoSpace => Self::new(452, (4, 3, 1), refusal.to_string()),
            AcceptRefusal::Closed => Self::new(451, (4, 3, 0), refusal.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cap_in_bytes_is_told_in_units_that_people_read() {
        let told = [0, 1023, 1024, 3000, (1 << 20) - 1, 20 << 30, (5 << 40) + (1 << 39)].map(size);
        assert_eq!(told, ["0 bytes", "1023 bytes", "1 KiB", "2.9 KiB", "1023.9 KiB", "20 GiB", "5.5 TiB"]);
    }
}
