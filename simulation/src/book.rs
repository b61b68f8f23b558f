//! What must be true of every recipient, held against what the queue makes durable and what the next hops took.
//!
//! The book learns of each batch when it is on the disk and before anybody is told, so it knows at every
//! moment what a crash may not take back.

use mail::{MessageId, RecipientState};
use std::collections::BTreeMap;
use store::Totals;
use store::embedded::stepped::{Durable, Standing};

/// What the next hop said to the last attempt for a recipient, in this life of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// 250 after the final dot.
    Taken,
    /// A permanent reply about the recipient or the message.
    Refused,
    /// A transient reply about the recipient or the message.
    Deferred,
    /// A reply about the channel: it must cost no attempt and end nothing.
    Channel,
    /// The connection broke before the final dot.
    Broken,
    /// No reply after the final dot.
    Lost,
}

/// One recipient.
#[derive(Clone, Debug)]
pub struct Recipient {
    /// As the log has it; `None` before its message is durable.
    pub standing: Option<Standing>,
    /// How often a next hop took it.
    pub takes: u32,
    /// One more take is nobody's fault: the last transaction's end was not known, or not durable.
    excused: bool,
    given: Option<Given>,
}

/// One message, from when it was first submitted.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its recipients.
    pub recipients: Vec<Recipient>,
    /// Held for a person where the end of a transaction is not known.
    pub asks: bool,
    /// The submitter was told that it is safe.
    pub promised: bool,
}

/// All of it.
#[derive(Default)]
pub struct Book {
    messages: BTreeMap<MessageId, Message>,
    /// Recipients by durable state.
    counts: [u64; 9],
    accepted: u64,
    /// Recipients taken more than once.
    pub doubles: u64,
}

/// What may be there or not after a process has ended.
#[derive(Clone, Debug, Default)]
pub enum Unknown {
    /// Nothing: everything was answered.
    #[default]
    Nothing,
    /// Its last batch, as a whole.
    Batch(Vec<Durable>),
    /// A last batch that the disk refused, so that nobody has seen what it was.
    Anything,
}

/// What recovery found of a recipient.
pub type Found = (RecipientState, u32, u32);

impl Message {
    /// How it ended, when nothing of it is open: without its index, a log that begins later need not know it.
    fn as_ended(&self) -> Option<Vec<Found>> {
        let ended = |recipient: &Recipient| {
            let Standing { state, attempts, doubts, .. } = recipient.standing.filter(|standing| standing.state.is_final())?;
            Some((state, attempts, doubts))
        };
        self.recipients.iter().map(ended).collect()
    }
}

impl Book {
    /// A message is about to be submitted.
    pub fn submitted(&mut self, id: MessageId, recipients: u32, asks: bool) {
        let recipient = Recipient { standing: None, takes: 0, excused: false, given: None };
        self.messages.insert(id, Message { recipients: vec![recipient; recipients as usize], asks, promised: false });
    }

    /// The submitter was told that it is safe.
    ///
    /// # Errors
    /// It is not durable.
    pub fn promised(&mut self, id: MessageId) -> Result<(), String> {
        let message = self.messages.get_mut(&id).ok_or_else(|| format!("{id} was promised and never submitted"))?;
        message.promised = true;
        if message.recipients.iter().any(|recipient| recipient.standing.is_none()) {
            return Err(format!("P1: {id} was answered with yes and is not durable"));
        }
        Ok(())
    }

    /// Every message so far.
    pub fn messages(&self) -> impl Iterator<Item = (&MessageId, &Message)> {
        self.messages.iter()
    }

    /// A message.
    #[must_use]
    pub fn message(&self, id: MessageId) -> Option<&Message> {
        self.messages.get(&id)
    }

    /// How many recipients are in a state.
    #[must_use]
    pub fn count(&self, state: RecipientState) -> u64 {
        self.counts[usize::from(state.code())]
    }

    /// Recipients of which something may still happen.
    #[must_use]
    pub fn open(&self) -> u64 {
        RecipientState::ALL.into_iter().filter(|state| !state.is_final()).map(|state| self.count(state)).sum()
    }

    /// Recipients accepted.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.accepted
    }

    /// A batch is durable.
    ///
    /// # Errors
    /// What it says must not be.
    pub fn apply(&mut self, batch: &[Durable]) -> Result<(), String> {
        batch.iter().try_for_each(|one| self.apply_one(one))
    }

    fn apply_one(&mut self, one: &Durable) -> Result<(), String> {
        match one {
            Durable::Accepted { message, recipients } => {
                let known = self.messages.get_mut(message).ok_or_else(|| format!("{message} was never submitted"))?;
                if known.recipients.len() != *recipients as usize {
                    return Err(format!("{message} has {recipients} recipients, submitted were {}", known.recipients.len()));
                }
                let fresh = Standing { state: RecipientState::Queued, intended: false, attempts: 0, doubts: 0 };
                for recipient in &mut known.recipients {
                    if recipient.standing.replace(fresh).is_some() {
                        return Err(format!("{message} was accepted twice"));
                    }
                    self.accepted += 1;
                    self.counts[0] += 1;
                }
                Ok(())
            }
            Durable::Recipient { message, index, standing } => self.moved(*message, *index, *standing),
        }
    }

    fn recipient(&mut self, message: MessageId, index: u32) -> Result<&mut Recipient, String> {
        let known = self.messages.get_mut(&message).and_then(|known| known.recipients.get_mut(index as usize));
        known.ok_or_else(|| format!("{message} recipient {index} was never submitted"))
    }

    fn moved(&mut self, message: MessageId, index: u32, after: Standing) -> Result<(), String> {
        let recipient = self.recipient(message, index)?;
        let before = recipient.standing.ok_or_else(|| format!("{message} recipient {index} moves before it is accepted"))?;
        let wrong =
            |what: &str| Err(format!("{message} recipient {index}: {what}: {before:?} -> {after:?}, said {:?}", recipient.given));
        if before.state.is_final() {
            return wrong("P2: it had its fate already");
        }
        if after.state == RecipientState::Sent && recipient.given != Some(Given::Taken) {
            return wrong("sent, and no next hop took it");
        }
        if after.state == RecipientState::Failed && recipient.given != Some(Given::Refused) {
            return wrong("failed, and no next hop refused it");
        }
        if recipient.given == Some(Given::Channel)
            && (after.attempts > before.attempts || after.state.is_final())
            && before.intended
        {
            return wrong("P4: a refusal about the channel cost an attempt, or ended it");
        }
        if after.attempts > before.attempts + 1 || after.attempts < before.attempts {
            return wrong("attempts are counted one by one");
        }
        let ended = before.intended && !after.intended;
        if ended && recipient.given == Some(Given::Taken) && after.state != RecipientState::Sent {
            return wrong("taken, and not sent");
        }
        if ended && recipient.given == Some(Given::Lost) && !is_doubt(before, after) {
            return wrong("P10: a lost reply is a doubt");
        }
        recipient.standing = Some(after);
        self.counts[usize::from(before.state.code())] -= 1;
        self.counts[usize::from(after.state.code())] += 1;
        Ok(())
    }

    /// A transaction for this recipient begins.
    pub fn begins(&mut self, message: MessageId, index: u32) -> Result<(), String> {
        let recipient = self.recipient(message, index)?;
        recipient.given = None;
        match recipient.standing {
            Some(standing) if !standing.state.is_final() && standing.state != RecipientState::Held => Ok(()),
            other => Err(format!("{message} recipient {index} is handed over and is {other:?}")),
        }
    }

    /// The final dot leaves for this recipient.
    ///
    /// # Errors
    /// Its intent is not durable.
    pub fn dot(&mut self, message: MessageId, index: u32) -> Result<(), String> {
        match self.recipient(message, index)?.standing {
            Some(Standing { state: RecipientState::Leased, intended: true, .. }) => Ok(()),
            other => Err(format!("{message} recipient {index}: the final dot leaves without durable intent: {other:?}")),
        }
    }

    /// What became of an attempt for this recipient.
    pub fn given(&mut self, message: MessageId, index: u32, given: Given) -> Result<(), String> {
        let recipient = self.recipient(message, index)?;
        recipient.given = Some(given);
        recipient.excused |= given == Given::Lost;
        Ok(())
    }

    /// A next hop takes it.
    ///
    /// # Errors
    /// It had it already, and no reply was lost and no process ended since.
    pub fn taken(&mut self, message: MessageId, index: u32) -> Result<(), String> {
        let recipient = self.recipient(message, index)?;
        let excused = std::mem::take(&mut recipient.excused);
        recipient.takes += 1;
        if recipient.takes == 1 {
            return Ok(());
        }
        if !excused {
            return Err(format!("P10: {message} recipient {index} was taken {} times", recipient.takes));
        }
        self.doubles += 1;
        Ok(())
    }

    /// Held against what the queue counts.
    ///
    /// # Errors
    /// They differ.
    pub fn compare(&self, totals: &Totals) -> Result<(), String> {
        let sum: u64 = totals.by_state.iter().sum();
        if totals.accepted != sum || totals.accepted != self.accepted {
            return Err(format!("P2: accepted {}, in all states {sum}, expected {}", totals.accepted, self.accepted));
        }
        // A lease without intent is in memory alone.
        let joined = |counts: &[u64; 9]| {
            let mut joined = *counts;
            joined[0] += std::mem::take(&mut joined[1]);
            joined
        };
        if joined(&totals.by_state) != joined(&self.counts) {
            return Err(format!("P2: the queue counts {:?}, expected {:?}", totals.by_state, self.counts));
        }
        Ok(())
    }

    /// The process has started again. `found` says what the queue has of a message; `unknown` may be there or not.
    ///
    /// Returns how many messages were open at the next hop.
    ///
    /// # Errors
    /// Something that was durable is not there, or something else has happened.
    pub fn restarted(
        &mut self,
        unknown: &Unknown,
        forgets: bool,
        mut found: impl FnMut(MessageId) -> Result<Option<Vec<Found>>, String>,
    ) -> Result<usize, String> {
        let mut all = BTreeMap::new();
        for (id, message) in &self.messages {
            let known = found(*id)?;
            all.insert(*id, known.or_else(|| if forgets { message.as_ended() } else { None }));
        }
        let without = self.messages.clone();
        let chosen = match (fits(&without, &all), unknown) {
            (Ok(()), _) => without,
            (Err(why), Unknown::Nothing) => return Err(format!("P1: after the restart {why}")),
            (Err(why), Unknown::Batch(batch)) => {
                let mut with = Self { messages: without, ..Self::default() };
                with.force(batch)?;
                fits(&with.messages, &all).map_err(|or| format!("P1: after the restart {why}; or, with the last batch, {or}"))?;
                with.messages
            }
            (Err(_), Unknown::Anything) => adopted(without, &all)?,
        };
        Ok(self.begin_again(chosen))
    }

    /// What the batch says need not agree with what a next hop said: nobody has acted on it.
    fn force(&mut self, batch: &[Durable]) -> Result<(), String> {
        for one in batch {
            match one {
                Durable::Accepted { .. } => self.apply_one(one)?,
                Durable::Recipient { message, index, standing } => self.recipient(*message, *index)?.standing = Some(*standing),
            }
        }
        Ok(())
    }

    fn begin_again(&mut self, messages: BTreeMap<MessageId, Message>) -> usize {
        let mut open = 0;
        (self.counts, self.accepted) = ([0; 9], 0);
        self.messages = messages;
        for message in self.messages.values_mut() {
            let asks = message.asks;
            let mut interrupted = false;
            for recipient in &mut message.recipients {
                let Some(standing) = recipient.standing else { continue };
                interrupted |= standing.intended;
                recipient.excused |= standing.intended;
                recipient.given = None;
                let after = restarted(standing, asks);
                recipient.standing = Some(after);
                self.counts[usize::from(after.state.code())] += 1;
                self.accepted += 1;
            }
            open += usize::from(interrupted);
        }
        open
    }

    /// The end: everything has its fate, and the fate is the one the next hop gave.
    ///
    /// # Errors
    /// The first that has not.
    pub fn ended(&self) -> Result<(), String> {
        for (id, message) in &self.messages {
            for (index, recipient) in message.recipients.iter().enumerate() {
                match recipient.standing {
                    None if message.promised => return Err(format!("P1: {id} recipient {index} is lost")),
                    None => {}
                    Some(standing) if !standing.state.is_final() => {
                        return Err(format!("{id} recipient {index} has no fate at the end: {standing:?}"));
                    }
                    Some(standing) if standing.state == RecipientState::Sent && recipient.takes == 0 => {
                        return Err(format!("{id} recipient {index} is sent, and nobody has it"));
                    }
                    Some(_) => {}
                }
            }
        }
        Ok(())
    }
}

fn is_doubt(before: Standing, after: Standing) -> bool {
    after.doubts == before.doubts + 1 && matches!(after.state, RecipientState::Queued | RecipientState::Held)
}

/// A recipient after a restart: an open transaction is a doubt, a mere lease is forgotten.
fn restarted(standing: Standing, asks: bool) -> Standing {
    let Standing { state, intended, attempts, doubts } = standing;
    if !intended {
        return Standing { state: if state == RecipientState::Leased { RecipientState::Queued } else { state }, ..standing };
    }
    let state = if asks || doubts > 0 { RecipientState::Held } else { RecipientState::Queued };
    Standing { state, intended: false, attempts: attempts + 1, doubts: doubts + 1 }
}

/// The messages as they were found, where only what was not final yet has changed.
fn adopted(
    mut messages: BTreeMap<MessageId, Message>,
    found: &BTreeMap<MessageId, Option<Vec<Found>>>,
) -> Result<BTreeMap<MessageId, Message>, String> {
    for (id, message) in &mut messages {
        let there = found.get(id).and_then(Option::as_ref);
        let Some(there) = there else {
            if message.recipients.iter().any(|recipient| recipient.standing.is_some()) {
                return Err(format!("P1: {id} is lost"));
            }
            continue;
        };
        for (recipient, (state, attempts, doubts)) in message.recipients.iter_mut().zip(there) {
            let known = recipient.standing;
            let now = Standing { state: *state, intended: false, attempts: *attempts, doubts: *doubts };
            let before = known.map(|known| restarted(known, message.asks));
            let forgot = known.is_some_and(|known| now.attempts < known.attempts || now.doubts < known.doubts);
            if forgot || before.is_some_and(|before| before.state.is_final() && before != now) {
                return Err(format!("P1: {id} was {known:?} and is {now:?}"));
            }
            recipient.excused |= known.is_some_and(|known| known.intended) || before != Some(now);
            recipient.standing = Some(now);
        }
    }
    Ok(messages)
}

fn fits(expected: &BTreeMap<MessageId, Message>, found: &BTreeMap<MessageId, Option<Vec<Found>>>) -> Result<(), String> {
    for (id, message) in expected {
        let wanted: Option<Vec<Found>> = message
            .recipients
            .iter()
            .map(|recipient| recipient.standing.map(|standing| restarted(standing, message.asks)))
            .map(|standing| standing.map(|standing| (standing.state, standing.attempts, standing.doubts)))
            .collect();
        let there = found.get(id).and_then(Option::as_ref);
        if wanted.as_ref() != there {
            return Err(format!("{id} is {there:?}, expected {wanted:?}"));
        }
    }
    Ok(())
}
