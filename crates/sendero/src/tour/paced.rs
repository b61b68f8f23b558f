//! The tour's second scene: a channel of thirty a minute, with bulk waiting on it. One-off mail passes it, and more
//! fills the window, so that the rest has to wait.

use super::hop::Hop;
use super::letters::ANA;
use super::screen::Screen;
use super::stage::Stage;
use mail::{Lane, PersonId, Surface, Timestamp};
use serde_json::{Value, json};
use smtp::{ForwardPath, ReversePath};
use std::sync::Arc;
use std::time::Duration;
use store::Steer;
use tokio::time::{Instant, interval};
use web::gateway::{Outlook, Principal};
use web::{Gateway, Submission, view};

/// The channel of this scene.
pub(super) const CHANNEL: &str = "thirty-a-minute";
/// Its limit.
pub(super) const LIMIT: &str = "30 messages / 1 minute";
const BULK: usize = 40;
const ONE_OFF: usize = 6;
/// With those before them, more than the window holds.
const MORE: usize = 30;
/// How often the screen shows the window.
const LOOK: Duration = Duration::from_millis(500);
/// How long one-off mail may take to pass, and the window to fill.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the screen shows of the channel at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Picture {
    /// Units of the window in use, and the limit.
    pub used: (u64, u64),
    /// Messages that wait in each lane, `now` first.
    pub waiting: [u64; 3],
    /// Messages of each lane that arrived.
    pub arrived: [usize; 3],
    /// What waits, the next to leave first.
    pub waits: Vec<Wait>,
}

/// A message that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wait {
    id: String,
    subject: String,
    lane: Lane,
    /// Why, in the gateway's words.
    reason: String,
    /// When it would leave, from now; `None` where nobody can say.
    leaves_in: Option<Duration>,
}

/// What the scene came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    arrived: [usize; 3],
    full: bool,
    /// When the last bulk message leaves, from now.
    last_leaves_in: Option<Duration>,
    /// The same, as it looked before other mail came and took places in the window.
    undisturbed: Option<Duration>,
}

/// The scene. True when all that was to pass did, and the window was seen full with mail waiting for room.
pub(super) async fn perform(stage: &Stage, hop: &mut Hop, screen: &mut Screen, pause: Duration) -> bool {
    let gateway: Arc<dyn Gateway> = stage.gateway();
    let bulk = submit(&gateway, "bulk", BULK, Lane::Bulk).await;
    screen.paced_begins(bulk);
    let mut scene = Scene { stage, gateway, hop, screen, picture: Picture::default() };
    scene.show(Some(4 * pause), |_| false).await;
    scene.screen.waits(&scene.picture.waits);
    let undisturbed = scene.finish().await;
    submit(&scene.gateway, "one-off", ONE_OFF, Lane::Now).await;
    let passed = scene.show(None, |picture| picture.arrived[Lane::Now as usize] >= ONE_OFF).await;
    submit(&scene.gateway, "another", MORE, Lane::Now).await;
    let full = passed && scene.show(None, Picture::is_full).await;
    if full {
        scene.screen.waits(&scene.picture.waits);
        scene.show(Some(8 * pause), |_| false).await;
    }
    let (last, now) = (scene.finish().await, scene.gateway.now());
    let ending = Ending {
        arrived: scene.picture.arrived,
        full,
        last_leaves_in: last.map(|at| at.since(now)),
        undisturbed: undisturbed.map(|at| at.since(now)),
    };
    scene.screen.paced_ends(&ending);
    passed && full
}

struct Scene<'a> {
    stage: &'a Stage,
    gateway: Arc<dyn Gateway>,
    hop: &'a mut Hop,
    screen: &'a mut Screen,
    picture: Picture,
}

impl Scene<'_> {
    /// Shows what happens for so long, or until `done`, which is to come in good time; true when it did.
    async fn show(&mut self, lasting: Option<Duration>, done: impl Fn(&Picture) -> bool) -> bool {
        let end = Instant::now() + lasting.unwrap_or(PATIENCE);
        let mut look = interval(LOOK);
        loop {
            tokio::select! {
                Some(captured) = self.hop.next() => self.count(&captured.subject),
                _ = look.tick() => self.look().await,
                () = tokio::time::sleep_until(end) => {
                    self.look().await;
                    return done(&self.picture);
                }
            }
            if done(&self.picture) {
                return true;
            }
        }
    }

    fn count(&mut self, subject: &str) {
        let lane = if subject.starts_with("bulk") { Lane::Bulk } else { Lane::Now };
        self.picture.arrived[lane as usize] += 1;
    }

    async fn look(&mut self) {
        if let Some(channel) = channel(&self.gateway) {
            let outlook: Outlook = self.gateway.outlook(channel);
            self.picture.used = outlook.limits.first().map_or((0, 0), |limit| (limit.used, limit.limit.count));
            let queues = self.gateway.queue().queue(self.gateway.steady(), &self.gateway.kept_back()).unwrap_or_default();
            let queue = queues.iter().find(|queue| queue.channel == channel);
            self.picture.waiting = queue.map_or([0; 3], |queue| queue.lanes.map(|lane| lane.due.transactions));
        }
        self.picture.waits = self.waits().await;
        self.screen.paced(&self.picture);
    }

    /// What waits on the channel, as the gateway says it to everybody who asks.
    async fn waits(&self) -> Vec<Wait> {
        let query = [("channel", CHANNEL), ("status", "queued"), ("limit", "1000")];
        let page = self.stage.client.get::<view::Page<view::Message>>("/api/v1/messages", &query).await;
        let now = self.gateway.now();
        let mut waits: Vec<Wait> =
            page.map(|page| page.data).unwrap_or_default().into_iter().map(|one| Wait::of(one, now)).collect();
        waits.sort_by_key(|wait| (wait.leaves_in.is_none(), wait.leaves_in));
        waits
    }

    /// When the last bulk message leaves, by the estimate that everybody who asks for the queue gets.
    async fn finish(&self) -> Option<Timestamp> {
        let lines = self.stage.client.get::<Vec<view::QueueLine>>("/api/v1/queue", &[]).await.ok()?;
        let lanes = lines.into_iter().find(|line| line.channel == CHANNEL)?.lanes;
        lanes.into_iter().find(|lane| lane.lane == Lane::Bulk)?.finishes_at
    }
}

impl Picture {
    /// Nothing more fits, and mail waits for room.
    fn is_full(&self) -> bool {
        let (used, limit) = self.used;
        used >= limit && self.waiting.iter().sum::<u64>() > 0
    }

    pub(super) fn words(&self) -> String {
        let Self { used: (used, limit), waiting, arrived, .. } = self;
        let lanes =
            [Lane::Now, Lane::Bulk].map(|lane| format!("{} {}/{}", lane.name(), waiting[lane as usize], arrived[lane as usize]));
        format!("window {used:>2} of {limit} | waiting/arrived: {}", lanes.join(", "))
    }

    pub(super) fn record(&self) -> Value {
        let ([now, normal, bulk], last) = (self.waiting, self.waits.last());
        json!({
            "event": "pace", "used": self.used.0, "limit": self.used.1,
            "waiting": { "now": now, "normal": normal, "bulk": bulk },
            "arrived": by_lane(self.arrived), "last_waits": last.map(Wait::words).unwrap_or_default(),
        })
    }
}

impl Wait {
    fn of(message: view::Message, now: Timestamp) -> Self {
        let (reason, next_try) = message.waiting_on.map(|on| (on.text, on.next_try)).unwrap_or_default();
        let leaves_in = next_try.map(|at| at.since(now));
        Self { id: message.id, subject: message.subject, lane: message.lane, reason, leaves_in }
    }

    /// What is short comes first: a terminal cuts the end.
    pub(super) fn words(&self) -> String {
        let leaves = self.leaves_in.map(|leaves| format!("in about {:>2} s", leaves.as_secs())).unwrap_or_default();
        format!("{:<10} {leaves}: {}", self.subject, self.reason)
    }

    pub(super) fn record(&self) -> Value {
        let leaves = self.leaves_in.map(|leaves| leaves.as_secs());
        json!({ "id": self.id, "subject": self.subject, "lane": self.lane, "reason": self.reason, "leaves_in_s": leaves })
    }
}

impl Ending {
    pub(super) fn words(&self) -> String {
        let [now, _, bulk] = self.arrived;
        let mut words = format!("\n  {now} one-off messages passed the bulk, of which {bulk} had left.");
        if self.full {
            words.push_str("\n  The window is full: what is over the limit waits until a place is free again.");
        }
        if let Some(last) = self.last_leaves_in {
            words.push_str(&format!("\n  The rest leaves by itself, the last bulk message in about {} s", last.as_secs()));
            let without = self
                .undisturbed
                .map(|at| format!("; without the\n  others, which took places before it, in about {} s", at.as_secs()));
            words.push_str(&without.unwrap_or_default());
            words.push('.');
        }
        words
    }

    pub(super) fn record(&self) -> Value {
        json!({
            "event": "paced_end", "arrived": by_lane(self.arrived), "full": self.full,
            "rest_leaves_in_s": self.last_leaves_in.map(|last| last.as_secs()),
            "undisturbed_in_s": self.undisturbed.map(|last| last.as_secs()),
        })
    }
}

fn by_lane([now, _, bulk]: [usize; 3]) -> Value {
    json!({ "one_off": now, "bulk": bulk })
}

/// Takes back what still waits, so that a tour that ends leaves nothing behind.
pub(super) async fn clear(stage: &Stage) {
    let gateway: Arc<dyn Gateway> = stage.gateway();
    let Some(channel) = channel(&gateway) else { return };
    let queue = gateway.queue();
    for message in queue.overdue(channel, Timestamp(i64::MAX), BULK + ONE_OFF + MORE) {
        let order = Steer {
            message,
            recipients: vec![],
            to: mail::Move::Cancel,
            channel: None,
            by: "the end of the tour".into(),
            at: gateway.now(),
        };
        // What is being handed over meanwhile arrives.
        let _ = queue.steer(order).await;
    }
}

/// Hands so many messages in; how many were accepted.
async fn submit(gateway: &Arc<dyn Gateway>, name: &str, count: usize, lane: Lane) -> usize {
    let mut accepted = 0;
    for number in 1..=count {
        let Some(submission) = submission(gateway, &format!("{name} {number}"), lane) else { break };
        accepted += usize::from(gateway.accept(submission).await.is_ok());
    }
    accepted
}

fn submission(gateway: &Arc<dyn Gateway>, subject: &str, lane: Lane) -> Option<Submission> {
    let person = person(gateway)?;
    let text = format!("From: {ANA}\r\nTo: luis@example.org\r\nSubject: {subject}\r\n\r\nHello.\r\n");
    Some(Submission {
        principal: Principal { person, token: None },
        surface: Surface::Cli,
        reverse_path: ReversePath::parse(&format!("<{ANA}>")).ok()?,
        recipients: vec![ForwardPath::parse("<luis@example.org>").ok()?],
        body: text.into_bytes().into(),
        channel: Some(CHANNEL.to_owned()),
        lane: Some(lane),
        tags: Vec::new(),
        idempotency_key: None,
        scheduled_at: None,
        expires_at: None,
    })
}

fn person(gateway: &Arc<dyn Gateway>) -> Option<PersonId> {
    gateway.directory().person_by_address(ANA).map(|person| person.id)
}

fn channel(gateway: &Arc<dyn Gateway>) -> Option<mail::ChannelId> {
    gateway.directory().channel_named(CHANNEL).map(|channel| channel.id)
}
