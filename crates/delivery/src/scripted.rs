//! For tests: a next hop on loopback that follows a script and remembers what it saw, an authority
//! that makes certificates, and names with addresses that are known beforehand.

mod authority;
mod conversation;
mod fault;
mod io;

pub use authority::Authority;
pub use fault::{Fault, Point};

use crate::resolve::{LookupError, Names};
use futures_util::future::BoxFuture;
use mail::channel::TlsMode;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What a scripted next hop does.
#[derive(Clone)]
pub struct Script {
    /// How it protects connections.
    pub tls: TlsMode,
    /// For TLS; without it STARTTLS is not offered.
    pub server: Option<Arc<rustls::ServerConfig>>,
    /// Further lines of its EHLO reply.
    pub extensions: Vec<String>,
    /// It offers AUTH PLAIN and LOGIN, once protected or always if TLS is not used.
    pub auth: bool,
    /// What goes wrong, and where.
    pub fault: Option<(Point, Fault)>,
    /// It goes wrong in the first so many connections.
    pub faulty_connections: usize,
    /// And in a connection only after so many messages were taken there.
    pub after_messages: usize,
    /// Bytes that stand behind the reply to STARTTLS.
    pub injected: Vec<u8>,
    /// It takes in little that it has not read, so that a stall is noticed early. Slow for large messages.
    pub small_buffer: bool,
    /// Recipients it refuses, with the reply.
    pub refused: HashMap<String, String>,
}

impl Script {
    /// A next hop without TLS and login that takes everything.
    #[must_use]
    pub fn clear() -> Self {
        Self {
            tls: TlsMode::None,
            server: None,
            extensions: ["PIPELINING", "SIZE 50000000", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES"]
                .map(str::to_owned)
                .to_vec(),
            auth: false,
            fault: None,
            faulty_connections: usize::MAX,
            after_messages: 0,
            injected: Vec::new(),
            small_buffer: false,
            refused: HashMap::new(),
        }
    }

    /// A next hop that wants TLS and a login.
    #[must_use]
    pub fn protected(tls: TlsMode, server: Arc<rustls::ServerConfig>) -> Self {
        Self { tls, server: Some(server), auth: true, ..Self::clear() }
    }

    /// The same, with a fault.
    #[must_use]
    pub fn with_fault(self, point: Point, fault: Fault) -> Self {
        Self { fault: Some((point, fault)), ..self }
    }

    /// The same without an extension.
    #[must_use]
    pub fn without(mut self, extension: &str) -> Self {
        self.extensions.retain(|line| !line.starts_with(extension));
        self
    }
}

/// A message that the next hop took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The MAIL line.
    pub mail: String,
    /// The RCPT lines it accepted.
    pub recipients: Vec<String>,
    /// What came between 354 and the end of data, which is not in it, as it came: dots are still doubled.
    pub wire: Vec<u8>,
}

/// What the next hop saw so far.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Connections that were made.
    pub connections: usize,
    /// Command lines in order; of AUTH and its answers only the word.
    pub commands: Vec<String>,
    /// Bytes of messages, ends of data among them.
    pub data_bytes: usize,
    /// Ends of data.
    pub dots: usize,
    /// Messages it took, whatever it said afterwards.
    pub taken: Vec<Taken>,
    /// Reads that brought something, a measure of how many packets there were.
    pub reads: usize,
}

/// A next hop that runs until it is dropped.
pub struct Hop {
    address: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

struct State {
    script: Script,
    seen: Mutex<Seen>,
    changed: watch::Sender<u64>,
}

impl State {
    fn note(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.send_modify(|count| *count += 1);
    }
}

impl Hop {
    /// Starts one on a free port.
    pub async fn start(script: Script) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        if script.small_buffer {
            socket.set_recv_buffer_size(16 * 1024).expect("a buffer size");
        }
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let listener = socket.listen(128).expect("a listener");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State { script, seen: Mutex::default(), changed: watch::channel(0).0 });
        let task = tokio::spawn(accept(listener, Arc::clone(&state)));
        Self { address, state, task }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it saw so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.state.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until what it saw fulfils a condition.
    pub async fn until(&self, condition: impl Fn(&Seen) -> bool) {
        let mut changed = self.state.changed.subscribe();
        loop {
            changed.borrow_and_update();
            if condition(&self.seen()) {
                return;
            }
            changed.changed().await.expect("the state lives as long as the hop");
        }
    }
}

impl Drop for Hop {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    // Dropped, and with it every conversation, when the hop is.
    let mut conversations = tokio::task::JoinSet::new();
    let mut count = 0;
    while let Ok((stream, _)) = listener.accept().await {
        _ = stream.set_nodelay(true);
        count += 1;
        let faulty = count <= state.script.faulty_connections;
        state.note(|seen| seen.connections += 1);
        conversations.spawn(conversation::hold(stream, Arc::clone(&state), faulty));
        while conversations.try_join_next().is_some() {}
    }
}

/// Names whose addresses are known beforehand.
pub struct FixedNames(HashMap<String, Vec<IpAddr>>);

impl FixedNames {
    /// Names and their addresses.
    #[must_use]
    pub fn new(names: &[(&str, &[&str])]) -> Self {
        let address = |text: &&str| text.parse().expect("an address in a test");
        Self(names.iter().map(|(name, addresses)| ((*name).to_owned(), addresses.iter().map(address).collect())).collect())
    }
}

impl Names for FixedNames {
    fn lookup<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, LookupError>> {
        let found = self.0.get(name).cloned().ok_or(LookupError::NoAddress);
        Box::pin(async move { found })
    }
}
