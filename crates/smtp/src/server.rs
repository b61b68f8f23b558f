//! The server's side of a session (RFC 5321, RFC 6409): bytes in, replies and actions out.
//!
//! The session owns its input: a command split over two packets, two in one, or bytes that arrive
//! before TLS is up, are its business alone. Replies gather in [`Session::output`], so that those to a
//! pipelined batch go out in one write.

use crate::address::{ForwardPath, ReversePath};
use crate::command::{Command, CommandError, InitialResponse, MailParameters, RcptParameters};
use crate::data::{DataDecoder, LineEnds};
use crate::reply::Reply;
use crate::sasl::{Credentials, Exchange};
use bytes::BytesMut;
use std::sync::Arc;

mod login;
mod transaction;

/// Longest command line, in bytes. RFC 5321 §4.5.3.1.4 says 512 and extensions add to it.
pub const MAX_COMMAND: usize = 2048;
/// Longest line while signing in (RFC 4954 §4).
pub const MAX_AUTH_LINE: usize = 12_288;
/// Refused commands before the session is ended.
const MAX_ERRORS: u32 = 20;
/// Commands without a message before the session is ended.
const MAX_IDLE_COMMANDS: u32 = 1000;
/// Refused logins before the session is ended.
const MAX_LOGINS: u32 = 3;

/// What all sessions of a listener have in common.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The name in the greeting.
    pub hostname: String,
    /// Largest message, in bytes; announced as SIZE.
    pub max_message_size: u64,
    /// A message is held whole up to so many bytes, and given in pieces beyond: see [`Action::Piece`].
    pub whole_up_to: usize,
    /// Most recipients of one message.
    pub max_recipients: usize,
    /// STARTTLS may be offered.
    pub tls_available: bool,
    /// Announce DSN. Its parameters are read in any case.
    pub announce_dsn: bool,
}

/// Whether the connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// Clear text.
    Clear,
    /// TLS is up.
    Tls,
}

/// Who may submit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login {
    /// Whoever signs in, under TLS.
    Required,
    /// Whoever may connect.
    Trusted,
}

/// What the caller does next.
#[derive(Debug)]
pub enum Action {
    /// Write the output, then read more.
    NeedInput,
    /// Write the output, begin the TLS handshake, then call [`Session::tls_started`].
    StartTls,
    /// Check these, then call [`Session::verified`].
    Verify(Credentials),
    /// A message is announced, with its size in bytes where the client declared one (RFC 1870): say with
    /// [`Session::begun`] whether it may come.
    Begin(Option<u64>),
    /// Keep this part of the message that is coming in, behind those that came before; or say
    /// [`Session::give_up`]. [`Action::Store`] follows with the rest, or [`Action::Forget`].
    Piece(Vec<u8>),
    /// Forget the parts of the message that was coming in: it has been refused or given up.
    Forget,
    /// Store the message, then report the result with [`Session::stored`].
    Store(Submission),
    /// Write the output and close.
    Close,
}

/// A message as it came, with its envelope.
#[derive(Debug)]
pub struct Submission {
    /// The name given in EHLO or HELO.
    pub helo: String,
    /// The protocol for the Received line (RFC 3848, RFC 6531).
    pub protocol: Protocol,
    /// MAIL FROM.
    pub reverse_path: ReversePath,
    /// Its parameters.
    pub mail: MailParameters,
    /// RCPT TO, each mailbox once.
    pub recipients: Vec<(ForwardPath, RcptParameters)>,
    /// Bytes that came before as pieces.
    pub earlier: u64,
    /// The bytes, dots removed, behind those that came before.
    pub body: Vec<u8>,
}

/// How a message came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// EHLO was said.
    pub extended: bool,
    /// Under TLS.
    pub tls: bool,
    /// Signed in.
    pub authenticated: bool,
    /// SMTPUTF8 was asked for.
    pub utf8: bool,
}

impl Protocol {
    /// The name registered for `with` (RFC 3848, RFC 6531).
    #[must_use]
    pub fn name(self) -> &'static str {
        match (self.utf8, self.extended, self.tls, self.authenticated) {
            (true, _, true, true) => "UTF8SMTPSA",
            (true, _, true, false) => "UTF8SMTPS",
            (true, _, false, true) => "UTF8SMTPA",
            (true, _, false, false) => "UTF8SMTP",
            (false, true, true, true) => "ESMTPSA",
            (false, true, true, false) => "ESMTPS",
            (false, true, false, true) => "ESMTPA",
            (false, true, false, false) => "ESMTP",
            (false, false, ..) => "SMTP",
        }
    }
}

enum State {
    Command,
    Auth(Exchange),
    Data(DataDecoder),
    /// Bytes of a chunk that are still to come; kept or swallowed.
    Chunk {
        left: u64,
        last: bool,
        keep: bool,
    },
    /// The caller has been asked something.
    Waiting,
    HandShake,
    Closed,
}

/// Why a line is no command.
enum LineFault {
    /// Too long, or with a bare CR, a bare LF or a NUL.
    Ends,
    /// Neither ASCII nor UTF-8.
    Charset,
}

struct Transaction {
    reverse_path: ReversePath,
    mail: MailParameters,
    recipients: Vec<(ForwardPath, RcptParameters)>,
    /// Chunks so far, once BDAT was used.
    chunks: Option<Chunks>,
    /// Why it will be refused at its end; the rest is swallowed.
    spoiled: Option<Reply>,
}

/// What BDAT brought.
#[derive(Default)]
struct Chunks {
    held: Vec<u8>,
    /// Bytes that were handed over before.
    taken: u64,
    ends: LineEnds,
}

impl Chunks {
    fn length(&self) -> u64 {
        self.taken + self.held.len() as u64
    }
}

/// A message that was put off at MAIL.
struct PutOff {
    /// What was said of it.
    reply: Reply,
    /// Further recipients that are not counted as commands without a message.
    uncounted: usize,
}

/// One connection of a client.
pub struct Session {
    config: Arc<ServerConfig>,
    security: Security,
    login: Login,
    input: BytesMut,
    output: BytesMut,
    state: State,
    helo: Option<(String, bool)>,
    signed_in: bool,
    transaction: Option<Transaction>,
    /// What a client has sent behind a MAIL that was put off gets the same answer (RFC 2920 §3.1).
    put_off: Option<PutOff>,
    errors: u32,
    idle_commands: u32,
    failed_logins: u32,
    searched: usize,
    /// The caller has pieces of the message that is coming in.
    handed_over: bool,
}

impl Session {
    /// A new session; say [`Session::greet`] first.
    #[must_use]
    pub fn new(config: Arc<ServerConfig>, security: Security, login: Login) -> Self {
        Self {
            config,
            security,
            login,
            input: BytesMut::new(),
            output: BytesMut::new(),
            state: State::Command,
            helo: None,
            signed_in: false,
            transaction: None,
            put_off: None,
            errors: 0,
            idle_commands: 0,
            failed_logins: 0,
            searched: 0,
            handed_over: false,
        }
    }

    /// The opening 220.
    pub fn greet(&mut self) {
        let text = format!("{} ESMTP Sendero", self.config.hostname);
        self.reply(&Reply::plain(220, text));
    }

    /// Takes bytes of the client.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// Where a caller may read into, without a copy.
    pub fn input(&mut self) -> &mut BytesMut {
        &mut self.input
    }

    /// Replies that wait to be written.
    pub fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// True while a message's bytes are coming in.
    #[must_use]
    pub fn in_data(&self) -> bool {
        matches!(self.state, State::Data(_) | State::Chunk { .. })
    }

    /// True between MAIL and the end of the message.
    #[must_use]
    pub fn in_transaction(&self) -> bool {
        self.transaction.is_some() || self.in_data() || matches!(self.state, State::Waiting)
    }

    /// Ends the session with a last reply, as for a stop or a deadline.
    pub fn end(&mut self, reply: &Reply) {
        self.reply(reply);
        self.state = State::Closed;
    }

    /// The handshake is done: the session begins anew (RFC 3207 §4.2).
    pub fn tls_started(&mut self) {
        self.security = Security::Tls;
        self.input.clear();
        self.searched = 0;
        self.helo = None;
        self.forget();
        self.state = State::Command;
    }

    /// The answer to [`Action::Verify`].
    pub fn verified(&mut self, result: Result<(), Reply>) {
        match result {
            Ok(()) => {
                self.signed_in = true;
                self.reply(&Reply::new(235, (2, 7, 0), "signed in"));
                self.state = State::Command;
            }
            Err(reply) => {
                self.failed_logins += 1;
                self.reply(&reply);
                self.state = State::Command;
                if self.failed_logins >= MAX_LOGINS {
                    self.end(&Reply::new(421, (4, 7, 0), "too many refused logins"));
                }
            }
        }
    }

    /// The answer to [`Action::Begin`].
    pub fn begun(&mut self, result: Result<(), Reply>) {
        self.state = State::Command;
        match result {
            Ok(()) => self.reply(&Reply::new(250, (2, 1, 0), "ok")),
            Err(reply) => {
                self.transaction = None;
                if reply.is_transient() {
                    // Not an error of the client, and neither is what it has sent behind it.
                    self.reply(&reply);
                    self.put_off = Some(PutOff { reply, uncounted: self.config.max_recipients });
                } else {
                    self.refuse(&reply);
                }
            }
        }
    }

    /// The answer to [`Action::Store`].
    pub fn stored(&mut self, reply: &Reply) {
        self.idle_commands = 0;
        if reply.is_positive() {
            self.errors = 0;
        }
        self.reply(reply);
        self.state = State::Command;
    }

    /// The answer to [`Action::Piece`] when it cannot be kept: the rest of the message is swallowed, and refused so.
    pub fn give_up(&mut self, reply: Reply) {
        self.handed_over = false;
        match &mut self.state {
            State::Data(decoder) => decoder.discard(),
            State::Chunk { keep, .. } => *keep = false,
            _ => return,
        }
        if let Some(transaction) = &mut self.transaction {
            transaction.spoiled = Some(reply);
        }
    }

    /// True when the caller has pieces of a message that will not be stored.
    fn has_waste(&self) -> bool {
        let refused = match &self.state {
            State::Data(decoder) => decoder.is_refused(),
            State::Chunk { keep, .. } => !keep,
            _ => false,
        };
        self.handed_over && (refused || self.transaction.is_none())
    }

    /// The next thing to do; call until it is [`Action::NeedInput`].
    pub fn next_action(&mut self) -> Action {
        loop {
            if self.has_waste() {
                self.handed_over = false;
                return Action::Forget;
            }
            let action = match std::mem::replace(&mut self.state, State::Command) {
                State::Command => self.command(),
                State::Auth(exchange) => self.auth_line(exchange),
                State::Data(decoder) => self.data(decoder),
                State::Chunk { left, last, keep } => self.chunk(left, last, keep),
                State::Waiting => {
                    self.state = State::Waiting;
                    Some(Action::NeedInput)
                }
                State::HandShake => {
                    self.state = State::HandShake;
                    Some(Action::StartTls)
                }
                State::Closed => {
                    self.state = State::Closed;
                    Some(Action::Close)
                }
            };
            if let Some(action) = action {
                return action;
            }
        }
    }

    fn reply(&mut self, reply: &Reply) {
        reply.encode(&mut self.output);
    }

    /// There is no message under way, and none was put off.
    fn forget(&mut self) {
        self.transaction = None;
        self.put_off = None;
    }

    /// No message is under way: `refusal`, or what was said of the one that was put off.
    fn refuse_without_message(&mut self, refusal: &Reply) {
        match &self.put_off {
            Some(put_off) => put_off.reply.encode(&mut self.output),
            None => self.refuse(refusal),
        }
    }

    fn refuse(&mut self, reply: &Reply) {
        self.reply(reply);
        self.errors += 1;
        if self.errors >= MAX_ERRORS {
            self.end(&Reply::new(421, (4, 7, 0), "too many refused commands"));
        }
    }

    /// Takes the next line off the input. The outer `None` means that more input is needed.
    fn line(&mut self, most: usize) -> Option<Result<String, LineFault>> {
        let end = memchr::memchr(b'\n', &self.input[self.searched..]).map(|at| at + self.searched);
        let Some(end) = end else {
            self.searched = self.input.len();
            // The last byte may be the CR of a line that just fits.
            return (self.input.len() > most + 1).then_some(Err(LineFault::Ends));
        };
        self.searched = 0;
        let line = self.input.split_to(end + 1);
        let text = line.strip_suffix(b"\r\n").filter(|text| text.len() <= most && memchr::memchr2(0, b'\r', text).is_none());
        let Some(text) = text else {
            return Some(Err(LineFault::Ends));
        };
        Some(std::str::from_utf8(text).map(str::to_owned).map_err(|_| LineFault::Charset))
    }

    fn bad_line(&mut self, fault: LineFault) {
        match fault {
            LineFault::Ends => {
                self.end(&Reply::new(500, (5, 5, 2), "a command is a line, not too long, that ends with CRLF; good bye"))
            }
            LineFault::Charset => self.refuse(&Reply::new(500, (5, 5, 2), "a command is written in ASCII or UTF-8")),
        }
    }

    /// The longest line that is read now: AUTH is told by its first letters, as far as they are there.
    fn most(&self) -> usize {
        let verb = &self.input[..self.input.len().min(5)];
        if verb.eq_ignore_ascii_case(b"AUTH ") { MAX_AUTH_LINE } else { MAX_COMMAND }
    }

    fn command(&mut self) -> Option<Action> {
        let line = match self.line(self.most()) {
            None => return Some(Action::NeedInput),
            Some(Err(fault)) => {
                self.bad_line(fault);
                return None;
            }
            Some(Ok(line)) => line,
        };
        self.idle_commands += 1;
        if self.idle_commands > MAX_IDLE_COMMANDS {
            self.end(&Reply::new(421, (4, 7, 0), "too many commands without a message"));
            return None;
        }
        match Command::parse(&line) {
            Ok(command) => self.obey(command),
            Err(CommandError::Syntax(usage)) if line.get(..4).is_some_and(|verb| verb.eq_ignore_ascii_case("BDAT")) => {
                // How many bytes follow is not known, and they must not be read as commands.
                self.end(&Reply::from(&CommandError::Syntax(usage)));
                None
            }
            Err(error) => {
                if line.get(..4).is_some_and(|verb| verb.eq_ignore_ascii_case("MAIL")) {
                    self.put_off = None;
                }
                let reply = match (&error, line.split(' ').next().map(str::to_ascii_uppercase).as_deref()) {
                    (CommandError::Unknown, Some("EXPN" | "TURN" | "ETRN" | "SEND" | "SOML" | "SAML")) => {
                        Reply::new(502, (5, 5, 1), "not offered here")
                    }
                    _ => Reply::from(&error),
                };
                self.refuse(&reply);
                None
            }
        }
    }

    fn obey(&mut self, command: Command) -> Option<Action> {
        match command {
            Command::Ehlo(name) => self.ehlo(name),
            Command::Helo(name) => {
                self.forget();
                self.helo = Some((name, false));
                self.reply(&Reply::plain(250, self.config.hostname.clone()));
            }
            Command::Mail(path, parameters) => return self.mail(path, parameters),
            Command::Rcpt(path, parameters) => self.rcpt(path, parameters),
            Command::Data => self.begin_data(),
            Command::Bdat { size, last } => self.begin_chunk(size, last),
            Command::Rset => {
                self.forget();
                self.reply(&Reply::new(250, (2, 0, 0), "forgotten"));
            }
            Command::Noop => self.reply(&Reply::new(250, (2, 0, 0), "ok")),
            Command::Vrfy => self.reply(&Reply::new(252, (2, 5, 0), "send some mail, and see")),
            Command::Help => self.reply(&Reply::new(214, (2, 0, 0), "this is a submission server (RFC 6409)")),
            Command::Quit => self.end(&Reply::new(221, (2, 0, 0), "good bye")),
            Command::Auth { mechanism, initial } => return self.auth(&mechanism, initial.as_ref().map(InitialResponse::as_str)),
            Command::StartTls => self.starttls(),
            Command::Http => self.state = State::Closed,
        }
        None
    }

    fn ehlo(&mut self, name: String) {
        self.forget();
        self.helo = Some((name, true));
        let size = format!("SIZE {}", self.config.max_message_size);
        let mut lines =
            vec![self.config.hostname.as_str(), "PIPELINING", &size, "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "CHUNKING"];
        if self.config.announce_dsn {
            lines.push("DSN");
        }
        if self.may_start_tls() {
            lines.push("STARTTLS");
        }
        if self.may_sign_in() {
            lines.push("AUTH PLAIN LOGIN");
        }
        let reply = Reply::plain(250, lines.join("\n"));
        self.reply(&reply);
    }

    fn may_start_tls(&self) -> bool {
        self.config.tls_available && self.security == Security::Clear
    }

    fn may_sign_in(&self) -> bool {
        self.login == Login::Required && self.security == Security::Tls && !self.signed_in
    }

    fn starttls(&mut self) {
        if self.security == Security::Tls {
            return self.refuse(&Reply::new(503, (5, 5, 1), "TLS is up already"));
        }
        if !self.config.tls_available {
            return self.refuse(&Reply::new(502, (5, 5, 1), "TLS is not offered here"));
        }
        self.reply(&Reply::new(220, (2, 0, 0), "go ahead"));
        // Whatever is behind the command was sent in clear, perhaps by somebody else.
        self.input.clear();
        self.searched = 0;
        self.state = State::HandShake;
    }
}

#[cfg(test)]
mod tests;
