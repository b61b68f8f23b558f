//! What the HTTP side needs from the rest of the program, as one trait.

use crate::problem::Problem;
use crate::view::{Applied, Backup, Forgotten, ListenerView, TestReport};
use intake::{AcceptRefusal, Arrival, Submitted};
use mail::channel::ChannelMove;
use mail::envelope::{Recipient, Ret};
use mail::limits::Limit;
use mail::pace::{Ahead, FromId, Lessons, Why};
use mail::{ChannelId, ChannelState, Directory, Lane, MessageId, PersonId, Surface, Timestamp, TokenId};
use smtp::{ForwardPath, Mailbox, ReversePath};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use store::{KeptBack, Queue};

/// A future of a gateway's answer.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The running gateway, as the HTTP side sees it.
pub trait Gateway: Send + Sync + 'static {
    /// The wall clock.
    fn now(&self) -> Timestamp;

    /// The steady clock, by which mail is due and channels are parked.
    fn steady(&self) -> Timestamp;

    /// The queue; its reading calls are made on threads that may block.
    fn queue(&self) -> Arc<dyn Queue>;

    /// Who is who at this moment.
    fn directory(&self) -> Arc<Directory>;

    /// The state of a channel at this moment.
    fn channel_state(&self, channel: ChannelId) -> ChannelState;

    /// What the mail of a channel waits for at this moment.
    fn outlook(&self, channel: ChannelId) -> Outlook;

    /// People whose mail channels keep back at this moment.
    fn kept_back(&self) -> KeptBack;

    /// When the last of these transactions would start, by the steady clock, on this channel and in this lane as
    /// things stand now; `None` while nobody can say whether the channel goes on.
    fn forecast(&self, channel: ChannelId, lane: Lane, ahead: Ahead) -> Option<Timestamp>;

    /// A person let mail of this channel go on: it has its whole patience again, and where the person is in charge of the
    /// channel, what was held back there for its sake is tried again. Durable when it resolves.
    fn released(&self, channel: ChannelId, in_charge: bool) -> Answer<'_, ()>;

    /// What does not change while the process runs.
    fn about(&self) -> About;

    /// Whose bearer token this is; `None` when it is nobody's, is disabled, or is not for the API.
    ///
    /// Every `None` takes the same time.
    fn sign_in<'a>(&'a self, bearer: &'a str) -> Answer<'a, Option<Principal>>;

    /// Whether somebody may send a message of this size, before any of it is read; a refusal is counted and logged. What is
    /// sent all the same is judged again.
    fn begin(&self, principal: Principal, surface: Surface, size: Option<u64>) -> Answer<'_, Result<(), Problem>>;

    /// Begins to take in a message that is larger than what is kept whole. Its body is not looked at.
    fn arrive(&self, submission: &Submission) -> Arrival;

    /// Counts and logs a message that could not be taken in; what is said of it.
    fn refused(&self, submission: &Submission, refusal: &AcceptRefusal) -> Problem;

    /// Makes a message durable and queues it; after `Ok` it survives a crash.
    fn accept(&self, submission: Submission) -> Answer<'_, Result<Receipt, Problem>>;

    /// Makes a message durable that tries recipients of an earlier one again: the same bytes, by the same channel if
    /// its sender may still use it. What was tried again before is replayed.
    fn repeat(&self, repeat: Repeat) -> Answer<'_, Result<Receipt, Problem>>;

    /// Carries a person's wish for a channel out: pause, resume. Durable when it resolves.
    fn steer_channel(&self, channel: ChannelId, wish: ChannelMove) -> Answer<'_, ()>;

    /// Tries a channel step by step without sending a message. `from` is tried in `MAIL FROM`.
    fn test_channel(&self, channel: ChannelId, from: Option<ReversePath>) -> Answer<'_, TestReport>;

    /// Makes the directory what the request says, all or nothing.
    fn apply(&self, request: ApplyRequest) -> Answer<'_, Result<Applied, Problem>>;

    /// Begins a backup into a folder of the gateway's machine. It goes on when this has answered.
    ///
    /// # Errors
    /// Another one is being taken.
    fn begin_backup(&self, folder: PathBuf) -> Result<Backup, Problem>;

    /// The backup that is being taken, or the last one since the start.
    fn backup(&self) -> Option<Backup>;

    /// Forgets an address in mail that has ended, or says what that would be. Durable when it resolves.
    fn forget(&self, wish: Forget) -> Answer<'_, Result<Forgotten, Problem>>;

    /// The metrics in the text format of Prometheus.
    fn metrics(&self) -> String;
}

/// What the mail of a channel waits for. All times are of the steady clock.
#[derive(Clone, Debug, Default)]
pub struct Outlook {
    /// Its health.
    pub state: ChannelState,
    /// Why the next message of each lane cannot leave now, `now` first; `None` where it can.
    pub lanes: [Option<LaneWait>; 3],
    /// Its limits, what is used of each, and when the first unit of a full one is free.
    pub limits: Vec<LimitUse>,
    /// What its replies taught.
    pub lessons: Lessons,
    /// Connections allowed at the same time, lessons included.
    pub connections: u32,
    /// People whose mail it keeps back, when a message of theirs is tried, and why it is so.
    pub paused_people: Vec<(PersonId, Timestamp, String)>,
    /// Froms that are at a limit of their own: the lanes go on without them.
    pub full_froms: Vec<FullFrom>,
    /// Senders that its provider refuses: their mail is held.
    pub refused_senders: Vec<RefusedSender>,
    /// When it was last active; `None` while it is, or before its first mail.
    pub down_since: Option<Timestamp>,
}

/// A sender that a provider refuses for one person's mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedSender {
    /// Whose mail was refused.
    pub person: PersonId,
    /// The reverse-path, or the author where the message had been seen, as [`smtp::Mailbox::key`] writes it.
    pub address: String,
    /// The provider's words.
    pub said: String,
}

/// What the next message of a lane waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneWait {
    /// When it may leave; `None` when a transaction that is open has ended.
    pub until: Option<Timestamp>,
    /// What for.
    pub why: Why,
}

/// A From at a limit of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullFrom {
    /// Which.
    pub from: FromId,
    /// When it may go on; `None` when a transaction that is open has ended.
    pub until: Option<Timestamp>,
    /// The limit.
    pub limit: Limit,
}

/// How much of a limit is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitUse {
    /// It.
    pub limit: Limit,
    /// Units in its window, open transactions included.
    pub used: u64,
    /// When one more message fits; `None` when it does now, or when an open transaction must end first.
    pub frees_at: Option<Timestamp>,
    /// It was learned from a reply.
    pub learned: bool,
}

/// What does not change while the process runs.
#[derive(Clone, Debug)]
pub struct About {
    /// The name in EHLO, Received and Message-ID.
    pub hostname: String,
    /// The program's version.
    pub version: &'static str,
    /// When it started.
    pub started_at: Timestamp,
    /// The data folder, for people.
    pub data_dir: String,
    /// Where it listens.
    pub listeners: Vec<ListenerView>,
    /// Largest message in bytes.
    pub max_message_size: u64,
    /// How reports and notices leave, for people; `None` while they are only shown.
    pub notices: Option<String>,
    /// The name of the channel by which they leave.
    pub notices_channel: Option<String>,
}

/// Why no report leaves by the channel of this name, and what to do; `None` while they can.
#[must_use]
pub fn notices_trouble(directory: &Directory, name: &str) -> Option<String> {
    match directory.channel_named(name) {
        Some(channel) if !channel.disabled => None,
        Some(_) => {
            Some(format!("no report leaves: [notices] names channel '{name}', which is disabled; enable it, or name another"))
        }
        None => Some(format!("no report leaves: [notices] names channel '{name}', and there is none; add it, or name another")),
    }
}

/// Who signed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Whose rights apply.
    pub person: PersonId,
    /// The token used; `None` for the local socket.
    pub token: Option<TokenId>,
}

/// A message to be accepted.
#[derive(Clone, Debug)]
pub struct Submission {
    /// With whose rights.
    pub principal: Principal,
    /// The door.
    pub surface: Surface,
    /// MAIL FROM.
    pub reverse_path: ReversePath,
    /// RCPT TO, each mailbox once, at least one.
    pub recipients: Vec<ForwardPath>,
    /// The message as it came.
    pub body: Submitted,
    /// The channel asked for beside the message.
    pub channel: Option<String>,
    /// The lane asked for beside the message.
    pub lane: Option<Lane>,
    /// Tags given beside the message.
    pub tags: Vec<(String, String)>,
    /// The key given beside the message.
    pub idempotency_key: Option<String>,
    /// Not before this time of the wall clock.
    pub scheduled_at: Option<Timestamp>,
    /// Not after this time of the wall clock.
    pub expires_at: Option<Timestamp>,
}

/// Recipients of an earlier message, to be tried again.
#[derive(Clone, Debug)]
pub struct Repeat {
    /// With whose rights.
    pub principal: Principal,
    /// The door.
    pub surface: Surface,
    /// The earlier message.
    pub of: MessageId,
    /// Its channel.
    pub channel: String,
    /// Its lane.
    pub lane: Lane,
    /// Why it was in that lane.
    pub lane_reason: String,
    /// Its tags.
    pub tags: Vec<(String, String)>,
    /// Its reverse-path.
    pub reverse_path: ReversePath,
    /// The recipients, at least one, with what its submitter asked to be told of each (RFC 3461).
    pub recipients: Vec<Recipient>,
    /// Its RET.
    pub ret: Option<Ret>,
    /// Its ENVID.
    pub envid: Option<String>,
    /// Its bytes, as they are handed over.
    pub body: store::Body,
}

/// An address to be forgotten.
#[derive(Clone, Debug)]
pub struct Forget {
    /// It.
    pub address: Mailbox,
    /// Take it off the lists of addresses that are not written to, too.
    pub with_suppressions: bool,
    /// Only look.
    pub dry_run: bool,
    /// Who wishes it.
    pub by: String,
}

/// What was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The id it is known by.
    pub id: MessageId,
    /// The channel chosen.
    pub channel: ChannelId,
    /// Its lane.
    pub lane: Lane,
    /// It was accepted before under the same key; nothing was stored.
    pub replayed: bool,
    /// Bytes kept.
    pub size_bytes: u64,
}

/// A wish to change the directory.
#[derive(Clone, Debug)]
pub struct ApplyRequest {
    /// Teams, people, channels and tokens as they should be, secrets included: never to be logged.
    pub directory: serde_json::Value,
    /// Only say what would change.
    pub dry_run: bool,
    /// Disable what is not named.
    pub prune: bool,
    /// Who wishes it, for the record.
    pub by: String,
}
