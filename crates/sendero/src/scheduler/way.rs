//! One channel at work: its health, its workers, and which of them sleep.

use super::pace::Pace;
use mail::channel::{ChannelMove, Kept};
use mail::pace::Lessons;
use mail::{Channel, ChannelId, ChannelState, Lane, Timestamp};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// A worker looks, and opens its connection, this long before a place is free.
pub(super) const AHEAD: Duration = Duration::from_secs(2);

/// Between two changes of a channel's state. What began in an earlier one tells nothing new about the present state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Era(u64);

/// A channel at work.
pub(super) struct Way {
    pub(super) channel: ChannelId,
    /// Held while signing in: refused logins are then seen one after the other.
    pub(super) door: tokio::sync::Mutex<()>,
    /// Held from a change of the state until it is handed to the queue, and before `pace` and `inner`: states are then
    /// followed and stored in the order in which they came.
    order: Mutex<()>,
    /// Held while what it keeps back is made durable: the last word is written last.
    pub(super) keeping: tokio::sync::Mutex<()>,
    inner: Mutex<Inner>,
    /// Taken before `inner` where both are, never after it.
    pace: Mutex<Pace>,
}

struct Inner {
    health: ChannelState,
    era: Era,
    /// A transaction was refused for want of a login, and none has gone well since: that a session opens proves nothing.
    wants_login: bool,
    /// The state is to be stored again when the disk has room.
    unstored: bool,
    /// The directory row that the health is about.
    subject: Subject,
    /// Goes up whenever mail becomes due: a worker that saw an older value looks again before it sleeps.
    generation: u64,
    workers: u32,
    /// Workers with an open session.
    sessions: u32,
    idle: Vec<oneshot::Sender<()>>,
    /// No further connection beside the open ones before this.
    crowded_until: Timestamp,
    /// How often in a row its connections had it parked, whether they could be opened or not.
    setbacks: u32,
    /// Mail of a lane cannot go before.
    gates: [Timestamp; 3],
}

/// A revision of a directory row, and the account that it signs in to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) revision: u64,
    pub(super) account: String,
}

impl Subject {
    pub(super) fn of(row: &Channel) -> Self {
        Self { revision: row.revision, account: row.account() }
    }
}

/// What to do about due mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// A worker was woken, or none may start, or one is about to look.
    Nothing,
    /// Look again then.
    Later(Timestamp),
    /// Start another worker; it is already counted.
    Spawn,
}

impl Way {
    /// A channel in a state that is about this row.
    pub(super) fn new(channel: ChannelId, health: ChannelState, subject: Subject, lessons: Lessons, kept: Kept) -> Self {
        let inner = Inner {
            health,
            era: Era::default(),
            wants_login: false,
            unstored: false,
            subject,
            generation: 0,
            workers: 0,
            sessions: 0,
            idle: Vec::new(),
            crowded_until: Timestamp(0),
            setbacks: 0,
            gates: [Timestamp(0); 3],
        };
        let pace = Mutex::new(Pace::new(lessons, kept));
        let (door, keeping) = (tokio::sync::Mutex::new(()), tokio::sync::Mutex::new(()));
        Self { channel, door, order: Mutex::default(), keeping, inner: Mutex::new(inner), pace }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Mail of the lanes cannot go before these moments.
    pub(super) fn close_gates(&self, gates: [Timestamp; 3]) {
        self.lock().gates = gates;
    }

    /// Something has changed: whoever waited for a place looks again.
    pub(super) fn open_gates(&self) {
        self.lock().gates = [Timestamp(0); 3];
    }

    pub(super) fn health(&self) -> ChannelState {
        self.lock().health.clone()
    }

    /// The state, and whether something that began then is older than it.
    pub(super) fn health_since(&self, began: Era) -> (ChannelState, bool) {
        let inner = self.lock();
        (inner.health.clone(), inner.era != began)
    }

    /// The era, for what begins now; `None` while the channel is parked.
    pub(super) fn begin(&self, now: Timestamp) -> Option<Era> {
        let inner = self.lock();
        inner.health.open_at(now).is_ok().then_some(inner.era)
    }

    /// Applies a move at this moment, told about something that began then, and has the new state stored; the states before
    /// and after, and what storing it gave, when it changed anything.
    pub(super) fn apply<T>(
        &self,
        what: ChannelMove,
        began: Option<Era>,
        now: Timestamp,
        store: impl FnOnce(&ChannelState) -> T,
    ) -> Option<(ChannelState, ChannelState, T)> {
        let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, after) = self.change(what, began)?;
        self.pace().follow_state(&after, now);
        let stored = store(&after);
        Some((before, after, stored))
    }

    /// Has the present state stored.
    pub(super) fn store<T>(&self, store: impl FnOnce(&ChannelState) -> T) -> T {
        let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        let health = self.health();
        store(&health)
    }

    fn change(&self, what: ChannelMove, began: Option<Era>) -> Option<(ChannelState, ChannelState)> {
        let mut inner = self.lock();
        let is_echo = began.is_some_and(|began| began != inner.era);
        match what {
            ChannelMove::Changed { .. } | ChannelMove::Resume | ChannelMove::Enable => inner.went_well(),
            ChannelMove::OpenFailed { .. } if !is_echo => inner.setbacks = inner.setbacks.saturating_add(1),
            _ => {}
        }
        let after = if is_echo { inner.health.after_echo(what) } else { inner.health.after(what) }?;
        let before = std::mem::replace(&mut inner.health, after.clone());
        if !is_echo || std::mem::discriminant(&after) != std::mem::discriminant(&before) {
            inner.era.0 += 1;
        }
        Some((before, after))
    }

    /// A transaction that began then was refused for want of a login; true when it is not the first one in a row.
    pub(super) fn wants_login_again(&self, began: Era) -> bool {
        let mut inner = self.lock();
        inner.era == began && std::mem::replace(&mut inner.wants_login, true)
    }

    /// Somebody sees to it that the state is stored later; false when somebody does already.
    pub(super) fn begin_storing(&self) -> bool {
        !std::mem::replace(&mut self.lock().unstored, true)
    }

    /// The state is about to be stored: what changes from here on has to be stored again.
    pub(super) fn end_storing(&self) {
        self.lock().unstored = false;
    }

    /// The health is about this row from here on; the move that this is, when it was about another one.
    pub(super) fn follow(&self, subject: Subject) -> Option<ChannelMove> {
        let mut inner = self.lock();
        let other_account = inner.subject.account != subject.account;
        let before = std::mem::replace(&mut inner.subject, subject);
        (before != inner.subject).then_some(ChannelMove::Changed { other_account })
    }

    /// Decides what happens for mail of a lane, or of any, that is due at `due`.
    pub(super) fn plan(&self, due: Timestamp, lane: Option<Lane>, now: Timestamp, cap: u32) -> Plan {
        let mut inner = self.lock();
        inner.generation += 1;
        if due > now {
            return Plan::Later(due);
        }
        match inner.health.open_at(now) {
            Ok(()) => {}
            Err(Some(at)) => return Plan::Later(at),
            Err(None) => return Plan::Nothing,
        }
        let gate = lane.map_or_else(|| inner.gates.into_iter().min().unwrap_or_default(), |lane| inner.gates[lane as usize]);
        if gate.0 == i64::MAX {
            return Plan::Nothing;
        }
        if gate > now.plus(AHEAD) {
            return Plan::Later(Timestamp(gate.0 - AHEAD.as_millis() as i64));
        }
        while let Some(sleeper) = inner.idle.pop() {
            if sleeper.send(()).is_ok() {
                return Plan::Nothing;
            }
        }
        let cap = if inner.health.is_probing() { 1 } else { cap };
        if inner.workers >= cap || (inner.workers > 0 && inner.crowded_until > now) {
            return Plan::Nothing;
        }
        inner.workers += 1;
        Plan::Spawn
    }

    pub(super) fn generation(&self) -> u64 {
        self.lock().generation
    }

    /// True while further workers may be of use.
    pub(super) fn may_grow(&self, cap: u32) -> bool {
        let inner = self.lock();
        !inner.health.is_probing() && inner.workers < cap
    }

    /// A worker leaves, unless mail became due since it saw `generation`.
    pub(super) fn leave(&self, generation: u64, now: Timestamp) -> bool {
        let mut inner = self.lock();
        if inner.generation != generation && inner.health.open_at(now).is_ok() {
            return false;
        }
        inner.workers -= 1;
        true
    }

    /// A worker leaves in any case.
    pub(super) fn leave_now(&self) {
        self.lock().workers -= 1;
    }

    /// A place to sleep in, unless mail became due since the worker saw `generation`.
    pub(super) fn sleep(&self, generation: u64) -> Option<oneshot::Receiver<()>> {
        let mut inner = self.lock();
        if inner.generation != generation {
            return None;
        }
        inner.idle.retain(|sleeper| !sleeper.is_closed());
        let (wake, woken) = oneshot::channel();
        inner.idle.push(wake);
        Some(woken)
    }

    /// Wakes every sleeper: the channel was paused, or the row changed.
    pub(super) fn wake_all(&self) {
        let mut inner = self.lock();
        inner.generation += 1;
        for sleeper in inner.idle.drain(..) {
            // A sleeper that has just left needs no waking.
            let _ = sleeper.send(());
        }
    }

    /// Open sessions.
    pub(super) fn sessions(&self) -> u32 {
        self.lock().sessions
    }

    pub(super) fn session_opened(&self) {
        self.lock().sessions += 1;
    }

    pub(super) fn session_closed(&self) {
        self.lock().sessions -= 1;
    }

    /// True when sessions are open beside the connection that failed, so that it is no verdict on the channel.
    ///
    /// The caller's own session must be closed: a connection is not proved by the one that was just refused.
    pub(super) fn crowded(&self, until: Timestamp) -> bool {
        let mut inner = self.lock();
        let others = inner.sessions > 0;
        if others {
            inner.crowded_until = until;
        }
        others
    }

    /// True while no connection is opened beside those that work.
    pub(super) fn is_crowded(&self, now: Timestamp) -> bool {
        self.lock().is_crowded(now)
    }

    /// A worker without a session leaves the mail to those that have one; false when there is none any more.
    ///
    /// Whoever has one looks at what is due before it sleeps: nothing is slept over.
    pub(super) fn leave_to_others(&self, now: Timestamp) -> bool {
        let mut inner = self.lock();
        let leaves = inner.is_crowded(now);
        inner.workers -= u32::from(leaves);
        leaves
    }

    /// How often in a row connections had the channel parked.
    pub(super) fn setbacks(&self) -> u32 {
        self.lock().setbacks
    }

    /// A transaction had nothing to say about the channel.
    pub(super) fn went_well(&self) {
        self.lock().went_well();
    }
}

impl Inner {
    fn went_well(&mut self) {
        (self.setbacks, self.wants_login) = (0, false);
    }

    fn is_crowded(&self, now: Timestamp) -> bool {
        self.sessions > 0 && self.crowded_until > now
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NOW: Timestamp = Timestamp(1_000);

    fn way(health: ChannelState) -> Way {
        Way::new(ChannelId(1), health, Subject::default(), Lessons::default(), Kept::default())
    }

    #[test]
    fn due_mail_starts_workers_up_to_the_cap() {
        let way = way(ChannelState::Active);
        let plans: Vec<Plan> = (0..4).map(|_| way.plan(NOW, None, NOW, 2)).collect();
        assert_eq!(plans, [Plan::Spawn, Plan::Spawn, Plan::Nothing, Plan::Nothing]);
    }

    #[test]
    fn a_sleeping_worker_is_woken_before_another_is_started() {
        let way = way(ChannelState::Active);
        assert_eq!(way.plan(NOW, None, NOW, 9), Plan::Spawn);
        let mut asleep = way.sleep(way.generation()).expect("nothing became due");
        assert_eq!(way.plan(NOW, None, NOW, 9), Plan::Nothing);
        assert_eq!(asleep.try_recv(), Ok(()));
        assert_eq!(way.plan(NOW, None, NOW, 9), Plan::Spawn);
    }

    #[test]
    fn a_worker_does_not_sleep_over_mail_that_has_just_become_due() {
        let way = way(ChannelState::Active);
        assert_eq!(way.plan(NOW, None, NOW, 1), Plan::Spawn);
        let seen = way.generation();
        assert_eq!(way.plan(NOW, None, NOW, 1), Plan::Nothing);
        assert!(way.sleep(seen).is_none());
        assert!(!way.leave(seen, NOW));
    }

    #[test]
    fn a_channel_not_yet_seen_to_work_opens_one_connection_at_a_time() {
        let way = way(ChannelState::Unverified);
        assert_eq!(way.plan(NOW, None, NOW, 9), Plan::Spawn);
        assert_eq!(way.plan(NOW, None, NOW, 9), Plan::Nothing);
    }

    #[test]
    fn a_parked_channel_is_looked_at_when_its_time_has_come() {
        let until = Timestamp(5_000);
        let way = way(ChannelState::Unreachable { until, failures: 1, reason: String::new() });
        assert_eq!(way.plan(NOW, None, NOW, 9), Plan::Later(until));
        assert_eq!(way.plan(NOW, None, until, 9), Plan::Spawn);
    }

    #[test]
    fn a_channel_that_waits_for_a_person_starts_nothing() {
        for health in [
            ChannelState::Paused { by: "ana".into() },
            ChannelState::NeedsAttention { reason: "535".into(), revision: 1 },
            ChannelState::Disabled,
        ] {
            assert_eq!(way(health).plan(NOW, None, NOW, 9), Plan::Nothing);
        }
    }

    #[test]
    fn a_refused_further_connection_is_no_verdict_on_a_channel_that_works() {
        let way = way(ChannelState::Active);
        assert!(!way.crowded(Timestamp(2_000)));
        assert_eq!(way.plan(NOW, None, NOW, 9), Plan::Spawn);
        way.session_opened();
        assert!(way.crowded(Timestamp(2_000)));
        assert_eq!(way.plan(NOW, None, NOW, 9), Plan::Nothing);
        assert_eq!(way.plan(NOW, None, Timestamp(2_000), 9), Plan::Spawn);
    }

    #[test]
    fn states_are_stored_in_the_order_in_which_they_came() {
        let way = way(ChannelState::Active);
        let stored = Mutex::new(Vec::new());
        let store = |state: &ChannelState| stored.lock().unwrap().push(state.name());
        let is_down = || way.pace().kept.down_since.is_some();
        let (changed, has_changed) = std::sync::mpsc::channel();
        let (overtaken, overtakes) = std::sync::mpsc::channel();
        let (way, store, is_down) = (&way, &store, &is_down);
        std::thread::scope(|threads| {
            threads.spawn(move || {
                way.apply(ChannelMove::OpenFailed { until: NOW, reason: String::new() }, None, NOW, |state| {
                    assert!(is_down(), "what the channel keeps back follows before the state is stored");
                    changed.send(()).unwrap();
                    // Long enough for the other one to overtake, were it not kept from it.
                    let _ = overtakes.recv_timeout(Duration::from_millis(200));
                    store(state);
                });
            });
            has_changed.recv().unwrap();
            way.apply(ChannelMove::Opened, None, NOW, store);
            assert!(!is_down());
            let _ = overtaken.send(());
        });
        assert_eq!(*stored.lock().unwrap(), ["unreachable", "active"]);
        assert_eq!(way.store(ChannelState::name), way.health().name());
    }

    #[test]
    fn mail_that_cannot_go_yet_wakes_nobody_and_more_urgent_mail_does() {
        let way = way(ChannelState::Active);
        let slot = Timestamp(60_000);
        way.close_gates([Timestamp(0), slot, slot]);
        let ahead = Timestamp(slot.0 - AHEAD.as_millis() as i64);
        assert_eq!(way.plan(NOW, Some(Lane::Bulk), NOW, 9), Plan::Later(ahead));
        assert_eq!(way.plan(NOW, Some(Lane::Normal), NOW, 9), Plan::Later(ahead));
        assert_eq!(way.plan(NOW, Some(Lane::Now), NOW, 9), Plan::Spawn);
        assert_eq!(way.plan(NOW, Some(Lane::Bulk), ahead, 9), Plan::Spawn);
        way.close_gates([Timestamp(i64::MAX); 3]);
        assert_eq!(way.plan(NOW, None, slot, 9), Plan::Nothing, "an open transaction ends first");
        way.open_gates();
        assert_eq!(way.plan(NOW, None, slot, 9), Plan::Spawn);
    }
}
