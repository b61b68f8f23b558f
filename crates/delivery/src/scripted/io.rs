//! The next hop's end of a connection.

use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

enum Stream {
    Clear(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Ended,
}

pub(super) struct Io {
    stream: Stream,
    buffer: Vec<u8>,
    pub(super) reads: usize,
}

impl Io {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream: Stream::Clear(stream), buffer: Vec::new(), reads: 0 }
    }

    pub(super) fn is_protected(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }

    /// False when the connection is gone.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> bool {
        let written = match &mut self.stream {
            Stream::Clear(stream) => stream.write_all(bytes).await,
            Stream::Tls(stream) => match stream.write_all(bytes).await {
                Ok(()) => stream.flush().await,
                error => error,
            },
            Stream::Ended => return false,
        };
        written.is_ok()
    }

    /// More bytes into the buffer; false at the end.
    async fn fill(&mut self) -> bool {
        let mut piece = [0; 16 * 1024];
        let read = match &mut self.stream {
            Stream::Clear(stream) => stream.read(&mut piece).await,
            Stream::Tls(stream) => stream.read(&mut piece).await,
            Stream::Ended => return false,
        };
        let count = read.unwrap_or(0);
        self.buffer.extend_from_slice(&piece[..count]);
        self.reads += usize::from(count > 0);
        count > 0
    }

    /// One line without its CRLF.
    pub(super) async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
                self.buffer.drain(..end + 2);
                return Some(line);
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// Some bytes, whatever they are.
    pub(super) async fn some(&mut self) -> Option<Vec<u8>> {
        if self.buffer.is_empty() && !self.fill().await {
            return None;
        }
        Some(std::mem::take(&mut self.buffer))
    }

    /// Gives bytes back that belong to what follows.
    pub(super) fn give_back(&mut self, rest: &[u8]) {
        self.buffer.splice(..0, rest.iter().copied());
    }

    /// Reads to the end, and forgets.
    pub(super) async fn drain(&mut self) -> bool {
        while self.some().await.is_some() {}
        false
    }

    pub(super) fn reset(&mut self) {
        let tcp = match &self.stream {
            Stream::Clear(stream) => stream,
            Stream::Tls(stream) => stream.get_ref().0,
            Stream::Ended => return,
        };
        _ = tcp.set_zero_linger();
        self.stream = Stream::Ended;
    }

    /// False when the handshake failed.
    pub(super) async fn protect(&mut self, server: Arc<rustls::ServerConfig>) -> bool {
        let Stream::Clear(stream) = std::mem::replace(&mut self.stream, Stream::Ended) else { return false };
        self.buffer.clear();
        match TlsAcceptor::from(server).accept(stream).await {
            Ok(stream) => {
                self.stream = Stream::Tls(Box::new(stream));
                true
            }
            Err(_) => false,
        }
    }
}
