//! What a record does to the open set.

use super::super::record::{Base, Forgotten, Intend, Meta, Record, Settle, Snapshot, StoodRow};
use super::effects::{Effects, Fact, Group, channel_kind, kind_of, taught, word};
use super::rows::{Row, change, leased, recorded};
use super::{OpenSet, Place, Standing, standing};
use crate::api::{Party, Spend, Suppression, Totals};
use mail::channel::{ChannelState, Kept};
use mail::pace::{Lessons, Units};
use mail::{ChannelId, EventKind, MessageId, Move, RecipientState, Timestamp};

impl OpenSet {
    /// Does to the set what a record says. `sequence` is the record's own, `place` where it stands if it has a body.
    pub(crate) fn apply(&mut self, record: Record, sequence: u64, place: Option<Place>) -> Effects {
        let (counted, before) = self.counted(&record);
        let effects = Effects { counted, before, ..self.change(record, sequence, place) };
        self.recorded[0] += effects.accepted;
        for (from, to) in &effects.moved {
            self.recorded[usize::from(from.code())] = self.recorded[usize::from(from.code())].saturating_sub(1);
            self.recorded[usize::from(to.code())] += 1;
        }
        effects
    }

    /// Under what the known messages of a record are counted, and the states of the one that changes its channel.
    fn counted(&self, record: &Record) -> ([Option<(MessageId, Group)>; 2], Vec<RecipientState>) {
        let group = |id: MessageId| {
            let Standing { person, team, channel, .. } = self.standing(id)?;
            Some((id, Group { person, team, channel }))
        };
        match record {
            Record::Attempt { settle, intend } => {
                let settled = settle.as_ref().and_then(|settle| group(settle.message));
                ([settled, intend.as_ref().and_then(|intend| group(intend.message))], Vec::new())
            }
            Record::Steer { message, to, .. } => {
                let rows = self.rows(*message).filter(|_| *to == Move::Reroute).unwrap_or_default();
                ([group(*message), None], rows.iter().map(recorded).collect())
            }
            _ => ([None; 2], Vec::new()),
        }
    }

    fn change(&mut self, record: Record, sequence: u64, place: Option<Place>) -> Effects {
        match record {
            Record::Accept(meta) => place.map_or_else(Effects::default, |place| self.accept(meta, sequence, place)),
            Record::Snapshot(snapshot) => place.map_or_else(Effects::default, |place| self.relocate(*snapshot, place)),
            Record::Base(base) => self.rebase(base),
            Record::Carried(carried) => {
                self.suppressed.extend(carried.suppressed.iter().map(|one| (one.party, one.address.clone())));
                Effects { keys: carried.keys, carried_spent: carried.spent, suppressed: carried.suppressed, ..Effects::default() }
            }
            Record::Attempt { settle, intend } => {
                let mut effects = settle.map_or_else(Effects::default, |settle| self.settle(settle));
                if let Some(intend) = intend {
                    self.intend(&intend, &mut effects);
                }
                effects
            }
            Record::Steer { message, recipients, to, channel, by, at } => self.steer(message, &recipients, to, channel, &by, at),
            Record::Forget(forgotten) => self.forget(forgotten),
            Record::Channel { channel, state, at } => self.channel(channel, state, at),
            Record::Lessons { channel, lessons, at } => self.learn(channel, lessons, at),
            Record::Kept { channel, kept, told, at } => self.keep_back(channel, kept, told, at),
            Record::Beat { heartbeat, credit } => {
                self.heartbeat = Some(heartbeat);
                Effects { heartbeat: Some(heartbeat), credit, ..Effects::default() }
            }
            Record::Unsuppress { party, address, .. } => {
                self.suppressed.remove(&(party, address.clone()));
                Effects { unsuppressed: Some((party, address)), ..Effects::default() }
            }
        }
    }

    /// Drops the files of what is forgotten; the segments that have the rest go as soon as they can.
    fn forget(&mut self, forgotten: Box<Forgotten>) -> Effects {
        self.purged = self.purged.max(forgotten.below);
        self.forgotten.extend(forgotten.messages.iter().map(|message| message.id));
        let files = forgotten.messages.iter().filter_map(|message| message.file).collect();
        self.bodies.forget(&files);
        let (kind, at) = (EventKind::AddressForgotten, forgotten.at);
        let fact = |detail: &String| Fact { kind, at, message: None, recipient: None, channel: None, detail: detail.clone() };
        Effects { facts: forgotten.told.iter().map(fact).collect(), forgotten: Some(forgotten), ..Effects::default() }
    }

    /// The state beside messages, as it is now. Where the log begins behind the first record, it is learned from here;
    /// what is open is known already.
    fn rebase(&mut self, base: Box<Base>) -> Effects {
        for state in RecipientState::ALL.into_iter().filter(|state| state.is_final()) {
            let at = usize::from(state.code());
            self.recorded[at] = base.totals.by_state[at];
            self.totals.by_state[at] = base.totals.by_state[at];
        }
        self.totals.accepted = self.recorded.iter().sum();
        self.states.extend(base.states.iter().map(|(channel, state)| (*channel, state.clone())));
        self.lessons.extend(base.lessons.iter().map(|(channel, lessons)| (*channel, lessons.clone())));
        self.kept.extend(base.kept.iter().map(|(channel, kept)| (*channel, kept.clone())));
        self.heartbeat = base.heartbeat.or(self.heartbeat);
        let totals = Totals { accepted: self.totals.accepted, by_state: self.recorded, ..Totals::default() };
        Effects { base: Some(Box::new(Base { totals, ..*base })), ..Effects::default() }
    }

    /// True when a base says of what is open what is known of it.
    pub(crate) fn agrees(&self, base: &Base) -> bool {
        let open = RecipientState::ALL.into_iter().filter(|state| !state.is_final()).map(|state| usize::from(state.code()));
        open.into_iter().all(|at| self.recorded[at] == base.totals.by_state[at])
    }

    /// True when a snapshot says of an open message what is known of it; `None` when it is not known as open.
    pub(crate) fn stands(&self, snapshot: &Snapshot) -> Option<bool> {
        let open = self.open(snapshot.meta.id)?;
        let same = |(row, stood): (&Row, &StoodRow)| {
            let known = (recorded(row), row.intended, row.doubts, row.attempts, row.due, row.first_attempt);
            known == (stood.state, stood.intended, stood.doubts, stood.attempts, stood.due, stood.first_attempt)
        };
        let rows = open.rows.get();
        Some(rows.len() == snapshot.rows.len() && rows.iter().zip(&snapshot.rows).all(same))
    }

    /// A snapshot of a message that is known says only where it stands from now on.
    fn relocate(&mut self, snapshot: Snapshot, place: Place) -> Effects {
        let id = snapshot.meta.id;
        let Some(slot) = self.slots.find(id) else {
            return self.resurrect(snapshot, place);
        };
        let before = std::mem::replace(&mut self.slots.get_mut(slot).place, place);
        let bytes = |place: Place| place.payload_length - place.body_at;
        debug_assert_eq!(bytes(before), bytes(place), "{id} is taken off the counts with as much as was added");
        self.vacate(before);
        self.occupy(place);
        Effects { relocated: Some((id, place)), ..Effects::default() }
    }

    /// A message whose acceptance is not in the log any more.
    fn resurrect(&mut self, snapshot: Snapshot, place: Place) -> Effects {
        let Snapshot { meta, order, rows: stood, spending } = snapshot;
        let (id, at) = (meta.id, meta.at);
        let rows = stood.iter().map(Row::from).collect();
        self.bodies.accept(&meta);
        let slot = self.insert(Standing { order, ..standing(&meta, order, place) }, rows);
        let mut effects = Effects { accepted: stood.len() as u64, order, ..Effects::default() };
        self.totals.accepted += stood.len() as u64;
        self.totals.by_state[0] += stood.len() as u64;
        for (index, row) in stood.into_iter().enumerate() {
            effects.moved.push((RecipientState::Queued, row.state));
            let known = Row::from(&row);
            effects.changes.push(change(id, index as u32, &known, row.since, Some(row.said), Some(row.relay)));
        }
        if let Some(spend) = spending {
            effects.spending = Some((id, Some(spend.clone())));
            self.spending.insert(id, spend);
        }
        let moved = effects.moved.clone();
        effects.new = Some((Box::new(meta), place));
        self.finish(slot, at, &moved, &mut effects);
        effects
    }

    /// An open message as the log knows it, without its words; `None` when it stands elsewhere, or is open no more.
    pub(crate) fn stood(&self, id: MessageId, segment: u32) -> Option<(Standing, Vec<StoodRow>, Option<Spend>)> {
        let slot = self.slots.find(id)?;
        let standing = self.slots.standing(slot).filter(|standing| standing.place.position.segment == segment)?;
        let open = self.slots.get(slot)?;
        let rows = open.rows.get().iter().map(|row| StoodRow {
            state: recorded(row),
            intended: row.intended,
            doubts: row.doubts,
            attempts: row.attempts,
            due: row.due,
            first_attempt: row.first_attempt,
            since: Timestamp::default(),
            said: String::new(),
            relay: String::new(),
        });
        Some((standing, rows.collect(), self.spending.get(&id).cloned()))
    }

    fn accept(&mut self, meta: Box<Meta>, order: u64, place: Place) -> Effects {
        let row = Row {
            state: RecipientState::Queued,
            intended: false,
            doubts: 0,
            attempts: 0,
            due: meta.due,
            first_attempt: Timestamp(0),
        };
        let count = meta.envelope.recipients.len();
        self.bodies.accept(&meta);
        let slot = self.insert(standing(&meta, order, place), vec![row; count]);
        self.latest = self.latest.max(meta.at);
        self.totals.accepted += count as u64;
        self.totals.by_state[0] += count as u64;
        let (id, at, channel) = (meta.id, meta.at, meta.channel);
        let fact =
            |kind, message, recipient, detail| Fact { kind, at, message: Some(message), recipient, channel: Some(channel), detail };
        let mut facts = vec![fact(EventKind::MessageQueued, id, None, String::new())];
        facts.extend(meta.retry_of.map(|origin| fact(EventKind::MessageRetried, origin, None, format!("as {id}"))));
        let mut effects = Effects { facts, accepted: count as u64, order, ..Effects::default() };
        for index in &meta.suppressed {
            let Some(row) = self.slots.get_mut(slot).rows.get_mut().get_mut(*index as usize) else { continue };
            row.state = RecipientState::Suppressed;
            let said = "on the list of addresses that must not be written to".to_owned();
            effects.facts.push(fact(EventKind::MessageSuppressed, id, Some(*index), said.clone()));
            effects.changes.push(change(id, *index, row, at, Some(said), None));
            effects.moved.push((RecipientState::Queued, RecipientState::Suppressed));
        }
        let moved = effects.moved.clone();
        effects.new = Some((meta, place));
        self.finish(slot, at, &moved, &mut effects);
        effects
    }

    fn settle(&mut self, settle: Settle) -> Effects {
        let mut effects = Effects::default();
        self.suppress(&settle, &mut effects);
        let Some(slot) = self.slots.find(settle.message) else {
            // It was accepted before the log begins, and has ended; what it spent is still spent.
            effects.spent = settle.spent;
            return effects;
        };
        let mut moved = Vec::with_capacity(settle.recipients.len());
        for settled in &settle.recipients {
            let open = self.slots.get_mut(slot);
            let Some(row) = open.rows.get_mut().get_mut(settled.index as usize) else { continue };
            // In replay the lease itself is not in the log.
            let from = row.state;
            let Some(after) = leased(from).and_then(|state| state.after(settled.to)) else { continue };
            let recorded = recorded(row);
            row.state = after;
            row.intended = false;
            row.due = settled.due;
            if settled.counts {
                row.attempts = row.attempts.saturating_add(1);
                if row.first_attempt.0 == 0 {
                    row.first_attempt = settle.at;
                }
            }
            if settled.to == Move::Doubt || (settled.to == Move::Hold && settled.counts) {
                row.doubts = row.doubts.saturating_add(1);
            }
            moved.push((from, after));
            effects.moved.push((recorded, after));
            effects.changes.push(change(
                settle.message,
                settled.index,
                row,
                settle.at,
                Some(settled.said.clone()),
                Some(settle.relay.clone()),
            ));
            if let Some(kind) = kind_of(settled.to) {
                effects.facts.push(Fact {
                    kind,
                    at: settle.at,
                    message: Some(settle.message),
                    recipient: Some(settled.index),
                    channel: Some(settle.channel),
                    detail: settled.said.clone(),
                });
            }
        }
        self.unspend(&settle, &mut effects);
        self.finish(slot, settle.at, &moved, &mut effects);
        effects
    }

    fn suppress(&mut self, settle: &Settle, effects: &mut Effects) {
        let of_message = self.party(settle.message);
        for settled in &settle.recipients {
            let Some((party, address)) = &settled.suppress else { continue };
            let Some(party) = party.or(of_message) else { continue };
            self.suppressed.insert((party, address.clone()));
            effects.suppressed.push(Suppression {
                party,
                address: address.clone(),
                reason: settled.said.clone(),
                origin: settle.message,
                at: settle.at,
            });
        }
    }

    /// Whose list counts for an open message.
    pub(crate) fn party(&self, id: MessageId) -> Option<Party> {
        self.standing(id).map(|standing| Party::of(standing.team, standing.person))
    }

    /// The transaction is over: what it spent is no longer open.
    fn unspend(&mut self, settle: &Settle, effects: &mut Effects) {
        let ended = settle.spent.as_ref().map(|spent| spent.units).or(settle.refunded);
        if let (Some(units), Some(open)) = (ended, self.spending.get_mut(&settle.message)) {
            open.units = open.units.minus(units);
            if open.units.messages == 0 {
                self.spending.remove(&settle.message);
            }
            effects.spending = Some((settle.message, self.spending.get(&settle.message).cloned()));
        }
        effects.spent = settle.spent.clone();
    }

    fn intend(&mut self, intend: &Intend, effects: &mut Effects) {
        let Some(slot) = self.slots.find(intend.message) else {
            return;
        };
        let mut moved = Vec::with_capacity(intend.recipients.len());
        for index in &intend.recipients {
            let open = self.slots.get_mut(slot);
            let Some(row) = open.rows.get_mut().get_mut(*index as usize) else { continue };
            let from = row.state;
            if leased(from).is_none() {
                continue;
            }
            effects.moved.push((recorded(row), RecipientState::Leased));
            row.state = RecipientState::Leased;
            row.intended = true;
            moved.push((from, RecipientState::Leased));
            effects.changes.push(change(intend.message, *index, row, intend.at, None, None));
        }
        if let Some(spend) = &intend.spend {
            let open = self.spending.entry(intend.message).or_insert_with(|| Spend { units: Units::default(), ..spend.clone() });
            open.units = open.units.plus(spend.units);
            effects.spending = Some((intend.message, Some(open.clone())));
        }
        self.count(&moved);
        self.requeue(slot);
    }

    fn steer(
        &mut self,
        message: MessageId,
        recipients: &[u32],
        to: Move,
        channel: Option<ChannelId>,
        by: &str,
        at: Timestamp,
    ) -> Effects {
        let mut effects = Effects::default();
        let Some(slot) = self.slots.find(message) else {
            return effects;
        };
        self.slots.get_mut(slot).reserved = false;
        for index in recipients {
            let open = self.slots.get_mut(slot);
            let Some(row) = open.rows.get_mut().get_mut(*index as usize) else { continue };
            let from = row.state;
            let Some(after) = from.after(to) else { continue };
            row.state = after;
            if to == Move::Release {
                // At once: the order's time is of the wall clock, by which nothing is due.
                row.due = Timestamp(0);
            }
            effects.moved.push((from, after));
            let said = format!("{} by {by}", word(to));
            effects.changes.push(change(message, *index, row, at, Some(said.clone()), None));
            if let Some(kind) = kind_of(to) {
                effects.facts.push(Fact { kind, at, message: Some(message), recipient: Some(*index), channel, detail: said });
            }
        }
        if let Some(channel) = channel.filter(|_| to == Move::Reroute) {
            self.change_channel(slot, channel);
            effects.rerouted = Some((message, channel));
        }
        let moved = effects.moved.clone();
        let Some(Standing { channel, lane, .. }) = self.slots.standing(slot) else { return effects };
        self.finish(slot, at, &moved, &mut effects);
        // What stood behind it may go now.
        effects.wakes.extend(self.next_due(channel).map(|due| (channel, lane, due)));
        effects
    }

    fn change_channel(&mut self, slot: u32, channel: ChannelId) {
        self.unqueue(slot);
        self.slots.change_channel(slot, channel);
    }

    /// Takes a message out of its line.
    pub(super) fn unqueue(&mut self, slot: u32) {
        let Some(standing) = self.slots.standing(slot) else { return };
        let queued_at = self.slots.get_mut(slot).queue_at(None);
        if let Some(expiry) = standing.expiry() {
            self.expiring.remove(&expiry);
        }
        let Some(lines) = self.lines.get_mut(&standing.channel) else { return };
        if let Some(at) = queued_at {
            lines.remove((at, standing.order), standing.stand());
        }
    }

    fn learn(&mut self, channel: ChannelId, lessons: Lessons, at: Timestamp) -> Effects {
        let before = self.lessons.insert(channel, lessons.clone()).unwrap_or_default();
        let facts = taught(&before, &lessons).into_iter();
        let facts = facts.map(|detail| Fact {
            kind: EventKind::ChannelLimitLearned,
            at,
            message: None,
            recipient: None,
            channel: Some(channel),
            detail,
        });
        Effects { facts: facts.collect(), lessons: Some((channel, lessons)), ..Effects::default() }
    }

    fn keep_back(&mut self, channel: ChannelId, kept: Kept, told: Vec<(EventKind, String)>, at: Timestamp) -> Effects {
        self.kept.insert(channel, kept.clone());
        let fact = |(kind, detail)| Fact { kind, at, message: None, recipient: None, channel: Some(channel), detail };
        Effects { kept: Some((channel, kept)), facts: told.into_iter().map(fact).collect(), ..Effects::default() }
    }

    fn channel(&mut self, channel: ChannelId, state: ChannelState, at: Timestamp) -> Effects {
        let before = self.states.insert(channel, state.clone()).unwrap_or_default();
        let kind = channel_kind(&before, &state);
        let fact = kind.map(|kind| Fact {
            kind,
            at,
            message: None,
            recipient: None,
            channel: Some(channel),
            detail: state.reason().to_owned(),
        });
        Effects { channel: Some((channel, state)), facts: fact.into_iter().collect(), ..Effects::default() }
    }
}
