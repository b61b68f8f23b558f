//! A large message on its way in: its header section in memory, what follows in a file of the queue.
//!
//! A door begins an [`Arrival`] once a message is larger than what is kept whole, gives it the bytes as they come, and
//! hands what it makes of them to [`Intake::accept`](crate::Intake::accept). An arrival that is dropped leaves nothing.

use crate::accept::{concluded, fingerprint};
use crate::refusal::AcceptRefusal;
use aws_lc_rs::digest;
use bytes::Bytes;
use mail::header::{Header, HeaderError, MAX_HEADER, blank_line};
use mail::resolve::Refusal;
use mail::when::Times;
use mail::{Envelope, Surface};
use smtp::data::LineEnds;
use std::sync::Arc;
use store::{Queue, Rest, Spool, WHOLE_UP_TO};

/// A message as it was submitted, CRLF line ends.
#[derive(Clone, Debug)]
pub enum Submitted {
    /// All of it.
    Whole(Bytes),
    /// Its header section, with the rest in a file.
    Large(Large),
}

/// A large message that has come in.
#[derive(Clone, Debug)]
pub struct Large {
    /// Up to and with the blank line.
    pub head: Bytes,
    /// What follows.
    pub rest: Rest,
    /// Length as submitted, in bytes.
    pub(crate) length: u64,
    /// What must be equal for a submission to be the same one.
    pub(crate) fingerprint: [u8; 32],
}

impl From<Bytes> for Submitted {
    fn from(bytes: Bytes) -> Self {
        Self::Whole(bytes)
    }
}

impl From<Vec<u8>> for Submitted {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Whole(bytes.into())
    }
}

impl Submitted {
    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::Large(large) => large.length,
        }
    }

    /// True for a message without a single byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of it, or its header section.
    #[must_use]
    pub fn head(&self) -> &Bytes {
        match self {
            Self::Whole(bytes) => bytes,
            Self::Large(large) => &large.head,
        }
    }
}

/// A message that is coming in.
pub struct Arrival {
    queue: Arc<dyn Queue>,
    most: u64,
    length: u64,
    /// `None` for a door that has looked at every byte already.
    ends: Option<LineEnds>,
    sum: digest::Context,
    head: Vec<u8>,
    /// The blank line has come.
    head_is_whole: bool,
    /// What follows it, as long as there is no file.
    pending: Vec<u8>,
    spool: Option<Spool>,
}

impl Arrival {
    /// A message of at most so many bytes. Over SMTP the envelope, and the times that were
    /// asked for beside the message, are not looked at.
    #[must_use]
    pub fn new(queue: Arc<dyn Queue>, surface: Surface, of: Option<(&Envelope, Times)>, most: u64) -> Self {
        Self {
            queue,
            most,
            length: 0,
            ends: (surface != Surface::Smtp).then(LineEnds::default),
            sum: fingerprint(surface, of),
            head: Vec::new(),
            head_is_whole: false,
            pending: Vec::new(),
            spool: None,
        }
    }

    /// Takes the next piece; what has to wait for the disk waits on another thread.
    ///
    /// # Errors
    /// The message cannot be accepted, and nothing is left of it.
    pub async fn write(mut self, piece: Bytes) -> Result<Self, AcceptRefusal> {
        apart(move || self.take(&piece).map(|()| self)).await
    }

    /// Takes the last piece and makes all of it durable.
    ///
    /// # Errors
    /// As for [`Arrival::write`].
    pub async fn finish(mut self, last: Bytes) -> Result<Submitted, AcceptRefusal> {
        apart(move || self.take(&last).and_then(|()| self.conclude())).await
    }

    fn take(&mut self, piece: &[u8]) -> Result<(), AcceptRefusal> {
        self.length += piece.len() as u64;
        if self.length > self.most {
            return Err(Refusal::TooLarge { found: self.length, most: self.most }.into());
        }
        if let Some(ends) = &mut self.ends {
            ends.look(piece);
            if ends.are_odd() {
                return Err(Refusal::OddBytes.into());
            }
        }
        self.sum.update(piece);
        if self.head_is_whole {
            return self.take_rest(piece);
        }
        let looked_at = self.head.len();
        self.head.extend_from_slice(piece);
        if let Some(end) = blank_line(&self.head, looked_at) {
            self.head_is_whole = true;
            let rest = self.head.split_off(end);
            return self.take_rest(&rest);
        }
        if self.head.len() > MAX_HEADER {
            let refusal = Header::parse(&self.head).err().unwrap_or(HeaderError::TooLong);
            return Err(Refusal::from(refusal).into());
        }
        Ok(())
    }

    fn take_rest(&mut self, piece: &[u8]) -> Result<(), AcceptRefusal> {
        if self.length <= WHOLE_UP_TO as u64 {
            self.pending.extend_from_slice(piece);
            return Ok(());
        }
        let pending = std::mem::take(&mut self.pending);
        if pending.is_empty() && piece.is_empty() {
            return Ok(());
        }
        let spool = match &mut self.spool {
            Some(spool) => spool,
            None => self.spool.insert(self.queue.spool()?),
        };
        for part in [&pending, piece].into_iter().filter(|part| !part.is_empty()) {
            spool.write(part)?;
        }
        Ok(())
    }

    fn conclude(mut self) -> Result<Submitted, AcceptRefusal> {
        if self.ends.is_some_and(|ends| ends.are_odd_at_the_end()) {
            return Err(Refusal::OddBytes.into());
        }
        let Some(spool) = self.spool.take() else {
            self.head.append(&mut self.pending);
            return Ok(Submitted::Whole(self.head.into()));
        };
        let rest = spool.finish()?;
        Ok(Submitted::Large(Large { head: self.head.into(), rest, length: self.length, fingerprint: concluded(self.sum) }))
    }
}

/// Runs what may wait for the disk on a thread of its own.
pub(crate) async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AcceptRefusal> + Send + 'static,
) -> Result<T, AcceptRefusal> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => {
            tracing::error!(%error, "a message was not taken in");
            Err(AcceptRefusal::Closed)
        }
    }
}
