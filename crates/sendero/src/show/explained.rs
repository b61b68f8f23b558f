//! What a reply means, in sentences and as JSON.

use super::{json, line, print};
use crate::cli::Output;
use mail::classify::{ForChannel, ForRecipient, Judgement, Phase, Reaction};
use serde_json::{Value, json as object};
use smtp::Reply;
use std::time::Duration;

pub(crate) fn explained(reply: &Reply, phase: Phase, judgement: &Judgement, reaction: Reaction, output: Output) {
    if output == Output::Json {
        return json(&as_json(reply, phase, judgement, reaction));
    }
    let retry = judgement.retry_after.map_or("no time of its own".to_owned(), span);
    line("reply", &format!("{reply} (at {phase})"));
    line("class", judgement.class.name());
    line("at fault", judgement.scope.name());
    line("holds", judgement.permanence.name());
    line("action", judgement.action.name());
    line("message", for_message(reaction.recipient));
    line("channel", for_channel(reaction.channel));
    line("retry after", &retry);
    match &judgement.rule {
        Some(rule) => {
            let owner = if rule.operator { "your rules" } else { "the built-in rules" };
            line("rule", &format!("{} of {owner}, for provider {}", rule.row, rule.provider));
            line("source", &rule.source);
            line("certainty", rule.certainty.name());
            line("note", &rule.note);
        }
        None => print("no rule knows this reply: its phase and codes decided"),
    }
}

fn as_json(reply: &Reply, phase: Phase, judgement: &Judgement, reaction: Reaction) -> Value {
    let seconds = |time: Duration| time.as_secs();
    let rule = judgement.rule.as_ref().map(|rule| {
        object!({
            "provider": &*rule.provider, "row": rule.row, "operator": rule.operator, "source": &*rule.source,
            "certainty": rule.certainty.name(), "note": &*rule.note, "probe": rule.probe,
        })
    });
    object!({
        "reply": reply.to_string(),
        "phase": phase.name(),
        "class": judgement.class.name(),
        "scope": judgement.scope.name(),
        "permanence": judgement.permanence.name(),
        "action": judgement.action.name(),
        "retry_after_s": judgement.retry_after.map(seconds),
        "message": for_message(reaction.recipient),
        "channel": for_channel(reaction.channel),
        "rule": rule,
    })
}

fn for_message(what: ForRecipient) -> &'static str {
    match what {
        ForRecipient::Fail => "final: it has failed for this recipient",
        ForRecipient::FailAndSuppress => "final: it has failed for this recipient, whose address is not to be written to again",
        ForRecipient::Defer { after: Some(_) } => {
            "an attempt is spent; tried again by the retry schedule, no sooner than after the time given"
        }
        ForRecipient::Defer { after: None } => "an attempt is spent; tried again by the retry schedule",
        ForRecipient::Keep => "kept; no attempt is spent, and it goes when the channel goes",
        ForRecipient::HoldFrom => "held, with further mail of that person with this sender on the channel, until somebody acts",
        ForRecipient::Again => "tried again at once for those refused, in a new transaction",
    }
}

fn for_channel(what: Option<ForChannel>) -> &'static str {
    match what {
        None => "goes on",
        Some(ForChannel::NeedsAttention) => "stops until a person acts",
        Some(ForChannel::LoginRefused) => "one more login confirms it; then stops until a person acts",
        Some(ForChannel::Throttle { probes: true, .. }) => "stops for a time, then tries one message",
        Some(ForChannel::Throttle { probes: false, .. }) => "stops for the whole time, as attempts would prolong the block",
        Some(ForChannel::Slow { .. }) => "slows down",
        Some(ForChannel::FewerConnections { .. }) => "uses fewer connections",
        Some(ForChannel::Reconnect { .. }) => "connects anew, later",
    }
}

/// `1 h 30 min`.
fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let parts = [(seconds / 3600, "h"), (seconds / 60 % 60, "min"), (seconds % 60, "s")];
    let shown: Vec<String> = parts.iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count} {unit}")).collect();
    shown.join(" ")
}
