//! A next hop that keeps what it takes, byte for byte, and behaves as told.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Result, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// A message that the next hop answered with 250, or was about to.
#[derive(Clone, Debug)]
pub struct Taken {
    /// The path in MAIL, without brackets.
    pub reverse_path: String,
    /// What stood behind it.
    pub parameters: String,
    /// The paths in RCPT, without brackets.
    pub recipients: Vec<String>,
    /// The message, doubled dots removed.
    pub bytes: Vec<u8>,
}

/// How the next hop behaves.
#[derive(Clone, Debug, Default)]
pub struct Manner {
    /// Connections are closed before the greeting.
    pub down: bool,
    /// Between the final dot and its reply.
    pub reply_delay: Duration,
    /// The reply to every final dot, instead of taking the message.
    pub refuse: Option<String>,
    /// Extensions that are not offered.
    pub without: Vec<&'static str>,
}

const EXTENSIONS: [&str; 5] = ["PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 52428800", "ENHANCEDSTATUSCODES"];

/// A capture server on a port of 127.0.0.1; it ends when it is dropped.
pub struct NextHop {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    manner: Manner,
    taken: Vec<Taken>,
    connections: HashMap<u64, TcpStream>,
    opened: u64,
    /// Transactions between MAIL and the reply to the final dot.
    transactions: usize,
    closing: bool,
}

impl NextHop {
    /// Starts one on a free port.
    ///
    /// # Panics
    /// No port can be had.
    #[must_use]
    pub fn start() -> Self {
        let port = crate::tools::free_port();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port was free");
        let address = listener.local_addr().expect("it has an address");
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        thread::spawn(move || theirs.admit_all(&listener));
        Self { address, shared }
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on it behaves like this. Connections end when it goes down.
    pub fn behave(&self, manner: Manner) {
        let mut state = self.shared.state();
        if manner.down {
            close_all(&state);
        }
        state.manner = manner;
    }

    /// How many connections were ever opened.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.shared.state().opened
    }

    /// How many connections are open now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.shared.state().connections.len()
    }

    /// How many messages were taken.
    #[must_use]
    pub fn count(&self) -> usize {
        self.shared.state().taken.len()
    }

    /// How many transactions have begun and not been answered.
    #[must_use]
    pub fn transactions(&self) -> usize {
        self.shared.state().transactions
    }

    /// Looks at what was taken.
    pub fn look<T>(&self, look: impl FnOnce(&[Taken]) -> T) -> T {
        look(&self.shared.state().taken)
    }

    /// Waits until what was taken is enough; false when it is not within `patience`.
    #[must_use]
    pub fn wait(&self, patience: Duration, mut enough: impl FnMut(&[Taken]) -> bool) -> bool {
        let until = Instant::now() + patience;
        let mut state = self.shared.state();
        while !enough(&state.taken) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// The first message for that recipient.
    ///
    /// # Panics
    /// None comes within half a minute.
    #[must_use]
    pub fn message_for(&self, recipient: &str) -> Taken {
        let find = |taken: &[Taken]| taken.iter().find(|message| message.recipients.iter().any(|to| to == recipient)).cloned();
        assert!(self.wait(Duration::from_secs(30), |taken| find(taken).is_some()), "nothing came for {recipient}");
        self.look(|taken| find(taken).expect("it was there"))
    }

    /// Waits until nobody is connected any more.
    ///
    /// # Panics
    /// Somebody stays for half a minute.
    pub fn wait_until_alone(&self) {
        let until = Instant::now() + Duration::from_secs(30);
        let mut state = self.shared.state();
        while !state.connections.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{} connections stay open", state.connections.len());
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for NextHop {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.closing = true;
        close_all(&state);
        drop(state);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

fn close_all(state: &State) {
    for stream in state.connections.values() {
        // It may be closed already.
        let _ = stream.shutdown(Shutdown::Both);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }

    fn admit_all(self: &Arc<Self>, listener: &TcpListener) {
        for stream in listener.incoming() {
            if self.state().closing {
                return;
            }
            let Ok(stream) = stream else { continue };
            let Ok(twin) = stream.try_clone() else { continue };
            let mut number = 0;
            self.change(|state| {
                state.opened += 1;
                number = state.opened;
                state.connections.insert(number, twin);
            });
            let shared = Arc::clone(self);
            thread::spawn(move || {
                // How a client's connection ends is its own business.
                let _ = shared.serve(stream);
                shared.change(|state| drop(state.connections.remove(&number)));
            });
        }
    }

    fn serve(&self, stream: TcpStream) -> Result<()> {
        let manner = self.state().manner.clone();
        if manner.down {
            return Ok(());
        }
        stream.set_nodelay(true)?;
        let mut session = Session {
            shared: self,
            reader: BufReader::with_capacity(64 * 1024, stream.try_clone()?),
            writer: stream,
            output: b"220 hop.example.net ESMTP\r\n".to_vec(),
            without: manner.without,
            transaction: None,
        };
        let result = session.run();
        session.forget();
        result
    }
}

struct Session<'a> {
    shared: &'a Shared,
    reader: BufReader<TcpStream>,
    writer: TcpStream,
    output: Vec<u8>,
    without: Vec<&'static str>,
    transaction: Option<Taken>,
}

impl Session<'_> {
    fn run(&mut self) -> Result<()> {
        loop {
            self.flush_when_idle()?;
            let mut line = Vec::new();
            if self.reader.read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
            match verb.as_str() {
                "EHLO" => self.offer(),
                "HELO" | "NOOP" => self.say("250 ok"),
                "MAIL" => self.mail(&line),
                "RCPT" => self.rcpt(&line),
                "DATA" => self.data()?,
                "BDAT" => self.chunk(&line)?,
                "RSET" => {
                    self.forget();
                    self.say("250 ok");
                }
                "QUIT" => {
                    self.say("221 bye");
                    return self.flush();
                }
                _ => self.say("500 what"),
            }
        }
    }

    fn say(&mut self, line: &str) {
        self.output.extend_from_slice(line.as_bytes());
        self.output.extend_from_slice(b"\r\n");
    }

    /// Replies to a pipelined batch go out together.
    fn flush_when_idle(&mut self) -> Result<()> {
        if self.reader.buffer().is_empty() { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.writer.write_all(&self.output)?;
        self.output.clear();
        Ok(())
    }

    fn offer(&mut self) {
        let offered = EXTENSIONS.iter().filter(|extension| !self.without.contains(extension));
        let lines: Vec<String> = offered.map(|extension| format!("250-{extension}")).collect();
        self.say("250-hop.example.net");
        for line in lines {
            self.say(&line);
        }
        self.say("250 HELP");
    }

    fn mail(&mut self, line: &str) {
        self.forget();
        let Some((path, parameters)) = path(line) else { return self.say("501 MAIL FROM:<path>") };
        self.transaction = Some(Taken { reverse_path: path, parameters, recipients: Vec::new(), bytes: Vec::new() });
        self.shared.change(|state| state.transactions += 1);
        self.say("250 2.1.0 ok");
    }

    fn rcpt(&mut self, line: &str) {
        match (path(line), &mut self.transaction) {
            (Some((path, _)), Some(transaction)) => {
                transaction.recipients.push(path);
                self.say("250 2.1.5 ok");
            }
            (None, _) => self.say("501 RCPT TO:<path>"),
            (_, None) => self.say("503 MAIL first"),
        }
    }

    fn data(&mut self) -> Result<()> {
        if self.transaction.as_ref().is_none_or(|transaction| transaction.recipients.is_empty()) {
            self.say("503 RCPT first");
            return Ok(());
        }
        self.say("354 go on");
        self.flush()?;
        let mut bytes = Vec::new();
        loop {
            let start = bytes.len();
            if self.reader.read_until(b'\n', &mut bytes)? == 0 {
                return Ok(());
            }
            let at_line_start = start == 0 || bytes[..start].ends_with(b"\r\n");
            if at_line_start && bytes[start..] == *b".\r\n" {
                bytes.truncate(start);
                return self.taken(bytes);
            }
            if at_line_start && bytes[start] == b'.' {
                bytes.remove(start);
            }
        }
    }

    fn chunk(&mut self, line: &str) -> Result<()> {
        let mut words = line.split_whitespace().skip(1);
        let size: usize = words.next().and_then(|size| size.parse().ok()).unwrap_or(0);
        let mut bytes = vec![0; size];
        self.reader.read_exact(&mut bytes)?;
        let last = words.next().is_some_and(|word| word.eq_ignore_ascii_case("LAST"));
        match &mut self.transaction {
            None => self.say("503 MAIL first"),
            Some(transaction) => {
                transaction.bytes.extend_from_slice(&bytes);
                if last {
                    let bytes = std::mem::take(&mut transaction.bytes);
                    return self.taken(bytes);
                }
                self.say("250 ok");
            }
        }
        Ok(())
    }

    /// The final dot is in: the message counts as taken before the reply leaves, as with any server.
    fn taken(&mut self, bytes: Vec<u8>) -> Result<()> {
        let manner = self.shared.state().manner.clone();
        if let Some(refusal) = manner.refuse {
            self.forget();
            self.say(&refusal);
            return Ok(());
        }
        if let Some(transaction) = &self.transaction {
            let message = Taken { bytes, ..transaction.clone() };
            self.shared.change(|state| state.taken.push(message));
        }
        if !manner.reply_delay.is_zero() {
            thread::sleep(manner.reply_delay);
        }
        self.say("250 2.0.0 taken");
        self.flush()?;
        self.forget();
        Ok(())
    }

    fn forget(&mut self) {
        if self.transaction.take().is_some() {
            self.shared.change(|state| state.transactions -= 1);
        }
    }
}

/// The path of MAIL or RCPT, and what stands behind it. A `>` in quotes ends no path.
fn path(line: &str) -> Option<(String, String)> {
    let (_, rest) = line.split_once('<')?;
    let (mut quoted, mut escaped) = (false, false);
    let end = rest.char_indices().find(|(_, c)| {
        let is_end = *c == '>' && !quoted;
        if *c == '"' && !escaped {
            quoted = !quoted;
        }
        escaped = *c == '\\' && !escaped;
        is_end
    });
    let (end, _) = end?;
    Some((rest[..end].to_owned(), rest[end + 1..].trim().to_owned()))
}
