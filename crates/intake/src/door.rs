//! What all submission listeners of a gateway share.

use crate::accept::{ExplicitWishes, Incoming, Intake, Principal, Trace};
use crate::arrival::Arrival;
use crate::caps::Caps;
use crate::guard::Guard;
use crate::log::{self, Source};
use crate::refusal::AcceptRefusal;
use crate::tls::ServerTls;
use mail::envelope::{Notify, Ret};
use mail::{BodyType, Envelope, Recipient, Surface};
use smtp::Reply;
use smtp::command::{MailParameters, RcptParameters};
use smtp::sasl::Credentials;
use smtp::server::Submission;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::time::{Instant, sleep};

pub use crate::patience::Deadlines;

/// What all submission listeners of a gateway share: the way in, TLS, the caps and the guard.
pub struct Door {
    /// Where messages go.
    pub(crate) intake: Arc<Intake>,
    pub(crate) tls: Arc<ServerTls>,
    pub(crate) caps: Arc<Caps>,
    pub(crate) deadlines: Deadlines,
    guard: Mutex<Guard>,
    /// Accounts are remembered by a hash that nobody outside can aim at.
    hasher: RandomState,
}

impl Door {
    /// A door to this intake.
    #[must_use]
    pub fn new(intake: Arc<Intake>, tls: Arc<ServerTls>, caps: Arc<Caps>, deadlines: Deadlines) -> Arc<Self> {
        Arc::new(Self { intake, tls, caps, deadlines, guard: Mutex::default(), hasher: RandomState::new() })
    }

    /// Checks a login. A right one is let in at once, from wherever it comes: tokens are too long to be
    /// guessed, and somebody who guesses behind the same address must not keep others out. A wrong one
    /// is answered as slowly as the peer and the account have earned.
    pub(crate) async fn verify(&self, credentials: &Credentials, peer: Option<IpAddr>) -> Result<Principal, Reply> {
        let site = peer.map(crate::caps::site);
        if let Some(principal) = self.intake.people().verify(&credentials.user, credentials.secret(), Surface::Smtp) {
            self.intake.counters().login(true);
            return Ok(principal);
        }
        let Ok(turn) = self.guard(|guard| guard.admit(site, Instant::now().into_std())) else {
            self.login_failed(credentials, peer, "too many tries");
            return Err(Reply::new(454, (4, 7, 0), "too many refused logins from your address; try again later"));
        };
        if !turn.wait.is_zero() {
            sleep(turn.wait).await;
        }
        let account = self.hasher.hash_one(credentials.user.to_lowercase());
        let wait = self.guard(|guard| guard.failed(site, account, Instant::now().into_std()));
        if !wait.is_zero() {
            sleep(wait).await;
        }
        self.login_failed(credentials, peer, "wrong name or secret");
        Err(Reply::new(535, (5, 7, 8), "user name or password is wrong; use a token of Sendero, not the password of your mailbox"))
    }

    fn login_failed(&self, credentials: &Credentials, peer: Option<IpAddr>, reason: &str) {
        self.intake.counters().login(false);
        log::login_refused(&self.intake, &credentials.user, peer, reason);
    }

    fn guard<T>(&self, ask: impl FnOnce(&mut Guard) -> T) -> T {
        ask(&mut self.guard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a message of this size may come.
    pub(crate) async fn begin(&self, principal: Principal, peer: Option<IpAddr>, size: Option<u64>) -> Result<(), Reply> {
        self.intake.begin(principal, size).await.map_err(|refusal| self.refused(principal, peer, None, &refusal))
    }

    /// Takes a message, the first of whose bytes may have arrived before; the answer is what the client is told.
    pub(crate) async fn store(
        &self,
        submission: Submission,
        arrival: Option<Arrival>,
        principal: Principal,
        peer: Option<IpAddr>,
    ) -> Reply {
        let envelope = envelope(submission.reverse_path, submission.mail, submission.recipients);
        let submitted = match arrival {
            Some(arrival) => arrival.finish(submission.body.into()).await,
            // A session reports every piece of a message that it stores.
            None if submission.earlier > 0 => Err(AcceptRefusal::Closed),
            None => Ok(submission.body.into()),
        };
        let submitted = match submitted {
            Ok(submitted) => submitted,
            Err(refusal) => return self.refused(principal, peer, Some(&envelope), &refusal),
        };
        let trace = Trace { protocol: submission.protocol.name(), helo: submission.helo, peer };
        let incoming =
            Incoming { principal, surface: Surface::Smtp, trace, envelope, submitted, wishes: ExplicitWishes::default() };
        match self.intake.accept(incoming).await {
            Ok(receipt) => Reply::new(250, (2, 0, 0), format!("queued as {}", receipt.id)),
            Err(refusal) => Reply::from(&refusal),
        }
    }

    /// Begins to take in a large message.
    pub(crate) fn arrive(&self) -> Arrival {
        self.intake.arrive(Surface::Smtp, None)
    }

    /// What the client is told of a message that did not get as far as the way in.
    pub(crate) fn refused(
        &self,
        principal: Principal,
        peer: Option<IpAddr>,
        envelope: Option<&Envelope>,
        refusal: &AcceptRefusal,
    ) -> Reply {
        self.intake.refused(Source { principal, surface: Surface::Smtp, peer, envelope }, refusal);
        Reply::from(refusal)
    }
}

fn envelope(
    reverse_path: smtp::ReversePath,
    mail: MailParameters,
    recipients: Vec<(smtp::ForwardPath, RcptParameters)>,
) -> Envelope {
    let recipients = recipients.into_iter().map(|(path, parameters)| Recipient {
        path,
        notify: parameters.notify.map(|notify| Notify { success: notify.success, failure: notify.failure, delay: notify.delay }),
        orcpt: parameters.orcpt,
    });
    Envelope {
        reverse_path,
        recipients: recipients.collect(),
        body: if mail.eight_bit { BodyType::EightBitMime } else { BodyType::SevenBit },
        smtputf8: mail.smtputf8,
        ret: mail.ret_full.map(|full| if full { Ret::Full } else { Ret::Headers }),
        envid: mail.envid,
    }
}
