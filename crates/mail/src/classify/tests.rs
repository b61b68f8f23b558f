#![allow(clippy::unwrap_used)]
use super::*;
use crate::outcome::{Diagnostic, Stage};

mod data;
mod echo;
mod operator;
mod wait;

/// A reply as it is written in transcripts: `550 5.1.1 no such user`.
fn said(reply: &str) -> Diagnostic {
    let (code, rest) = reply.split_once(' ').unwrap();
    let (first, after) = rest.split_once(' ').unwrap_or((rest, ""));
    let (enhanced, text) = match smtp::EnhancedCode::parse(first) {
        Some(enhanced) => (Some(enhanced), after),
        None => (None, rest),
    };
    Diagnostic { code: code.parse().unwrap(), enhanced, text: text.to_owned() }
}

fn judged(provider: &str, phase: Phase, reply: &str) -> Judgement {
    let rules = Rules::builtin();
    rules.classify(&rules.order(Some(provider)), phase, &said(reply))
}

/// `action by provider` or `action by code`.
fn check(provider: &str, phase: Phase, reply: &str, expected: &str) {
    let judgement = judged(provider, phase, reply);
    let by = judgement.rule.as_ref().map_or("code", |rule| &rule.provider);
    assert_eq!(format!("{} by {by}", judgement.action), expected, "{provider} {phase} {reply}");
}

#[test]
fn a_quota_under_a_permanent_code_parks_the_channel_and_keeps_the_mail() {
    let m365 = "554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException.MapiExceptionShutoffQuota";
    check("microsoft365", Phase::Data, m365, "pause_channel_until by microsoft365");
    check("gmail", Phase::Data, "550 5.4.5 Daily user sending limit exceeded.", "pause_channel_until by gmail");
    check("google_workspace", Phase::Rcpt, "550 5.4.5 Daily  USER sending limit exceeded.", "pause_channel_until by gmail");
    check("sendgrid", Phase::Auth, "451 Authentication failed: Maximum credits exceeded", "pause_channel_until by sendgrid");
    check("amazon_ses", Phase::Data, "454 Throttling failure: Daily message quota exceeded.", "pause_channel_until by amazon_ses");
    check("unheard_of", Phase::Data, "550 5.7.1 you have reached your daily limit", "pause_channel_until by *");
}

#[test]
fn the_same_code_means_another_thing_by_its_text() {
    let data = |reply, expected| check("microsoft365", Phase::Data, reply, expected);
    data("554 5.2.252 SendAsDenied; ana@example.com not allowed to send as", "hold_message_fix_sender by microsoft365");
    data("550 5.2.252 Sender throttled due to continuous send as denied errors", "pause_channel_until by microsoft365");
    data("554 5.2.0 SendAsDeniedException.MapiExceptionSendAsDenied", "hold_message_fix_sender by microsoft365");
    check("amazon_ses", Phase::Auth, "454 Temporary authentication failure", "retry_later by amazon_ses");
    check("amazon_ses", Phase::Auth, "454 Throttling failure: Maximum sending rate exceeded.", "slow_channel by amazon_ses");
}

#[test]
fn the_more_specific_row_wins() {
    let disabled = "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant.";
    let judgement = judged("microsoft365", Phase::Auth, disabled);
    assert_eq!((judgement.class, judgement.permanence), (Class::AuthDisabled, Permanence::UntilAdminAction));
    let wrong = "535 5.7.139 Authentication unsuccessful, the user credentials were incorrect.";
    assert_eq!(judged("microsoft365", Phase::Auth, wrong).class, Class::AuthFailed);
    let soft = judged("google_mx", Phase::Rcpt, "452 4.2.2 The recipient's inbox is out of storage space.");
    let hard = judged("google_mx", Phase::Rcpt, "552 5.2.2 The recipient's inbox is out of storage space.");
    assert_eq!((soft.action, hard.action), (Action::RetryRecipient, Action::BounceRecipient));
}

#[test]
fn a_text_is_known_under_another_code_and_at_another_step_of_the_transaction() {
    check("gmail", Phase::Auth, "535 5.7.1 Username and Password not accepted", "pause_channel_reauth by gmail");
    // Postfix says at RCPT what it found at MAIL.
    let not_owned = "553 5.7.1 <ana@example.com>: Sender address rejected: not owned by user luis";
    check("postfix", Phase::Rcpt, not_owned, "hold_message_fix_sender by postfix");
    check("unheard_of", Phase::Rcpt, "454 4.7.1 <ana@example.com>: Relay access denied", "pause_channel_admin by *");
    check("unheard_of", Phase::Rcpt, "550 Authentication required", "pause_channel_reauth by *");
}

#[test]
fn what_many_servers_say_is_known_without_a_provider() {
    let blocked = "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org";
    check("unheard_of", Phase::Rcpt, blocked, "pause_direct_delivery by *");
    check("unheard_of", Phase::Rcpt, "451 4.7.1 Greylisting in action, please come back later", "retry_recipient by *");
    let greylisted = judged("unheard_of", Phase::Rcpt, "450 4.2.0 Greylisted, please wait 300 seconds");
    assert_eq!((greylisted.class, greylisted.retry_after), (Class::Greylisted, Some(Duration::from_secs(300))));
    check("unheard_of", Phase::Mail, "530 5.7.0 Must issue a STARTTLS command first", "pause_channel_admin by *");
}

#[test]
fn a_transient_code_never_ends_a_message_by_its_text_alone() {
    check("postfix", Phase::Rcpt, "450 4.1.1 <x@example.com>: Recipient address rejected: User unknown", "retry_recipient by code");
    check("mailersend", Phase::Data, "450 The given data was invalid", "bounce_message by mailersend");
}

#[test]
fn a_recipients_row_never_speaks_for_a_whole_message() {
    check("postfix", Phase::Data, "554 5.3.0 User unknown in some table", "bounce_message by code");
}

#[test]
fn nothing_before_mail_is_about_a_message_or_a_recipient() {
    let replies =
        ["550 5.1.1 user unknown", "552 5.3.4 too large", "550 5.7.60 Client does not have permissions to send as this sender"];
    for phase in [Phase::Connect, Phase::Auth, Phase::Oauth] {
        for provider in Rules::builtin().providers() {
            for reply in replies {
                let scope = judged(provider, phase, reply).scope;
                assert!(!matches!(scope, Fault::Message | Fault::Recipient), "{provider} {phase} {reply}: {scope}");
            }
        }
    }
}

#[test]
fn a_reply_that_no_row_knows_is_judged_by_phase_and_codes() {
    let expected = [
        (Phase::Connect, "550 go away", "pause_channel_until"),
        (Phase::Connect, "450 busy", "retry_connection"),
        (Phase::Auth, "500 what", "pause_channel_admin"),
        (Phase::Auth, "535 no", "pause_channel_reauth"),
        (Phase::Auth, "450 later", "retry_later"),
        (Phase::Mail, "421 closing", "retry_connection"),
        (Phase::Mail, "451 later", "retry_later"),
        (Phase::Mail, "550 5.1.8 no such sender", "hold_message_fix_sender"),
        (Phase::Mail, "552 too much", "bounce_message"),
        (Phase::Mail, "501 5.1.7 nonsense", "hold_message_fix_sender"),
        (Phase::Rcpt, "550 no", "bounce_recipient"),
        (Phase::Rcpt, "450 not now", "retry_recipient"),
        (Phase::Rcpt, "450 4.2.2 no room", "retry_recipient"),
        (Phase::Rcpt, "550 5.2.2 no room", "retry_recipient"),
        (Phase::Rcpt, "450 4.5.3 enough", "split_recipients"),
        (Phase::Rcpt, "503 RCPT first", "retry_connection"),
        (Phase::Rcpt, "550 5.7.8 who are you", "pause_channel_reauth"),
        (Phase::Data, "554 no", "bounce_message"),
        (Phase::Data, "451 not now", "retry_later"),
        (Phase::Data, "451 4.3.2 not now", "retry_later"),
        (Phase::Data, "550 5.1.1 nobody", "bounce_recipient"),
        (Phase::Data, "530 5.7.0 no", "pause_channel_reauth"),
        (Phase::Data, "554 5.3.2 no mail today", "pause_channel_until"),
        (Phase::Mail, "554 5.3.2 no mail today", "pause_channel_until"),
        (Phase::Rcpt, "554 5.3.1 no mail today", "pause_channel_until"),
        (Phase::Api, "429 slowly", "slow_channel"),
        (Phase::Api, "503 down", "retry_later"),
        (Phase::Oauth, "400 invalid", "pause_channel_reauth"),
        (Phase::Oauth, "503 down", "retry_later"),
    ];
    for (phase, reply, action) in expected {
        check("unheard_of", phase, reply, &format!("{action} by code"));
    }
    assert_eq!(judged("unheard_of", Phase::Data, "451 4.3.2 not now").scope, Fault::Connection);
    assert_eq!(judged("unheard_of", Phase::Data, "451 not now").scope, Fault::Message);
}

#[test]
fn whatever_the_reply_the_action_goes_with_the_scope_and_a_4xx_is_never_final() {
    for phase in Phase::ALL.iter().copied() {
        for code in [0, 299, 354, 421, 432, 450, 451, 452, 454, 500, 503, 530, 535, 550, 552, 553, 554, 599, 999] {
            for (subject, detail) in (0..8).flat_map(|subject| (0..12).map(move |detail| (subject, detail))) {
                for class in [4, 5] {
                    let enhanced = Some(smtp::EnhancedCode::new(class, subject, detail));
                    let judgement = Rules::builtin().classify(&[], phase, &Diagnostic { code, enhanced, text: "x".into() });
                    let scopes = judgement.action.scopes();
                    assert!(scopes.contains(&judgement.scope), "{phase} {code} {class}.{subject}.{detail}: {judgement:?}");
                    let http = phase == Phase::Api;
                    assert!(http || !(400..500).contains(&code) || !judgement.action.is_final(), "{phase} {code}");
                }
            }
        }
    }
}

#[test]
fn a_time_in_the_text_wins_over_the_rows() {
    let wait = |reply| judged("mailgun", Phase::Auth, reply).retry_after.unwrap().as_secs();
    assert_eq!(wait("535 5.7.0 Your account is on probation and will be enabled in 1234 seconds"), 1234);
    assert_eq!(wait("535 5.7.0 Your account is on probation"), 3600);
    let final_one = judged("gmail", Phase::Rcpt, "550 5.1.1 no such user, try again in 5 minutes");
    assert_eq!(final_one.retry_after, None);
}

#[test]
fn only_a_rule_that_knows_an_unknown_recipient_suppresses() {
    let reaction = |reply| react(&judged("unheard_of", Phase::Rcpt, reply)).recipient;
    assert_eq!(reaction("550 5.1.1 nobody here"), ForRecipient::FailAndSuppress);
    assert_eq!(reaction("550 5.1.6 moved"), ForRecipient::Fail);
    assert_eq!(reaction("550 nobody here"), ForRecipient::Fail);
    assert_eq!(reaction("552 5.2.2 no room"), ForRecipient::Defer { after: Some(Duration::from_secs(14_400)) });
}

#[test]
fn a_block_that_attempts_prolong_is_not_probed() {
    let reaction = react(&judged("yandex", Phase::Data, "554 5.7.1 Message rejected under suspicion of SPAM"));
    let day = Some(Duration::from_secs(86_400));
    assert_eq!(reaction.channel, Some(ForChannel::Throttle { after: day, told: false, probes: false }));
    let probed = react(&judged("gmail", Phase::Data, "550 5.4.5 Daily sending quota exceeded"));
    assert!(matches!(probed.channel, Some(ForChannel::Throttle { probes: true, .. })));
}

#[test]
fn a_number_of_the_providers_own_is_looked_for_in_the_text() {
    let class = |reply| judged("sparkpost", Phase::Api, reply).class;
    assert_eq!(class("420 Exceed Sending Limit (daily), 2102"), Class::DailyLimit);
    let expired = judged("microsoft365", Phase::Oauth, "400 invalid_grant AADSTS700082: the refresh token has expired");
    assert!(expired.rule.unwrap().note.contains("unused too long"));
}

#[test]
fn every_stage_has_its_phase() {
    assert_eq!(Phase::of(Stage::Ehlo), Phase::Connect);
    assert_eq!(Phase::of(Stage::FinalDot), Phase::Data);
}
