//! The SMTP session as a value, and the connection that it speaks over: bytes go to and fro, in time.

use super::Deadlines;
use super::stream::{Moved, Stream};
use crate::connect::{in_words, seconds};
use crate::error::stage_of;
use mail::Stage;
use smtp::Reply;
use smtp::client::{ClientAction, Session as Wire};
use smtp::reply::ReplyReader;
use std::future::poll_fn;
use std::io;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// How long the last words of a next hop that broke off are looked for.
const LAST_WORDS: Duration = Duration::from_secs(1);

const INPUT: usize = 4096;

/// Output buffers that grew beyond this are not kept.
const KEPT_OUTPUT: usize = 256 * 1024;

pub(crate) struct Line {
    pub(super) stream: Stream,
    pub(super) wire: Wire,
    pub(super) deadlines: Deadlines,
    /// Bytes to write, the first `written` of which have been taken.
    pub(super) out: Vec<u8>,
    written: usize,
    input: Box<[u8]>,
    /// An action that was met while writing.
    met: Option<ClientAction>,
    /// What went wrong with the connection, in words.
    trouble: Option<String>,
    /// The stage whose replies are awaited, and since when.
    awaiting: Option<(Stage, Instant)>,
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Write {
    /// All is on its way, and nothing came meanwhile.
    Flushed,
    /// The next hop said something meanwhile, or the session is over: look at the next action.
    Heard,
}

impl Line {
    pub(super) fn new(stream: Stream, wire: Wire, deadlines: Deadlines) -> Self {
        Self {
            stream,
            wire,
            deadlines,
            out: Vec::new(),
            written: 0,
            input: vec![0; INPUT].into_boxed_slice(),
            met: None,
            trouble: None,
            awaiting: None,
        }
    }

    pub(super) fn next_action(&mut self) -> ClientAction {
        self.met.take().unwrap_or_else(|| self.wire.next_action())
    }

    /// An action that somebody else has to deal with.
    pub(super) fn put_back(&mut self, action: ClientAction) {
        self.met = Some(action);
    }

    pub(super) fn stage(&self) -> Stage {
        stage_of(self.wire.stage())
    }

    /// What went wrong with the connection, in words.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// True if bytes that belong to what was to be said have not left.
    pub(super) fn has_unwritten(&self) -> bool {
        self.written < self.out.len()
    }

    /// Something new begins: its deadlines start now.
    pub(super) fn restart_clock(&mut self) {
        self.awaiting = None;
    }

    /// Writes what is to be written, then reads once. `recipients` are those of the transaction.
    pub(super) async fn exchange(&mut self, recipients: usize) {
        let stage = self.stage();
        let limit = self.deadlines.of(stage, recipients);
        let since = match self.awaiting {
            Some((awaited, since)) if awaited == stage => since,
            _ => Instant::now(),
        };
        self.awaiting = Some((stage, since));
        self.collect_output();
        if self.has_unwritten() && self.write(limit.min(self.deadlines.block)).await == Write::Heard {
            return;
        }
        let (stream, input) = (&mut self.stream, &mut self.input);
        let read = timeout_at(since + limit, poll_fn(|context| stream.poll_read(context, input))).await;
        match read {
            Ok(Ok(0)) => self.lose("the server closed the connection".into()),
            Ok(Ok(count)) => self.wire.receive(&self.input[..count]),
            Ok(Err(error)) => self.lose(in_words(&error)),
            Err(_) => self.lose(format!("no answer within {}", seconds(limit))),
        }
    }

    /// Moves the session's output behind what is to be written.
    pub(super) fn collect_output(&mut self) {
        let output = self.wire.output();
        self.out.extend_from_slice(output);
        output.clear();
    }

    /// Writes all that is to be written; `limit` is for each progress.
    pub(super) async fn write(&mut self, limit: Duration) -> Write {
        let mut heard = false;
        // Only bytes that are taken count as progress: a next hop that drips a reply does not stretch it.
        let mut until = Instant::now() + limit;
        loop {
            let (stream, input, out) = (&mut self.stream, &mut self.input, &self.out[self.written..]);
            match timeout_at(until, poll_fn(|context| stream.poll_write(context, out, input))).await {
                Ok(Ok(Moved::Flushed)) => break,
                Ok(Ok(Moved::Wrote(count))) => {
                    self.written += count;
                    until = Instant::now() + limit;
                }
                Ok(Ok(Moved::Read(0))) => {
                    self.lose("the server closed the connection".into());
                    return Write::Heard;
                }
                Ok(Ok(Moved::Read(count))) => {
                    heard = true;
                    if self.hear(count) {
                        return Write::Heard;
                    }
                }
                Ok(Err(error)) => {
                    self.hear_last_words(&error).await;
                    return Write::Heard;
                }
                Err(_) => {
                    self.lose(format!("the server took nothing for {}", seconds(limit)));
                    return Write::Heard;
                }
            }
        }
        self.written = 0;
        self.out.clear();
        if self.out.capacity() > KEPT_OUTPUT {
            self.out = Vec::new();
        }
        if heard { Write::Heard } else { Write::Flushed }
    }

    /// Takes bytes that came while writing; true if there is no point in writing on.
    fn hear(&mut self, count: usize) -> bool {
        self.wire.receive(&self.input[..count]);
        match self.wire.next_action() {
            ClientAction::NeedInput | ClientAction::Body => false,
            action => {
                self.met = Some(action);
                true
            }
        }
    }

    /// A next hop that breaks off in the middle of a message may have said why before.
    async fn hear_last_words(&mut self, error: &io::Error) {
        let until = Instant::now() + LAST_WORDS;
        loop {
            let (stream, input) = (&mut self.stream, &mut self.input);
            match timeout_at(until, poll_fn(|context| stream.poll_read(context, input))).await {
                Ok(Ok(count)) if count > 0 => {
                    if self.hear(count) {
                        return;
                    }
                }
                Ok(_) | Err(_) => return self.lose(in_words(error)),
            }
        }
    }

    /// Reads without a deadline, for as long as the next hop has no reason to speak. Safe to drop.
    pub(super) async fn listen(&mut self) {
        let (stream, input) = (&mut self.stream, &mut self.input);
        match poll_fn(|context| stream.poll_read(context, input)).await {
            Ok(0) => self.lose("the server closed the connection".into()),
            Ok(count) => self.wire.receive(&self.input[..count]),
            Err(error) => self.lose(in_words(&error)),
        }
    }

    /// Says one command beside the session and waits for its reply; the session must be ready, and not be used again.
    pub(super) async fn ask(&mut self, command: &str, within: Duration) -> Result<Reply, String> {
        self.out.extend_from_slice(command.as_bytes());
        self.out.extend_from_slice(b"\r\n");
        let lost = |line: &Self| line.trouble.clone().unwrap_or_else(|| "the connection was lost".into());
        if self.write(within).await == Write::Heard {
            return Err(lost(self));
        }
        let until = Instant::now() + within;
        let mut reader = ReplyReader::new();
        loop {
            let (stream, input) = (&mut self.stream, &mut self.input);
            match timeout_at(until, poll_fn(|context| stream.poll_read(context, input))).await {
                Ok(Ok(count)) if count > 0 => reader.receive(&self.input[..count]),
                Ok(Ok(_)) => return Err("the server closed the connection".into()),
                Ok(Err(error)) => return Err(in_words(&error)),
                Err(_) => return Err(format!("no answer within {}", seconds(within))),
            }
            if let Some(reply) = reader.next_reply().map_err(|error| error.to_string())? {
                return Ok(reply);
            }
        }
    }

    fn lose(&mut self, why: String) {
        self.trouble = Some(why);
        self.wire.closed();
    }

    pub(super) async fn shut_down(&mut self) {
        let stream = &mut self.stream;
        _ = timeout(LAST_WORDS, poll_fn(|context| stream.poll_shutdown(context))).await;
    }
}
