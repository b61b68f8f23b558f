//! Caps on what one channel does at once, and how they are written in a directory file.

/// Caps of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Open connections at the same time.
    pub connections: u32,
    /// Messages on one connection before it is closed; `None` means no cap.
    pub messages_per_connection: Option<u32>,
}

impl Default for Caps {
    fn default() -> Self {
        Self { connections: 4, messages_per_connection: None }
    }
}

/// Why a limit in a directory file is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// A limit of pace: count, unit and window.
    #[error("'{0}': a limit per time is not in this version; it keeps '<n> connections' and '<n> messages / connection'")]
    NotInThisVersion(String),
    /// No limit at all.
    #[error("'{0}' is not a limit; write '3 connections' or '50 messages / connection'")]
    Malformed(String),
}

impl Caps {
    /// Reads limits as written: `"3 connections"`, `"50 messages / connection"`.
    ///
    /// # Errors
    /// A limit per time window is not in this version; anything else is malformed.
    pub fn parse<S: AsRef<str>>(limits: &[S]) -> Result<Self, LimitError> {
        let mut caps = Self::default();
        for limit in limits {
            caps.add(limit.as_ref())?;
        }
        Ok(caps)
    }

    fn add(&mut self, limit: &str) -> Result<(), LimitError> {
        let malformed = || LimitError::Malformed(limit.to_owned());
        let words: Vec<&str> = limit.split_whitespace().collect();
        let count = words.first().and_then(|word| word.parse::<u32>().ok()).filter(|count| *count > 0).ok_or_else(malformed)?;
        match words.get(1..).unwrap_or_default() {
            ["connections" | "connection"] => self.connections = count,
            ["messages" | "message", "/", "connection"] => self.messages_per_connection = Some(count),
            [_, "/", ..] => return Err(LimitError::NotInThisVersion(limit.to_owned())),
            _ => return Err(malformed()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn caps_are_read_and_limits_of_pace_are_refused() {
        let caps = Caps::parse(&["3 connections", "50 messages / connection"]).unwrap();
        assert_eq!(caps, Caps { connections: 3, messages_per_connection: Some(50) });
        assert!(matches!(Caps::parse(&["30 messages / 1 minute"]), Err(LimitError::NotInThisVersion(_))));
        for bad in ["", "connections", "0 connections", "-1 connections", "3 cats"] {
            assert!(matches!(Caps::parse(&[bad]), Err(LimitError::Malformed(_))), "{bad}");
        }
    }
}
