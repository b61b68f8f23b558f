//! The metrics, made from what is counted elsewhere at the moment they are asked for.

use crate::scheduler::Counters;
use intake::counters::IntakeCounts;
use mail::{Lane, RecipientState};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::sync::atomic::{AtomicU64, Ordering};
use store::{LaneQueue, Totals};

/// A channel at this moment.
pub struct ChannelFigures {
    /// Its name.
    pub name: String,
    /// The word for its state.
    pub state: &'static str,
    /// What is queued there.
    pub lanes: [LaneQueue; 3],
    /// How long ago the oldest of its open messages was accepted, in seconds; zero without one.
    pub oldest_seconds: u64,
}

/// The text that Prometheus reads.
#[must_use]
pub fn text(
    totals: &Totals,
    arriving_bytes: u64,
    intake: &IntakeCounts,
    scheduler: &Counters,
    channels: &[ChannelFigures],
) -> String {
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let mut registry = Registry::with_prefix("sendero");
    counter(&mut registry, "messages_accepted", "Messages accepted since the start", intake.accepted);
    counter(&mut registry, "messages_replayed", "Submissions known by their key since the start", intake.replayed);
    counter(&mut registry, "submissions_refused", "Submissions refused for good since the start", intake.refused);
    counter(&mut registry, "submissions_deferred", "Submissions put off since the start", intake.deferred);
    counter(&mut registry, "connections", "SMTP connections let in since the start", intake.connections);
    counter(&mut registry, "connections_refused", "SMTP connections turned away since the start", intake.connections_refused);
    counter(&mut registry, "logins", "SMTP logins since the start", intake.logins);
    counter(&mut registry, "logins_failed", "SMTP logins refused since the start", intake.logins_failed);
    counter(&mut registry, "recipients_accepted", "Recipients accepted since the data folder began", totals.accepted);
    counter(&mut registry, "attempts", "Transactions begun with next hops since the start", read(&scheduler.attempts));
    counter(&mut registry, "sessions_opened", "Sessions opened with next hops since the start", read(&scheduler.opened));
    counter(&mut registry, "sessions_failed", "Sessions that could not be opened since the start", read(&scheduler.open_failures));
    gauge(&mut registry, "connections_open", "SMTP connections at this moment", intake.connections_open);
    gauge(&mut registry, "workers", "Connections to next hops at this moment, busy or idle", read(&scheduler.workers));
    gauge(&mut registry, "open_messages", "Messages with an open recipient", totals.open_messages);
    gauge(&mut registry, "open_bytes", "Bytes of open messages, as stored", totals.open_bytes);
    gauge(&mut registry, "arriving_bytes", "Bytes on the disk of large messages that are coming in", arriving_bytes);
    counter(
        &mut registry,
        "submissions_over_cap",
        "Submissions put off since the start because of a cap of open mail",
        intake.over_cap,
    );
    let states = RecipientState::ALL.into_iter().map(RecipientState::name).zip(totals.by_state);
    let states = states.map(|(state, count)| (vec![("state", state.to_owned())], count));
    labelled(&mut registry, "recipients", "Recipients by state; they add up to all accepted", states);
    by_channel(&mut registry, channels);
    let mut text = String::new();
    encode(&mut text, &registry).expect("a string in memory takes every write");
    text
}

type Labelled<M> = Family<Vec<(&'static str, String)>, M>;

fn counter(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let counter = Counter::<u64>::default();
    counter.inc_by(value);
    registry.register(name, help, counter);
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let gauge = Gauge::<i64>::default();
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
    registry.register(name, help, gauge);
}

fn by_channel(registry: &mut Registry, channels: &[ChannelFigures]) {
    let name = |channel: &ChannelFigures| ("channel", channel.name.clone());
    let of_lanes = |count: fn(&LaneQueue) -> u64| {
        channels.iter().flat_map(move |channel| {
            let lanes = [Lane::Now, Lane::Normal, Lane::Bulk];
            lanes.map(|lane| (vec![name(channel), ("lane", lane.name().to_owned())], count(&channel.lanes[lane as usize])))
        })
    };
    let states = channels.iter().map(|channel| (vec![name(channel), ("state", channel.state.to_owned())], 1));
    labelled(registry, "channel_state", "The state of each channel: 1 beside the one it is in", states);
    let open = of_lanes(|lane| lane.due.plus(lane.later).plus(lane.kept_back).transactions);
    labelled(registry, "channel_open", "Messages queued in each lane of a channel", open);
    let kept_back = of_lanes(|lane| lane.kept_back.transactions);
    labelled(registry, "channel_kept_back", "Those of them that wait for a person", kept_back);
    let oldest = channels.iter().map(|channel| (vec![name(channel)], channel.oldest_seconds));
    labelled(registry, "oldest_seconds", "Age of the oldest open message of a channel", oldest);
}

fn labelled(registry: &mut Registry, name: &str, help: &str, values: impl Iterator<Item = (Vec<(&'static str, String)>, u64)>) {
    let family = Labelled::<Gauge<i64>>::default();
    for (labels, count) in values {
        family.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
    }
    registry.register(name, help, family);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_states_of_recipients_stand_beside_their_sum() {
        let mut totals = Totals { accepted: 5, ..Totals::default() };
        totals.by_state[0] = 3;
        totals.by_state[3] = 2;
        let intake = IntakeCounts { accepted: 4, ..IntakeCounts::default() };
        let text = text(&totals, 77, &intake, &Counters::default(), &[]);
        assert!(text.contains("sendero_messages_accepted_total 4"), "{text}");
        assert!(text.contains("sendero_arriving_bytes 77"), "{text}");
        assert!(text.contains("sendero_recipients_accepted_total 5"), "{text}");
        assert!(text.contains("sendero_recipients{state=\"queued\"} 3"), "{text}");
        assert!(text.contains("sendero_recipients{state=\"sent\"} 2"), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn each_channel_has_its_state_its_lanes_and_its_age() {
        let mut lanes = [LaneQueue::default(); 3];
        lanes[Lane::Bulk as usize].due.transactions = 4;
        lanes[Lane::Bulk as usize].kept_back.transactions = 2;
        let channel = ChannelFigures { name: "office \"a\"".into(), state: "throttled", lanes, oldest_seconds: 77 };
        let text = text(&Totals::default(), 0, &IntakeCounts::default(), &Counters::default(), &[channel]);
        for line in [
            r#"sendero_channel_state{channel="office \"a\"",state="throttled"} 1"#,
            r#"sendero_channel_open{channel="office \"a\"",lane="bulk"} 6"#,
            r#"sendero_channel_open{channel="office \"a\"",lane="now"} 0"#,
            r#"sendero_channel_kept_back{channel="office \"a\"",lane="bulk"} 2"#,
            r#"sendero_oldest_seconds{channel="office \"a\""} 77"#,
        ] {
            assert!(text.lines().any(|one| one == line), "wanted {line} in: {text}");
        }
    }
}
