//! What may go wrong at a next hop, and where.

use super::io::Io;
use std::time::Duration;

/// Where it goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Point {
    /// In the place of the greeting.
    Greeting,
    /// In the place of the reply to EHLO.
    Ehlo,
    /// In the place of the reply to STARTTLS.
    StartTls,
    /// In the place of the server's part of the TLS handshake.
    Tls,
    /// In the place of the reply to AUTH.
    Auth,
    /// In the place of the reply to MAIL.
    Mail,
    /// In the place of the reply to the first RCPT.
    Rcpt,
    /// In the place of the reply to DATA.
    Data,
    /// When the first bytes of the message have come.
    Body,
    /// In the place of the reply to the final dot; the message was taken unless the fault is a refusal.
    FinalDot,
    /// After the message was taken and that was said.
    AfterDot,
    /// In the place of the reply to QUIT.
    Quit,
}

impl Point {
    /// All of them, in order.
    pub const ALL: [Self; 12] = [
        Self::Greeting,
        Self::Ehlo,
        Self::StartTls,
        Self::Tls,
        Self::Auth,
        Self::Mail,
        Self::Rcpt,
        Self::Data,
        Self::Body,
        Self::FinalDot,
        Self::AfterDot,
        Self::Quit,
    ];
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// A reply with 4xx.
    Transient,
    /// A reply with 5xx.
    Permanent,
    /// 421, and the connection is closed.
    Closing,
    /// The connection is closed.
    Drop,
    /// The connection is reset.
    Reset,
    /// Nothing more is said or read.
    Stall,
    /// A reply that drips and never ends.
    Slow,
    /// Bytes that are no reply.
    Garbage,
    /// A reply whose lines never end.
    Endless,
    /// A line that never ends.
    Oversized,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Transient,
        Self::Permanent,
        Self::Closing,
        Self::Drop,
        Self::Reset,
        Self::Stall,
        Self::Slow,
        Self::Garbage,
        Self::Endless,
        Self::Oversized,
    ];

    /// True if the next hop says that it does not take it.
    #[must_use]
    pub fn is_refusal(self) -> bool {
        matches!(self, Self::Transient | Self::Permanent | Self::Closing)
    }

    /// Does it; false when the conversation is over.
    pub(super) async fn happen(self, io: &mut Io, point: Point) -> bool {
        let code = if point == Point::Auth { "54" } else { "51" };
        match self {
            Self::Transient => io.write(format!("4{code} 4.3.0 not now\r\n").as_bytes()).await,
            Self::Permanent => io.write(b"550 5.7.1 not ever\r\n").await,
            Self::Closing => {
                io.write(b"421 4.3.2 closing\r\n").await;
                false
            }
            Self::Drop => false,
            Self::Reset => {
                io.reset();
                false
            }
            Self::Stall => std::future::pending().await,
            Self::Slow => drip(io).await,
            Self::Garbage => {
                io.write(b"\x16\x03\x01\x02\xff not smtp at all \x80\r\n").await;
                io.drain().await
            }
            Self::Endless => flood(io, &b"250-and more\r\n".repeat(100)).await,
            Self::Oversized => {
                io.write(b"250-").await;
                flood(io, &[b'x'; 4096]).await
            }
        }
    }
}

async fn drip(io: &mut Io) -> bool {
    for byte in b"250-".iter().chain(std::iter::repeat(&b'x')) {
        if !io.write(&[*byte]).await {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}

async fn flood(io: &mut Io, bytes: &[u8]) -> bool {
    while io.write(bytes).await {}
    false
}
