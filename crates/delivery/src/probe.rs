//! Tries a channel step by step, for the person who sets it up. Never sends a message.

use crate::smarthost::{Deadlines, SmarthostTransport};
use crate::{Endpoint, OpenError, Session};
use mail::Stage;
use mail::channel::{AuthMode, TlsMode};
use smtp::ReversePath;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How long a person may have to wait for the whole of it.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A step that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Which.
    pub stage: Stage,
    /// How long it took.
    pub elapsed: Duration,
    /// What there is to tell of it: addresses, protocol version, extensions; may be empty.
    pub detail: String,
}

/// The step at which it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which.
    pub stage: Stage,
    /// How long it took.
    pub elapsed: Duration,
    /// What went wrong, in words.
    pub cause: String,
    /// What may help.
    pub fix: String,
    /// True when the credential itself was refused.
    pub login_refused: bool,
}

/// What a channel's test found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Steps that went well, in order.
    pub steps: Vec<Step>,
    /// The one that did not.
    pub failure: Option<Failure>,
    /// Whom it spoke to, once it got so far.
    pub relay: Option<String>,
}

struct Log {
    steps: Vec<Step>,
    since: Instant,
}

impl Log {
    fn step(&mut self, stage: Stage, detail: String) {
        let now = Instant::now();
        self.steps.push(Step { stage, elapsed: now - self.since, detail });
        self.since = now;
    }

    fn failure(&self, stage: Stage, cause: String, fix: &str) -> Failure {
        Failure { stage, elapsed: self.since.elapsed(), cause, fix: fix.to_owned(), login_refused: false }
    }
}

/// Goes through look-up, connection, greeting, TLS and login, and with `sender` asks whether the
/// next hop would take mail from it. Whatever happens, it answers `within` this time.
pub async fn probe(transport: &SmarthostTransport, endpoint: &Endpoint, sender: Option<&ReversePath>, within: Duration) -> Report {
    let mut log = Log { steps: Vec::new(), since: Instant::now() };
    let mut relay = None;
    let walk = walk(transport, endpoint, sender, within, &mut log, &mut relay);
    let failure = match timeout(within, walk).await {
        Ok(failure) => failure,
        Err(_) => {
            let stage = upcoming(endpoint, &log.steps);
            let cause = format!("no answer within {}", crate::connect::seconds(within));
            Some(log.failure(stage, cause.clone(), OpenError::Broken(stage, cause).fix()))
        }
    };
    Report { steps: log.steps, failure, relay }
}

async fn walk(
    transport: &SmarthostTransport,
    endpoint: &Endpoint,
    sender: Option<&ReversePath>,
    within: Duration,
    log: &mut Log,
    relay: &mut Option<String>,
) -> Option<Failure> {
    let opened = transport.open_watched(endpoint, Deadlines::each(within), &mut |stage, detail| log.step(stage, detail)).await;
    let mut session = match opened {
        Ok(session) => session,
        Err(error) => {
            let failure = log.failure(error.stage(), error.to_string(), error.fix());
            return Some(Failure { login_refused: error.is_login_refusal(), ..failure });
        }
    };
    *relay = Some(session.relay().to_owned());
    let Some(sender) = sender else {
        Box::new(session).close().await;
        return None;
    };
    let reply = match session.try_sender(sender, within).await {
        Ok(reply) => reply,
        Err(why) => return Some(log.failure(Stage::Mail, why.clone(), OpenError::Broken(Stage::Mail, why).fix())),
    };
    if !reply.is_positive() {
        let fix = "use a sender address that the provider knows, or have it added there";
        return Some(log.failure(Stage::Mail, format!("mail from {sender} is refused: {reply}"), fix));
    }
    log.step(Stage::Mail, reply.to_string());
    None
}

/// The step that was under way when patience ended.
fn upcoming(endpoint: &Endpoint, steps: &[Step]) -> Stage {
    let (tls, auth) = endpoint.smarthost().map_or((TlsMode::None, AuthMode::None), |smarthost| (smarthost.tls, smarthost.auth));
    let done = |stage: Stage| steps.iter().any(|step| step.stage == stage);
    let due = [
        (Stage::Resolve, true),
        (Stage::Connect, true),
        (Stage::Tls, tls == TlsMode::Implicit),
        (Stage::Greeting, true),
        (Stage::Ehlo, true),
        (Stage::StartTls, tls == TlsMode::Starttls),
        (Stage::Tls, tls == TlsMode::Starttls),
        (Stage::Auth, auth != AuthMode::None),
    ];
    due.into_iter().find(|(stage, wanted)| *wanted && !done(*stage)).map_or(Stage::Mail, |(stage, _)| stage)
}
