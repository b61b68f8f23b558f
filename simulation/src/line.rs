//! Sessions with the next hops, at the traits where the scheduler meets the network.

use crate::book::Given;
use crate::plan::Trouble;
use crate::texts::{self, Refusal};
use crate::world::{State, World};
use delivery::{Endpoint, OpenError, Outgoing, Session, Transport};
use futures_util::future::BoxFuture;
use mail::{Cause, ChannelId, Diagnostic, Lane, MessageId, Outcome, Stage};
use smtp::Reply;
use std::sync::Arc;

/// How long a connection is waited for, in milliseconds.
const PATIENCE: u64 = 30_000;
/// How long the final reply is awaited, in milliseconds.
pub const FINAL_PATIENCE: u64 = 600_000;

/// A provider may count a transaction so much later whose connection broke after the final dot.
const LATE: u64 = 240_000;

/// The network of a history.
pub struct Network(pub Arc<World>);

impl Transport for Network {
    fn open<'a>(&'a self, endpoint: &'a Endpoint) -> BoxFuture<'a, Result<Box<dyn Session>, OpenError>> {
        Box::pin(async move {
            let world = &self.0;
            let latency = {
                let mut state = world.lock();
                let State { random, providers, .. } = &mut *state;
                providers.get(&endpoint.channel).map_or(0, |provider| provider.latency(random))
            };
            world.pass(latency).await;
            let silent = {
                let mut state = world.lock();
                let now = state.now();
                state.provider(endpoint.channel).spoken_to = now;
                state.provider(endpoint.channel).troubles(now).any(|trouble| trouble == Trouble::Silent)
            };
            if silent {
                world.pass(PATIENCE).await;
            }
            opened(&mut world.lock(), endpoint, silent)?;
            let line = Line {
                lane: Lane::Normal,
                world: Arc::clone(world),
                channel: endpoint.channel,
                broken: false,
                dotted: None,
                counted: None,
                said: Vec::new(),
            };
            Ok(Box::new(line) as Box<dyn Session>)
        })
    }
}

fn opened(state: &mut State, endpoint: &Endpoint, silent: bool) -> Result<(), OpenError> {
    let now = state.now();
    let given: u32 = endpoint.secret.as_ref().and_then(|secret| std::str::from_utf8(secret).ok()?.parse().ok()).unwrap_or(u32::MAX);
    let State { random, providers, .. } = &mut *state;
    let Some(provider) = providers.get_mut(&endpoint.channel) else {
        return Err(OpenError::Misconfigured("no such channel".into()));
    };
    let down = provider.troubles(now).any(|trouble| trouble == Trouble::Down);
    let busy = provider.strikes(now, random, |trouble| if let Trouble::Busy(percent) = trouble { Some(percent) } else { None });
    let later = provider.troubles(now).any(|trouble| trouble == Trouble::LoginLater);
    let result = if silent {
        Err(OpenError::Broken(Stage::Connect, "timed out".into()))
    } else if down {
        Err(OpenError::Broken(Stage::Connect, "connection refused".into()))
    } else if busy || provider.is_full() {
        Err(OpenError::Refused(Stage::Greeting, Reply::new(421, (4, 7, 0), "too many concurrent connections, try again later")))
    } else if later {
        Err(OpenError::LoginLater(Reply::new(454, (4, 7, 0), "temporary authentication failure")))
    } else if given != provider.password {
        provider.refused_logins += 1;
        Err(OpenError::Login(Reply::new(535, (5, 7, 8), "username and password not accepted")))
    } else {
        provider.sessions += 1;
        Ok(())
    };
    let refused = provider.refused_logins;
    state.note(&format!("{} open: {}", endpoint.name, result.as_ref().map_or_else(ToString::to_string, |()| "ok".into())));
    if refused > 2 {
        state.check(Err(format!("P4: {refused} refused logins on {}", endpoint.name)));
    }
    result
}

/// One session.
struct Line {
    /// That of the transaction.
    lane: Lane,
    world: Arc<World>,
    channel: ChannelId,
    broken: bool,
    /// The transaction whose final dot has left and whose end is not known here.
    dotted: Option<(MessageId, Vec<u32>)>,
    /// The transaction that the provider counts and that is not over.
    counted: Option<usize>,
    /// What was said about recipients of the last transaction.
    said: Vec<(u32, Outcome)>,
}

impl Drop for Line {
    fn drop(&mut self) {
        let world = Arc::clone(&self.world);
        let mut state = world.lock();
        state.provider(self.channel).sessions -= 1;
        let may_count_later = self.dotted.is_some();
        self.uncount(&mut state, may_count_later);
        if let Some((message, indices)) = self.dotted.take() {
            let taken = state.random.percent(50);
            end_unknown(&mut state, message, &indices, taken);
        }
    }
}

/// The connection is gone after the final dot: the next hop has the message, or not.
fn end_unknown(state: &mut State, message: MessageId, indices: &[u32], taken: bool) {
    state.note(&format!("{message} no reply after the dot, taken: {taken}"));
    for index in indices {
        if taken {
            let result = state.book.taken(message, *index);
            state.check(result);
        }
        let result = state.book.given(message, *index, Given::Lost);
        state.check(result);
    }
}

impl Line {
    /// The provider counts this transaction from here on.
    fn count(&mut self, recipients: usize, bytes: u64) {
        let mut state = self.world.lock();
        let (now, account) = (state.now(), state.provider(self.channel).account());
        let (number, result) = state.accounts[account].begin(now, self.lane, recipients as u32, bytes);
        state.check(result);
        self.counted = Some(number);
    }

    /// The transaction is over, for the provider perhaps a while later.
    fn uncount(&mut self, state: &mut State, may_count_later: bool) {
        let Some(number) = self.counted.take() else { return };
        let later = if may_count_later { state.random.below(LATE) } else { 0 };
        let (now, account) = (state.now(), state.provider(self.channel).account());
        state.accounts[account].end(number, now + later);
    }

    async fn round_trip(&self) {
        let latency = {
            let mut state = self.world.lock();
            let now = state.now();
            let State { random, providers, .. } = &mut *state;
            providers.get_mut(&self.channel).map_or(0, |provider| {
                provider.spoken_to = now;
                provider.latency(random)
            })
        };
        self.world.pass(latency).await;
        let mut state = self.world.lock();
        let now = state.now();
        state.provider(self.channel).spoken_to = now;
    }

    fn strikes(&self, percent: impl Fn(Trouble) -> Option<u64>) -> bool {
        let mut state = self.world.lock();
        let now = state.now();
        let State { random, providers, .. } = &mut *state;
        providers.get(&self.channel).is_some_and(|provider| provider.strikes(now, random, percent))
    }

    /// What the next hop has against a message or a recipient at these stages.
    fn refusal(&self, stages: &[Stage]) -> Option<Refusal> {
        let of = |texts: &[Refusal]| texts.iter().filter(|text| stages.contains(&text.stage)).copied().collect::<Vec<_>>();
        let never = self.strikes(|trouble| if let Trouble::Never(percent) = trouble { Some(percent) } else { None });
        let later = self.strikes(|trouble| if let Trouble::Later(percent) = trouble { Some(percent) } else { None });
        let channel = self.strikes(|trouble| if let Trouble::Channel(percent) = trouble { Some(percent) } else { None });
        let speaks = self.world.lock().provider(self.channel).speaks();
        let texts = match (channel, never, later) {
            (true, ..) => of(&texts::about_channel(speaks).collect::<Vec<_>>()),
            (_, true, _) => of(&texts::NEVER),
            (_, _, true) => of(&texts::LATER),
            (false, false, false) => return None,
        };
        (!texts.is_empty()).then(|| self.world.lock().random.pick(&texts))
    }

    async fn transaction(&mut self, outgoing: &Outgoing, go: BoxFuture<'_, bool>) -> Vec<(u32, Outcome)> {
        self.world.live().await;
        let message = outgoing.lease.message;
        let all: Vec<u32> = outgoing.lease.recipients.iter().map(|recipient| recipient.index).collect();
        {
            let mut state = self.world.lock();
            state.note(&format!("{message} {all:?} begins"));
            for index in &all {
                let result = state.book.begins(message, *index);
                state.check(result);
            }
        }
        self.lane = outgoing.lease.lane;
        self.said.clear();
        let free = self.world.lock().provider(self.channel).refusals_free();
        if !free {
            self.count(all.len(), outgoing.lease.size_bytes);
        }
        let outcomes = self.spoken(message, all, outgoing.lease.size_bytes, go, free).await;
        let world = Arc::clone(&self.world);
        self.uncount(&mut world.lock(), outcomes.iter().any(|(_, outcome)| matches!(outcome, Outcome::Uncertain(_))));
        outcomes
    }

    async fn spoken(
        &mut self,
        message: MessageId,
        all: Vec<u32>,
        bytes: u64,
        go: BoxFuture<'_, bool>,
        free: bool,
    ) -> Vec<(u32, Outcome)> {
        self.round_trip().await;
        if self.strikes(|trouble| if let Trouble::Drops(percent) = trouble { Some(percent) } else { None }) {
            self.broken = true;
            let stage = self.world.lock().random.pick(&[Stage::Mail, Stage::Rcpt, Stage::Data, Stage::Body]);
            let outcome = Outcome::Deferred(Cause::Broken(stage, "connection reset by peer".into()));
            return self.end(message, &all, &outcome, Given::Broken);
        }
        if let Some(refusal) = self.refusal(&[Stage::Mail]) {
            return self.end(message, &all, &refused(&refusal), given(&refusal));
        }
        let mut outcomes = Vec::new();
        let mut rest = Vec::new();
        for index in all {
            match self.refusal(&[Stage::Rcpt]) {
                Some(refusal) => outcomes.extend(self.end(message, &[index], &refused(&refusal), given(&refusal))),
                None => rest.push(index),
            }
        }
        if !rest.is_empty() {
            outcomes.extend(self.body(message, rest, bytes, go, free).await);
        }
        outcomes.sort_by_key(|(index, _)| *index);
        outcomes
    }

    async fn body(
        &mut self,
        message: MessageId,
        rest: Vec<u32>,
        bytes: u64,
        go: BoxFuture<'_, bool>,
        free: bool,
    ) -> Vec<(u32, Outcome)> {
        let durable = go.await;
        self.world.live().await;
        if !durable {
            self.world.note(&format!("{message} {rest:?} not handed over"));
            return rest.iter().map(|index| (*index, Outcome::Untried)).collect();
        }
        for index in &rest {
            let mut state = self.world.lock();
            let result = state.book.dot(message, *index);
            state.check(result);
        }
        if free {
            self.count(rest.len(), bytes);
        }
        self.dotted = Some((message, rest.clone()));
        self.round_trip().await;
        if self.strikes(|trouble| if let Trouble::Lost(percent) = trouble { Some(percent) } else { None }) {
            let silent = self.world.lock().random.percent(30);
            if silent {
                self.world.pass(FINAL_PATIENCE).await;
            }
            self.broken = true;
            self.dotted = None;
            let mut state = self.world.lock();
            let now = state.now();
            state.provider(self.channel).spoken_to = now;
            let taken = state.random.percent(50);
            end_unknown(&mut state, message, &rest, taken);
            let outcome = Outcome::Uncertain(Cause::LostAfterData("connection reset by peer".into()));
            return rest.iter().map(|index| (*index, outcome.clone())).collect();
        }
        self.dotted = None;
        if let Some(refusal) = self.refusal(&[Stage::FinalDot]) {
            return self.end(message, &rest, &refused(&refusal), given(&refusal));
        }
        {
            let mut state = self.world.lock();
            for index in &rest {
                let result = state.book.taken(message, *index);
                state.check(result);
            }
            state.provider(self.channel).taken += rest.len() as u64;
        }
        let said = Diagnostic { code: 250, enhanced: Some(smtp::EnhancedCode::new(2, 0, 0)), text: "queued".into() };
        self.end(message, &rest, &Outcome::Sent(said), Given::Taken)
    }

    fn end(&mut self, message: MessageId, indices: &[u32], outcome: &Outcome, given: Given) -> Vec<(u32, Outcome)> {
        let outcomes: Vec<_> = indices.iter().map(|index| (*index, outcome.clone())).collect();
        if given != Given::Broken {
            self.said.extend_from_slice(&outcomes);
        }
        let mut state = self.world.lock();
        state.note(&format!("{message} {indices:?} {given:?}"));
        for index in indices {
            let result = state.book.given(message, *index, given);
            state.check(result);
        }
        outcomes
    }
}

fn given(refusal: &Refusal) -> Given {
    match (refusal.about, refusal.is_permanent()) {
        (texts::About::Channel, _) => Given::Channel,
        (texts::About::Message, true) => Given::Refused,
        (texts::About::Message, false) => Given::Deferred,
    }
}

fn refused(refusal: &Refusal) -> Outcome {
    let cause = Cause::Refused(refusal.stage, refusal.said());
    if refusal.is_permanent() { Outcome::Failed(cause) } else { Outcome::Deferred(cause) }
}

impl Session for Line {
    fn deliver<'a>(&'a mut self, outgoing: &'a Outgoing, go: BoxFuture<'a, bool>) -> BoxFuture<'a, Vec<(u32, Outcome)>> {
        Box::pin(self.transaction(outgoing, go))
    }

    fn given_up(&mut self, _: &Outgoing) -> Vec<(u32, Outcome)> {
        std::mem::take(&mut self.said)
    }

    fn is_reusable(&self) -> bool {
        !self.broken
    }

    fn offers_dsn(&self) -> bool {
        true
    }

    fn relay(&self) -> &str {
        "mx.example.net[192.0.2.1]:587"
    }

    fn gone<'a>(&'a mut self) -> BoxFuture<'a, ()> {
        Box::pin(async {
            let idle = self.world.lock().provider(self.channel).closes_idle();
            match idle {
                Some(milliseconds) => self.world.pass(milliseconds).await,
                None => std::future::pending().await,
            }
        })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move { drop(self) })
    }
}
