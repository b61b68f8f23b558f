//! The client side of SMTP: one connection to a next hop, as a value.
//!
//! Bytes go in by [`Session::receive`], bytes to write come out of [`Session::output`], and
//! [`Session::next_action`] says what the caller has to do. A transaction goes like this:
//!
//! 1. [`Session::begin`] puts MAIL, RCPT and DATA into the output: in one group where the next
//!    hop offers PIPELINING (RFC 2920), one after the other's reply where it does not.
//! 2. At [`ClientAction::Body`] the caller writes the message, dot-stuffed by
//!    [`stuffed`](crate::data::stuffed): to the connection after the output, or into the output.
//! 3. [`Session::finish`] puts the final dot into the output. Until then the next hop cannot
//!    have the message; a caller that must record its intent first does so before this call.
//! 4. [`ClientAction::Done`] carries a verdict for each recipient.
//!
//! Where the next hop offers PIPELINING, the next transaction may begin right after `finish`,
//! so that the final dot and the next MAIL leave in one write.
//!
//! Connecting, TLS handshakes, deadlines and the choice of what to send belong to the caller.

mod capabilities;
#[doc(hidden)]
pub mod fuzzing;
mod opening;
mod result;
#[cfg(test)]
mod tests;
mod transaction;

pub use capabilities::Capabilities;
pub use result::{BeginError, SessionError, Stage, TransactionResult, Verdict};
pub use transaction::{Recipient, Transaction};

use crate::reply::{Reply, ReplyReader};
use crate::sasl::{Credentials, Mechanism};
use bytes::BytesMut;
use opening::AuthStep;
use std::collections::VecDeque;
use std::sync::Arc;
use transaction::Open;

/// Most commands whose replies are outstanding, so that neither side waits for the other with full buffers.
const WINDOW: usize = 100;

const DATA: &[u8] = b"DATA\r\n";

/// How to open a session.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Our name in EHLO: a domain or an address literal.
    pub ehlo_name: String,
    /// When the connection is encrypted.
    pub tls: Tls,
    /// Sign in with these; `None` for a next hop that wants no login.
    pub auth: Option<Auth>,
    /// Sign in even without TLS. Only for a channel that was explicitly allowed this.
    pub login_in_clear: bool,
}

/// When the connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// From the first byte (RFC 8314 §3.3): the session is made after the handshake.
    Implicit,
    /// By STARTTLS (RFC 3207), without which the session fails.
    StartTls,
    /// Never.
    Clear,
}

/// A login. The secret does not appear in its `Debug` form.
#[derive(Clone, Debug)]
pub struct Auth {
    /// Only this mechanism; `None` takes PLAIN where offered, else LOGIN.
    pub mechanism: Option<Mechanism>,
    /// User name and secret.
    pub credentials: Credentials,
}

/// What the caller has to do. Whatever it is, what is in the output is written first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientAction {
    /// Write the output, then read: [`Session::receive`] or [`Session::closed`].
    NeedInput,
    /// Do the TLS handshake, then call [`Session::tls_started`].
    StartTls,
    /// Nothing is under way: [`Session::begin`] or [`Session::quit`].
    Ready,
    /// Write the message, then call [`Session::finish`]. Said again until then.
    Body,
    /// A transaction has ended.
    Done(TransactionResult),
    /// The session is over: close the connection. Said again at every further call.
    Failed(SessionError),
    /// The session ended by [`Session::quit`] or [`Session::abandon`]: close the connection.
    Closed,
}

/// A reply that is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Greeting,
    Ehlo,
    Helo,
    StartTls,
    Auth(AuthStep),
    Mail,
    /// By the recipient's position in the transaction.
    Rcpt(usize),
    Data,
    FinalDot,
    /// The end of data after a 354 although all recipients were refused.
    LoneDot,
    Rset,
    Quit,
}

impl Expect {
    fn stage(self) -> Stage {
        match self {
            Self::Greeting => Stage::Greeting,
            Self::Ehlo | Self::Helo => Stage::Ehlo,
            Self::StartTls => Stage::StartTls,
            Self::Auth(_) => Stage::Auth,
            Self::Mail => Stage::Mail,
            Self::Rcpt(_) => Stage::Rcpt,
            Self::Data | Self::LoneDot => Stage::Data,
            Self::FinalDot => Stage::FinalDot,
            Self::Rset | Self::Quit => Stage::Quit,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// Greeting, EHLO, STARTTLS, AUTH.
    Opening,
    /// The caller does the handshake.
    Handshake,
    /// Ready for transactions, or within one.
    Open,
    /// The next hop waits for the message.
    Body,
    Quitting,
    Closed,
    Failed(SessionError),
}

/// One connection to a next hop, from the greeting on.
pub struct Session {
    config: Arc<ClientConfig>,
    secure: bool,
    capabilities: Capabilities,
    reader: ReplyReader,
    output: BytesMut,
    /// Replies awaited, in order.
    expected: VecDeque<Expect>,
    /// Commands not yet sent: what each awaits, and its length in `held`.
    waiting: VecDeque<(Expect, usize)>,
    held: BytesMut,
    /// The transaction under way, and perhaps one that was begun behind its final dot.
    open: VecDeque<Open>,
    done: VecDeque<TransactionResult>,
    phase: Phase,
}

/// Without buffers, as they may hold credentials and messages.
impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("phase", &self.phase)
            .field("secure", &self.secure)
            .field("capabilities", &self.capabilities)
            .field("expected", &self.expected)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// A session on a connection that is open, and with [`Tls::Implicit`] is encrypted already.
    /// It waits for the greeting.
    #[must_use]
    pub fn new(config: Arc<ClientConfig>) -> Self {
        Self {
            secure: config.tls == Tls::Implicit,
            config,
            capabilities: Capabilities::default(),
            reader: ReplyReader::new(),
            output: BytesMut::new(),
            expected: VecDeque::from([Expect::Greeting]),
            waiting: VecDeque::new(),
            held: BytesMut::new(),
            open: VecDeque::new(),
            done: VecDeque::new(),
            phase: Phase::Opening,
        }
    }

    /// Bytes to write; the caller takes them out. A caller at [`ClientAction::Body`] may add the message.
    pub fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// What the next hop offered last.
    #[must_use]
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// True over TLS.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// What is awaited now, for the choice of a deadline. [`Stage::Quit`] when nothing is.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match &self.phase {
            Phase::Handshake => Stage::Tls,
            Phase::Body => Stage::Body,
            Phase::Failed(error) => error.stage(),
            Phase::Opening | Phase::Open | Phase::Quitting | Phase::Closed => {
                self.expected.front().map_or(Stage::Quit, |expect| expect.stage())
            }
        }
    }

    /// What the caller has to do now.
    pub fn next_action(&mut self) -> ClientAction {
        if let Some(result) = self.done.pop_front() {
            return ClientAction::Done(result);
        }
        match &self.phase {
            Phase::Handshake => ClientAction::StartTls,
            Phase::Body => ClientAction::Body,
            Phase::Open if self.is_idle() => ClientAction::Ready,
            Phase::Opening | Phase::Open | Phase::Quitting => ClientAction::NeedInput,
            Phase::Closed => ClientAction::Closed,
            Phase::Failed(error) => ClientAction::Failed(error.clone()),
        }
    }

    /// Takes bytes as they were read.
    pub fn receive(&mut self, bytes: &[u8]) {
        if self.phase == Phase::Handshake && !bytes.is_empty() {
            self.fail(SessionError::Injected);
        }
        if self.is_over() {
            return;
        }
        self.reader.receive(bytes);
        while !self.is_over() && self.phase != Phase::Handshake {
            match self.reader.next_reply() {
                Ok(None) => break,
                Ok(Some(reply)) => self.judge(reply),
                Err(error) => self.fail(SessionError::BadReply(self.stage(), error)),
            }
            self.send_waiting();
        }
    }

    /// The connection has ended, by whatever side or fault.
    pub fn closed(&mut self) {
        self.fail(SessionError::Lost(self.stage()));
    }

    /// The handshake is done; everything after it is encrypted.
    pub fn tls_started(&mut self) {
        if self.phase != Phase::Handshake {
            return;
        }
        self.secure = true;
        self.phase = Phase::Opening;
        self.say_ehlo();
    }

    /// True if [`Session::begin`] may be called: nothing is under way but perhaps RSET, or,
    /// with PIPELINING, one final reply is awaited.
    #[must_use]
    pub fn may_begin(&self) -> bool {
        let free = match self.open.back() {
            None => true,
            Some(last) => self.open.len() == 1 && last.dot_sent && self.capabilities.pipelining,
        };
        self.phase == Phase::Open && free
    }

    /// Begins a transaction. Its end is a [`ClientAction::Done`], whatever happens.
    ///
    /// # Errors
    /// When the next hop cannot take such a message, as its EHLO reply showed, or it is not the
    /// time for a transaction. Nothing is sent then and the session is as before.
    pub fn begin(&mut self, transaction: &Transaction<'_>) -> Result<(), BeginError> {
        if !self.may_begin() {
            return Err(BeginError::NotReady);
        }
        transaction.check(&self.capabilities)?;
        self.open.push_back(Open::new(transaction.recipients.len()));
        transaction.write_mail(&self.capabilities, &mut self.held);
        self.waiting.push_back((Expect::Mail, self.held.len()));
        for (position, recipient) in transaction.recipients.iter().enumerate() {
            let before = self.held.len();
            transaction.write_rcpt(recipient, &self.capabilities, &mut self.held);
            self.waiting.push_back((Expect::Rcpt(position), self.held.len() - before));
        }
        self.held.extend_from_slice(DATA);
        self.waiting.push_back((Expect::Data, DATA.len()));
        self.send_waiting();
        Ok(())
    }

    /// Ends the message: puts the final dot into the output. Does nothing unless the session is
    /// at [`ClientAction::Body`], so a session that failed meanwhile sends none.
    pub fn finish(&mut self) {
        if self.phase != Phase::Body {
            return;
        }
        self.phase = Phase::Open;
        if self.ask(Expect::FinalDot, b".\r\n")
            && let Some(open) = self.open.front_mut()
        {
            open.dot_sent = true;
        }
    }

    /// Gives the session up at once: nothing more is to be written, and no results are reported.
    /// The way out of a message whose final dot must not be sent.
    pub fn abandon(&mut self) {
        self.drop_plans();
        self.open.clear();
        self.done.clear();
        self.phase = Phase::Closed;
    }

    /// Says QUIT when nothing is under way; gives the session up otherwise. Then write the
    /// output, and read until [`ClientAction::Closed`] or until patience ends.
    pub fn quit(&mut self) {
        if self.is_over() {
            return;
        }
        if self.phase != Phase::Open || !self.open.is_empty() {
            return self.abandon();
        }
        self.phase = Phase::Quitting;
        self.output.extend_from_slice(b"QUIT\r\n");
        self.expected.push_back(Expect::Quit);
    }

    fn is_idle(&self) -> bool {
        self.open.is_empty() && self.expected.is_empty()
    }

    fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Closed | Phase::Failed(_))
    }

    fn drop_plans(&mut self) {
        self.output.clear();
        self.held.clear();
        self.waiting.clear();
        self.expected.clear();
    }

    /// Ends the session and every transaction in it.
    fn fail(&mut self, error: SessionError) {
        if self.is_over() {
            return;
        }
        self.drop_plans();
        if self.phase == Phase::Quitting {
            self.phase = Phase::Closed;
            return;
        }
        self.done.extend(self.open.drain(..).map(|open| open.end(&error)));
        self.phase = Phase::Failed(error);
    }

    /// Sends as many of the waiting commands as the next hop may get without having replied.
    fn send_waiting(&mut self) {
        let window = if self.capabilities.pipelining { WINDOW } else { 1 };
        while self.expected.len() < window {
            let Some((expect, length)) = self.waiting.pop_front() else { return };
            let command = self.held.split_to(length);
            if !self.ask(expect, &command) {
                return;
            }
        }
    }

    /// Sends a command and awaits its reply; false if the session ended instead.
    ///
    /// When no reply is outstanding, none may have come: it would pass for the reply to this
    /// command, and all that follow would be taken for one another's.
    fn ask(&mut self, expect: Expect, command: &[u8]) -> bool {
        if self.expected.is_empty() && !self.reader.is_empty() {
            match self.reader.next_reply() {
                Ok(Some(reply)) if reply.code() == 421 => self.close_by(expect.stage(), reply),
                _ => self.fail(SessionError::Unasked(expect.stage())),
            }
            return false;
        }
        self.output.extend_from_slice(command);
        self.expected.push_back(expect);
        true
    }

    fn judge(&mut self, reply: Reply) {
        let Some(expect) = self.expected.pop_front() else { return self.judge_unasked(reply) };
        if self.phase == Phase::Quitting {
            if expect == Expect::Quit {
                self.phase = Phase::Closed;
            }
            return;
        }
        if reply.code() == 421 {
            return self.close_by(expect.stage(), reply);
        }
        match expect {
            Expect::Greeting | Expect::Ehlo | Expect::Helo | Expect::StartTls => self.judge_opening(expect, reply),
            Expect::Auth(step) => self.judge_auth(step, reply),
            Expect::Quit => self.phase = Phase::Closed,
            // Nothing else in a session is answered by 3xx.
            _ if reply.is_intermediate() && expect != Expect::Data => self.fail(SessionError::Unexpected(expect.stage(), reply)),
            Expect::Rset if reply.is_positive() => {}
            Expect::Rset => self.fail(SessionError::Refused(Stage::Quit, reply)),
            Expect::Mail => self.judge_mail(reply),
            Expect::Rcpt(position) => self.judge_rcpt(position, reply),
            Expect::Data => self.judge_data(reply),
            Expect::LoneDot => self.conclude(),
            Expect::FinalDot => self.judge_final(reply),
        }
    }

    /// A reply while none is awaited.
    fn judge_unasked(&mut self, reply: Reply) {
        let stage = self.stage();
        if reply.code() == 421 {
            return self.close_by(stage, reply);
        }
        // A next hop that refuses in the middle of the message means the message.
        if self.phase == Phase::Body && (reply.is_transient() || reply.is_permanent()) {
            self.decide(&Verdict::Refused(stage, reply.clone()));
        }
        self.fail(SessionError::Unexpected(stage, reply));
    }

    /// 421: the transaction under way is refused by it, and the session is over.
    fn close_by(&mut self, stage: Stage, reply: Reply) {
        if stage != Stage::Quit {
            self.decide(&Verdict::Refused(stage, reply.clone()));
        }
        self.fail(SessionError::Closing(stage, reply));
    }

    /// The verdict for all recipients of the transaction under way that have none.
    fn decide(&mut self, verdict: &Verdict) {
        if let Some(open) = self.open.front_mut() {
            open.decide(verdict);
        }
    }

    fn judge_mail(&mut self, reply: Reply) {
        if reply.is_positive() {
            if let Some(open) = self.open.front_mut() {
                open.mail_accepted = true;
            }
            return;
        }
        self.decide(&Verdict::Refused(Stage::Mail, reply));
        self.conclude_early();
    }

    fn judge_rcpt(&mut self, position: usize, reply: Reply) {
        if !reply.is_positive()
            && let Some(open) = self.open.front_mut()
        {
            open.refuse_one(position, reply);
        }
        self.conclude_early();
    }

    fn judge_data(&mut self, reply: Reply) {
        let (accepted, decided) = self.open.front().map_or((false, true), |open| (open.mail_accepted, open.is_decided()));
        match reply.code() / 100 {
            3 if accepted && !decided => self.phase = Phase::Body,
            // RFC 2920 §3.1: end the data at once, which fails as nobody is to get it.
            3 if accepted => _ = self.ask(Expect::LoneDot, b".\r\n"),
            // Without a transaction nobody knows what a lone dot would send to whom.
            2 | 3 => self.fail(SessionError::Unexpected(Stage::Data, reply)),
            _ => {
                self.decide(&Verdict::Refused(Stage::Data, reply));
                self.conclude_and_reset();
            }
        }
    }

    fn judge_final(&mut self, reply: Reply) {
        let verdict = if reply.is_positive() { Verdict::Accepted(reply) } else { Verdict::Refused(Stage::FinalDot, reply) };
        self.decide(&verdict);
        self.conclude();
    }

    /// Leaves DATA unsaid when nobody is left to send to, once the replies to what was said are in.
    fn conclude_early(&mut self) {
        if !self.open.front().is_some_and(Open::is_decided) {
            return;
        }
        self.waiting.clear();
        self.held.clear();
        if self.expected.is_empty() {
            self.conclude_and_reset();
        }
    }

    fn conclude_and_reset(&mut self) {
        let reset = self.open.front().is_some_and(|open| open.mail_accepted);
        self.conclude();
        if reset {
            self.ask(Expect::Rset, b"RSET\r\n");
        }
    }

    fn conclude(&mut self) {
        self.done.extend(self.open.pop_front().map(Open::into_result));
    }
}
