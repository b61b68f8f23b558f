//! How long each step may take (RFC 5321 §4.5.3.2).

use mail::Stage;
use std::time::Duration;

/// How long each step may take. What is not over by then counts as a broken connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// The look-up of the host.
    pub resolve: Duration,
    /// A TCP connection to one of its addresses.
    pub connect: Duration,
    /// The greeting.
    pub greeting: Duration,
    /// The TLS handshake.
    pub handshake: Duration,
    /// The reply to EHLO, STARTTLS, MAIL and one RCPT, and all of AUTH.
    pub command: Duration,
    /// The reply to DATA.
    pub data: Duration,
    /// Some progress in writing.
    pub block: Duration,
    /// The reply to the final dot.
    pub final_dot: Duration,
    /// The reply to QUIT and RSET, which nobody needs.
    pub quit: Duration,
    /// How long the next address is held back (RFC 8305).
    pub stagger: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            resolve: Duration::from_secs(20),
            connect: Duration::from_secs(30),
            greeting: Duration::from_secs(60),
            handshake: Duration::from_secs(60),
            command: Duration::from_secs(300),
            data: Duration::from_secs(120),
            block: Duration::from_secs(180),
            final_dot: Duration::from_secs(600),
            quit: Duration::from_secs(5),
            stagger: crate::connect::STAGGER,
        }
    }
}

impl Deadlines {
    /// The same for every step: for tests, and where a person waits.
    #[must_use]
    pub fn each(limit: Duration) -> Self {
        Self {
            resolve: limit,
            connect: limit,
            greeting: limit,
            handshake: limit,
            command: limit,
            data: limit,
            block: limit,
            final_dot: limit,
            quit: limit,
            stagger: crate::connect::STAGGER.min(limit),
        }
    }

    /// How long the replies that are awaited at a stage may take together.
    ///
    /// For RCPT that is more the more there are; a next hop that drips is not given a day.
    pub(crate) fn of(&self, stage: Stage, recipients: usize) -> Duration {
        match stage {
            Stage::Resolve => self.resolve,
            Stage::Connect => self.connect,
            Stage::Greeting => self.greeting,
            Stage::Tls => self.handshake,
            Stage::Ehlo | Stage::StartTls | Stage::Auth | Stage::Mail => self.command,
            Stage::Rcpt => self.command * u32::try_from(recipients.clamp(1, 6)).unwrap_or(1),
            Stage::Data => self.data,
            Stage::Body => self.block,
            Stage::FinalDot => self.final_dot,
            Stage::Quit => self.quit,
        }
    }
}
