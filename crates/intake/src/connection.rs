//! One connection: moves bytes between a socket and a session, and does what the session asks.

use crate::accept::Principal;
use crate::arrival::Arrival;
use crate::door::Door;
use crate::patience::Patience;
use smtp::Reply;
use smtp::server::{Action, Login, Security, ServerConfig, Session};
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Room for a command and what is pipelined behind it.
const COMMAND_ROOM: usize = 4 * 1024;
/// Room for a piece of a message.
const DATA_ROOM: usize = 32 * 1024;

/// A client's connection, whatever carries it.
pub(crate) struct Connection {
    door: Arc<Door>,
    config: Arc<ServerConfig>,
    session: Option<Session>,
    peer: Option<IpAddr>,
    principal: Option<Principal>,
    /// The large message that is coming in.
    arrival: Option<Arrival>,
    stop: CancellationToken,
}

impl Connection {
    /// `principal` speaks from the start where nobody needs to sign in.
    pub fn new(
        door: Arc<Door>,
        config: Arc<ServerConfig>,
        peer: Option<IpAddr>,
        principal: Option<Principal>,
        stop: CancellationToken,
    ) -> Self {
        Self { door, config, session: None, peer, principal, arrival: None, stop }
    }

    /// Makes TLS of a connection.
    pub async fn handshake(&mut self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let acceptor = TlsAcceptor::from(self.door.tls.config());
        let stopped = self.stop.clone();
        tokio::select! {
            done = timeout(self.door.deadlines.handshake, acceptor.accept(stream)) => done?,
            () = stopped.cancelled() => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }

    /// Takes a piece of a large message. What is refused is told once all of it has come.
    async fn take(&mut self, piece: Vec<u8>) -> Result<(), Reply> {
        let principal = self.principal.ok_or_else(nobody)?;
        let arrival = self.arrival.take().unwrap_or_else(|| self.door.arrive());
        let written = arrival.write(piece.into()).await;
        self.arrival = Some(written.map_err(|refusal| self.door.refused(principal, self.peer, None, &refusal))?);
        Ok(())
    }

    fn session(&mut self, security: Security) -> Session {
        match self.session.take() {
            Some(mut session) => {
                session.tls_started();
                session
            }
            None => {
                let login = if self.principal.is_some() { Login::Trusted } else { Login::Required };
                let mut session = Session::new(Arc::clone(&self.config), security, login);
                session.greet();
                session
            }
        }
    }
}

/// Serves a stream to its end, or until the client and we agreed on TLS: then both are given back, and the
/// session goes on over the protected stream.
pub(crate) async fn serve<S>(mut connection: Connection, mut stream: S, tls: bool) -> io::Result<Option<(Connection, S)>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let session = connection.session(if tls { Security::Tls } else { Security::Clear });
    let now = Instant::now();
    let mut patience = Patience::new(connection.door.deadlines, now.into_std());
    if connection.principal.is_some() {
        patience.signed_in();
    }
    let mut driver = Driver {
        session,
        patience,
        alarm: Box::pin(sleep_until(patience.until().into())),
        stopped: Box::pin(connection.stop.clone().cancelled_owned()),
        stopping: false,
        stream: &mut stream,
    };
    let start_tls = driver.run(&mut connection).await?;
    if start_tls {
        connection.session = Some(driver.session);
        return Ok(Some((connection, stream)));
    }
    Ok(None)
}

struct Driver<'a, S> {
    session: Session,
    patience: Patience,
    alarm: Pin<Box<Sleep>>,
    stopped: Pin<Box<WaitForCancellationFutureOwned>>,
    stopping: bool,
    stream: &'a mut S,
}

enum Event {
    Read(usize),
    Stop,
    Late,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<'_, S> {
    /// True when TLS is to begin, false when the connection is over.
    async fn run(&mut self, connection: &mut Connection) -> io::Result<bool> {
        loop {
            match self.session.next_action() {
                Action::NeedInput => {
                    if !self.read().await? {
                        return Ok(false);
                    }
                }
                Action::StartTls => {
                    self.flush().await?;
                    return Ok(true);
                }
                Action::Verify(credentials) => {
                    let verdict = tokio::select! {
                        verdict = connection.door.verify(&credentials, connection.peer) => verdict,
                        () = connection.stop.cancelled() => Err(stopping()),
                    };
                    self.patience.replied(Instant::now().into_std());
                    if verdict.is_ok() {
                        self.patience.signed_in();
                    }
                    self.session.verified(verdict.map(|principal| connection.principal = Some(principal)));
                }
                Action::Begin(size) => {
                    let verdict = match connection.principal {
                        Some(principal) => connection.door.begin(principal, connection.peer, size).await,
                        None => Err(nobody()),
                    };
                    self.session.begun(verdict);
                }
                Action::Piece(piece) => {
                    if let Err(reply) = connection.take(piece).await {
                        self.session.give_up(reply);
                    }
                }
                Action::Forget => connection.arrival = None,
                Action::Store(submission) => {
                    let arrival = connection.arrival.take();
                    let reply = match connection.principal {
                        Some(principal) => connection.door.store(submission, arrival, principal, connection.peer).await,
                        None => nobody(),
                    };
                    self.patience.turn(false, Instant::now().into_std());
                    self.session.stored(&reply);
                }
                Action::Close => {
                    self.flush().await?;
                    // The client may be gone already.
                    let _ = timeout(connection.door.deadlines.handshake, self.stream.shutdown()).await;
                    return Ok(false);
                }
            }
        }
    }

    /// Waits for bytes of the client. False when it has closed.
    async fn read(&mut self) -> io::Result<bool> {
        self.flush().await?;
        let in_data = self.session.in_data();
        self.patience.turn(in_data, Instant::now().into_std());
        if self.stopping && !in_data {
            self.session.end(&stopping());
            return Ok(true);
        }
        self.alarm.as_mut().reset(self.patience.until().into());
        match self.event(in_data).await? {
            Event::Read(0) => return Ok(false),
            Event::Read(bytes) => self.patience.received(bytes, in_data, Instant::now().into_std()),
            Event::Stop => {
                self.stopping = true;
                self.patience.stop(Instant::now().into_std());
            }
            Event::Late if self.stopping => {
                self.session.end(&stopping());
            }
            Event::Late => self.session.end(&Reply::new(421, (4, 4, 2), "you took too long; good bye")),
        }
        Ok(true)
    }

    async fn event(&mut self, in_data: bool) -> io::Result<Event> {
        let input = self.session.input();
        input.reserve(if in_data { DATA_ROOM } else { COMMAND_ROOM });
        tokio::select! {
            biased;
            () = &mut self.stopped, if !self.stopping => Ok(Event::Stop),
            read = self.stream.read_buf(input) => read.map(Event::Read),
            () = &mut self.alarm => Ok(Event::Late),
        }
    }

    /// Writes all replies that wait, in one write.
    async fn flush(&mut self) -> io::Result<()> {
        let output = self.session.output();
        if output.is_empty() {
            return Ok(());
        }
        let late = self.patience.until().max(Instant::now().into_std());
        self.alarm.as_mut().reset(late.into());
        let write = async {
            self.stream.write_all(output).await?;
            self.stream.flush().await
        };
        tokio::select! {
            biased;
            done = write => done?,
            () = &mut self.alarm => return Err(io::ErrorKind::TimedOut.into()),
        }
        output.clear();
        self.patience.replied(Instant::now().into_std());
        Ok(())
    }
}

/// The session lets nobody get as far as a message without signing in.
fn nobody() -> Reply {
    Reply::new(530, (5, 7, 0), "sign in first")
}

fn stopping() -> Reply {
    Reply::new(421, (4, 3, 2), "the gateway is stopping; try again later")
}
