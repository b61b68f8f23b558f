//! A gateway of values, with a real queue in a folder that goes away.

use intake::{Large, Submitted};
use mail::channel::{AuthMode, ChannelMove, DomainPattern, OnUncertain, ReturnPath, Scope, Smarthost, TlsMode};
use mail::directory::{AddressPattern, Role};
use mail::envelope::{Notify, Ret};
use mail::limits::Caps;
use mail::limits::Limits;
use mail::pace::{Ahead, LearnedPace, Lessons, Why};
use mail::{
    BodyType, Channel, ChannelId, ChannelState, Diagnostic, Directory, Envelope, Lane, MessageId, Move, Owner, Person, PersonId,
    Recipient, Team, TeamId, Timestamp, TokenId, Transport,
};
use smtp::{ForwardPath, Mailbox, ReversePath};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use store::embedded::{Embedded, Options};
use store::{
    AcceptError, AttemptRecord, Body, Idempotency, KeptBack, NewMessage, Party, Queue, Settled, Settlement, Skip, Spending,
};
use web::gateway::{About, Answer, Forget, LaneWait, LimitUse, Outlook, Repeat};
use web::view::{Applied, Backup, BackupState, Forgotten, TestReport, TestStep};
use web::{ApplyRequest, Gateway, Principal, Problem, Receipt, Submission};

pub const ANA_TOKEN: &str = "ana-token-with-enough-letters";
pub const LUIS_TOKEN: &str = "luis-token-with-enough-letters";
pub const EVA_TOKEN: &str = "eva-token-with-enough-letters";
/// What the next hop said about the channel.
pub const SECRET_WORDS: &str = "421 4.7.0 slow down, account 4711";
const BEGAN: i64 = 1_795_593_600_000;

pub fn message(from: &str, to: &str) -> String {
    format!("From: <{from}>\r\nTo: <{to}>\r\nSubject: Hello\r\n\r\nGood morning.\r\n")
}

/// Keeps the folder for as long as the test runs.
pub struct Fake {
    shared: Arc<Shared>,
    _folder: tempfile::TempDir,
}

struct Shared {
    queue: Arc<Embedded>,
    directory: Arc<Directory>,
    state: Mutex<ChannelState>,
    clock: AtomicU64,
    max_message_size: AtomicU64,
    last: Mutex<Option<Submission>>,
    repeated: Mutex<Option<Repeat>>,
    released: Mutex<Vec<ChannelId>>,
    paced: Mutex<bool>,
    kept_back: Mutex<Vec<(PersonId, Timestamp, String)>>,
    tested: Mutex<String>,
    applied: Mutex<Option<serde_json::Value>>,
    backup: Mutex<Option<Backup>>,
}

impl Fake {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { min_free: 0, ..Options::new(folder.path(), Timestamp(BEGAN)) };
        let shared = Shared {
            queue: Arc::new(Embedded::open(options).unwrap()),
            directory: Arc::new(directory()),
            state: Mutex::new(ChannelState::Active),
            clock: AtomicU64::new(0),
            max_message_size: AtomicU64::new(100_000),
            last: Mutex::default(),
            repeated: Mutex::default(),
            released: Mutex::default(),
            paced: Mutex::default(),
            kept_back: Mutex::default(),
            tested: Mutex::default(),
            applied: Mutex::default(),
            backup: Mutex::default(),
        };
        Self { shared: Arc::new(shared), _folder: folder }
    }

    pub fn shared(&self) -> Arc<dyn Gateway> {
        Arc::clone(&self.shared) as Arc<dyn Gateway>
    }

    /// The envelope of the last submission.
    pub fn last(&self) -> (String, Vec<String>) {
        let last = self.shared.last.lock().unwrap();
        let last = last.as_ref().unwrap();
        (last.reverse_path.to_string(), last.recipients.iter().map(ToString::to_string).collect())
    }

    pub fn last_person(&self) -> String {
        let id = self.shared.last.lock().unwrap().as_ref().unwrap().principal.person;
        self.shared.directory.person(id).unwrap().email.to_string()
    }

    /// From now on a message may have so many bytes.
    pub fn allow(&self, max_message_size: u64) {
        self.shared.max_message_size.store(max_message_size, Ordering::Relaxed);
    }

    /// From now on the channel waits for its limit, which a reply lowered.
    pub fn paced(&self) {
        *self.shared.paced.lock().unwrap() = true;
    }

    /// The channel keeps this person's mail back from now on; a message of it is tried fourteen minutes later.
    pub fn keep_back(&self, person: u32, why: &str) {
        self.shared.kept_back.lock().unwrap().push((PersonId(person), Timestamp(BEGAN + 15 * 60_000), why.to_owned()));
    }

    /// A queued message is put off: it is due again then.
    pub async fn put_off(&self, due: Timestamp) {
        let queue = &self.shared.queue;
        let lease = queue.lease(ChannelId(1), Lane::Normal, self.shared.steady(), 1, &Skip::default()).unwrap();
        let said = Diagnostic::from(&smtp::Reply::new(450, (4, 2, 2), "mailbox full"));
        let settled = Settled { index: 0, to: Move::Defer, due, counts: true, said, cause: None, suppress: None };
        let settlement = Settlement {
            message: lease.message,
            channel: ChannelId(1),
            at: self.shared.now(),
            relay: "smtp.example.net".into(),
            spending: Spending::Uncounted,
            recipients: vec![settled],
        };
        queue.record(AttemptRecord { settle: Some(settlement), ..AttemptRecord::default() }).await.unwrap();
    }

    /// A message is held for this reason.
    pub async fn hold(&self, message: &str, reason: &str) {
        let by = format!("the gateway, because it was {reason}");
        let (message, at) = (message.parse().unwrap(), self.shared.now());
        let order = store::Steer { message, recipients: Vec::new(), to: Move::Hold, channel: None, by, at };
        self.shared.queue.steer(order).await.unwrap();
    }

    pub fn set_state(&self, state: ChannelState) {
        *self.shared.state.lock().unwrap() = state;
    }

    /// Channels whose mail a person let go on.
    pub fn released(&self) -> Vec<ChannelId> {
        self.shared.released.lock().unwrap().clone()
    }

    /// What the retry asks to be told: RET, ENVID, and of each recipient NOTIFY and ORCPT.
    pub fn repeated_wishes(&self) -> (Option<Ret>, Option<String>, Vec<Recipient>) {
        let repeated = self.shared.repeated.lock().unwrap();
        let repeated = repeated.as_ref().unwrap();
        (repeated.ret, repeated.envid.clone(), repeated.recipients.clone())
    }

    /// The bytes, lane and channel of the last message that was tried again.
    pub fn repeated(&self) -> (String, Lane, String) {
        let repeated = self.shared.repeated.lock().unwrap();
        let repeated = repeated.as_ref().unwrap();
        (String::from_utf8(repeated.body.head().to_vec()).unwrap(), repeated.lane, repeated.channel.clone())
    }

    /// The next hop refuses a queued recipient for good, who is then not written to again.
    pub async fn refuse(&self, said: &str) {
        let queue = &self.shared.queue;
        let lease = queue.lease(ChannelId(1), Lane::Normal, self.shared.steady(), 1, &Skip::default()).unwrap();
        let reply: smtp::Reply = smtp::Reply::new(550, (5, 1, 1), said);
        let recipients = lease.recipients.iter().map(|recipient| Settled {
            index: recipient.index,
            to: Move::Fail,
            due: Timestamp(0),
            counts: true,
            said: Diagnostic::from(&reply),
            cause: None,
            suppress: Some(lease.envelope.recipients[recipient.index as usize].path.mailbox().key()),
        });
        let settlement = Settlement {
            message: lease.message,
            channel: ChannelId(1),
            at: self.shared.now(),
            relay: "smtp.example.net".into(),
            spending: Spending::Uncounted,
            recipients: recipients.collect(),
        };
        queue.record(AttemptRecord { settle: Some(settlement), ..AttemptRecord::default() }).await.unwrap();
    }

    pub fn tested(&self) -> String {
        self.shared.tested.lock().unwrap().clone()
    }

    pub fn applied(&self) -> Option<serde_json::Value> {
        self.shared.applied.lock().unwrap().clone()
    }

    pub fn close(&self) {
        self.shared.queue.close();
    }
}

fn mailbox(text: &str) -> Mailbox {
    Mailbox::parse(text).unwrap()
}

fn person(id: u32, email: &str, send_as: &[&str]) -> Person {
    Person {
        id: PersonId(id),
        email: mailbox(email),
        name: String::new(),
        role: Role::Member,
        teams: vec![TeamId(1)],
        send_as: send_as.iter().map(|address| AddressPattern::Mailbox(mailbox(address))).collect(),
        disabled: false,
    }
}

fn channel(id: u32, name: &str, owner: Owner, transport: Transport) -> Channel {
    Channel {
        id: ChannelId(id),
        name: name.into(),
        owner,
        transport,
        scope: Scope::Domain,
        address: None,
        domains: vec![DomainPattern::Any],
        default: true,
        disabled: false,
        caps: Caps::default(),
        limits: vec![],
        reserve: mail::pace::Reserve::default(),
        refusals_free: false,
        on_uncertain: OnUncertain::Retry,
        return_path: ReturnPath::Submitted,
        provider: None,
        revision: 1,
    }
}

fn directory() -> Directory {
    let team = Team { id: TeamId(1), name: "sales".into(), domains: vec!["example.com".into()], disabled: false };
    let hop = Smarthost {
        host: "smtp.example.net".into(),
        port: 587,
        tls: TlsMode::Starttls,
        auth: AuthMode::Auto,
        username: Some("sales".into()),
    };
    let eva = Person { role: Role::TeamAdmin, ..person(3, "eva@example.com", &[]) };
    let people = vec![person(1, "ana@example.com", &["sales@example.com"]), person(2, "luis@example.com", &[]), eva];
    let channels = vec![
        channel(1, "team", Owner::Team(TeamId(1)), Transport::Smtp(hop)),
        channel(2, "capture", Owner::Instance, Transport::Capture),
    ];
    Directory::new(vec![team], people, Vec::new(), channels)
}

/// A recipient of whose every fate its submitter wants to know.
pub fn asks_to_be_told(path: ForwardPath) -> Recipient {
    let notify = Some(Notify { success: true, failure: true, delay: false });
    Recipient { notify, orcpt: Some(format!("rfc822;{path}")), ..Recipient::new(path) }
}

impl Shared {
    /// Submissions are a millisecond apart, so that their order is known.
    fn tick(&self) -> Timestamp {
        Timestamp(BEGAN + i64::try_from(self.clock.fetch_add(1, Ordering::Relaxed)).unwrap())
    }

    fn store(&self, submission: Submission) -> NewMessage {
        let at = self.tick();
        let is_listed = |to: &ForwardPath| self.queue.is_suppressed(Party::Team(TeamId(1)), &to.mailbox().key());
        let mut fingerprint = [0u8; 32];
        for (place, byte) in submission.body.head().iter().enumerate() {
            fingerprint[place % 32] = byte.wrapping_add(fingerprint[place % 32].wrapping_mul(31));
        }
        let body = match submission.body {
            Submitted::Whole(bytes) => bytes.into(),
            Submitted::Large(Large { head, rest, .. }) => Body::Spooled { head, rest },
        };
        NewMessage {
            id: MessageId::new(at, [7; 10]),
            at,
            due: at,
            person: submission.principal.person,
            team: Some(TeamId(1)),
            token: submission.principal.token,
            surface: submission.surface,
            channel: ChannelId(1),
            lane: Lane::Normal,
            lane_reason: "recipients:51".into(),
            retry_of: None,
            suppressed: (0..).zip(&submission.recipients).filter(|(_, to)| is_listed(to)).map(|(place, _)| place).collect(),
            envelope: Envelope {
                reverse_path: submission.reverse_path,
                recipients: submission.recipients.into_iter().map(asks_to_be_told).collect(),
                body: BodyType::SevenBit,
                smtputf8: false,
                ret: Some(Ret::Full),
                envid: Some("QQ314159".into()),
            },
            author: "ana@example.com".into(),
            from: "ana@example.com".into(),
            subject: "Hello".into(),
            message_id: "x@example.com".into(),
            tags: submission.tags,
            idempotency: submission.idempotency_key.map(|key| Idempotency { key, fingerprint, parts: false }),
            scheduled_at: submission.scheduled_at,
            expires_at: submission.expires_at,
            body,
        }
    }
}

fn running(folder: std::path::PathBuf) -> Backup {
    Backup {
        folder,
        started_at: Timestamp(BEGAN),
        state: BackupState::Running,
        step: "log".into(),
        done_bytes: 1,
        total_bytes: 2,
        summary: None,
        problem: None,
        master_key_file: "/keys/master.key".into(),
    }
}

impl Gateway for Shared {
    fn now(&self) -> Timestamp {
        Timestamp(BEGAN + 60_000)
    }

    fn steady(&self) -> Timestamp {
        Timestamp(BEGAN + 60_000)
    }

    fn outlook(&self, channel: ChannelId) -> Outlook {
        let state = self.channel_state(channel);
        let paused_people = if channel == ChannelId(1) { self.kept_back.lock().unwrap().clone() } else { Vec::new() };
        if channel != ChannelId(1) || !*self.paced.lock().unwrap() {
            return Outlook { state, connections: 4, paused_people, ..Outlook::default() };
        }
        let limits = Limits::parse(&["15 messages / 1 minute", "1000 recipients / 1 day"]).unwrap().windows;
        let frees_at = Some(Timestamp(BEGAN + 90_000));
        let pace = LearnedPace {
            per_minute: 15,
            before: 30,
            taught_at: Timestamp(BEGAN),
            step_at: Timestamp(BEGAN),
            said: SECRET_WORDS.into(),
        };
        Outlook {
            state,
            lanes: [None, Some(LaneWait { until: frees_at, why: Why::Limit(limits[0]) }), None],
            limits: vec![
                LimitUse { limit: limits[0], used: 15, frees_at, learned: true },
                LimitUse { limit: limits[1], used: 400, frees_at: None, learned: false },
            ],
            lessons: Lessons { pace: Some(pace), cap: None },
            connections: 2,
            paused_people,
            ..Outlook::default()
        }
    }

    fn kept_back(&self) -> KeptBack {
        self.kept_back.lock().unwrap().iter().map(|(person, ..)| (ChannelId(1), *person)).collect()
    }

    /// One message a second.
    fn forecast(&self, channel: ChannelId, _: Lane, ahead: Ahead) -> Option<Timestamp> {
        let parked = self.channel_state(channel).open_at(self.steady());
        let seconds = i64::try_from(ahead.transactions).unwrap();
        parked.is_ok().then_some(Timestamp(BEGAN + 60_000 + 1000 * seconds))
    }

    fn released(&self, channel: ChannelId, in_charge: bool) -> Answer<'_, ()> {
        if in_charge {
            self.released.lock().unwrap().push(channel);
            self.kept_back.lock().unwrap().clear();
        }
        Box::pin(async {})
    }

    fn repeat(&self, repeat: Repeat) -> Answer<'_, Result<Receipt, Problem>> {
        *self.repeated.lock().unwrap() = Some(repeat.clone());
        let submission = Submission {
            principal: repeat.principal,
            surface: repeat.surface,
            reverse_path: repeat.reverse_path,
            recipients: repeat.recipients.into_iter().map(|recipient| recipient.path).collect(),
            body: repeat.body.head().clone().into(),
            channel: None,
            lane: None,
            tags: repeat.tags,
            idempotency_key: Some(format!("retry of {}", repeat.of)),
            scheduled_at: None,
            expires_at: None,
        };
        let message = NewMessage { retry_of: Some(repeat.of), ..self.store(submission) };
        Box::pin(async move {
            let accepted = self.queue.accept(vec![message]).await.map_err(|error: AcceptError| Problem::from(&error))?;
            let (id, replayed) = (accepted[0].id, accepted[0].replayed);
            Ok(Receipt { id, channel: ChannelId(1), lane: Lane::Normal, replayed, size_bytes: 0 })
        })
    }

    fn queue(&self) -> Arc<dyn Queue> {
        Arc::clone(&self.queue) as Arc<dyn Queue>
    }

    fn directory(&self) -> Arc<Directory> {
        Arc::clone(&self.directory)
    }

    fn channel_state(&self, channel: ChannelId) -> ChannelState {
        if channel == ChannelId(1) { self.state.lock().unwrap().clone() } else { ChannelState::Unverified }
    }

    fn about(&self) -> About {
        About {
            hostname: "mail.example.com".into(),
            version: "0.0.0",
            started_at: Timestamp(BEGAN),
            data_dir: "/data".into(),
            listeners: Vec::new(),
            max_message_size: self.max_message_size.load(Ordering::Relaxed),
            notices: None,
            notices_channel: Some("gone".into()),
        }
    }

    fn sign_in<'a>(&'a self, bearer: &'a str) -> Answer<'a, Option<Principal>> {
        let principal = |person, token| Some(Principal { person: PersonId(person), token: Some(TokenId(token)) });
        let found = match bearer {
            ANA_TOKEN => principal(1, 1),
            LUIS_TOKEN => principal(2, 2),
            EVA_TOKEN => principal(3, 3),
            _ => None,
        };
        Box::pin(std::future::ready(found))
    }

    fn begin(&self, _: Principal, _: mail::Surface, size: Option<u64>) -> Answer<'_, Result<(), Problem>> {
        let over = Problem::new(429, "gateway_rate_limited", "ana@example.com has 5 messages that have not left").retry_after(30);
        let verdict = if size == Some(4711) { Err(over) } else { Ok(()) };
        Box::pin(std::future::ready(verdict))
    }

    fn arrive(&self, submission: &Submission) -> intake::Arrival {
        intake::Arrival::new(self.queue(), submission.surface, None, 300_000)
    }

    fn refused(&self, _: &Submission, refusal: &intake::AcceptRefusal) -> Problem {
        Problem::new(refusal.http_status(), refusal.code(), refusal.to_string())
    }

    fn accept(&self, submission: Submission) -> Answer<'_, Result<Receipt, Problem>> {
        *self.last.lock().unwrap() = Some(submission.clone());
        let size_bytes = submission.body.len();
        let message = self.store(submission);
        Box::pin(async move {
            let accepted = self.queue.accept(vec![message]).await.map_err(|error: AcceptError| Problem::from(&error))?;
            let first = &accepted[0];
            Ok(Receipt { id: first.id, channel: ChannelId(1), lane: Lane::Normal, replayed: first.replayed, size_bytes })
        })
    }

    fn steer_channel(&self, _: ChannelId, wish: ChannelMove) -> Answer<'_, ()> {
        let mut state = self.state.lock().unwrap();
        if let Some(after) = state.after(wish) {
            *state = after;
        }
        Box::pin(std::future::ready(()))
    }

    fn test_channel(&self, _: ChannelId, from: Option<ReversePath>) -> Answer<'_, TestReport> {
        *self.tested.lock().unwrap() = from.map(|from| from.to_string()).unwrap_or_default();
        let step = TestStep { step: "connect".into(), ok: true, elapsed_ms: 1, detail: String::new(), fix: String::new() };
        Box::pin(std::future::ready(TestReport { ok: true, steps: vec![step] }))
    }

    fn apply(&self, request: ApplyRequest) -> Answer<'_, Result<Applied, Problem>> {
        *self.applied.lock().unwrap() = Some(request.directory);
        Box::pin(std::future::ready(Ok(Applied { dry_run: request.dry_run, ..Applied::default() })))
    }

    fn begin_backup(&self, folder: std::path::PathBuf) -> Result<Backup, Problem> {
        let mut backup = self.backup.lock().unwrap();
        if backup.is_some() {
            return Err(Problem::new(409, "backup_running", "a backup is being taken already"));
        }
        Ok(backup.insert(running(folder)).clone())
    }

    fn backup(&self) -> Option<Backup> {
        self.backup.lock().unwrap().clone()
    }

    fn forget(&self, wish: Forget) -> Answer<'_, Result<Forgotten, Problem>> {
        Box::pin(async move {
            Ok(Forgotten {
                dry_run: wish.dry_run,
                pseudonym: "forgotten-1@forgotten.invalid".into(),
                messages: 1,
                sent: 0,
                files: 0,
                suppressions: u64::from(wish.with_suppressions),
                suppressions_removed: wish.with_suppressions,
                index_copies: 0,
                log_is_clean: true,
            })
        })
    }

    fn metrics(&self) -> String {
        "# EOF\n".into()
    }
}
