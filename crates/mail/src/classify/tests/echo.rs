//! Words that a message brought along and a reply only repeats.

use super::*;
use smtp::Mailbox;

/// The action, where the message has this recipient and this subject.
fn action(phase: Phase, reply: &str, recipient: &str, subject: &str) -> &'static str {
    judged_for(phase, reply, recipient, subject).action.name()
}

fn judged_for(phase: Phase, reply: &str, recipient: &str, subject: &str) -> Judgement {
    let mut brought = Brought::default();
    brought.address(&Mailbox::parse(recipient).unwrap());
    brought.text(subject);
    Rules::builtin().classify_for(&[], phase, &said(reply), &brought)
}

#[test]
fn an_address_that_reads_like_a_refusal_is_not_one() {
    let recipient = "\"relay access denied\"@example.com";
    for reply in [
        "550 5.1.1 <\"relay access denied\"@example.com>: no such user here",
        "550 5.1.1 <\"Relay Access Denied\"@example.com>: no such user here",
        "550 <\"relay access denied\"@example.com>: no such user here",
        "550 relay access denied@example.com: no such user here",
        "550 no mailbox relay access denied here",
        "550 no mailbox \"relay access denied\" here",
    ] {
        assert_eq!(action(Phase::Rcpt, reply, recipient, ""), "bounce_recipient", "{reply}");
    }
}

#[test]
fn a_subject_that_reads_like_a_refusal_is_not_one() {
    for (reply, subject) in [
        ("552 5.7.0 Subject \"authentication required\" blocked", "authentication required"),
        ("552 5.7.0 Subject \"authentication required, really\" blocked", "something else"),
        ("552 5.7.0 blocked for Authentication  Required: now", "authentication required: now"),
    ] {
        assert_eq!(action(Phase::Data, reply, "luis@example.com", subject), "bounce_message", "{reply}");
    }
    let own = "530 5.7.0 Authentication required";
    assert_eq!(action(Phase::Data, own, "luis@example.com", "authentication required, they say"), "pause_channel_reauth");
}

#[test]
fn the_words_that_a_message_shares_with_a_refusal_are_still_the_next_hops() {
    for (recipient, subject) in [("daily@example.com", "sending"), ("user@example.com", "e"), ("limit@example.com", "exceeded")] {
        let judgement = judged_for(Phase::Data, "550 5.4.5 Daily user sending limit exceeded", recipient, subject);
        assert_eq!(judgement.scope, Fault::Channel, "{recipient} {subject}");
    }
}

#[test]
fn a_time_in_an_address_or_a_subject_asks_for_nothing() {
    let recipient = "\"sending limit, try again in 24 hours ok\"@example.com";
    let refused = judged_for(Phase::Rcpt, &format!("450 4.2.1 <{recipient}>: no"), recipient, "");
    assert_eq!((refused.scope, refused.told), (Fault::Recipient, false), "{refused:?}");
    let later = judged_for(Phase::Rcpt, "450 4.2.1 try again in 24 hours is not here", "\"try again in 24 hours\"@example.com", "");
    assert!(!later.told, "{later:?}");
    let asked = judged_for(Phase::Rcpt, "450 4.2.1 try again in 5 minutes", "a@example.com", "again");
    assert_eq!(asked.retry_after, Some(Duration::from_secs(300)));
}

#[test]
fn a_code_about_the_recipient_is_about_the_recipient_whatever_the_words() {
    for reply in ["550 5.1.1 relay access denied", "450 4.1.1 authentication required", "550 5.1.2 sending limit exceeded"] {
        assert_eq!(action(Phase::Rcpt, reply, "luis@example.com", "").split_once('_').unwrap().1, "recipient", "{reply}");
    }
    assert_eq!(action(Phase::Rcpt, "554 5.7.1 relay access denied", "luis@example.com", ""), "pause_channel_admin");
}
