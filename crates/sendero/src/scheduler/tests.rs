#![allow(clippy::unwrap_used)]
//! The scheduler against the queue in memory and a next hop that follows a script, on virtual time.

use super::*;
use delivery::{Endpoint, OpenError, Outgoing, Session};
use futures_util::future::BoxFuture;
use mail::steady::{Reading, Watch};
use mail::{BodyType, Cause, Diagnostic, Envelope, Lane, MessageId, Outcome, PersonId, Recipient, RecipientState, Stage, Surface};
use smtp::{ForwardPath, Reply, ReversePath};
use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use store::directory::{ApplyOptions, DesiredChannel, DesiredDirectory, DesiredPerson, DesiredTeam};
use store::model::Model;
use store::seal::{Sealer, Secret};
use store::{NewMessage, RecipientView};
use tokio::time::Instant;

const EPOCH: i64 = 1_800_000_000_000;

/// What the next hop does, and what it saw.
#[derive(Default)]
struct Hop {
    /// This password alone opens a session.
    password: Mutex<String>,
    /// The hosts that were signed in at, and with which password.
    given: Mutex<BTreeSet<(String, String)>>,
    down: AtomicBool,
    stalls: AtomicBool,
    opens_slowly: AtomicBool,
    /// What has stalled is taken in the end.
    takes_late: AtomicBool,
    defers: AtomicBool,
    refuses: AtomicBool,
    logins: AtomicUsize,
    opened: AtomicUsize,
    most_at_once: AtomicUsize,
    open: AtomicUsize,
    taken: Mutex<Vec<String>>,
    /// When it answered each, in milliseconds, and in which lane it came.
    answered: Mutex<Vec<(i64, Lane)>>,
    /// What it says to everything at this stage.
    says: Mutex<Option<(Stage, u16, &'static str)>>,
    /// With more open connections than this it asks for fewer; none: it never does.
    most_open: AtomicUsize,
    /// What it says to messages for this address.
    says_of: Mutex<HashMap<&'static str, (Stage, u16, &'static str)>>,
    /// Told when a stalled connection is lost.
    lost: tokio::sync::Notify,
    /// What is known of a transaction that was given up.
    known: Mutex<Vec<(u32, Outcome)>>,
    /// Transactions it has seen.
    seen: AtomicUsize,
    began: Option<Instant>,
}

struct Script(Arc<Hop>);

struct Line {
    hop: Arc<Hop>,
}

impl Transport for Script {
    fn open<'a>(&'a self, endpoint: &'a Endpoint) -> BoxFuture<'a, Result<Box<dyn Session>, OpenError>> {
        Box::pin(async move {
            let hop = &self.0;
            let takes = if hop.opens_slowly.load(Ordering::Relaxed) { 60_000 } else { 20 };
            tokio::time::sleep(Duration::from_millis(takes)).await;
            if hop.down.load(Ordering::Relaxed) {
                return Err(OpenError::Broken(Stage::Connect, "connection refused".into()));
            }
            hop.logins.fetch_add(1, Ordering::Relaxed);
            let given = endpoint.secret.as_ref().map(|secret| String::from_utf8_lossy(secret).into_owned()).unwrap_or_default();
            let host = endpoint.smarthost().map(|smarthost| smarthost.host.clone());
            hop.given.lock().unwrap().insert((host.unwrap_or_default(), given.clone()));
            if given != *hop.password.lock().unwrap() {
                return Err(OpenError::Login(Reply::new(535, (5, 7, 8), "authentication failed")));
            }
            hop.opened.fetch_add(1, Ordering::Relaxed);
            let open = hop.open.fetch_add(1, Ordering::Relaxed) + 1;
            hop.most_at_once.fetch_max(open, Ordering::Relaxed);
            Ok(Box::new(Line { hop: Arc::clone(hop) }) as Box<dyn Session>)
        })
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.hop.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Session for Line {
    fn deliver<'a>(&'a mut self, outgoing: &'a Outgoing, go: BoxFuture<'a, bool>) -> BoxFuture<'a, Vec<(u32, Outcome)>> {
        Box::pin(async move {
            let all = |outcome: &Outcome| outgoing.lease.recipients.iter().map(|one| (one.index, outcome.clone())).collect();
            if self.hop.defers.load(Ordering::Relaxed) {
                let said = Diagnostic { code: 450, enhanced: None, text: "later".into() };
                return all(&Outcome::Deferred(Cause::Refused(Stage::Rcpt, said)));
            }
            if self.hop.refuses.load(Ordering::Relaxed) {
                let said = Diagnostic { code: 550, enhanced: Some((5, 1, 1).into()), text: "no such user".into() };
                return all(&Outcome::Failed(Cause::Refused(Stage::Rcpt, said)));
            }
            self.hop.seen.fetch_add(1, Ordering::Relaxed);
            let to = outgoing.lease.envelope.recipients[0].path.to_string();
            let says = self.hop.says_of.lock().unwrap().get(to.as_str()).copied().or(*self.hop.says.lock().unwrap());
            if let Some((stage, code, text)) = says {
                let digit = |place: usize| text.as_bytes()[place] - b'0';
                let reply = Diagnostic::from(&Reply::new(code, (digit(0), digit(2).into(), digit(4).into()), &text[6..]));
                let cause = Cause::Refused(stage, reply);
                if stage == Stage::FinalDot && !go.await {
                    return all(&Outcome::Untried);
                }
                // Long enough that other connections are at it too.
                tokio::time::sleep(Duration::from_millis(50)).await;
                return all(&if code < 500 { Outcome::Deferred(cause) } else { Outcome::Failed(cause) });
            }
            let most = self.hop.most_open.load(Ordering::Relaxed);
            if most > 0 && self.hop.open.load(Ordering::Relaxed) > most {
                let said = Diagnostic::from(&Reply::new(432, (4, 3, 2), "Concurrent connections limit exceeded"));
                return all(&Outcome::Deferred(Cause::Refused(Stage::FinalDot, said)));
            }
            if !go.await {
                return all(&Outcome::Untried);
            }
            if self.hop.stalls.load(Ordering::Relaxed) {
                self.hop.lost.notified().await;
                if !self.hop.takes_late.load(Ordering::Relaxed) {
                    return all(&Outcome::Uncertain(Cause::LostAfterData("connection reset by peer".into())));
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            self.hop.taken.lock().unwrap().push(to);
            let at = self.hop.began.map_or(0, |began| began.elapsed().as_millis() as i64);
            self.hop.answered.lock().unwrap().push((at, outgoing.lease.lane));
            all(&Outcome::Sent(Diagnostic { code: 250, enhanced: None, text: "ok".into() }))
        })
    }

    fn given_up(&mut self, _: &Outgoing) -> Vec<(u32, Outcome)> {
        self.hop.known.lock().unwrap().clone()
    }

    fn is_reusable(&self) -> bool {
        true
    }

    fn relay(&self) -> &str {
        "hop[127.0.0.1]:587"
    }

    fn offers_dsn(&self) -> bool {
        true
    }

    fn max_size(&self) -> Option<u64> {
        Some(5_000_000)
    }

    fn gone<'a>(&'a mut self) -> BoxFuture<'a, ()> {
        Box::pin(std::future::pending())
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}

/// More looks at the calendar at one moment: somebody tries again and again without a pause.
const SPINS: u32 = 10_000;

/// The wall clock: what is thought of it, how far it was set, in milliseconds, and how often mail asked for it at which
/// moment, and at all.
struct Clock(Mutex<Watch>, AtomicI64, Mutex<(Duration, u32)>, AtomicU64);

impl Clock {
    fn look(&self, began: Instant) -> Calendar {
        self.3.fetch_add(1, Ordering::Relaxed);
        let mut looks = self.2.lock().unwrap();
        *looks = if looks.0 == began.elapsed() { (looks.0, looks.1 + 1) } else { (began.elapsed(), 1) };
        assert!(looks.1 < SPINS, "the calendar is looked at again and again without a pause");
        self.calendar(began)
    }

    fn calendar(&self, began: Instant) -> Calendar {
        let steady = Timestamp(EPOCH + began.elapsed().as_millis() as i64);
        let wall = Timestamp(steady.0 + self.1.load(Ordering::Relaxed));
        self.0.lock().unwrap().look(wall, steady)
    }

    fn set(&self, hours: i64) {
        self.1.store(hours * 3_600_000, Ordering::Relaxed);
    }

    fn prove(&self, began: Instant) {
        self.calendar(began);
        self.0.lock().unwrap().prove();
    }
}

fn reading() -> Reading {
    Reading { boot: [1; 16], since_boot: Duration::ZERO, wall: Timestamp(EPOCH), proved: false }
}

struct World {
    queue: Arc<Model>,
    directory: Arc<DirectoryStore>,
    hop: Arc<Hop>,
    scheduler: Scheduler,
    began: Instant,
    clock: Arc<Clock>,
    _folder: tempfile::TempDir,
}

fn wanted(password: &str, person_may: bool) -> DesiredDirectory {
    wanted_with(password, person_may, &["3 connections", "4 messages / connection"])
}

fn wanted_with(password: &str, person_may: bool, limits: &[&str]) -> DesiredDirectory {
    let mailbox = DesiredChannel {
        name: "mailbox".into(),
        owner: "team:sales".into(),
        host: Some("smtp.example.net".into()),
        provider: Some("microsoft365".into()),
        username: Some("service".into()),
        password: Some(Secret::new(password)),
        domains: Some(vec!["example.com".into()]),
        limits: limits.iter().map(|limit| (*limit).into()).collect(),
        default: true,
        ..DesiredChannel::default()
    };
    let reports = DesiredChannel {
        name: "reports".into(),
        owner: "instance".into(),
        transport: Some("capture".into()),
        domains: Some(vec!["example.com".into()]),
        ..DesiredChannel::default()
    };
    DesiredDirectory {
        teams: vec![DesiredTeam { name: "sales".into(), domains: vec!["example.com".into()] }],
        people: vec![DesiredPerson {
            email: "ana@example.com".into(),
            teams: vec!["sales".into()],
            send_as: if person_may { vec!["sales@example.com".into()] } else { vec![] },
            ..DesiredPerson::default()
        }],
        channels: vec![mailbox, reports],
        tokens: vec![],
    }
}

fn apply(directory: &DirectoryStore, desired: &DesiredDirectory) {
    let options = ApplyOptions { dry_run: false, prune: false, by: "test".into(), now: Timestamp(EPOCH) };
    directory.apply(desired, &options).unwrap();
}

impl World {
    fn new() -> Self {
        Self::held_to(&["3 connections", "4 messages / connection"])
    }

    fn held_to(limits: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sealer = Sealer::open(&folder.path().join("key"), true).unwrap();
        let directory = Arc::new(DirectoryStore::open(&folder.path().join("d.sqlite"), Arc::new(sealer)).unwrap());
        apply(&directory, &wanted_with("right", true, limits));
        let began = Instant::now();
        let hop = Arc::new(Hop { password: Mutex::new("right".into()), began: Some(began), ..Hop::default() });
        let queue = Arc::new(Model::default());
        let watch = Watch::resume(None, &reading(), Timestamp(EPOCH));
        let clock = Arc::new(Clock(Mutex::new(watch), AtomicI64::new(0), Mutex::default(), AtomicU64::new(0)));
        let scheduler = Self::start(&queue, &directory, &hop, &clock, began);
        Self { queue, directory, hop, scheduler, began, clock, _folder: folder }
    }

    fn start(queue: &Arc<Model>, directory: &Arc<DirectoryStore>, hop: &Arc<Hop>, clock: &Arc<Clock>, began: Instant) -> Scheduler {
        let (wall, calendar) = (Arc::clone(clock), Arc::clone(clock));
        let scheduler = Scheduler::start(Parts {
            queue: queue.clone(),
            directory: directory.clone(),
            smarthosts: Arc::new(Script(hop.clone())),
            capture: Arc::new(delivery::CaptureTransport),
            schedule: RetrySchedule::default(),
            rules: Arc::new(Rules::default()),
            steady: Arc::new(move || Timestamp(EPOCH + began.elapsed().as_millis() as i64)),
            wall: Arc::new(move || wall.calendar(began).wall),
            calendar: Arc::new(move || calendar.look(began)),
            jitter: Arc::new(|| 0.0),
            confirm_login_after: Duration::from_secs(30),
            keep_idle: Duration::from_secs(20),
            hash_addresses: false,
            hostname: "gw.example.com".into(),
            notices: Some(Notices { channel: "reports".into(), from: smtp::Mailbox::parse("reports@example.com").unwrap() }),
            announced: Arc::default(),
        })
        .unwrap();
        let follower = scheduler.clone();
        directory.on_change(move || follower.directory_changed());
        scheduler
    }

    /// Stops, and starts again on what is durable.
    async fn restart(&mut self) {
        self.scheduler.stop(Duration::from_secs(25)).await;
        self.scheduler = Self::start(&self.queue, &self.directory, &self.hop, &self.clock, self.began);
    }

    fn now(&self) -> Timestamp {
        Timestamp(EPOCH + self.began.elapsed().as_millis() as i64)
    }

    fn channel(&self) -> ChannelId {
        self.directory.directory().channel_named("mailbox").unwrap().id
    }

    async fn submit(&self, number: u8, from: &str) -> MessageId {
        self.submit_with(number, from, ReversePath::Null).await
    }

    /// A message in a lane, for so many recipients.
    async fn submit_in(&self, number: u16, lane: Lane, recipients: u32) -> MessageId {
        let mut random = [7; 10];
        random[8..].copy_from_slice(&number.to_be_bytes());
        let mut message = self.message(MessageId::new(self.now(), random), ANA, ReversePath::Null, "user0@example.org");
        message.lane = lane;
        let to = |place: u32| Recipient::new(ForwardPath::parse(&format!("<u{number}-{place}@example.org>")).unwrap());
        message.envelope.recipients = (0..recipients).map(to).collect();
        let id = message.id;
        self.queue.accept(vec![message]).await.unwrap();
        id
    }

    async fn submit_with(&self, number: u8, from: &str, reverse_path: ReversePath) -> MessageId {
        let id = MessageId::new(self.now(), [number; 10]);
        let message = self.message(id, from, reverse_path, &format!("user{number}@example.org"));
        self.queue.accept(vec![message]).await.unwrap();
        id
    }

    fn message(&self, id: MessageId, from: &str, reverse_path: ReversePath, to: &str) -> NewMessage {
        let to = ForwardPath::parse(&format!("<{to}>")).unwrap();
        let body = format!("From: {from}\r\n\r\nhello\r\n");
        NewMessage {
            id,
            at: self.now(),
            due: self.now(),
            person: PersonId(1),
            team: None,
            token: None,
            surface: Surface::Smtp,
            channel: self.channel(),
            lane: Lane::Normal,
            lane_reason: "default".into(),
            retry_of: None,
            suppressed: Vec::new(),
            envelope: Envelope {
                reverse_path,
                recipients: vec![Recipient::new(to)],
                body: BodyType::SevenBit,
                smtputf8: false,
                ret: None,
                envid: None,
            },
            author: mail::header::authors_of(body.as_bytes()).unwrap().first().key(),
            from: from.into(),
            subject: String::new(),
            message_id: String::new(),
            tags: vec![],
            idempotency: None,
            scheduled_at: None,
            expires_at: None,
            body: body.into_bytes().into(),
        }
    }

    fn recipient(&self, id: MessageId) -> RecipientView {
        self.queue.message(id).unwrap().unwrap().recipients[0].clone()
    }

    /// A message that fails, from somebody who wants to know.
    async fn submit_in_vain(&self) -> MessageId {
        self.hop.refuses.store(true, Ordering::Relaxed);
        let id = self.submit_with(1, ANA, ReversePath::parse("<ana@example.com>").unwrap()).await;
        self.after(5).await;
        assert_eq!(self.recipient(id).state, RecipientState::Failed);
        id
    }

    /// Messages of the gateway itself.
    fn reports(&self) -> Vec<MessageId> {
        let page = store::Page { after: None, before: None, limit: 100 };
        let all = self.queue.list(&store::Filter::default(), &page).unwrap().messages;
        all.iter().filter(|message| message.surface == Surface::Gateway).map(|message| message.id).collect()
    }

    /// What the next hop says from now on to everything at this stage.
    fn says(&self, stage: Stage, code: u16, text: &'static str) {
        *self.hop.says.lock().unwrap() = Some((stage, code, text));
    }

    /// Lets virtual time pass.
    async fn after(&self, seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }
}

mod expiry;
mod fault;
mod log;
mod pace;
mod pains;

const ANA: &str = "ana@example.com";

#[tokio::test(start_paused = true)]
async fn mail_leaves_at_once_by_as_many_connections_as_allowed() {
    let world = World::new();
    for number in 0..20 {
        world.submit(number, ANA).await;
    }
    world.after(5).await;
    assert_eq!(world.hop.taken.lock().unwrap().len(), 20);
    assert_eq!(world.hop.most_at_once.load(Ordering::Relaxed), 3);
    let opened = world.hop.opened.load(Ordering::Relaxed);
    assert!((5..=8).contains(&opened), "20 messages at 4 on a connection need at least 5: {opened}");
    assert_eq!(world.queue.totals().by_state[usize::from(RecipientState::Sent.code())], 20);
}

/// Pain 10: two logins, then none.
#[tokio::test(start_paused = true)]
async fn a_refused_login_is_tried_once_more_and_then_never_until_somebody_acts() {
    let world = World::new();
    *world.hop.password.lock().unwrap() = "changed".into();
    let mut ids = Vec::new();
    for number in 0..30 {
        ids.push(world.submit(number, ANA).await);
    }
    world.after(3 * 24 * 3600).await;
    assert_eq!(world.hop.logins.load(Ordering::Relaxed), 2);
    assert_eq!(world.scheduler.channel_state(world.channel()).name(), "needs_attention");
    for id in &ids {
        let recipient = world.recipient(*id);
        assert_eq!((recipient.state, recipient.attempts), (RecipientState::Queued, 0));
    }
    apply(&world.directory, &wanted("changed", true));
    world.after(10).await;
    assert_eq!(world.hop.taken.lock().unwrap().len(), 30);
    assert_eq!(world.scheduler.channel_state(world.channel()).name(), "active");
}

#[tokio::test(start_paused = true)]
async fn a_new_password_never_goes_to_the_old_host() {
    let world = World::new();
    world.submit(1, ANA).await;
    world.after(1).await;
    world.hop.stalls.store(true, Ordering::Relaxed);
    world.hop.opens_slowly.store(true, Ordering::Relaxed);
    // One message stalls on the open connection, the next one opens another, and the last one waits to sign in too.
    for number in 2..5 {
        world.submit(number, ANA).await;
    }
    world.after(5).await;
    let mut moved = wanted("another", true);
    moved.channels[0].host = Some("smtp.example.org".into());
    apply(&world.directory, &moved);
    world.after(300).await;
    let pair = |host: &str, password: &str| (host.to_owned(), password.to_owned());
    let given = world.hop.given.lock().unwrap().clone();
    assert_eq!(given, [pair("smtp.example.net", "right"), pair("smtp.example.org", "another")].into());
}

#[tokio::test(start_paused = true)]
async fn a_lone_refused_login_leaves_the_channel_working() {
    let world = World::new();
    *world.hop.password.lock().unwrap() = "busy".into();
    world.submit(1, ANA).await;
    world.after(5).await;
    *world.hop.password.lock().unwrap() = "right".into();
    world.after(90).await;
    assert_eq!(world.hop.taken.lock().unwrap().len(), 1);
    assert_eq!(world.scheduler.channel_state(world.channel()).name(), "active");
}

/// Pain 28: the host's failures are the channel's wait.
#[tokio::test(start_paused = true)]
async fn a_next_hop_that_is_down_costs_no_attempt_and_backs_off_as_a_whole() {
    let world = World::new();
    world.hop.down.store(true, Ordering::Relaxed);
    let id = world.submit(1, ANA).await;
    world.submit(2, ANA).await;
    world.after(20 * 24 * 3600).await;
    let recipient = world.recipient(id);
    assert_eq!((recipient.state, recipient.attempts), (RecipientState::Queued, 0), "waiting for a channel expires nothing");
    let failures = world.scheduler.counters().open_failures.load(Ordering::Relaxed);
    assert!((60..=100).contains(&failures), "every six hours for twenty days: {failures}");
    world.hop.down.store(false, Ordering::Relaxed);
    world.after(7 * 3600).await;
    assert_eq!(world.hop.taken.lock().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_deferred_message_is_tried_by_its_schedule_and_expires_after_its_lifetime() {
    let world = World::new();
    world.hop.defers.store(true, Ordering::Relaxed);
    let id = world.submit(1, ANA).await;
    world.after(30).await;
    assert_eq!(world.recipient(id).attempts, 1);
    world.after(60).await;
    assert_eq!(world.recipient(id).attempts, 2);
    world.after(6 * 24 * 3600).await;
    assert_eq!(world.recipient(id).state, RecipientState::Expired);
}

#[tokio::test(start_paused = true)]
async fn mail_whose_sender_lost_the_right_is_held_before_anything_leaves() {
    let world = World::new();
    world.hop.down.store(true, Ordering::Relaxed);
    let own = world.submit(1, ANA).await;
    let granted = world.submit(2, "sales@example.com").await;
    world.after(5).await;
    apply(&world.directory, &wanted("right", false));
    world.hop.down.store(false, Ordering::Relaxed);
    world.after(3600).await;
    assert_eq!(world.recipient(own).state, RecipientState::Sent);
    assert_eq!(world.recipient(granted).state, RecipientState::Held);
    let said = world.recipient(granted).said;
    assert!(said.contains("ana@example.com may not send as sales@example.com any more"), "{said}");
    assert_eq!(*world.hop.taken.lock().unwrap(), ["user1@example.org"]);
}

#[tokio::test(start_paused = true)]
async fn held_mail_of_a_disabled_person_names_them_to_whoever_decides() {
    let world = World::new();
    world.hop.down.store(true, Ordering::Relaxed);
    let id = world.submit(1, ANA).await;
    let mut left = wanted("right", true);
    left.people.clear();
    let options = ApplyOptions { dry_run: false, prune: true, by: "test".into(), now: Timestamp(EPOCH) };
    world.directory.apply(&left, &options).unwrap();
    world.hop.down.store(false, Ordering::Relaxed);
    world.after(3600).await;
    let held = world.recipient(id);
    assert_eq!(held.state, RecipientState::Held);
    assert!(held.said.starts_with("ana@example.com is disabled; enable"), "{}", held.said);
}

#[tokio::test(start_paused = true)]
async fn the_size_that_a_next_hop_announced_is_known_for_a_day_and_for_that_row_alone() {
    use intake::NextHops;
    let world = World::new();
    let announced = Arc::clone(&world.scheduler.0.parts.announced);
    let row = || world.directory.directory().channel(world.channel()).unwrap().clone();
    assert_eq!(announced.max_size(&row()), None);
    world.submit(1, ANA).await;
    world.after(5).await;
    assert_eq!(announced.max_size(&row()), Some(5_000_000));
    let other = mail::Channel { revision: row().revision + 1, ..row() };
    assert_eq!(announced.max_size(&other), None);
    world.scheduler.ask_size_again(world.channel());
    assert_eq!(announced.max_size(&row()), None, "a channel that was tested is asked again");
    world.after(3600).await;
    world.submit(2, ANA).await;
    world.after(5).await;
    assert_eq!(announced.max_size(&row()), Some(5_000_000));
    world.after(24 * 3600).await;
    assert_eq!(announced.max_size(&row()), None, "a next hop that takes more by now is asked again");
}

#[tokio::test(start_paused = true)]
async fn a_paused_channel_keeps_its_mail_until_a_person_resumes_it() {
    let world = World::new();
    world.scheduler.steer(world.channel(), ChannelMove::Pause { by: "ana".into() }).await;
    let id = world.submit(1, ANA).await;
    world.after(24 * 3600).await;
    assert_eq!(world.recipient(id).state, RecipientState::Queued);
    world.scheduler.steer(world.channel(), ChannelMove::Resume).await;
    world.after(5).await;
    assert_eq!(world.recipient(id).state, RecipientState::Sent);
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_open_transactions_and_doubts_only_what_passed_its_dot() {
    let world = World::new();
    world.hop.stalls.store(true, Ordering::Relaxed);
    let open = world.submit(1, ANA).await;
    world.after(1).await;
    for number in 2..9 {
        world.submit(number, ANA).await;
    }
    world.after(1).await;
    let began = Instant::now();
    world.scheduler.stop(Duration::from_secs(25)).await;
    assert!(began.elapsed() < Duration::from_secs(30));
    assert_eq!(world.recipient(open).doubts, 1);
    let totals = world.queue.totals();
    assert_eq!(totals.by_state[usize::from(RecipientState::Leased.code())], 0, "nothing stays in anybody's hands");
    assert_eq!(totals.by_state[usize::from(RecipientState::Queued.code())], 8);
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_doubt_whom_the_next_hop_has_refused() {
    let world = World::new();
    world.hop.stalls.store(true, Ordering::Relaxed);
    let said = Diagnostic { code: 550, enhanced: Some((5, 1, 1).into()), text: "no such user".into() };
    *world.hop.known.lock().unwrap() = vec![(0, Outcome::Failed(Cause::Refused(Stage::Rcpt, said)))];
    let open = world.submit(1, ANA).await;
    world.after(1).await;
    world.scheduler.stop(Duration::from_secs(25)).await;
    let recipient = world.recipient(open);
    assert_eq!((recipient.state, recipient.doubts), (RecipientState::Failed, 0));
}

#[tokio::test(start_paused = true)]
async fn mail_that_comes_after_a_long_silence_leaves_at_once() {
    let world = World::new();
    for number in 0..3 {
        world.submit(number, ANA).await;
        world.after(3600).await;
        assert_eq!(world.hop.taken.lock().unwrap().len(), usize::from(number) + 1);
    }
    assert_eq!(world.hop.open.load(Ordering::Relaxed), 0, "idle connections are given up");
}

#[tokio::test(start_paused = true)]
async fn an_outcome_is_durable_before_the_next_connection_is_opened() {
    let world = World::held_to(&["1 connections", "1 messages / connection"]);
    let first = world.submit(1, ANA).await;
    world.submit(2, ANA).await;
    tokio::time::sleep(Duration::from_millis(40)).await;
    world.hop.opens_slowly.store(true, Ordering::Relaxed);
    world.after(5).await;
    assert_eq!(world.recipient(first).state, RecipientState::Sent);
    world.after(90).await;
    assert_eq!(world.hop.taken.lock().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failed_message_is_reported_to_its_reverse_path_by_the_channel_of_notices() {
    let world = World::new();
    let failed = world.submit_in_vain().await;
    let reports = world.reports();
    assert_eq!(reports.len(), 1);
    let told = world.recipient(reports[0]);
    assert_eq!((told.address.as_str(), told.state), ("ana@example.com", RecipientState::Captured));
    let text = String::from_utf8(world.queue.raw(reports[0]).unwrap().unwrap().head().to_vec()).unwrap();
    for words in ["Final-Recipient: rfc822;user1@example.org", "550 5.1.1 no such user", &failed.to_string()] {
        assert!(text.contains(words), "{words} in:\n{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_mail_without_reverse_path_is_reported_to_nobody() {
    let world = World::new();
    world.hop.refuses.store(true, Ordering::Relaxed);
    let id = world.submit(1, ANA).await;
    world.after(5).await;
    assert_eq!(world.recipient(id).state, RecipientState::Failed);
    assert!(world.reports().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_report_that_waits_leaves_after_the_directory_has_changed() {
    let world = World::new();
    let reports = world.directory.directory().channel_named("reports").unwrap().id;
    world.scheduler.steer(reports, ChannelMove::Pause { by: "ana".into() }).await;
    world.submit_in_vain().await;
    apply(&world.directory, &wanted("changed", false));
    world.scheduler.steer(reports, ChannelMove::Resume).await;
    world.after(5).await;
    assert_eq!(world.recipient(world.reports()[0]).state, RecipientState::Captured);
}
