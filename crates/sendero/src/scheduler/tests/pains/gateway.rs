//! A gateway that can be killed and started again, on a disk in memory.

use super::super::*;
use super::provider::{Network, Provider};
use intake::accept::{ExplicitWishes, Incoming, IntakeSettings, Principal, Trace};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU32;
use store::disk::fake::{FakeDisk, Loss};
use store::embedded::Options;
use store::embedded::stepped::{MemoryIndex, Stepped};
use tokio_util::sync::CancellationToken;

/// A batch is durable after this.
const SYNC_TAKES: Duration = Duration::from_millis(2);

/// What everybody writes.
const MESSAGE: &[u8] = b"From: ana@example.com\r\n\r\nhello\r\n";

/// A channel: its name, which is also its login, and its limits.
pub type Wanted<'a> = (&'a str, &'a [&'a str]);

/// The whole of it, over all its processes.
pub struct Gateway {
    pub directory: Arc<DirectoryStore>,
    desired: DesiredDirectory,
    providers: Arc<BTreeMap<String, Arc<Provider>>>,
    disk: FakeDisk,
    index: MemoryIndex,
    life: Option<Life>,
    follower: Arc<Mutex<Option<Scheduler>>>,
    began: Instant,
    numbers: Arc<AtomicU32>,
    _folder: tempfile::TempDir,
}

/// One process.
struct Life {
    queue: Arc<Stepped>,
    scheduler: Scheduler,
    ended: CancellationToken,
}

impl Gateway {
    /// One channel, with these limits.
    pub async fn held_to(limits: &[&str]) -> Self {
        Self::of("microsoft365", &[("mailbox", limits)]).await
    }

    /// Channels whose providers speak as this one does.
    pub async fn of(speaks: &str, channels: &[Wanted<'_>]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sealer = Sealer::open(&folder.path().join("key"), true).unwrap();
        let directory = Arc::new(DirectoryStore::open(&folder.path().join("d.sqlite"), Arc::new(sealer)).unwrap());
        let mut desired = wanted("right", true);
        let mailbox = desired.channels.swap_remove(0);
        desired.channels.extend(channels.iter().enumerate().map(|(place, (name, limits))| DesiredChannel {
            name: (*name).into(),
            provider: Some(speaks.into()),
            username: Some((*name).into()),
            limits: limits.iter().map(|limit| (*limit).into()).collect(),
            default: place == 0,
            ..mailbox.clone()
        }));
        apply(&directory, &desired);
        let began = Instant::now();
        let provider = |(name, _): &Wanted<'_>| ((*name).to_owned(), Arc::new(Provider::new(began)));
        let follower: Arc<Mutex<Option<Scheduler>>> = Arc::default();
        let following = Arc::clone(&follower);
        directory.on_change(move || following.lock().unwrap().iter().for_each(Scheduler::directory_changed));
        let mut gateway = Self {
            directory,
            desired,
            providers: Arc::new(channels.iter().map(provider).collect()),
            disk: FakeDisk::default(),
            index: MemoryIndex::default(),
            life: None,
            follower,
            began,
            numbers: Arc::default(),
            _folder: folder,
        };
        gateway.begin();
        gateway
    }

    /// A process begins with what the disk has.
    fn begin(&mut self) {
        let (began, now) = (self.began, self.now());
        let options = Options { min_free: 0, steady: Box::new(move |_| now), ..Options::new("pains", now) };
        let queue = Arc::new(Stepped::open(self.disk.clone(), &self.index, options).unwrap());
        let ended = CancellationToken::new();
        let clock = move || Timestamp(EPOCH + began.elapsed().as_millis() as i64);
        let chance = Mutex::new(1u64);
        let scheduler = Scheduler::start(Parts {
            queue: Arc::clone(&queue) as _,
            directory: Arc::clone(&self.directory),
            smarthosts: Arc::new(Network { providers: Arc::clone(&self.providers), ended: ended.clone() }),
            capture: Arc::new(delivery::CaptureTransport),
            schedule: RetrySchedule::default(),
            rules: Arc::new(Rules::default()),
            steady: Arc::new(clock),
            wall: Arc::new(clock),
            calendar: Arc::new(move || mail::steady::Calendar::sure(clock())),
            jitter: Arc::new(move || {
                let mut state = chance.lock().unwrap();
                *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (*state >> 40) as f64 / f64::from(1 << 23) - 1.0
            }),
            confirm_login_after: Duration::from_secs(30),
            keep_idle: Duration::from_secs(20),
            hash_addresses: false,
            hostname: "gw.example.com".into(),
            notices: Some(Notices { channel: "reports".into(), from: smtp::Mailbox::parse("reports@example.com").unwrap() }),
            announced: Arc::default(),
        })
        .unwrap();
        tokio::spawn(write(Arc::clone(&queue), ended.clone()));
        *self.follower.lock().unwrap() = Some(scheduler.clone());
        self.life = Some(Life { queue, scheduler, ended });
    }

    /// The process is killed and the power goes; it is started again after this time.
    pub async fn restart_after(&mut self, pause: Duration) {
        let life = self.life.take().unwrap();
        life.ended.cancel();
        life.queue.abandon();
        *self.follower.lock().unwrap() = None;
        self.providers.values().for_each(|provider| provider.state().open = 0);
        self.disk = self.disk.after_crash(self.disk.steps(), Loss::Everything);
        // What is left of it holds nothing that anybody waits for.
        tokio::spawn(async move { life.scheduler.stop(Duration::ZERO).await });
        tokio::time::sleep(pause).await;
        self.begin();
    }

    fn life(&self) -> &Life {
        self.life.as_ref().unwrap()
    }

    pub fn queue(&self) -> &Stepped {
        &self.life().queue
    }

    pub fn scheduler(&self) -> &Scheduler {
        &self.life().scheduler
    }

    /// By both clocks.
    pub fn now(&self) -> Timestamp {
        Timestamp(EPOCH + self.began.elapsed().as_millis() as i64)
    }

    pub async fn after(&self, seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    pub fn provider_of(&self, name: &str) -> &Provider {
        &self.providers[name]
    }

    /// Of the only channel.
    pub fn provider(&self) -> &Provider {
        self.provider_of("mailbox")
    }

    pub fn channel_of(&self, name: &str) -> ChannelId {
        self.directory.directory().channel_named(name).unwrap().id
    }

    pub fn channel(&self) -> ChannelId {
        self.channel_of("mailbox")
    }

    pub fn channel_state(&self) -> &'static str {
        self.scheduler().channel_state(self.channel()).name()
    }

    /// Somebody gives every channel this password.
    pub fn set_password(&mut self, password: &str) {
        for channel in self.desired.channels.iter_mut().filter(|channel| channel.password.is_some()) {
            channel.password = Some(Secret::new(password));
        }
        apply(&self.directory, &self.desired);
    }

    /// Recipients in a state.
    pub fn count(&self, state: RecipientState) -> u64 {
        self.queue().totals().by_state[usize::from(state.code())]
    }

    /// Every recipient in one of these states; how many there are.
    pub fn all_are(&self, states: &[RecipientState]) -> u64 {
        for state in RecipientState::ALL {
            let count = self.count(state);
            assert!(count == 0 || states.contains(&state), "{count} are {state:?}");
        }
        states.iter().map(|state| self.count(*state)).sum()
    }

    pub fn events(&self, kind: mail::EventKind) -> usize {
        let all = self.queue().events(0, usize::MAX >> 1).unwrap();
        all.iter().filter(|event| event.kind == kind).count()
    }

    pub fn view(&self, id: MessageId) -> store::MessageView {
        self.queue().message(id).unwrap().unwrap()
    }

    pub fn recipient(&self, id: MessageId) -> RecipientView {
        self.view(id).recipients.swap_remove(0)
    }

    /// Why its only recipient waits.
    pub fn waits(&self, id: MessageId) -> Option<mail::WaitingOn> {
        let (view, scheduler) = (self.view(id), self.scheduler());
        let place = self.queue().ahead(view.channel, &[id], self.now()).pop();
        let place =
            place.map(|(_, lane, ahead)| web::waiting::Place { ahead, starts: scheduler.forecast(view.channel, lane, ahead) });
        let (author, reverse_path) = (view.author.as_str(), view.reverse_path.as_str());
        let (person, lane, scheduled_at, expires_at) = (view.person, view.lane, view.scheduled_at, view.expires_at);
        let mail = web::waiting::Mail { person, author, reverse_path, lane, place, scheduled_at, expires_at };
        let clocks = web::clocks::Clocks { wall: self.now(), steady: self.now() };
        let way = web::waiting::Way { name: "mailbox".into(), outlook: scheduler.outlook(view.channel), clocks, words: true };
        web::waiting::of_recipient(&view.recipients[0], &mail, &way)
    }

    /// The door, as clients find it.
    pub fn intake(&self) -> intake::Intake {
        let settings = IntakeSettings {
            hostname: "gw.example.com".into(),
            max_message_size: 1 << 20,
            max_recipients: 100,
            hash_addresses: false,
        };
        let clock = Clock { began: self.began, numbers: Arc::clone(&self.numbers) };
        intake::Intake::new(Arc::clone(&self.life().queue) as _, Arc::clone(&self.directory) as _, settings, Arc::new(clock))
    }

    /// So many messages for one recipient each; they are durable when it returns.
    pub async fn submit(&self, count: usize, lane: Lane) -> Vec<MessageId> {
        self.submit_by("mailbox", count, lane, 1).await
    }

    /// So many messages for so many recipients each, by a channel.
    pub async fn submit_by(&self, name: &str, count: usize, lane: Lane, recipients: u32) -> Vec<MessageId> {
        let channel = self.channel_of(name);
        let messages: Vec<NewMessage> = (0..count).map(|_| self.message(channel, lane, recipients)).collect();
        self.accept(messages).await
    }

    pub async fn accept(&self, messages: Vec<NewMessage>) -> Vec<MessageId> {
        self.queue().accept(messages).await.unwrap().into_iter().map(|accepted| accepted.id).collect()
    }

    /// A message by Ana that wants no reports.
    pub fn message(&self, channel: ChannelId, lane: Lane, recipients: u32) -> NewMessage {
        let (number, id) = number(&self.numbers, self.now());
        let to = |place: u32| Recipient::new(ForwardPath::parse(&format!("<u{number}-{place}@example.org>")).unwrap());
        NewMessage {
            id,
            at: self.now(),
            due: self.now(),
            person: PersonId(1),
            team: None,
            token: None,
            surface: Surface::Smtp,
            channel,
            lane,
            lane_reason: "default".into(),
            retry_of: None,
            suppressed: Vec::new(),
            envelope: Envelope {
                reverse_path: ReversePath::Null,
                recipients: (0..recipients).map(to).collect(),
                body: BodyType::SevenBit,
                smtputf8: false,
                ret: None,
                envid: None,
            },
            from: ANA.into(),
            author: ANA.into(),
            subject: String::new(),
            message_id: String::new(),
            tags: vec![],
            idempotency: None,
            scheduled_at: None,
            expires_at: None,
            body: MESSAGE.to_vec().into(),
        }
    }
}

/// What a program submits: a message by Ana to a recipient of its own.
pub fn incoming(number: usize, lane: Lane) -> Incoming {
    Incoming {
        principal: Principal { person: PersonId(1), token: None },
        surface: Surface::Http,
        trace: Trace { protocol: "HTTP", ..Trace::default() },
        envelope: Envelope {
            reverse_path: ReversePath::parse("<ana@example.com>").unwrap(),
            recipients: vec![Recipient::new(ForwardPath::parse(&format!("<in{number}@example.org>")).unwrap())],
            body: BodyType::SevenBit,
            smtputf8: false,
            ret: None,
            envid: None,
        },
        submitted: MESSAGE.to_vec().into(),
        wishes: ExplicitWishes { lane: Some(lane), ..ExplicitWishes::default() },
    }
}

/// A number that no other message has, and an id with it.
fn number(numbers: &AtomicU32, at: Timestamp) -> (u32, MessageId) {
    let number = numbers.fetch_add(1, Ordering::Relaxed);
    let mut random = [7; 10];
    random[6..].copy_from_slice(&number.to_be_bytes());
    (number, MessageId::new(at, random))
}

/// The clocks of the door.
struct Clock {
    began: Instant,
    numbers: Arc<AtomicU32>,
}

impl intake::Clock for Clock {
    fn now(&self) -> Timestamp {
        Timestamp(EPOCH + self.began.elapsed().as_millis() as i64)
    }

    fn steady(&self) -> Timestamp {
        self.now()
    }

    fn message_id(&self, at: Timestamp) -> MessageId {
        number(&self.numbers, at).1
    }
}

/// The writer of one process. The index follows now and then, as the writer waits for it when it is far behind.
async fn write(queue: Arc<Stepped>, ended: CancellationToken) {
    for batches in 1u64.. {
        tokio::select! {
            biased;
            () = ended.cancelled() => return,
            () = queue.submitted() => {}
        }
        tokio::time::sleep(SYNC_TAKES).await;
        if ended.is_cancelled() {
            return;
        }
        if let Some(batch) = queue.step() {
            queue.answer(batch);
        }
        if batches.is_multiple_of(500) {
            queue.follow().unwrap();
        }
    }
}
