//! Channels, on a terminal.

use super::{json, line, plain, print, table, time};
use crate::cli::Output;
use web::view;

pub(crate) fn channels(channels: &[view::Channel], output: Output) {
    if output == Output::Json {
        return json(&channels);
    }
    if channels.is_empty() {
        return print("no channels");
    }
    let row = |channel: &view::Channel| {
        let hop = channel.next_hop.clone().unwrap_or_else(|| channel.transport.clone());
        let default = if channel.default { "default" } else { "" };
        vec![channel.name.clone(), channel.owner.clone(), hop, channel.state.clone(), default.to_owned(), channel.reason.clone()]
    };
    table(&["NAME", "OWNER", "NEXT HOP", "STATE", "", "REASON"], channels.iter().map(row));
}

pub(crate) fn channel(channel: &view::Channel, output: Output) {
    match output {
        Output::Json => json(channel),
        Output::Table => lines(channel),
    }
}

fn lines(channel: &view::Channel) {
    line("name", &channel.name);
    line("owner", &channel.owner);
    line("transport", &channel.transport);
    line("next hop", channel.next_hop.as_deref().unwrap_or_default());
    line("user name", channel.username.as_deref().unwrap_or_default());
    line("address", channel.address.as_deref().unwrap_or_default());
    line("domains", &channel.domains.join(", "));
    line("connections", &channel.connections.to_string());
    line("provider", channel.provider.as_deref().unwrap_or_default());
    line("state", &channel.state);
    line("reason", &channel.reason);
    line("next try", &channel.next_try.map(time).unwrap_or_default());
}

/// A channel with its limits, what replies taught, whom it keeps back, and its history.
pub(crate) fn channel_detail(detail: &view::ChannelDetail, output: Output) {
    if output == Output::Json {
        return json(detail);
    }
    lines(&detail.channel);
    if detail.connections_now < detail.channel.connections {
        line("now", &format!("{} connections at most", detail.connections_now));
    }
    for limit in &detail.limits {
        let learned = if limit.learned { ", learned" } else { "" };
        let frees = limit.frees_at.map(|at| format!(", room again {}", time(at))).unwrap_or_default();
        line("limit", &format!("{} ({} of {} used{frees}{learned})", limit.limit, limit.used, limit.count));
    }
    for learned in &detail.learned {
        line(
            "learned",
            &format!("{} instead of {}, since {}: {}", learned.now, learned.before, time(learned.taught_at), learned.said),
        );
    }
    for (person, why) in &detail.people_kept_back {
        line("kept back", &format!("mail of {person}: {why}"));
    }
    for (from, why) in &detail.refused_froms {
        line("refused", &format!("mail from {from} is held: {why}"));
    }
    if detail.history.is_empty() {
        return;
    }
    print("");
    let row = |event: &view::Event| vec![time(event.at), event.kind.clone(), plain(&event.detail)];
    table(&["TIME", "EVENT", "DETAIL"], detail.history.iter().map(row));
}
