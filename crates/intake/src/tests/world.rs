//! A small gateway: two people, three channels, a queue that does as it is told.

use crate::accept::{ExplicitWishes, Incoming, Intake, IntakeSettings, Principal, Trace};
use crate::caps::Caps;
use crate::clock::{Clock, random_message_id};
use crate::door::{Deadlines, Door};
use crate::people::People;
use crate::tls::ServerTls;
use mail::channel::{ChannelState, DomainPattern, Kept, OnUncertain, Owner, ReturnPath, Scope};
use mail::directory::{AddressPattern, TokenSurface};
use mail::pace::{Ahead, Lessons, Spent};
use mail::steady::{Credit, Heartbeat};
use mail::{
    BodyType, Channel, ChannelId, Directory, Envelope, Event, EventKind, Lane, MessageId, Person, PersonId, Recipient, Role,
    Surface, Team, TeamId, Timestamp, Token, TokenId, Transport,
};
use smtp::{ForwardPath, Mailbox, ReversePath};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use store::{
    AcceptError, Accepted, AttemptRecord, Body, ChannelQueue, Commit, Counted, Filter, Head, KeptBack, Lease, Listing, MessageView,
    NewMessage, Page, Party, Queue, Skip, Spool, Steer, StoreError, Suppression, Totals, Wake,
};
use tokio::sync::{Notify, oneshot};

pub const ANA: PersonId = PersonId(1);
pub const HOST: PersonId = PersonId(2);
pub const TOKEN: TokenId = TokenId(1);
pub const OFFICE: ChannelId = ChannelId(1);
pub const ANA_MAILBOX: ChannelId = ChannelId(2);
pub const SECRET: &[u8] = b"sdr_right_secret_of_ana";

pub fn mailbox(text: &str) -> Mailbox {
    Mailbox::parse(text).unwrap()
}

/// The people of the tests, from memory.
pub struct Known(Arc<Directory>);

impl People for Known {
    fn directory(&self) -> Arc<Directory> {
        Arc::clone(&self.0)
    }

    fn verify(&self, user: &str, secret: &[u8], _: Surface) -> Option<Principal> {
        let good = user.eq_ignore_ascii_case("ana@example.com") && secret == SECRET;
        good.then_some(Principal { person: ANA, token: Some(TOKEN) })
    }
}

fn channel(id: ChannelId, name: &str, owner: Owner, scope: Scope, address: Option<&str>, domains: &[&str]) -> Channel {
    Channel {
        id,
        name: name.into(),
        owner,
        transport: Transport::Capture,
        scope,
        address: address.map(mailbox),
        domains: domains.iter().map(|domain| DomainPattern::Domain((*domain).into())).collect(),
        default: false,
        disabled: false,
        caps: mail::limits::Caps::default(),
        limits: vec![],
        reserve: mail::pace::Reserve::default(),
        refusals_free: false,
        on_uncertain: OnUncertain::Retry,
        return_path: ReturnPath::Submitted,
        provider: None,
        revision: 1,
    }
}

pub fn people() -> Arc<Known> {
    people_with(None)
}

/// The same, with this lane on Ana's token.
pub fn people_with(lane: Option<Lane>) -> Arc<Known> {
    let sales = TeamId(1);
    let person = |id, email: &str, send_as| Person {
        id,
        email: mailbox(email),
        name: email.into(),
        role: Role::Member,
        teams: vec![sales],
        send_as,
        disabled: false,
    };
    let token = Token {
        id: TOKEN,
        name: "laptop".into(),
        person: ANA,
        surfaces: vec![TokenSurface::Smtp, TokenSurface::Api],
        channel: None,
        send_as: None,
        lane,
        disabled: false,
    };
    Arc::new(Known(Arc::new(Directory::new(
        vec![Team { id: sales, name: "sales".into(), domains: vec!["example.com".into()], disabled: false }],
        vec![
            person(ANA, "ana@example.com", vec![]),
            person(HOST, "host@example.com", vec![AddressPattern::Domain("example.com".into())]),
        ],
        vec![token],
        vec![
            channel(OFFICE, "office", Owner::Team(sales), Scope::Domain, None, &["example.com"]),
            channel(ANA_MAILBOX, "ana-mailbox", Owner::Person(ANA), Scope::Address, Some("ana@example.com"), &["example.com"]),
        ],
    ))))
}

/// What the queue does with a message.
#[derive(Clone, Debug, Default)]
pub enum Will {
    #[default]
    Keep,
    Refuse(AcceptError),
    /// It is known by its key as this one.
    Replay(MessageId),
    /// Answer when the test says so.
    Hold,
    /// Everybody has as much open mail as they may, and no body is copied.
    Full,
}

type Answer = Result<Vec<Accepted>, AcceptError>;

#[derive(Default)]
pub struct Told {
    will: Mutex<Will>,
    kept: Mutex<Vec<NewMessage>>,
    held: Mutex<Vec<(oneshot::Sender<Answer>, Vec<Accepted>)>>,
    pub came: Notify,
}

impl Told {
    pub fn will(&self, will: Will) {
        *self.will.lock().unwrap() = will;
    }

    /// Messages so far.
    pub fn kept(&self) -> Vec<NewMessage> {
        self.kept.lock().unwrap().clone()
    }

    pub fn last(&self) -> NewMessage {
        self.kept().pop().expect("a message was kept")
    }

    /// The disk has answered for what is held.
    pub fn let_go(&self) {
        for (answer, accepted) in self.held.lock().unwrap().drain(..) {
            answer.send(Ok(accepted)).unwrap();
        }
    }
}

impl Queue for Told {
    fn accept(&self, batch: Vec<NewMessage>) -> Commit<Answer> {
        let mut accepted: Vec<Accepted> = batch.iter().map(|message| Accepted { id: message.id, replayed: false }).collect();
        match self.will.lock().unwrap().clone() {
            Will::Refuse(error) => return Commit::done(Err(error)),
            Will::Replay(id) => accepted.iter_mut().for_each(|accepted| *accepted = Accepted { id, replayed: true }),
            Will::Keep | Will::Full => self.kept.lock().unwrap().extend(batch),
            Will::Hold => {
                self.kept.lock().unwrap().extend(batch);
                let (answer, receiver) = oneshot::channel();
                self.held.lock().unwrap().push((answer, accepted));
                self.came.notify_one();
                return Commit::pending(receiver, || Err(AcceptError::Closed("gone".into())));
            }
        }
        Commit::done(Ok(accepted))
    }

    fn spool(&self) -> Result<Spool, AcceptError> {
        match self.will.lock().unwrap().clone() {
            Will::Refuse(error) => Err(error),
            Will::Full => Err(AcceptError::NoSpace("copied in vain".into())),
            _ => Ok(Spool::in_memory()),
        }
    }
    fn lease(&self, _: ChannelId, _: Lane, _: Timestamp, _: u32, _: &Skip) -> Option<Lease> {
        None
    }
    fn lease_expired(&self, _: Timestamp) -> Option<Lease> {
        None
    }
    fn next_expiry(&self) -> Option<Timestamp> {
        None
    }
    fn follow_wall(&self, _: i64) {}
    fn ahead(&self, _: ChannelId, _: &[MessageId], _: Timestamp) -> Vec<(MessageId, Lane, Ahead)> {
        Vec::new()
    }
    fn overdue(&self, _: ChannelId, _: Timestamp, _: usize) -> Vec<MessageId> {
        Vec::new()
    }
    fn waiting_since(&self, _: ChannelId, _: Timestamp, _: usize) -> Vec<MessageId> {
        Vec::new()
    }
    fn next_due_after(&self, _: ChannelId, _: Timestamp) -> Option<Timestamp> {
        None
    }
    fn next_due(&self, _: ChannelId) -> Option<Timestamp> {
        None
    }
    fn body(&self, message: MessageId) -> Result<Body, StoreError> {
        Err(StoreError::Unknown(message))
    }
    fn record(&self, _: AttemptRecord) -> Commit<Result<(), StoreError>> {
        Commit::done(Ok(()))
    }
    fn give_back(&self, _: MessageId, _: &[u32]) {}
    fn bring_forward(&self, _: &[store::PutOff], _: Timestamp) {}
    fn steer(&self, _: Steer) -> Commit<Result<Vec<u32>, StoreError>> {
        Commit::done(Ok(Vec::new()))
    }
    fn set_channel_state(&self, _: ChannelId, _: ChannelState, _: Timestamp) -> Commit<Result<(), StoreError>> {
        Commit::done(Ok(()))
    }
    fn channel_states(&self) -> BTreeMap<ChannelId, ChannelState> {
        BTreeMap::new()
    }
    fn set_waker(&self, _: Arc<dyn Wake>) {}
    fn totals(&self) -> Totals {
        Totals::default()
    }
    fn caps(&self) -> store::MailCaps {
        match *self.will.lock().unwrap() {
            Will::Full => store::MailCaps { person: store::OpenMail::default(), ..store::MailCaps::default() },
            _ => store::MailCaps::default(),
        }
    }
    fn open_mail(&self, _: store::Holder) -> store::OpenMail {
        store::OpenMail { messages: 1, bytes: 1 }
    }
    fn arriving_bytes(&self) -> u64 {
        0
    }
    fn knows_keys(&self, _: PersonId, _: Option<&str>) -> Result<bool, StoreError> {
        Ok(matches!(*self.will.lock().unwrap(), Will::Replay(_)))
    }
    fn accepting(&self) -> Result<(), AcceptError> {
        Ok(())
    }
    fn message(&self, _: MessageId) -> Result<Option<MessageView>, StoreError> {
        Ok(None)
    }
    fn raw(&self, _: MessageId) -> Result<Option<Body>, StoreError> {
        Ok(None)
    }
    fn envelope(&self, _: MessageId) -> Result<Option<Envelope>, StoreError> {
        Ok(None)
    }
    fn list(&self, _: &Filter, _: &Page) -> Result<Listing, StoreError> {
        Ok(Listing { messages: Vec::new(), has_more: false, stopped: None })
    }
    fn counts(&self, _: &Counted) -> Result<[u64; 9], StoreError> {
        Ok([0; 9])
    }
    fn queue(&self, _: Timestamp, _: &KeptBack) -> Result<Vec<ChannelQueue>, StoreError> {
        Ok(Vec::new())
    }
    fn events(&self, _: u64, _: usize) -> Result<Vec<Event>, StoreError> {
        Ok(Vec::new())
    }
    fn events_of(&self, _: MessageId, _: u64, _: usize) -> Result<Vec<Event>, StoreError> {
        Ok(Vec::new())
    }
    fn heads(&self, _: ChannelId, _: Timestamp, _: &Skip) -> [Option<Head>; 3] {
        [None; 3]
    }
    fn set_kept(&self, _: ChannelId, _: Kept, _: Vec<(EventKind, String)>, _: Timestamp) -> Commit<Result<(), StoreError>> {
        Commit::done(Ok(()))
    }
    fn kept(&self) -> BTreeMap<ChannelId, Kept> {
        BTreeMap::new()
    }
    fn set_lessons(&self, _: ChannelId, _: Lessons, _: Timestamp) -> Commit<Result<(), StoreError>> {
        Commit::done(Ok(()))
    }
    fn lessons(&self) -> BTreeMap<ChannelId, Lessons> {
        BTreeMap::new()
    }
    fn beat(&self, _: Heartbeat, _: Option<Credit>) -> Commit<Result<(), StoreError>> {
        Commit::done(Ok(()))
    }
    fn is_suppressed(&self, _: Party, address: &str) -> bool {
        address == "gone@example.org"
    }
    fn unsuppress(&self, _: Party, _: &str, _: &str, _: Timestamp) -> Commit<Result<bool, StoreError>> {
        Commit::done(Ok(false))
    }
    fn events_of_channel(&self, _: ChannelId, _: usize) -> Result<Vec<Event>, StoreError> {
        Ok(Vec::new())
    }
    fn suppressions(&self, _: &[Party], _: Option<&str>, _: usize) -> Result<Vec<Suppression>, StoreError> {
        Ok(Vec::new())
    }
    fn spent(&self) -> Result<Vec<Spent>, StoreError> {
        Ok(Vec::new())
    }
    fn forget_spent(&self, _: &str, _: Timestamp) -> Result<(), StoreError> {
        Ok(())
    }
    fn close(&self) {}
}

/// The wall clock stands still; ids are random.
pub struct Noon;

impl Clock for Noon {
    fn now(&self) -> Timestamp {
        Timestamp(1_795_593_600_000)
    }

    fn message_id(&self, at: Timestamp) -> MessageId {
        random_message_id(at)
    }

    fn steady(&self) -> Timestamp {
        self.now()
    }
}

/// A gateway's way in, and the queue behind it.
pub struct World {
    pub queue: Arc<Told>,
    pub intake: Arc<Intake>,
    pub door: Arc<Door>,
    pub folder: tempfile::TempDir,
}

pub fn world() -> World {
    world_with(Caps::new(1000, 50), Deadlines::for_size(4096))
}

pub fn world_with(caps: Arc<Caps>, deadlines: Deadlines) -> World {
    world_of(people(), caps, deadlines)
}

pub fn world_of(people: Arc<Known>, caps: Arc<Caps>, deadlines: Deadlines) -> World {
    world_up_to(4096, people, caps, deadlines)
}

pub fn world_up_to(max_message_size: u64, people: Arc<Known>, caps: Arc<Caps>, deadlines: Deadlines) -> World {
    let queue = Arc::new(Told::default());
    let settings = IntakeSettings { hostname: "gw.example".into(), max_message_size, max_recipients: 3, hash_addresses: false };
    let intake = Arc::new(Intake::new(Arc::clone(&queue) as _, people, settings, Arc::new(Noon)));
    let folder = tempfile::tempdir().unwrap();
    let tls = Arc::new(ServerTls::self_signed(folder.path(), "gw.example").unwrap());
    let door = Door::new(Arc::clone(&intake), tls, caps, deadlines);
    World { queue, intake, door, folder }
}

pub fn envelope(from: &str, to: &[&str]) -> Envelope {
    Envelope {
        reverse_path: ReversePath::Mailbox(mailbox(from)),
        recipients: to.iter().map(|to| Recipient::new(ForwardPath::from(mailbox(to)))).collect(),
        body: BodyType::SevenBit,
        smtputf8: false,
        ret: None,
        envid: None,
    }
}

pub const MESSAGE: &str = "From: Ana <ana@example.com>\r\nTo: luis@example.org\r\nSubject: hi\r\n\r\nhello\r\n";

/// Ana's message, by this door.
pub fn incoming(surface: Surface, message: &str) -> Incoming {
    Incoming {
        principal: Principal { person: ANA, token: Some(TOKEN) },
        surface,
        trace: Trace { helo: "laptop.example".into(), protocol: "ESMTPSA", peer: Some([192, 0, 2, 7].into()) },
        envelope: envelope("ana@example.com", &["luis@example.org"]),
        submitted: message.as_bytes().to_vec().into(),
        wishes: ExplicitWishes::default(),
    }
}
