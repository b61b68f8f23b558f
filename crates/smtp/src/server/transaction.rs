//! One message: MAIL, RCPT, and its bytes by DATA or BDAT.

use super::{Action, Chunks, Login, Protocol, Security, Session, State, Submission, Transaction};
use crate::address::{ForwardPath, ReversePath};
use crate::command::{MailParameters, RcptParameters};
use crate::data::{DataDecoder, DataFault};
use crate::reply::Reply;
use bytes::Buf;

impl Session {
    pub(super) fn mail(&mut self, reverse_path: ReversePath, mail: MailParameters) -> Option<Action> {
        self.put_off = None;
        let utf8 = reverse_path.mailbox().is_some_and(|mailbox| !mailbox.is_ascii());
        let refusal = if self.helo.is_none() {
            Some(Reply::new(503, (5, 5, 1), "say EHLO first"))
        } else if self.login == Login::Required && !self.signed_in {
            Some(match self.security {
                Security::Clear => Reply::new(530, (5, 7, 0), "say STARTTLS first, then sign in"),
                Security::Tls => Reply::new(530, (5, 7, 0), "sign in first"),
            })
        } else if self.transaction.is_some() {
            Some(Reply::new(503, (5, 5, 1), "one message at a time: RSET forgets this one"))
        } else if mail.size.is_some_and(|size| size > self.config.max_message_size) {
            Some(too_large(self.config.max_message_size))
        } else if utf8 && !mail.smtputf8 {
            Some(Reply::new(553, (5, 6, 7), "this address needs the parameter SMTPUTF8"))
        } else {
            None
        };
        if let Some(refusal) = refusal {
            self.refuse(&refusal);
            return None;
        }
        let size = mail.size;
        self.transaction = Some(Transaction { reverse_path, mail, recipients: Vec::new(), chunks: None, spoiled: None });
        self.state = State::Waiting;
        Some(Action::Begin(size))
    }

    pub(super) fn rcpt(&mut self, path: ForwardPath, parameters: RcptParameters) {
        let most = self.config.max_recipients;
        let Some(transaction) = self.transaction.as_mut().filter(|transaction| transaction.chunks.is_none()) else {
            if let Some(put_off) = self.put_off.as_mut().filter(|put_off| put_off.uncounted > 0) {
                put_off.uncounted -= 1;
                self.idle_commands -= 1;
            }
            return self.refuse_without_message(&Reply::new(503, (5, 5, 1), "say MAIL first"));
        };
        if !path.mailbox().is_ascii() && !transaction.mail.smtputf8 {
            return self.refuse(&Reply::new(553, (5, 6, 7), "this address needs MAIL with the parameter SMTPUTF8"));
        }
        if !transaction.mail.smtputf8 && parameters.orcpt.as_deref().is_some_and(|orcpt| !orcpt.is_ascii()) {
            return self.refuse(&Reply::new(553, (5, 6, 7), "this ORCPT needs MAIL with the parameter SMTPUTF8"));
        }
        let known = transaction.recipients.iter().any(|(other, _)| *other == path);
        if !known && transaction.recipients.len() >= most {
            // Not an error of the client: it sends the rest in a further message (RFC 5321 §4.5.3.1.10).
            return self.reply(&Reply::new(
                452,
                (4, 5, 3),
                format!("a message may have {most} recipients; send it again to the others"),
            ));
        }
        if !known {
            transaction.recipients.push((path, parameters));
            // Recipients have a limit of their own.
            self.idle_commands -= 1;
        }
        self.reply(&Reply::new(250, (2, 1, 5), "ok"));
    }

    pub(super) fn begin_data(&mut self) {
        let refusal = match &self.transaction {
            None => return self.refuse_without_message(&Reply::new(503, (5, 5, 1), "say MAIL and RCPT first")),
            Some(transaction) if transaction.chunks.is_some() => Reply::new(503, (5, 5, 1), "BDAT was begun"),
            Some(transaction) if transaction.recipients.is_empty() => Reply::new(554, (5, 5, 1), "no valid recipients"),
            Some(transaction) => {
                let declared = transaction.mail.size.unwrap_or(12 * 1024).min(self.config.max_message_size);
                let expected = usize::try_from(declared).unwrap_or(usize::MAX).min(self.config.whole_up_to).min(1 << 20);
                let decoder = DataDecoder::new(self.config.max_message_size, expected + 64);
                self.reply(&Reply::plain(354, "end with a line that holds only a dot"));
                self.state = State::Data(decoder);
                return;
            }
        };
        self.refuse(&refusal);
    }

    pub(super) fn data(&mut self, mut decoder: DataDecoder) -> Option<Action> {
        let (used, ended) = decoder.feed(&self.input);
        self.input.advance(used);
        if !ended {
            if decoder.held() > self.config.whole_up_to {
                let piece = decoder.take();
                self.state = State::Data(decoder);
                self.handed_over = true;
                return Some(Action::Piece(piece));
            }
            let waits = !(decoder.is_refused() && self.handed_over);
            self.state = State::Data(decoder);
            // Otherwise what was handed over is to be forgotten first.
            return waits.then_some(Action::NeedInput);
        }
        let mut transaction = self.transaction.take()?;
        let earlier = decoder.taken();
        match decoder.finish() {
            Ok(body) => Some(self.store(transaction, earlier, body)),
            Err(fault) => {
                self.refuse_data(fault, transaction.spoiled.take());
                None
            }
        }
    }

    fn refuse_data(&mut self, fault: DataFault, given_up: Option<Reply>) {
        match fault {
            DataFault::TooLarge | DataFault::Discarded => {
                let reply = given_up.unwrap_or_else(|| too_large(self.config.max_message_size));
                self.refuse(&reply);
            }
            DataFault::OddBytes => {
                self.end(&Reply::new(
                    550,
                    (5, 6, 0),
                    "a message's lines end with CRLF: it holds a bare CR, a bare LF or a NUL; good bye",
                ));
            }
        }
    }

    fn store(&mut self, transaction: Transaction, earlier: u64, body: Vec<u8>) -> Action {
        let (helo, extended) = self.helo.clone().unwrap_or_default();
        let protocol = Protocol {
            extended,
            tls: self.security == Security::Tls,
            authenticated: self.signed_in,
            utf8: transaction.mail.smtputf8,
        };
        self.state = State::Waiting;
        self.handed_over = false;
        Action::Store(Submission {
            helo,
            protocol,
            reverse_path: transaction.reverse_path,
            mail: transaction.mail,
            recipients: transaction.recipients,
            earlier,
            body,
        })
    }

    pub(super) fn begin_chunk(&mut self, size: u64, last: bool) {
        let limit = self.config.max_message_size;
        let keep = match self.transaction.as_mut() {
            Some(transaction) if !transaction.recipients.is_empty() && transaction.spoiled.is_none() => {
                let chunks = transaction.chunks.get_or_insert_default();
                let fits = size <= limit && chunks.length() + size <= limit;
                transaction.spoiled = (!fits).then(|| too_large(limit));
                if fits && size > 0 {
                    // Chunks with something in them are limited by the size of the message.
                    self.idle_commands -= 1;
                }
                fits
            }
            _ => false,
        };
        self.state = State::Chunk { left: size, last, keep };
    }

    pub(super) fn chunk(&mut self, left: u64, last: bool, keep: bool) -> Option<Action> {
        let available = usize::try_from(left).unwrap_or(usize::MAX).min(self.input.len());
        let bytes = self.input.split_to(available);
        let left = left - available as u64;
        if keep && let Some(chunks) = self.transaction.as_mut().and_then(|transaction| transaction.chunks.as_mut()) {
            chunks.ends.look(&bytes);
            chunks.held.extend_from_slice(&bytes);
            if chunks.held.len() > self.config.whole_up_to {
                let piece = std::mem::take(&mut chunks.held);
                chunks.taken += piece.len() as u64;
                self.state = State::Chunk { left, last, keep };
                self.handed_over = true;
                return Some(Action::Piece(piece));
            }
        }
        if left > 0 {
            self.state = State::Chunk { left, last, keep };
            return Some(Action::NeedInput);
        }
        if !keep {
            self.refuse_chunk();
            return None;
        }
        if !last {
            self.reply(&Reply::new(250, (2, 0, 0), "chunk taken"));
            return None;
        }
        let mut transaction = self.transaction.take()?;
        let Chunks { mut held, taken, mut ends } = transaction.chunks.take().unwrap_or_default();
        if !ends.are_closed() {
            held.extend_from_slice(b"\r\n");
            ends.look(b"\r\n");
        }
        if ends.are_odd_at_the_end() {
            self.refuse_data(DataFault::OddBytes, None);
            return None;
        }
        Some(self.store(transaction, taken, held))
    }

    /// The chunk's bytes have been swallowed: they are never read as commands.
    fn refuse_chunk(&mut self) {
        let reply = match self.transaction.take() {
            None => return self.refuse_without_message(&Reply::new(503, (5, 5, 1), "say MAIL and RCPT first")),
            Some(Transaction { spoiled: Some(reply), .. }) => reply,
            Some(_) => Reply::new(554, (5, 5, 1), "no valid recipients"),
        };
        self.refuse(&reply);
    }
}

fn too_large(most: u64) -> Reply {
    Reply::new(552, (5, 3, 4), format!("a message may have {most} bytes here"))
}
