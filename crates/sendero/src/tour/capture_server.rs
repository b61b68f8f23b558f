//! The next hop of the tour: takes every message and says on standard output what it took.
//!
//! It ends when its standard input does, so it never outlives the tour.

use super::letters::body_digest;
use crate::commands::CommandError;
use mail::header::Header;
use smtp::Reply;
use smtp::server::{Action, Login, Security, ServerConfig, Session};
use std::io::Write;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// What the capture server says on its first line.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Listening {
    pub(super) port: u16,
}

/// What it says of each message.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Captured {
    pub(super) message_id: String,
    pub(super) subject: String,
    pub(super) sha256: String,
    pub(super) size: usize,
}

/// Runs until standard input ends.
///
/// # Errors
/// No port is to be had.
pub async fn run() -> Result<(), CommandError> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(|problem| CommandError::about("capture server", problem))?;
    let address = listener.local_addr().map_err(|problem| CommandError::about("capture server", problem))?;
    say(&Listening { port: address.port() });
    let config = Arc::new(ServerConfig {
        hostname: "capture.localhost".to_owned(),
        max_message_size: 64 << 20,
        whole_up_to: 64 << 20,
        max_recipients: 1000,
        tls_available: false,
        announce_dsn: false,
    });
    let mut input_ended = input_ended();
    loop {
        tokio::select! {
            _ = &mut input_ended => return Ok(()),
            Ok((stream, _)) = listener.accept() => {
                let config = Arc::clone(&config);
                tokio::spawn(async move { converse(stream, config).await });
            }
        }
    }
}

/// Resolves when standard input has ended.
fn input_ended() -> oneshot::Receiver<()> {
    let (ended, waiting) = oneshot::channel::<()>();
    std::thread::spawn(move || {
        // An input that cannot be read has ended, too.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        drop(ended);
    });
    waiting
}

async fn converse(mut stream: TcpStream, config: Arc<ServerConfig>) {
    let mut session = Session::new(config, Security::Clear, Login::Trusted);
    session.greet();
    loop {
        let action = session.next_action();
        let wants_more = match action {
            Action::Store(submission) => {
                say(&captured(&submission.body));
                session.stored(&Reply::new(250, (2, 0, 0), "captured"));
                continue;
            }
            Action::Begin(_) => {
                session.begun(Ok(()));
                continue;
            }
            Action::Verify(_) => {
                session.verified(Err(Reply::new(535, (5, 7, 8), "no login here")));
                continue;
            }
            // No message is larger than what is held whole.
            Action::Piece(_) | Action::Forget => continue,
            Action::NeedInput => true,
            Action::StartTls | Action::Close => false,
        };
        let output = session.output().split();
        if stream.write_all(&output).await.is_err() || !wants_more {
            return;
        }
        match stream.read_buf(session.input()).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return,
        }
    }
}

fn captured(message: &[u8]) -> Captured {
    let header = Header::parse(message).ok();
    Captured {
        message_id: header.as_ref().and_then(Header::message_id).unwrap_or_default(),
        subject: header.as_ref().map(Header::subject).unwrap_or_default(),
        sha256: body_digest(message),
        size: message.len(),
    }
}

fn say<T: serde::Serialize>(value: &T) {
    if let Ok(text) = serde_json::to_string(value) {
        let mut out = std::io::stdout().lock();
        // Without a reader the tour is over, and standard input ends too.
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }
}
