//! A connection with or without TLS.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

pub(super) enum Stream {
    Clear(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// The handshake has it, or had it and failed.
    Taken,
}

/// What a connection did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moved {
    /// So many bytes were taken, and more are to follow.
    Wrote(usize),
    /// All is on its way.
    Flushed,
    /// So many bytes came in the meantime; none: the other side closed.
    Read(usize),
}

impl Stream {
    /// Writes; only while that has to wait it also reads, so that a next hop which refuses in the
    /// middle of a message is heard, and neither side waits for the other.
    pub(super) fn poll_write(&mut self, context: &mut Context<'_>, out: &[u8], input: &mut [u8]) -> Poll<io::Result<Moved>> {
        match self.poll_out(context, out) {
            Poll::Pending => self.poll_read(context, input).map_ok(Moved::Read),
            ready => ready,
        }
    }

    fn poll_out(&mut self, context: &mut Context<'_>, out: &[u8]) -> Poll<io::Result<Moved>> {
        if !out.is_empty() {
            let taken = ready!(self.poll_some(context, out))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            if taken < out.len() {
                return Poll::Ready(Ok(Moved::Wrote(taken)));
            }
        }
        match self.poll_flush(context)? {
            Poll::Ready(()) => Poll::Ready(Ok(Moved::Flushed)),
            // They are taken, and must not be written again.
            Poll::Pending if !out.is_empty() => Poll::Ready(Ok(Moved::Wrote(out.len()))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_some(&mut self, context: &mut Context<'_>, out: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Clear(stream) => Pin::new(stream).poll_write(context, out),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, out),
            Self::Taken => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Clear(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
            Self::Taken => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    /// Reads what is there; 0 means that the other side closed.
    pub(super) fn poll_read(&mut self, context: &mut Context<'_>, input: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(input);
        ready!(match self {
            Self::Clear(stream) => Pin::new(stream).poll_read(context, &mut buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, &mut buffer),
            Self::Taken => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        })?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    pub(super) fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Clear(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Taken => Poll::Ready(Ok(())),
        }
    }

    /// Version and cipher, for people; `None` in clear text.
    pub(super) fn protection(&self) -> Option<String> {
        let Self::Tls(stream) = self else { return None };
        let (_, connection) = stream.get_ref();
        let version = match connection.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLS 1.3",
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLS 1.2",
            _ => "TLS",
        };
        let cipher = connection.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite())).unwrap_or_default();
        Some(format!("{version} {cipher}"))
    }
}
