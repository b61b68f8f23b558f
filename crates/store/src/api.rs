//! What the rest of Sendero sees of the store.

use crate::body::{Body, Spool};
use crate::caps::{Holder, MailCaps, OpenMail, OverCap};
use mail::channel::{ChannelState, Kept};
use mail::pace::{Ahead, FromId, Lessons, Spent, Units};
use mail::steady::{Credit, Heartbeat};
use mail::{
    Cause, ChannelId, Diagnostic, Envelope, Event, EventKind, Lane, MessageId, Move, PersonId, RecipientState, Surface, TeamId,
    Timestamp, TokenId,
};
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// The queue: safe at once, in order, and never forgetting.
///
/// Calls that write return a [`Commit`]: it resolves when the record is on stable storage. What a
/// call takes, it takes in the order of calls; a write that conflicts with an earlier one is refused.
/// All calls return at once, with two exceptions. [`Queue::lease`] and [`Queue::body`] read one record of the log when
/// the message is no longer in memory. Those under "reading" may wait for the index, and belong on a thread that may
/// block.
pub trait Queue: Send + Sync + 'static {
    /// Makes messages durable and queues them, all or none, in one write.
    ///
    /// A message whose idempotency key is known replays: see [`Accepted::replayed`]. What would go over a cap of open
    /// mail is refused, judged in the order of the log: many at once do not pass it together. What replays, and what the
    /// gateway itself says, is never refused for that.
    fn accept(&self, batch: Vec<NewMessage>) -> Commit<Result<Vec<Accepted>, AcceptError>>;

    /// Begins a file for what follows the header section of a message that is too large to be kept whole. May wait
    /// for the disk.
    ///
    /// # Errors
    /// `NoSpace` and `Closed`, as for an acceptance.
    fn spool(&self) -> Result<Spool, AcceptError>;

    /// The message that [`Queue::lease`] would take next in each lane, `now` first.
    ///
    /// Inside a lane teams share fairly, then people: whoever was handed over the fewest recipients goes
    /// next; of one person the oldest due time.
    fn heads(&self, channel: ChannelId, now: Timestamp, skip: &Skip) -> [Option<Head>; 3];

    /// Takes the head of a lane, at most so many of its recipients that are due; the rest stay where they are.
    ///
    /// Leased recipients move to [`RecipientState::Leased`] at once, in memory: a crash before their
    /// intent is durable leaves them queued.
    fn lease(&self, channel: ChannelId, lane: Lane, now: Timestamp, most: u32, skip: &Skip) -> Option<Lease>;

    /// Takes every queued recipient of a message whose `expires_at` has come by the wall clock, whatever else it waits
    /// for. The one that should have left earliest comes first.
    fn lease_expired(&self, wall: Timestamp) -> Option<Lease>;

    /// The earliest `expires_at` of a message with a queued recipient.
    fn next_expiry(&self) -> Option<Timestamp>;

    /// The wall clock is ahead of the steady one by so many milliseconds: by that scheduled mail becomes due.
    /// In memory; zero at the start.
    fn follow_wall(&self, ahead_ms: i64);

    /// For messages that are queued on this channel: their lane, and what leaves before them and with them, when all that
    /// stands in the lane leaves in the order it is due, behind what is due by `now` of more urgent lanes.
    fn ahead(&self, channel: ChannelId, messages: &[MessageId], now: Timestamp) -> Vec<(MessageId, Lane, Ahead)>;

    /// Up to `limit` messages of this channel with a recipient that has been due since before `before`.
    fn overdue(&self, channel: ChannelId, before: Timestamp, limit: usize) -> Vec<MessageId>;

    /// Up to `limit` messages of this channel with a queued recipient that were accepted, and whose scheduled time
    /// came, before `before` of the steady clock, whatever became of them since.
    fn waiting_since(&self, channel: ChannelId, before: Timestamp, limit: usize) -> Vec<MessageId>;

    /// The earliest moment at which a queued recipient of this channel is due. When one is due, any past moment.
    fn next_due(&self, channel: ChannelId) -> Option<Timestamp>;

    /// The earliest moment after `now` at which further mail of this channel becomes due.
    fn next_due_after(&self, channel: ChannelId, now: Timestamp) -> Option<Timestamp>;

    /// The body of a leased message. Comes from memory while it is fresh, else from the disk.
    ///
    /// # Errors
    /// The record is damaged or cannot be read, or the file of a large body is missing or has another length.
    fn body(&self, message: MessageId) -> Result<Body, StoreError>;

    /// Records how a transaction ended and which one starts next, as one record, and accepts its reports
    /// in the same write.
    ///
    /// The final dot of the next one may leave when this has resolved with `Ok`.
    fn record(&self, attempt: AttemptRecord) -> Commit<Result<(), StoreError>>;

    /// Gives leased recipients back that never had an intent. In memory, at once.
    fn give_back(&self, message: MessageId, recipients: &[u32]);

    /// Queued recipients that were put off and have not been moved since are due at `due`, if that is sooner. In memory:
    /// after a restart they are due when it was written down that they are.
    fn bring_forward(&self, put_off: &[PutOff], due: Timestamp);

    /// Moves recipients by a person's wish: cancel, hold, release, reroute.
    ///
    /// Recipients in a state from which the move is not legal are left alone; the answer lists those moved.
    fn steer(&self, order: Steer) -> Commit<Result<Vec<u32>, StoreError>>;

    /// Makes the state of a channel durable.
    fn set_channel_state(&self, channel: ChannelId, state: ChannelState, at: Timestamp) -> Commit<Result<(), StoreError>>;

    /// The durable states of all channels that ever had one.
    fn channel_states(&self) -> BTreeMap<ChannelId, ChannelState>;

    /// Makes durable what was learned about a channel. A new lesson is an event with the reply as its detail.
    fn set_lessons(&self, channel: ChannelId, lessons: Lessons, at: Timestamp) -> Commit<Result<(), StoreError>>;

    /// What was learned about the channels.
    fn lessons(&self) -> BTreeMap<ChannelId, Lessons>;

    /// Makes durable what a channel keeps back. What is `told` of it are events of the channel.
    fn set_kept(
        &self,
        channel: ChannelId,
        kept: Kept,
        told: Vec<(EventKind, String)>,
        at: Timestamp,
    ) -> Commit<Result<(), StoreError>>;

    /// What the channels keep back.
    fn kept(&self) -> BTreeMap<ChannelId, Kept>;

    /// Writes the clocks down, so that the steady clock can go on after a restart, and makes what was spent
    /// before older by a credit.
    fn beat(&self, heartbeat: Heartbeat, credit: Option<Credit>) -> Commit<Result<(), StoreError>>;

    /// True when mail of this party must not be written to that address, given as [`smtp::Mailbox::key`] writes it.
    /// From memory.
    fn is_suppressed(&self, party: Party, address: &str) -> bool;

    /// Takes an address, given as [`smtp::Mailbox::key`] writes it, off the list; false when it was not on it.
    fn unsuppress(&self, party: Party, address: &str, by: &str, at: Timestamp) -> Commit<Result<bool, StoreError>>;

    /// Calls `waker` for each channel whenever mail became due there or will become due, from now on,
    /// and at once for all that is queued.
    fn set_waker(&self, waker: Arc<dyn Wake>);

    /// Counts of recipients by state since the folder began, and of what is open. From memory.
    fn totals(&self) -> Totals;

    /// The caps of open mail.
    fn caps(&self) -> MailCaps;

    /// What somebody has that is open. From memory.
    fn open_mail(&self, holder: Holder) -> OpenMail;

    /// Bytes of large messages that are coming in and are part of no message yet.
    fn arriving_bytes(&self) -> u64;

    /// Ok while submissions may be accepted.
    ///
    /// # Errors
    /// Why not.
    fn accepting(&self) -> Result<(), AcceptError>;

    /// Whether any submission of this person may replay, or one under this key. It waits for nothing that is to be written.
    ///
    /// # Errors
    /// What is known cannot be read.
    fn knows_keys(&self, person: PersonId, key: Option<&str>) -> Result<bool, StoreError>;

    /// Reading: one message with the state of each recipient, or `None`.
    fn message(&self, id: MessageId) -> Result<Option<MessageView>, StoreError>;

    /// Reading: a message's bytes as they are handed over, or `None` when they are gone.
    fn raw(&self, id: MessageId) -> Result<Option<Body>, StoreError>;

    /// Reading: a message's envelope as it was accepted, or `None` when its record is gone.
    fn envelope(&self, id: MessageId) -> Result<Option<Envelope>, StoreError>;

    /// Reading: a page of messages, newest first. What no index leads to is searched for half a second at most, see
    /// [`Listing::stopped`].
    fn list(&self, filter: &Filter, page: &Page) -> Result<Listing, StoreError>;

    /// Reading: recipients by state, in the order of [`RecipientState::ALL`], of mail that is in the lists.
    fn counts(&self, of: &Counted) -> Result<[u64; 9], StoreError>;

    /// Reading: open mail by channel, as it is at `now` of the steady clock, while channels keep back the mail of
    /// people. From memory.
    fn queue(&self, now: Timestamp, kept_back: &KeptBack) -> Result<Vec<ChannelQueue>, StoreError>;

    /// Reading: up to `limit` events after `sequence`.
    fn events(&self, after: u64, limit: usize) -> Result<Vec<Event>, StoreError>;

    /// Reading: up to `limit` events of one message after `sequence`, oldest first.
    fn events_of(&self, id: MessageId, after: u64, limit: usize) -> Result<Vec<Event>, StoreError>;

    /// Reading: the latest `limit` events of a channel itself, newest first.
    fn events_of_channel(&self, channel: ChannelId, limit: usize) -> Result<Vec<Event>, StoreError>;

    /// Reading: suppressed addresses of these parties (of all when empty) in the order of addresses, after `after`.
    fn suppressions(&self, parties: &[Party], after: Option<&str>, limit: usize) -> Result<Vec<Suppression>, StoreError>;

    /// Reading: what accounts have spent, by the time from which it grows old, as far as it was not forgotten.
    /// Transactions that were open when the last process ended are in it.
    fn spent(&self) -> Result<Vec<Spent>, StoreError>;

    /// Forgets what an account spent before a moment.
    fn forget_spent(&self, account: &str, before: Timestamp) -> Result<(), StoreError>;

    /// Writes what is in memory, checkpoints the index and closes. Later writes are refused.
    fn close(&self);
}

/// Told when mail is due.
pub trait Wake: Send + Sync {
    /// Mail of this lane of `channel` is due at `due`, which may be past. Must return at once and take no
    /// lock that is held while calling the queue.
    fn due(&self, channel: ChannelId, lane: Lane, due: Timestamp);
}

/// Which messages a lease passes by, and how it counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skip {
    /// Those of these From addresses.
    pub froms: BTreeSet<FromId>,
    /// Those of these people.
    pub people: BTreeSet<PersonId>,
    /// Those of these people in that lane: what they have there waits for its bytes.
    pub large: BTreeSet<(Lane, PersonId)>,
    /// So many bytes count as one recipient where people's shares of a lane are counted; `None`: recipients alone do.
    pub bytes_as_one: Option<NonZeroU64>,
}

impl Skip {
    /// Whether a lease passes by this person's mail of this lane.
    #[must_use]
    pub fn passes(&self, lane: Lane, person: PersonId) -> bool {
        self.people.contains(&person) || self.large.contains(&(lane, person))
    }
}

/// What a transaction counts in a lane's shares: its recipients, or its bytes where those are more of what is scarce.
pub(crate) fn share(recipients: u64, size_bytes: u64, bytes_as_one: Option<NonZeroU64>) -> u64 {
    let by_bytes = bytes_as_one.map_or(0, |one| size_bytes.div_ceil(one.get()));
    if recipients == 0 { 0 } else { recipients.max(by_bytes) }
}

/// The next message of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Which.
    pub message: MessageId,
    /// Its From.
    pub from: FromId,
    /// Whose it is.
    pub person: PersonId,
    /// Its recipients that are due.
    pub recipients: u32,
    /// Length of the body in bytes.
    pub size_bytes: u64,
}

/// Whose list a suppression stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Party {
    /// A team's.
    Team(TeamId),
    /// A person's, for mail that no team is concerned with.
    Person(PersonId),
}

impl Party {
    /// Whose list counts for a message.
    #[must_use]
    pub fn of(team: Option<TeamId>, person: PersonId) -> Self {
        team.map_or(Self::Person(person), Self::Team)
    }
}

/// An address that must not be written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suppression {
    /// Whose list.
    pub party: Party,
    /// The address, as [`smtp::Mailbox::key`] writes it.
    pub address: String,
    /// Why: the next hop's words.
    pub reason: String,
    /// The message that was refused.
    pub origin: MessageId,
    /// When.
    pub at: Timestamp,
}

/// A message to be accepted. Its bytes are as they will be handed over.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// Its id, new.
    pub id: MessageId,
    /// When it was accepted, by the wall clock.
    pub at: Timestamp,
    /// When it may go, by the steady clock.
    pub due: Timestamp,
    /// Whose it is.
    pub person: PersonId,
    /// Through which team, where one is concerned.
    pub team: Option<TeamId>,
    /// Signed in with.
    pub token: Option<TokenId>,
    /// The door it came in by.
    pub surface: Surface,
    /// The channel the resolver chose.
    pub channel: ChannelId,
    /// How urgent.
    pub lane: Lane,
    /// Why it is in that lane, in words.
    pub lane_reason: String,
    /// The message of which it repeats failed recipients.
    pub retry_of: Option<MessageId>,
    /// The envelope; at least one recipient.
    pub envelope: Envelope,
    /// Places in the envelope that must not be written to: final at once.
    pub suppressed: Vec<u32>,
    /// Its first author, as [`smtp::Mailbox::key`] writes it: what limits and refusals of a From are counted under.
    pub author: String,
    /// For lists: the From field, on one line.
    pub from: String,
    /// For lists: the Subject field, decoded, on one line.
    pub subject: String,
    /// The Message-ID field without angle brackets.
    pub message_id: String,
    /// Tags of the submitter.
    pub tags: Vec<(String, String)>,
    /// The key under which a repeated submission is the same one.
    pub idempotency: Option<Idempotency>,
    /// Not before this time of the wall clock.
    pub scheduled_at: Option<Timestamp>,
    /// Not after this time of the wall clock.
    pub expires_at: Option<Timestamp>,
    /// The bytes, CRLF line ends, final CRLF.
    pub body: Body,
}

impl NewMessage {
    /// Keeps only the recipients that `keep` wants, and the places of those that must not be written to.
    pub(crate) fn retain_recipients(&mut self, keep: impl Fn(&mail::Recipient) -> bool) {
        let suppressed = std::mem::take(&mut self.suppressed);
        let recipients = std::mem::take(&mut self.envelope.recipients);
        for (place, recipient) in recipients.into_iter().enumerate().filter(|(_, recipient)| keep(recipient)) {
            if suppressed.contains(&(place as u32)) {
                self.suppressed.push(self.envelope.recipients.len() as u32);
            }
            self.envelope.recipients.push(recipient);
        }
    }
}

/// A submitter's key. Scope: the person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// 1 to 255 characters.
    pub key: String,
    /// SHA-256 over what must be equal for the same submission.
    pub fingerprint: [u8; 32],
    /// True for SMTP and the command line: further recipients under the key are a further part.
    pub parts: bool,
}

/// What became of one message of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The id it is known by: that of the first submission, when replayed.
    pub id: MessageId,
    /// Every recipient was already accepted under the key; nothing was stored.
    pub replayed: bool,
}

/// Why a batch was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AcceptError {
    /// The disk is full, or below its floor. Later may help.
    #[error("no space: {0}")]
    NoSpace(String),
    /// The key was used for another submission.
    #[error("idempotency key '{key}' was used for another message, {id}")]
    KeyReused {
        /// The key.
        key: String,
        /// The message it stands for.
        id: MessageId,
    },
    /// Somebody has as much open mail as they may. Later may help, when some of it has left.
    #[error("{0}")]
    OverCap(OverCap),
    /// The store has failed or is closing. Later may help, when it has been started again.
    #[error("the store takes nothing: {0}")]
    Closed(String),
}

/// What the store could not do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The store has failed or is closing.
    #[error("the store takes nothing: {0}")]
    Closed(String),
    /// The disk is full and its reserve used up.
    #[error("no space: {0}")]
    NoSpace(String),
    /// Not in a state that allows it.
    #[error("not a legal move: {0}")]
    Illegal(String),
    /// No such message.
    #[error("no message {0}")]
    Unknown(MessageId),
    /// A record that cannot be read back.
    #[error("damaged: {0}")]
    Damaged(String),
    /// The index or the disk refused.
    #[error("{0}")]
    Io(String),
}

/// A message in the hands of a delivery.
#[derive(Clone, Debug)]
pub struct Lease {
    /// Which.
    pub message: MessageId,
    /// The channel it leaves by.
    pub channel: ChannelId,
    /// Whose it is.
    pub person: PersonId,
    /// Through which team.
    pub team: Option<TeamId>,
    /// Signed in with.
    pub token: Option<TokenId>,
    /// The door it came in by.
    pub surface: Surface,
    /// When it was accepted, by the wall clock.
    pub accepted_at: Timestamp,
    /// How urgent.
    pub lane: Lane,
    /// After this moment of the wall clock no transaction may start.
    pub expires_at: Option<Timestamp>,
    /// The whole envelope, shared.
    pub envelope: Arc<Envelope>,
    /// Its first author, as [`smtp::Mailbox::key`] writes it.
    pub author: Arc<str>,
    /// The leased recipients.
    pub recipients: Vec<LeasedRecipient>,
    /// Length of the body in bytes.
    pub size_bytes: u64,
}

/// A recipient in the hands of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeasedRecipient {
    /// Its place in the envelope.
    pub index: u32,
    /// Its own attempts so far.
    pub attempts: u32,
    /// Uncertain outcomes so far.
    pub doubts: u32,
    /// When its first own attempt began.
    pub first_attempt: Option<Timestamp>,
}

/// How a transaction ended, and which one starts next.
#[derive(Clone, Debug, Default)]
pub struct AttemptRecord {
    /// Outcome of the connection's last transaction.
    pub settle: Option<Settlement>,
    /// The next one.
    pub intend: Option<Intent>,
    /// Delivery status notifications about the outcome, accepted in the same write.
    pub reports: Vec<NewMessage>,
}

/// The outcome of a transaction, decided for each recipient.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// The message.
    pub message: MessageId,
    /// The channel it was tried on.
    pub channel: ChannelId,
    /// When it ended.
    pub at: Timestamp,
    /// Whom it spoke to, for people: `mx.example.com[192.0.2.1]:587`.
    pub relay: String,
    /// What it spent.
    pub spending: Spending,
    /// What became of each recipient of the lease.
    pub recipients: Vec<Settled>,
}

/// What becomes of the units that a transaction spent when it started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Spending {
    /// Nothing was counted.
    #[default]
    Uncounted,
    /// They stay spent, and grow old.
    Spent(Spent),
    /// The provider does not count it.
    Refunded(Units),
}

/// What becomes of one recipient after an attempt.
#[derive(Clone, Debug)]
pub struct Settled {
    /// Its place in the envelope.
    pub index: u32,
    /// The move; legal from `leased`.
    pub to: Move,
    /// For a move back to queued: when it is due again.
    pub due: Timestamp,
    /// True when this was an attempt of its own, which the retry schedule counts.
    pub counts: bool,
    /// The next hop's words, or ours.
    pub said: Diagnostic,
    /// Why it did not send; `None` when it did.
    pub cause: Option<Cause>,
    /// The address, as [`smtp::Mailbox::key`] writes it, where it goes on the list of those that must not be written to.
    pub suppress: Option<String>,
}

/// A transaction about to pass its final dot.
#[derive(Clone, Debug)]
pub struct Intent {
    /// The message.
    pub message: MessageId,
    /// The channel.
    pub channel: ChannelId,
    /// The recipients concerned.
    pub recipients: Vec<u32>,
    /// When.
    pub at: Timestamp,
    /// What it spends, where that is counted.
    pub spend: Option<Spend>,
}

/// What a transaction spends from its start on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spend {
    /// The account.
    pub account: Arc<str>,
    /// The From it is counted under where a limit counts per From; else empty.
    pub from: Arc<str>,
    /// How much.
    pub units: Units,
}

/// A recipient that is to wait, as it was written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PutOff {
    /// Its message.
    pub message: MessageId,
    /// Its place in the envelope.
    pub recipient: u32,
    /// When it is due again.
    pub until: Timestamp,
}

/// A person's wish for recipients.
#[derive(Clone, Debug)]
pub struct Steer {
    /// The message.
    pub message: MessageId,
    /// Places in the envelope; empty means all.
    pub recipients: Vec<u32>,
    /// Cancel, Hold, Release or Reroute.
    pub to: Move,
    /// For Reroute.
    pub channel: Option<ChannelId>,
    /// Who wishes it, for the record.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// Counts of recipients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Accepted since the folder began.
    pub accepted: u64,
    /// By state, in the order of [`RecipientState::ALL`]. Their sum is `accepted`.
    pub by_state: [u64; 9],
    /// Messages with an open recipient.
    pub open_messages: u64,
    /// Bytes of their bodies.
    pub open_bytes: u64,
}

/// Open mail of one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelQueue {
    /// The channel.
    pub channel: ChannelId,
    /// Recipients queued.
    pub queued: u64,
    /// Recipients leased.
    pub leased: u64,
    /// Recipients held.
    pub held: u64,
    /// Bytes of bodies.
    pub bytes: u64,
    /// Acceptance of the oldest.
    pub oldest: Option<Timestamp>,
    /// What is queued in each lane, `now` first.
    pub lanes: [LaneQueue; 3],
}

/// What is queued in one lane of a channel; each message counts once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneQueue {
    /// What may go as soon as its turn comes.
    pub due: Ahead,
    /// What is not due yet.
    pub later: Ahead,
    /// Messages among those that wait for the time they are scheduled for.
    pub scheduled: u64,
    /// What the channel keeps back, due or not.
    pub kept_back: Ahead,
    /// When the first recipient of what is not kept back is due; it may be past.
    pub first_due: Option<Timestamp>,
    /// When the last one is.
    pub last_due: Option<Timestamp>,
}

impl LaneQueue {
    /// Counts a message whose queued recipients are due at these moments, and not before it is `scheduled`; one without
    /// any does not count.
    pub(crate) fn add(
        &mut self,
        dues: impl Iterator<Item = Timestamp> + Clone,
        scheduled: Timestamp,
        bytes: u64,
        kept_back: bool,
        now: Timestamp,
    ) {
        let dues = dues.map(|due| due.max(scheduled));
        let (Some(first), Some(last)) = (dues.clone().min(), dues.clone().max()) else { return };
        let recipients = dues.count() as u64;
        if kept_back {
            return self.kept_back.add(recipients, bytes);
        }
        self.scheduled += u64::from(scheduled > now);
        if first <= now { &mut self.due } else { &mut self.later }.add(recipients, bytes);
        self.first_due = self.first_due.into_iter().chain([first]).min();
        self.last_due = self.last_due.max(Some(last));
    }
}

/// People whose mail a channel keeps back.
pub type KeptBack = BTreeSet<(ChannelId, PersonId)>;

/// One message, for people.
#[derive(Clone, Debug)]
pub struct MessageView {
    /// Its id.
    pub id: MessageId,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// Whose.
    pub person: PersonId,
    /// The team.
    pub team: Option<TeamId>,
    /// Signed in with.
    pub token: Option<TokenId>,
    /// The door.
    pub surface: Surface,
    /// The channel it leaves by.
    pub channel: ChannelId,
    /// How urgent.
    pub lane: Lane,
    /// Why it is in that lane, in words.
    pub lane_reason: String,
    /// The message of which it repeats failed recipients.
    pub retry_of: Option<MessageId>,
    /// The reverse-path, without brackets.
    pub reverse_path: String,
    /// Its first author, as [`smtp::Mailbox::key`] writes it.
    pub author: String,
    /// The From field.
    pub from: String,
    /// The Subject field.
    pub subject: String,
    /// The Message-ID field.
    pub message_id: String,
    /// Tags.
    pub tags: Vec<(String, String)>,
    /// Not before this time of the wall clock.
    pub scheduled_at: Option<Timestamp>,
    /// Not after this time of the wall clock.
    pub expires_at: Option<Timestamp>,
    /// Length of the body in bytes.
    pub size_bytes: u64,
    /// Each recipient.
    pub recipients: Vec<RecipientView>,
}

/// One recipient, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipientView {
    /// Its place in the envelope.
    pub index: u32,
    /// The address.
    pub address: String,
    /// Where it is.
    pub state: RecipientState,
    /// When it got there.
    pub since: Timestamp,
    /// Own attempts so far.
    pub attempts: u32,
    /// Uncertain outcomes so far.
    pub doubts: u32,
    /// When it is due, while queued.
    pub due: Option<Timestamp>,
    /// The last words about it: a reply, a reason.
    pub said: String,
    /// Whom the last attempt spoke to.
    pub relay: String,
}

/// Which messages: those for which all of it holds.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// With a recipient in one of these states; empty means any. With `recipient`, it is that recipient.
    pub states: Vec<RecipientState>,
    /// On this channel.
    pub channel: Option<ChannelId>,
    /// Of this person.
    pub person: Option<PersonId>,
    /// Through this team.
    pub team: Option<TeamId>,
    /// In this lane.
    pub lane: Option<Lane>,
    /// With all of these tags.
    pub tags: Vec<(String, String)>,
    /// For this address, or, as `@example.org`, for anybody of a domain; case ignored.
    pub recipient: Option<String>,
    /// By this author, given as [`smtp::Mailbox::key`] writes it.
    pub author: Option<String>,
    /// With this in its subject, case ignored.
    pub subject: Option<String>,
    /// Accepted at or after.
    pub after: Option<Timestamp>,
    /// Accepted before.
    pub before: Option<Timestamp>,
    /// With an open recipient that waits so, which need not be the one of `states` and `recipient`.
    pub waits: Option<Waits>,
}

/// An open recipient, as far as it says what it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The channel of its message.
    pub channel: ChannelId,
    /// Whose it is.
    pub person: PersonId,
    /// How urgent.
    pub lane: Lane,
    /// Its From.
    pub from: FromId,
    /// Not before this time of the wall clock.
    pub scheduled_at: Option<Timestamp>,
    /// Not after this time of the wall clock.
    pub expires_at: Option<Timestamp>,
    /// Where it is.
    pub state: RecipientState,
    /// When it is due.
    pub due: Timestamp,
    /// Uncertain outcomes so far.
    pub doubts: u32,
}

/// Says of an open recipient whether it is meant. Asked of everything that is open, so it has to be quick.
#[derive(Clone)]
pub struct Waits(Arc<dyn Fn(&Waiting) -> bool + Send + Sync>);

impl Waits {
    /// Those of which this is true.
    pub fn new(is_meant: impl Fn(&Waiting) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(is_meant))
    }

    /// Whether this one is meant.
    #[must_use]
    pub fn are_meant(&self, recipient: &Waiting) -> bool {
        (self.0)(recipient)
    }
}

impl std::fmt::Debug for Waits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Waits")
    }
}

/// True when this text stands in that one, case ignored in every alphabet. `part` is in lower case.
pub(crate) fn has_part(text: &str, part: &str) -> bool {
    text.to_lowercase().contains(part)
}

/// Whose mail is counted: that for which all of it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Of this person.
    pub person: Option<PersonId>,
    /// Through this team.
    pub team: Option<TeamId>,
    /// On this channel.
    pub channel: Option<ChannelId>,
}

/// Which part of a listing, newest first.
#[derive(Clone, Debug)]
pub struct Page {
    /// Messages older than this one.
    pub after: Option<MessageId>,
    /// Or: messages newer than this one.
    pub before: Option<MessageId>,
    /// At most so many, 1 to 1,000.
    pub limit: usize,
}

/// A page of messages.
#[derive(Clone, Debug)]
pub struct Listing {
    /// Newest first.
    pub messages: Vec<MessageView>,
    /// There are more, beyond the last; or beyond where the search stopped, there may be.
    pub has_more: bool,
    /// The last message that was looked at, where the search stopped before the page was full and before the end.
    pub stopped: Option<MessageId>,
}

/// A write on its way to stable storage. Await it, or call [`Commit::wait`] on a thread that may block.
#[must_use = "nothing is durable before the commit resolves"]
pub struct Commit<T>(Inner<T>);

enum Inner<T> {
    Done(Option<T>),
    Pending(tokio::sync::oneshot::Receiver<T>, Option<Box<dyn FnOnce() -> T + Send>>),
}

impl<T> Commit<T> {
    /// Already there.
    pub fn done(value: T) -> Self {
        Self(Inner::Done(Some(value)))
    }

    /// Resolves when the writer answers; with `lost` if it never will.
    pub fn pending(receiver: tokio::sync::oneshot::Receiver<T>, lost: impl FnOnce() -> T + Send + 'static) -> Self {
        Self(Inner::Pending(receiver, Some(Box::new(lost))))
    }

    /// The answer, if it is there. Afterwards the commit is spent.
    #[cfg(feature = "simulation")]
    pub(crate) fn try_take(&mut self) -> Option<T>
    where
        T: Unpin,
    {
        match Pin::new(self).poll(&mut Context::from_waker(std::task::Waker::noop())) {
            Poll::Ready(answer) => Some(answer),
            Poll::Pending => None,
        }
    }

    /// Waits on this thread. Not for async code.
    pub fn wait(self) -> T {
        match self.0 {
            Inner::Done(value) => value.expect("a commit resolves once"),
            Inner::Pending(receiver, lost) => match receiver.blocking_recv() {
                Ok(value) => value,
                Err(_) => lost.expect("a commit resolves once")(),
            },
        }
    }
}

impl<T: Unpin> Future for Commit<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        match &mut self.0 {
            Inner::Done(value) => Poll::Ready(value.take().expect("a commit resolves once")),
            Inner::Pending(receiver, lost) => Pin::new(receiver)
                .poll(context)
                .map(|answer| answer.unwrap_or_else(|_| lost.take().expect("a commit resolves once")())),
        }
    }
}
