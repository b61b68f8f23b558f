//! Submission listeners: who may connect where, and how a connection begins.

use crate::accept::Principal;
use crate::caps::{Full, Seat};
use crate::connection::{Connection, serve};
use crate::door::Door;
use crate::network::Network;
use smtp::Reply;
use smtp::server::ServerConfig;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bind {
    /// An address and a port; port 0 is one the system chooses.
    Tcp(SocketAddr),
    /// A path. A socket that nobody listens on any more is replaced.
    Unix(PathBuf),
}

/// What protects a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Clear text that may become TLS (RFC 3207).
    Starttls,
    /// TLS from the first byte (RFC 8314).
    Implicit,
    /// Nothing: for programs on this host.
    Clear,
}

/// Who may submit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// Whoever signs in, under TLS.
    Required,
    /// Whoever may connect, with the rights of one person.
    Trusted {
        /// TCP peers must be in one of these.
        networks: Vec<Network>,
        /// The address of the person whose rights are used.
        person: String,
        /// On a Unix socket: every user of this host, and not only our own and root.
        every_user: bool,
    },
}

/// A submission listener as the operator wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where.
    pub bind: Bind,
    /// How protected.
    pub mode: Mode,
    /// For whom.
    pub login: Login,
}

/// A listener that has its address.
pub struct Bound {
    socket: Socket,
    mode: Mode,
    login: Login,
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug)]
enum Peer {
    Address(IpAddr),
    User(u32),
}

impl Listener {
    /// Takes the address.
    ///
    /// # Errors
    /// It is taken, or may not be used. A login over a listener without TLS is `InvalidInput`: there
    /// would be no way to sign in.
    pub async fn bind(self) -> io::Result<Bound> {
        if self.login == Login::Required && (self.mode == Mode::Clear || matches!(self.bind, Bind::Unix(_))) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "nobody can sign in without TLS: use tls = \"starttls\" or \"implicit\" over TCP, or name the trusted networks and the person",
            ));
        }
        let socket = match self.bind {
            Bind::Tcp(address) => Socket::Tcp(TcpListener::bind(address).await?),
            Bind::Unix(path) => Socket::Unix(bind_unix(&path, &self.login)?, path),
        };
        Ok(Bound { socket, mode: self.mode, login: self.login })
    }
}

fn bind_unix(path: &Path, login: &Login) -> io::Result<UnixListener> {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|there| there.file_type().is_socket());
    let abandoned =
        || std::os::unix::net::UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    if is_socket && abandoned() {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    let mode = if matches!(login, Login::Trusted { every_user: true, .. }) { 0o666 } else { 0o600 };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

impl Bound {
    /// The address it got; `None` for a Unix socket.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.socket {
            Socket::Tcp(listener) => listener.local_addr().ok(),
            Socket::Unix(..) => None,
        }
    }

    /// Serves connections, one task each, until `stop` is cancelled and the last of them has ended.
    ///
    /// After the stop no connection is let in, an idle one is told `421 4.3.2`, and one in the middle of
    /// a message may finish it within [`Deadlines::stop`](crate::Deadlines).
    pub async fn serve(self, door: Arc<Door>, stop: CancellationToken) {
        let settings = door.intake.settings();
        let config = Arc::new(ServerConfig {
            hostname: settings.hostname.clone(),
            max_message_size: settings.max_message_size,
            whole_up_to: store::WHOLE_UP_TO,
            max_recipients: settings.max_recipients,
            tls_available: self.mode == Mode::Starttls,
            announce_dsn: true,
        });
        let Self { socket, mode, login } = self;
        let entrance = Entrance { door, config, mode, login, stop, tasks: TaskTracker::new() };
        tokio::select! {
            () = entrance.stop.cancelled() => {}
            () = entrance.admit_all(&socket) => {}
        }
        if let Socket::Unix(_, path) = &socket {
            // It may have been removed by somebody else.
            let _ = std::fs::remove_file(path);
        }
        drop(socket);
        entrance.tasks.close();
        entrance.tasks.wait().await;
    }
}

struct Entrance {
    door: Arc<Door>,
    config: Arc<ServerConfig>,
    mode: Mode,
    login: Login,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Entrance {
    async fn admit_all(&self, socket: &Socket) {
        loop {
            if let Err(error) = self.admit_next(socket).await {
                // Out of file descriptors, most likely: connections that end will free some.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    async fn admit_next(&self, socket: &Socket) -> io::Result<()> {
        match socket {
            Socket::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                let _ = stream.set_nodelay(true);
                self.admit_tcp(stream, address.ip().to_canonical());
            }
            Socket::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                self.admit_unix(stream);
            }
        }
        Ok(())
    }

    fn admit_tcp(&self, stream: TcpStream, address: IpAddr) {
        match self.judge(Peer::Address(address)) {
            Err(reply) => {
                // Behind implicit TLS there is nobody yet who could read it.
                if self.mode != Mode::Implicit {
                    let _ = stream.try_write(&reply.to_bytes());
                }
            }
            Ok((seat, principal)) => {
                let connection = self.connection(Some(address), principal);
                self.begin(seat, serve_tcp(connection, stream, self.mode));
            }
        }
    }

    fn admit_unix(&self, stream: UnixStream) {
        let verdict = match stream.peer_cred() {
            Ok(peer) => self.judge(Peer::User(peer.uid())),
            Err(_) => Err(not_trusted()),
        };
        match verdict {
            Err(reply) => drop(stream.try_write(&reply.to_bytes())),
            Ok((seat, principal)) => {
                let connection = self.connection(None, principal);
                self.begin(seat, async move { serve(connection, stream, false).await.map(drop) });
            }
        }
    }

    fn connection(&self, peer: Option<IpAddr>, principal: Option<Principal>) -> Connection {
        Connection::new(Arc::clone(&self.door), Arc::clone(&self.config), peer, principal, self.stop.clone())
    }

    /// Whether a connection is let in, and for whom it speaks when nobody needs to sign in.
    fn judge(&self, peer: Peer) -> Result<(Seat, Option<Principal>), Reply> {
        let verdict = self.trusted(peer).and_then(|principal| self.seat(peer).map(|seat| (seat, principal)));
        if let Err(reply) = &verdict {
            self.door.intake.counters().turned_away();
            tracing::info!(?peer, reply = %reply, "connection turned away");
        }
        verdict
    }

    fn trusted(&self, peer: Peer) -> Result<Option<Principal>, Reply> {
        let Login::Trusted { networks, person, every_user } = &self.login else { return Ok(None) };
        let known = match peer {
            Peer::Address(address) => networks.iter().any(|network| network.contains(address)),
            Peer::User(uid) => *every_user || uid == 0 || uid == rustix::process::geteuid().as_raw(),
        };
        if !known {
            return Err(not_trusted());
        }
        let directory = self.door.intake.people().directory();
        match directory.person_by_address(person).filter(|person| !person.disabled) {
            Some(person) => Ok(Some(Principal { person: person.id, token: None })),
            None => {
                tracing::warn!(%person, "the person of a trusted listener is not in the directory, or disabled");
                Err(Reply::new(421, (4, 3, 5), "this listener is not set up; ask its administrator"))
            }
        }
    }

    /// A place among the open connections. Trusted peers are not counted by address: they are few and many-handed.
    fn seat(&self, peer: Peer) -> Result<Seat, Reply> {
        let counted = match (peer, &self.login) {
            (Peer::Address(address), Login::Required) => Some(address),
            _ => None,
        };
        self.door.caps.admit(counted).map_err(|full| match full {
            Full::Total => Reply::new(421, (4, 7, 0), "too many connections; try again later"),
            Full::Address => Reply::new(421, (4, 7, 0), "too many connections from your address; close some"),
        })
    }

    fn begin(&self, seat: Seat, work: impl Future<Output = io::Result<()>> + Send + 'static) {
        let counters = Arc::clone(self.door.intake.counters());
        counters.opened();
        self.tasks.spawn(async move {
            if let Err(error) = work.await {
                tracing::debug!(%error, "connection broke");
            }
            counters.closed();
            drop(seat);
        });
    }
}

fn not_trusted() -> Reply {
    Reply::new(550, (5, 7, 1), "you are not in a network that this listener trusts")
}

async fn serve_tcp(connection: Connection, stream: TcpStream, mode: Mode) -> io::Result<()> {
    let handshake = match mode {
        Mode::Implicit => Some((connection, stream)),
        Mode::Starttls | Mode::Clear => serve(connection, stream, false).await?,
    };
    let Some((mut connection, stream)) = handshake else { return Ok(()) };
    let stream = connection.handshake(stream).await?;
    serve(connection, stream, true).await.map(drop)
}
