//! The built-in rules: every row, and what must hold for all of them.

use super::*;
use crate::classify::row::{Number, Rule};
use std::fmt::Write;

fn all() -> impl Iterator<Item = &'static Rule> {
    Rules::builtin_rules()
}

/// The reply that a row was written for, and a phase it comes in.
fn own_reply(rule: &Rule) -> (Phase, Diagnostic) {
    let (enhanced, text) = match &rule.enhanced {
        Number::Any => (None, rule.text.clone()),
        Number::Enhanced(code) => (Some(*code), rule.text.clone()),
        Number::Own(number) => (None, format!("{} {number}", rule.text)),
    };
    (rule.phase.unwrap_or(Phase::Data), Diagnostic { code: rule.code, enhanced, text })
}

#[test]
fn every_row_parses_and_says_where_it_is_from() {
    let text = include_str!("../replies.toml");
    assert_eq!(all().count(), text.matches("[[reply]]").count());
    assert!(all().count() > 240, "{}", all().count());
    assert_eq!(text.matches("\nsource = \"").count(), all().count());
    assert_eq!(text.matches("\ncertainty = \"").count(), all().count());
    for rule in all() {
        assert!(!rule.info.source.trim().is_empty(), "row {}", rule.info.row);
        assert!(!rule.info.operator);
    }
}

#[test]
fn every_row_is_found_by_the_reply_it_was_written_for() {
    for rule in all() {
        let (phase, said) = own_reply(rule);
        let judgement = Rules::builtin().classify(&[&rule.info.provider], phase, &said);
        let found = judgement.rule.as_ref().map(|info| info.row);
        assert_eq!(found, Some(rule.info.row), "{} {phase} {said}", rule.info.provider);
    }
}

/// Pain 6: whatever its code, a reply about the channel keeps the mail.
#[test]
fn no_row_about_a_channel_a_connection_or_a_destination_ends_a_message() {
    for rule in all().filter(|rule| matches!(rule.scope, Fault::Channel | Fault::Connection | Fault::Destination)) {
        let reaction = react(&rule.judgement(None)).recipient;
        assert!(!matches!(reaction, ForRecipient::Fail | ForRecipient::FailAndSuppress), "row {}", rule.info.row);
    }
}

/// Pain 5: over every row.
#[test]
fn no_row_about_a_channel_or_a_connection_spends_an_attempt() {
    for rule in all().filter(|rule| matches!(rule.scope, Fault::Channel | Fault::Connection)) {
        assert_eq!(react(&rule.judgement(None)).recipient, ForRecipient::Keep, "row {}", rule.info.row);
    }
}

#[test]
fn no_row_about_a_recipient_a_message_or_a_destination_touches_the_channel() {
    for rule in all().filter(|rule| matches!(rule.scope, Fault::Recipient | Fault::Message | Fault::Destination)) {
        assert_eq!(react(&rule.judgement(None)).channel, None, "row {}", rule.info.row);
    }
}

/// Pain 20: over every row.
#[test]
fn only_rows_about_an_unknown_recipient_suppress() {
    for rule in all().filter(|rule| react(&rule.judgement(None)).recipient == ForRecipient::FailAndSuppress) {
        assert_eq!((rule.scope, rule.class), (Fault::Recipient, Class::RecipientUnknown), "row {}", rule.info.row);
    }
}

/// Pain 20: over every row's reply, at whatever step it comes and whoever says it.
#[test]
fn whoever_says_it_and_whenever_only_an_unknown_recipient_is_suppressed() {
    let mut suppressed = 0;
    for rule in all() {
        let (_, said) = own_reply(rule);
        for phase in Phase::ALL.iter().copied() {
            for provider in [&*rule.info.provider, "microsoft365", "unheard_of"] {
                let judgement = judged(provider, phase, &said.to_string());
                if react(&judgement).recipient == ForRecipient::FailAndSuppress {
                    let (class, scope) = (judgement.class, judgement.scope);
                    assert_eq!((class, scope), (Class::RecipientUnknown, Fault::Recipient), "{provider} {phase} {said}");
                    suppressed += 1;
                }
            }
        }
    }
    assert!(suppressed > 20, "{suppressed} replies suppress");
}

#[test]
fn a_remote_server_stops_neither_the_channel_nor_an_author() {
    for rule in all().filter(|rule| rule.info.provider.ends_with("_mx")) {
        assert_ne!(rule.scope, Fault::Channel, "row {}", rule.info.row);
        assert_ne!(rule.action, Action::HoldMessageFixSender, "row {}", rule.info.row);
    }
}

#[test]
fn every_provider_of_a_row_and_every_companion_is_known() {
    let rules = Rules::builtin();
    for provider in rules.providers() {
        assert!(rules.knows(provider) && provider != "*");
        let order = rules.order(Some(provider));
        assert_eq!(order[0], provider);
        assert!(order.iter().all(|other| rules.knows(other)), "{order:?}");
    }
    assert_eq!(rules.order(Some("microsoft_graph")), ["microsoft_graph", "microsoft_oauth", "microsoft365"]);
    assert_eq!(rules.order(Some("ovh")), ["ovh", "postfix"]);
    assert!(!rules.knows("*") && !rules.knows("microsoft"));
    assert!(rules.unknown("sparkpots").contains("did you mean 'sparkpost'?"));
    assert!(rules.unknown("x\n").contains("gmail"));
}

#[test]
fn every_row_has_the_reaction_that_the_table_says() {
    let mut rows: Vec<&Rule> = all().collect();
    rows.sort_by_key(|rule| rule.info.row);
    let mut table = String::new();
    for rule in rows {
        let (phase, said) = own_reply(rule);
        let phase = rule.phase.map_or("any", |_| phase.name());
        let reaction = react(&rule.judgement(None));
        writeln!(table, "{} {phase} {said} -> {}", rule.info.provider, in_words(reaction)).unwrap();
    }
    for (ours, theirs) in table.lines().zip(include_str!("reactions.txt").lines()) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(table.lines().count(), include_str!("reactions.txt").lines().count(), "{table}");
}

/// `keep, channel slow 60`.
fn in_words(reaction: Reaction) -> String {
    let time = |after: Option<Duration>| after.map_or(String::new(), |after| format!(" {}", after.as_secs()));
    let recipient = match reaction.recipient {
        ForRecipient::Fail => "fail".to_owned(),
        ForRecipient::FailAndSuppress => "fail and suppress".to_owned(),
        ForRecipient::Defer { after } => format!("defer{}", time(after)),
        ForRecipient::Keep => "keep".to_owned(),
        ForRecipient::HoldFrom => "hold this From".to_owned(),
        ForRecipient::Again => "again at once".to_owned(),
    };
    let channel = match reaction.channel {
        None => return recipient,
        Some(ForChannel::NeedsAttention) => "needs attention".to_owned(),
        Some(ForChannel::LoginRefused) => "login refused".to_owned(),
        Some(ForChannel::Throttle { after, probes: true, .. }) => format!("throttled{}", time(after)),
        Some(ForChannel::Throttle { after, probes: false, .. }) => format!("throttled{}, no probes", time(after)),
        Some(ForChannel::Slow { after }) => format!("slow{}", time(after)),
        Some(ForChannel::FewerConnections { after }) => format!("fewer connections{}", time(after)),
        Some(ForChannel::Reconnect { after }) => format!("reconnect{}", time(after)),
    };
    format!("{recipient}, channel {channel}")
}
