//! One transaction after the other over an open session.

use super::line::{Line, Write};
use super::outcome::{is_said, is_stale, outcome, unsupported, without_the_dot};
use crate::{Outgoing, Session};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use mail::envelope::{Notify, Ret};
use mail::{Cause, Diagnostic, Outcome};
use smtp::client::{ClientAction, Recipient, Transaction, TransactionResult};
use smtp::command::NotifyParameter;
use smtp::data::{LineEnds, Stuffing, has_odd_bytes, stuffed};
use smtp::{EnhancedCode, Reply, ReversePath};
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;
use store::{Body, Pieces};

/// Larger messages are written in pieces of this size; smaller ones leave together with their final dot.
const PIECE: usize = 64 * 1024;

pub(crate) struct SmarthostSession {
    pub(super) line: Line,
    relay: String,
    usable: bool,
    /// Transactions that came to their end.
    ended: u64,
    /// What came of the last transaction, once that is known.
    known: Vec<(u32, Outcome)>,
}

/// How the wait for the caller's word ended.
enum Word {
    Go,
    Stop,
    /// The session came to an end before it.
    Over,
}

impl SmarthostSession {
    pub(crate) fn new(line: Line, relay: String) -> Self {
        Self { line, relay, usable: true, ended: 0, known: Vec::new() }
    }

    async fn transact(&mut self, outgoing: &Outgoing, go: BoxFuture<'_, bool>) -> Vec<(u32, Outcome)> {
        self.known.clear();
        if has_odd_bytes(outgoing.body.head()) {
            return outgoing.all(&odd_bytes());
        }
        let recipients = recipients(outgoing);
        if recipients.len() != outgoing.lease.recipients.len() {
            return outgoing.all(&Outcome::Untried);
        }
        if let Err(error) = self.line.wire.begin(&transaction(outgoing, &recipients)) {
            let refusal = unsupported(error);
            self.usable &= refusal != Outcome::Untried;
            return outgoing.all(&refusal);
        }
        // Only an end that leaves the connection in order makes it usable again, so that a future
        // which is dropped half-way leaves a session that nobody uses.
        self.usable = false;
        self.line.restart_clock();
        let result = match self.until_body(recipients.len()).await {
            Some(result) => result,
            None => match self.hand_over(outgoing, go).await {
                Ok(result) => result,
                Err(outcome) => return outgoing.all(&outcome),
            },
        };
        let outcomes = self.outcomes(outgoing, result);
        self.ended += 1;
        self.known.clone_from(&outcomes);
        self.tidy_up().await;
        outcomes
    }

    /// MAIL, RCPT and DATA. `None` when the next hop waits for the message, else the end.
    async fn until_body(&mut self, recipients: usize) -> Option<TransactionResult> {
        loop {
            match self.line.next_action() {
                ClientAction::NeedInput => self.line.exchange(recipients).await,
                ClientAction::Body => return None,
                ClientAction::Done(result) => return Some(result),
                ClientAction::Ready | ClientAction::StartTls | ClientAction::Failed(_) | ClientAction::Closed => {
                    return Some(TransactionResult { verdicts: Vec::new() });
                }
            }
        }
    }

    /// The body, and at the caller's word the final dot; or what it means that the dot was not sent, because the caller
    /// said no or the bytes are damaged.
    async fn hand_over(&mut self, outgoing: &Outgoing, mut go: BoxFuture<'_, bool>) -> Result<TransactionResult, Outcome> {
        let written = match &outgoing.body {
            Body::Inline(bytes) => Ok(self.write_body(bytes).await),
            Body::Spooled { .. } => self.write_pieces(outgoing.body.pieces()).await,
        };
        let word = match written {
            Ok(Write::Heard) => Word::Over,
            Ok(Write::Flushed) => self.await_word(&mut go).await,
            Err(problem) => {
                self.line.wire.abandon();
                return Err(Outcome::Deferred(Cause::Unreadable(problem)));
            }
        };
        match word {
            Word::Stop => {
                self.line.wire.abandon();
                return Err(Outcome::Untried);
            }
            Word::Go => {
                self.line.wire.finish();
                self.line.collect_output();
                self.line.write(self.line.deadlines.block).await;
            }
            Word::Over => {}
        }
        Ok(self.until_done().await)
    }

    /// Puts the body into the output; what does not fit into one piece leaves at once.
    async fn write_body(&mut self, body: &[u8]) -> Write {
        for piece in stuffed(body).flat_map(|piece| piece.chunks(PIECE)) {
            self.line.out.extend_from_slice(piece);
            if self.line.out.len() >= PIECE && self.line.write(self.line.deadlines.block).await == Write::Heard {
                return Write::Heard;
            }
        }
        Write::Flushed
    }

    /// The same for a body that is read from a file on the way: the next piece is read when the last one has left.
    ///
    /// # Errors
    /// Why it is not the message that was accepted. What was written is not all of it.
    async fn write_pieces(&mut self, mut pieces: Pieces) -> Result<Write, String> {
        let (mut stuffing, mut ends) = (Stuffing::default(), LineEnds::default());
        loop {
            let (rest, next) = read_on(pieces).await?;
            pieces = rest;
            let Some(piece) = next else { break };
            ends.look(&piece);
            if ends.are_odd() {
                return Err("the file of its body holds a bare CR or LF, or a NUL".into());
            }
            for part in stuffing.piece(&piece) {
                self.line.out.extend_from_slice(part);
            }
            if self.line.out.len() >= PIECE && self.line.write(self.line.deadlines.block).await == Write::Heard {
                return Ok(Write::Heard);
            }
        }
        if ends.are_closed() { Ok(Write::Flushed) } else { Err("the file of its body ends within a line".into()) }
    }

    /// The caller's word, if it is there already; else the rest of the body leaves while it is awaited.
    async fn await_word(&mut self, go: &mut BoxFuture<'_, bool>) -> Word {
        let said = poll_fn(|context| Poll::Ready(go.as_mut().poll(context))).await;
        if let Poll::Ready(said) = said {
            return if said { Word::Go } else { Word::Stop };
        }
        if self.line.has_unwritten() && self.line.write(self.line.deadlines.block).await == Write::Heard {
            return Word::Over;
        }
        loop {
            tokio::select! {
                biased;
                said = &mut *go => return if said { Word::Go } else { Word::Stop },
                () = self.line.listen() => {}
            }
            match self.line.wire.next_action() {
                // Half a line, perhaps; nothing to act on.
                ClientAction::Body => {}
                over => {
                    self.line.put_back(over);
                    return Word::Over;
                }
            }
        }
    }

    async fn until_done(&mut self) -> TransactionResult {
        loop {
            match self.line.next_action() {
                ClientAction::NeedInput => self.line.exchange(0).await,
                ClientAction::Done(result) => return result,
                // Nothing more is said in a message that did not get to its end.
                ClientAction::Body => self.line.wire.closed(),
                ClientAction::Ready | ClientAction::StartTls | ClientAction::Failed(_) | ClientAction::Closed => {
                    return TransactionResult { verdicts: Vec::new() };
                }
            }
        }
    }

    fn outcomes(&self, outgoing: &Outgoing, result: TransactionResult) -> Vec<(u32, Outcome)> {
        let trouble = self.line.trouble();
        let cut_short = self.line.has_unwritten();
        let reused = self.ended > 0;
        let mut verdicts = result.verdicts.into_iter();
        let each = outgoing.lease.recipients.iter().map(|recipient| {
            let outcome = match verdicts.next() {
                Some(verdict) if reused && is_stale(&verdict) => Outcome::Untried,
                Some(verdict) => outcome(verdict, trouble),
                None => Outcome::Untried,
            };
            (recipient.index, if cut_short { without_the_dot(outcome, trouble) } else { outcome })
        });
        each.collect()
    }

    /// What the replies so far say for certain, in a transaction that nobody brings to its end.
    fn certain(&mut self, outgoing: &Outgoing) -> Vec<(u32, Outcome)> {
        let mut outcomes = std::mem::take(&mut self.known);
        if outcomes.is_empty() {
            self.line.wire.closed();
            if let ClientAction::Done(result) = self.line.next_action() {
                outcomes = self.outcomes(outgoing, result);
            }
        }
        outcomes.retain(|(_, outcome)| is_said(outcome));
        outcomes
    }

    /// Sees whether the session can be used again; a transaction that nobody was accepted in ends by RSET.
    async fn tidy_up(&mut self) {
        if self.line.has_unwritten() {
            return;
        }
        self.line.restart_clock();
        loop {
            match self.line.next_action() {
                ClientAction::NeedInput => self.line.exchange(0).await,
                ClientAction::Ready => {
                    self.usable = true;
                    return;
                }
                ClientAction::Body
                | ClientAction::Done(_)
                | ClientAction::StartTls
                | ClientAction::Failed(_)
                | ClientAction::Closed => return,
            }
        }
    }

    /// Asks whether mail from this address would be taken, without sending any: MAIL, then RSET.
    /// The session is of no other use after it.
    ///
    /// # Errors
    /// The connection broke, in words.
    pub(crate) async fn try_sender(&mut self, sender: &ReversePath, within: Duration) -> Result<Reply, String> {
        self.usable = false;
        let international = sender.mailbox().is_some_and(|mailbox| !mailbox.is_ascii());
        let parameter = if international { " SMTPUTF8" } else { "" };
        let reply = self.line.ask(&format!("MAIL FROM:<{sender}>{parameter}"), within).await?;
        for goodbye in ["RSET", "QUIT"] {
            if self.line.ask(goodbye, self.line.deadlines.quit.min(within)).await.is_err() {
                break;
            }
        }
        Ok(reply)
    }

    async fn part(mut self) {
        self.line.wire.quit();
        self.line.restart_clock();
        while self.line.next_action() == ClientAction::NeedInput {
            self.line.exchange(0).await;
        }
        self.line.shut_down().await;
    }
}

impl Session for SmarthostSession {
    fn deliver<'a>(&'a mut self, outgoing: &'a Outgoing, go: BoxFuture<'a, bool>) -> BoxFuture<'a, Vec<(u32, Outcome)>> {
        Box::pin(self.transact(outgoing, go))
    }

    fn given_up(&mut self, outgoing: &Outgoing) -> Vec<(u32, Outcome)> {
        self.certain(outgoing)
    }

    fn is_reusable(&self) -> bool {
        self.usable
    }

    fn relay(&self) -> &str {
        &self.relay
    }

    fn offers_dsn(&self) -> bool {
        self.line.wire.capabilities().dsn
    }

    fn max_size(&self) -> Option<u64> {
        self.line.wire.capabilities().max_size
    }

    fn gone<'a>(&'a mut self) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if self.usable {
                self.line.listen().await;
                self.usable = false;
            }
        })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            if self.usable {
                self.part().await;
            }
        })
    }
}

/// The next piece, read where waiting for the disk keeps nobody else waiting.
async fn read_on(mut pieces: Pieces) -> Result<(Pieces, Option<Bytes>), String> {
    let read = tokio::task::spawn_blocking(move || {
        let next = pieces.next().transpose();
        (pieces, next)
    });
    let (pieces, next) = read.await.map_err(|error| error.to_string())?;
    next.map(|next| (pieces, next)).map_err(|error| error.to_string())
}

fn recipients(outgoing: &Outgoing) -> Vec<Recipient<'_>> {
    let envelope = &outgoing.lease.envelope;
    let leased = outgoing.lease.recipients.iter().filter_map(|leased| envelope.recipients.get(leased.index as usize));
    leased
        .map(|recipient| Recipient {
            path: &recipient.path,
            notify: recipient.notify.map(|Notify { success, failure, delay }| NotifyParameter { success, failure, delay }),
            orcpt: recipient.orcpt.as_deref(),
        })
        .collect()
}

fn transaction<'a>(outgoing: &'a Outgoing, recipients: &'a [Recipient<'a>]) -> Transaction<'a> {
    let envelope = &outgoing.lease.envelope;
    let is_closed = !outgoing.body.is_whole() || outgoing.body.head().ends_with(b"\r\n");
    let supplied = if is_closed { 0 } else { 2 };
    Transaction {
        reverse_path: &outgoing.reverse_path,
        recipients,
        size: outgoing.body.len() + supplied,
        // What the bytes are counts, not what was declared.
        eight_bit: outgoing.body.is_eight_bit(),
        smtputf8: envelope.smtputf8,
        ret_full: envelope.ret.map(|ret| ret == Ret::Full),
        envid: envelope.envid.as_deref(),
    }
}

/// Such bytes are refused at acceptance; they must never reach a next hop that might read them as an end of data.
fn odd_bytes() -> Outcome {
    let code = EnhancedCode::new(5, 6, 0);
    Outcome::Failed(Cause::Unsupported(Diagnostic::own(Some(code), "the message holds a bare CR or LF, or a NUL")))
}
