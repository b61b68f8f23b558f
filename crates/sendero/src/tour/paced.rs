//! The tour's second scene: a channel of thirty a minute, with bulk waiting on it and one-off mail passing.

use super::hop::Hop;
use super::letters::ANA;
use super::screen::Screen;
use super::stage::Stage;
use mail::{Lane, MessageId, PersonId, Surface, Timestamp};
use smtp::{ForwardPath, ReversePath};
use std::sync::Arc;
use std::time::Duration;
use store::{Queue, Steer};
use tokio::time::{Instant, interval, sleep_until};
use web::gateway::{Outlook, Principal};
use web::{Gateway, Submission};

/// The channel of this scene.
pub(super) const CHANNEL: &str = "thirty-a-minute";
/// Its limit.
pub(super) const LIMIT: &str = "30 messages / 1 minute";
const BULK: usize = 40;
const ONE_OFF: usize = 6;
/// How often the screen shows the window.
const LOOK: Duration = Duration::from_millis(500);
/// How long the one-off mail may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the screen shows of the channel at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Picture {
    /// Units of the window in use, and the limit.
    pub used: (u64, u64),
    /// Messages that wait in each lane, `now` first.
    pub waiting: [u64; 3],
    /// One-off and bulk messages that arrived.
    pub arrived: (usize, usize),
    /// Why the first one that waits does, and until when.
    pub reason: String,
}

/// The scene: bulk first, then one-off mail that passes it. True when all of the latter arrived in time.
pub(super) async fn perform(stage: &Stage, hop: &mut Hop, screen: &mut Screen, pause: Duration) -> bool {
    let gateway: Arc<dyn Gateway> = stage.gateway();
    let mut sent = Vec::new();
    for number in 1..=BULK {
        sent.extend(submit(&gateway, &format!("bulk {number}"), Lane::Bulk).await);
    }
    screen.paced_begins(sent.len());
    let passing = Instant::now() + 4 * pause;
    let mut one_off = 0;
    let (mut arrived, mut look) = ((0, 0), interval(LOOK));
    let end = passing + PATIENCE;
    while arrived.0 < ONE_OFF && Instant::now() < end {
        if one_off == 0 && Instant::now() >= passing {
            for number in 1..=ONE_OFF {
                one_off += usize::from(submit(&gateway, &format!("one-off {number}"), Lane::Now).await.is_some());
            }
        }
        tokio::select! {
            Some(captured) = hop.next() => {
                if captured.subject.starts_with("bulk") { arrived.1 += 1 } else { arrived.0 += 1 }
            }
            _ = look.tick() => {}
            () = sleep_until(passing), if one_off == 0 => {}
        }
        screen.paced(&picture(&gateway, &sent, arrived));
    }
    screen.paced_ends(arrived, finish(&gateway));
    arrived.0 == ONE_OFF
}

/// Takes back what still waits, so that a tour that ends leaves nothing behind.
pub(super) async fn clear(stage: &Stage) {
    let gateway: Arc<dyn Gateway> = stage.gateway();
    let Some(channel) = channel(&gateway) else { return };
    let queue = gateway.queue();
    for message in queue.overdue(channel, Timestamp(i64::MAX), BULK) {
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

async fn submit(gateway: &Arc<dyn Gateway>, subject: &str, lane: Lane) -> Option<MessageId> {
    let person = person(gateway)?;
    let text = format!("From: {ANA}\r\nTo: luis@example.org\r\nSubject: {subject}\r\n\r\nHello.\r\n");
    let submission = Submission {
        principal: Principal { person, token: None },
        surface: Surface::Cli,
        reverse_path: ReversePath::parse(&format!("<{ANA}>")).ok()?,
        recipients: vec![ForwardPath::parse("<luis@example.org>").ok()?],
        body: text.into_bytes().into(),
        channel: Some(CHANNEL.to_owned()),
        lane: Some(lane),
        tags: Vec::new(),
        idempotency_key: None,
    };
    gateway.accept(submission).await.ok().map(|receipt| receipt.id)
}

fn person(gateway: &Arc<dyn Gateway>) -> Option<PersonId> {
    gateway.directory().person_by_address(ANA).map(|person| person.id)
}

fn channel(gateway: &Arc<dyn Gateway>) -> Option<mail::ChannelId> {
    gateway.directory().channel_named(CHANNEL).map(|channel| channel.id)
}

fn picture(gateway: &Arc<dyn Gateway>, sent: &[MessageId], arrived: (usize, usize)) -> Picture {
    let nothing = Picture { used: (0, 0), waiting: [0; 3], arrived, reason: String::new() };
    let Some(channel) = channel(gateway) else { return nothing };
    let outlook: Outlook = gateway.outlook(channel);
    let used = outlook.limits.first().map_or((0, 0), |limit| (limit.used, limit.limit.count));
    let queues = gateway.queue().queue(gateway.steady(), &gateway.kept_back()).unwrap_or_default();
    let waiting =
        queues.iter().find(|queue| queue.channel == channel).map_or([0; 3], |queue| queue.lanes.map(|lane| lane.due.transactions));
    Picture { used, waiting, arrived, reason: reason(gateway, channel, sent) }
}

/// Why the last bulk message waits, and until when, by estimate.
fn reason(gateway: &Arc<dyn Gateway>, channel: mail::ChannelId, sent: &[MessageId]) -> String {
    let queue: Arc<dyn Queue> = gateway.queue();
    let Some(last) = sent.last() else { return String::new() };
    let Some((_, lane, ahead)) = queue.ahead(channel, &[*last]).pop() else { return String::new() };
    let Some(at) = gateway.forecast(channel, lane, ahead) else { return String::new() };
    let place = ahead.transactions;
    format!(
        "message {place} in its lane waits for its turn under '{LIMIT}'; it leaves about {} s from now",
        at.since(gateway.steady()).as_secs()
    )
}

/// Seconds until the last message has left, by estimate.
fn finish(gateway: &Arc<dyn Gateway>) -> Option<u64> {
    let channel = channel(gateway)?;
    let queues = gateway.queue().queue(gateway.steady(), &gateway.kept_back()).ok()?;
    let bulk = queues.iter().find(|queue| queue.channel == channel)?.lanes[Lane::Bulk as usize].due;
    let at = gateway.forecast(channel, Lane::Bulk, bulk)?;
    Some(at.since(gateway.steady()).as_secs())
}
