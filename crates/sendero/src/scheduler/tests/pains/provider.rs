//! The other side of a channel: what it says, and what it counts.

use delivery::{Endpoint, OpenError, Outgoing, Session};
use futures_util::future::BoxFuture;
use mail::channel::Transport as Kind;
use mail::{Cause, Diagnostic, Lane, Outcome, Stage};
use smtp::{EnhancedCode, Reply};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A round trip, and how long a transaction takes after it.
const ROUND_TRIP: Duration = Duration::from_millis(20);
const TAKES: Duration = Duration::from_millis(50);

/// What one login of a provider has seen.
pub struct Provider {
    began: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
pub struct State {
    /// This password alone opens a session.
    pub password: String,
    /// What it says to everything at a stage, until it is told otherwise.
    pub says: Option<(Stage, &'static str)>,
    /// While more sessions than these are open, it says this to further ones at this stage.
    pub room: Option<(usize, Stage, &'static str)>,
    /// It takes everything up to the final dot and then says nothing.
    pub is_silent: bool,
    /// When AUTH came, in milliseconds, and whether it was taken.
    pub logins: Vec<(i64, bool)>,
    /// Transactions, in the order in which they began.
    pub transactions: Vec<Transaction>,
    /// How often each recipient was taken.
    pub taken: BTreeMap<String, u32>,
    /// Open sessions, and the most there were.
    pub open: usize,
    pub most_open: usize,
}

/// What the provider counts.
#[derive(Clone, Copy, Debug)]
pub struct Transaction {
    /// In milliseconds.
    pub began: i64,
    pub answered: Option<i64>,
    pub lane: Lane,
    pub recipients: u64,
    pub is_taken: bool,
}

/// A reply as transcripts have it: `550 5.4.5 Daily user sending quota exceeded`.
fn reply(text: &str) -> Reply {
    let (code, rest) = text.split_once(' ').unwrap();
    let (first, words) = rest.split_once(' ').unwrap();
    let code = code.parse().unwrap();
    EnhancedCode::parse(first).map_or_else(|| Reply::plain(code, rest), |enhanced| Reply::new(code, enhanced, words))
}

impl Provider {
    pub fn new(began: Instant) -> Self {
        Self { began, state: Mutex::new(State { password: "right".into(), ..State::default() }) }
    }

    pub fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // A test that fails while it looks is told so by its own panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> i64 {
        self.began.elapsed().as_millis() as i64
    }

    /// From here on it says this at a stage.
    pub fn says(&self, stage: Stage, text: &'static str) {
        self.state().says = Some((stage, text));
    }

    pub fn says_yes(&self) {
        self.state().says = None;
    }

    pub fn accepts_password(&self, password: &str) {
        self.state().password = password.into();
    }

    fn crowded(&self) -> Option<(Stage, &'static str)> {
        let state = self.state();
        state.room.filter(|(room, ..)| state.open > *room).map(|(_, stage, text)| (stage, text))
    }

    /// Transactions whose message it took.
    pub fn taken(&self) -> Vec<Transaction> {
        self.state().transactions.iter().filter(|one| one.is_taken).copied().collect()
    }

    /// Commands AUTH so far.
    pub fn logins(&self) -> usize {
        self.state().logins.len()
    }

    pub fn seen(&self) -> usize {
        self.state().transactions.len()
    }

    pub fn refused_logins(&self) -> usize {
        self.state().logins.iter().filter(|(_, taken)| !taken).count()
    }

    /// The most units in any window of so many seconds, counted where the transactions begin and where they end.
    pub fn most_in(&self, seconds: u64, units: impl Fn(&Transaction) -> u64) -> u64 {
        let state = self.state();
        let most = |when: &dyn Fn(&Transaction) -> i64| {
            let mut times: Vec<(i64, u64)> = state.transactions.iter().map(|one| (when(one), units(one))).collect();
            times.sort_unstable();
            let (mut first, mut held, mut most) = (0, 0, 0);
            for (at, units) in &times {
                held += units;
                while times[first].0 <= at - seconds as i64 * 1000 {
                    held -= times[first].1;
                    first += 1;
                }
                most = most.max(held);
            }
            most
        };
        most(&|one| one.began).max(most(&|one| one.answered.unwrap_or(one.began)))
    }

    /// Nobody got anything twice; how many got something.
    pub fn recipients_once(&self) -> usize {
        let state = self.state();
        let twice: Vec<_> = state.taken.iter().filter(|(_, count)| **count > 1).take(3).collect();
        assert!(twice.is_empty(), "taken twice: {twice:?}");
        state.taken.len()
    }
}

/// The network of one process: when that ends, nothing of it is heard any more.
pub struct Network {
    /// By user name.
    pub providers: Arc<BTreeMap<String, Arc<Provider>>>,
    pub ended: CancellationToken,
}

struct Line {
    provider: Arc<Provider>,
    ended: CancellationToken,
}

/// Lets time pass; never returns in a process that has ended meanwhile.
async fn pass(time: Duration, ended: &CancellationToken) {
    tokio::time::sleep(time).await;
    if ended.is_cancelled() {
        std::future::pending::<()>().await;
    }
}

impl delivery::Transport for Network {
    fn open<'a>(&'a self, endpoint: &'a Endpoint) -> BoxFuture<'a, Result<Box<dyn Session>, OpenError>> {
        Box::pin(async move {
            pass(ROUND_TRIP, &self.ended).await;
            let Kind::Smtp(host) = &endpoint.transport else { panic!("only smarthosts have providers") };
            let provider = &self.providers[host.username.as_deref().unwrap_or_default()];
            let given = String::from_utf8(endpoint.secret.clone().unwrap_or_default().to_vec()).unwrap();
            let (now, mut state) = (provider.now(), provider.state());
            if let Some((room, stage @ Stage::Greeting, text)) = state.room
                && state.open >= room
            {
                return Err(OpenError::Refused(stage, reply(text)));
            }
            let refusal = match state.says {
                Some((Stage::Connect, text)) => return Err(OpenError::Broken(Stage::Connect, text.into())),
                Some((stage @ (Stage::Greeting | Stage::Ehlo), text)) => return Err(OpenError::Refused(stage, reply(text))),
                Some((Stage::Auth, text)) => Some(reply(text)),
                _ if given != state.password => Some(reply("535 5.7.8 authentication failed")),
                _ => None,
            };
            state.logins.push((now, refusal.is_none()));
            match refusal {
                Some(said) if said.code() < 500 => Err(OpenError::LoginLater(said)),
                Some(said) => Err(OpenError::Login(said)),
                None => {
                    state.open += 1;
                    state.most_open = state.most_open.max(state.open);
                    Ok(Box::new(Line { provider: Arc::clone(provider), ended: self.ended.clone() }) as Box<dyn Session>)
                }
            }
        })
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.ended.is_cancelled() {
            self.provider.state().open -= 1;
        }
    }
}

impl Line {
    async fn transaction(&mut self, outgoing: &Outgoing, go: BoxFuture<'_, bool>) -> Outcome {
        let number = {
            let (now, mut state) = (self.provider.now(), self.provider.state());
            let recipients = outgoing.lease.recipients.len() as u64;
            let begun = Transaction { began: now, answered: None, lane: outgoing.lease.lane, recipients, is_taken: false };
            state.transactions.push(begun);
            state.transactions.len() - 1
        };
        let says = self.provider.state().says;
        if let Some((stage @ (Stage::Mail | Stage::Rcpt), text)) = says {
            return self.refuse(number, stage, text);
        }
        let may_go = go.await;
        pass(TAKES, &self.ended).await;
        if !may_go {
            return Outcome::Untried;
        }
        if self.provider.state().is_silent {
            std::future::pending::<()>().await;
        }
        let says = self.provider.crowded().or(self.provider.state().says);
        if let Some((stage @ (Stage::Data | Stage::FinalDot), text)) = says {
            return self.refuse(number, stage, text);
        }
        let (now, mut state) = (self.provider.now(), self.provider.state());
        (state.transactions[number].answered, state.transactions[number].is_taken) = (Some(now), true);
        for one in &outgoing.lease.recipients {
            let to = outgoing.lease.envelope.recipients[one.index as usize].path.to_string();
            *state.taken.entry(to).or_default() += 1;
        }
        Outcome::Sent(Diagnostic { code: 250, enhanced: None, text: "ok".into() })
    }

    fn refuse(&self, number: usize, stage: Stage, text: &str) -> Outcome {
        self.provider.state().transactions[number].answered = Some(self.provider.now());
        let said = Diagnostic::from(&reply(text));
        let is_transient = said.code < 500;
        let cause = Cause::Refused(stage, said);
        if is_transient { Outcome::Deferred(cause) } else { Outcome::Failed(cause) }
    }
}

impl Session for Line {
    fn deliver<'a>(&'a mut self, outgoing: &'a Outgoing, go: BoxFuture<'a, bool>) -> BoxFuture<'a, Vec<(u32, Outcome)>> {
        Box::pin(async move {
            let outcome = self.transaction(outgoing, go).await;
            outgoing.lease.recipients.iter().map(|one| (one.index, outcome.clone())).collect()
        })
    }

    /// Its replies come all at once, at the end of a transaction.
    fn given_up(&mut self, _: &Outgoing) -> Vec<(u32, Outcome)> {
        Vec::new()
    }

    fn is_reusable(&self) -> bool {
        true
    }

    fn relay(&self) -> &str {
        "provider[192.0.2.1]:587"
    }

    fn offers_dsn(&self) -> bool {
        true
    }

    fn gone<'a>(&'a mut self) -> BoxFuture<'a, ()> {
        Box::pin(std::future::pending())
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}
