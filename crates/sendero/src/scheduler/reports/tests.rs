#![allow(clippy::unwrap_used)]
use super::*;
use mail::channel::{DomainPattern, OnUncertain, ReturnPath, Scope, Transport};
use mail::directory::{Person, Role};
use mail::limits::Caps;
use mail::{Cause, ChannelId, Diagnostic, Owner, PersonId, Stage, TeamId};
use std::sync::Arc;
use store::LeasedRecipient;

const MESSAGE: &[u8] = b"From: ana@example.com\r\nSubject: hi\r\nMessage-ID: <m1@example.com>\r\n\r\nhello\r\n";
const AT: Timestamp = Timestamp(1_795_600_000_000);
const DUE: Timestamp = Timestamp(1_795_000_000_000);

/// One attempt for one recipient, and what it is judged by.
pub(in crate::scheduler) struct Case {
    notices: Option<Notices>,
    directory: Directory,
    tried_on: &'static str,
    pub(in crate::scheduler) lease: Lease,
    settlement: Settlement,
    offers_dsn: bool,
}

fn mailbox(text: &str) -> Mailbox {
    Mailbox::parse(text).unwrap()
}

pub(in crate::scheduler) fn channel(id: u32, name: &str, owner: Owner) -> Channel {
    Channel {
        id: ChannelId(id),
        name: name.into(),
        owner,
        transport: Transport::Capture,
        scope: Scope::Domain,
        address: None,
        domains: vec![DomainPattern::Domain("example.com".into())],
        default: false,
        disabled: false,
        caps: Caps::default(),
        limits: Vec::new(),
        reserve: mail::pace::Reserve::default(),
        refusals_free: false,
        provider: None,
        on_uncertain: OnUncertain::Retry,
        return_path: ReturnPath::Submitted,
        revision: 1,
    }
}

fn case(to: Move, said: Diagnostic) -> Case {
    let ana = Person {
        id: PersonId(1),
        email: mailbox("ana@example.com"),
        name: "Ana".into(),
        role: Role::Member,
        teams: Vec::new(),
        send_as: Vec::new(),
        disabled: false,
    };
    let channels = vec![
        channel(1, "way-out", Owner::Instance),
        channel(2, "reports", Owner::Instance),
        channel(3, "of-others", Owner::Team(TeamId(9))),
    ];
    let envelope = Envelope {
        reverse_path: ReversePath::Mailbox(mailbox("ana@example.com")),
        recipients: vec![Recipient::new(ForwardPath::from(mailbox("luis@example.org")))],
        body: BodyType::SevenBit,
        smtputf8: false,
        ret: None,
        envid: None,
    };
    let message = MessageId::new(AT, [1; 10]);
    let cause = Some(Cause::Refused(Stage::Rcpt, said.clone()));
    Case {
        notices: Some(Notices { channel: "reports".into(), from: mailbox("reports@example.com") }),
        directory: Directory::new(Vec::new(), vec![ana], Vec::new(), channels),
        tried_on: "way-out",
        lease: Lease {
            message,
            channel: ChannelId(1),
            person: PersonId(1),
            team: None,
            token: None,
            surface: Surface::Smtp,
            accepted_at: Timestamp(AT.0 - 60_000),
            lane: Lane::Bulk,
            expires_at: None,
            envelope: Arc::new(envelope),
            author: "ana@example.com".into(),
            recipients: vec![LeasedRecipient { index: 0, attempts: 0, doubts: 0, first_attempt: None }],
            size_bytes: MESSAGE.len() as u64,
        },
        settlement: Settlement {
            message,
            channel: ChannelId(1),
            at: AT,
            relay: "mx.example.org[192.0.2.1]:25".into(),
            spending: store::Spending::Uncounted,
            recipients: vec![Settled { index: 0, to, due: AT, counts: true, said, cause, suppress: None }],
        },
        offers_dsn: false,
    }
}

fn said(code: u16, enhanced: (u8, u16, u16), text: &str) -> Diagnostic {
    Diagnostic { code, enhanced: Some(enhanced.into()), text: text.into() }
}

pub(in crate::scheduler) fn failure() -> Case {
    case(Move::Fail, said(550, (5, 1, 1), "no such user"))
}

fn success(to: Move) -> Case {
    case(to, said(250, (2, 1, 5), "ok")).notify(Notify { success: true, failure: false, delay: false })
}

impl Case {
    fn envelope(&mut self) -> &mut Envelope {
        Arc::make_mut(&mut self.lease.envelope)
    }

    fn notify(mut self, notify: Notify) -> Self {
        self.envelope().recipients[0].notify = Some(notify);
        self
    }

    fn attempts(mut self, attempts: u32) -> Self {
        self.lease.recipients[0].attempts = attempts;
        self
    }

    fn report(&self) -> Result<NewMessage, Silence> {
        report(&Ended {
            hostname: "gw.example.com",
            notices: self.notices.as_ref(),
            directory: &self.directory,
            schedule: &RetrySchedule::default(),
            row: self.directory.channel_named(self.tried_on).unwrap(),
            lease: &self.lease,
            body: &MESSAGE.to_vec().into(),
            settlement: &self.settlement,
            due: DUE,
            offers_dsn: self.offers_dsn,
        })
    }

    fn text(&self) -> String {
        String::from_utf8(self.report().unwrap().body.head().to_vec()).unwrap()
    }

    fn silence(&self) -> Silence {
        self.report().unwrap_err()
    }
}

#[test]
fn a_failure_is_reported_to_the_reverse_path_by_the_channel_of_notices() {
    let case = failure();
    let report = case.report().unwrap();
    assert_eq!((report.surface, report.channel, report.lane), (Surface::Gateway, ChannelId(2), Lane::Normal));
    assert_eq!((report.person, report.token, report.tags.len()), (PersonId(1), None, 0));
    assert_eq!(report.envelope.reverse_path, ReversePath::Null);
    assert_eq!(report.envelope.recipients[0].path.to_string(), "ana@example.com");
    assert_eq!(report.envelope.recipients[0].notify, Some(Notify::default()), "nobody reports about a report");
    assert_eq!((report.subject.as_str(), report.at, report.due), ("Not delivered: hi", AT, DUE));
    let text = case.text();
    for line in
        ["Action: failed", "Status: 5.1.1", "Remote-MTA: dns; mx.example.org", "Diagnostic-Code: smtp; 550 5.1.1 no such user"]
    {
        assert!(text.contains(&format!("\r\n{line}\r\n")), "{line} in:\n{text}");
    }
    assert!(text.contains("In-Reply-To: <m1@example.com>"));
}

#[test]
fn who_writes_to_an_address_on_the_list_is_told_so_and_how_it_comes_off() {
    let mut first = failure();
    first.settlement.recipients[0].suppress = Some("luis@example.org".into());
    let listed = case(Move::Suppress, Diagnostic::own(Some((5, 1, 0).into()), "on the list"));
    for (case, status) in [(first, "5.1.1"), (listed, "5.1.0")] {
        let text = case.text().replace("\r\n    ", " ");
        assert!(text.contains("suppression remove") && text.contains(&format!("Status: {status}")), "{text}");
    }
    assert!(!failure().text().contains("suppression remove"));
    let mut same = case(Move::Suppress, Diagnostic::own(None, "on the list"));
    same.tried_on = "reports";
    assert!(same.report().is_ok(), "the channel did not fail");
}

#[test]
fn a_report_about_a_report_is_never_made() {
    let mut case = failure();
    case.envelope().reverse_path = ReversePath::Null;
    assert_eq!(case.silence(), Silence::Nobody);
    let never = failure().notify(Notify::default());
    assert_eq!(never.silence(), Silence::NothingToTell);
}

#[test]
fn a_report_never_leaves_by_the_channel_that_failed_nor_by_one_that_may_not_carry_it() {
    let through = |channel: &str, from: &str| {
        let mut case = failure();
        case.notices = Some(Notices { channel: channel.into(), from: mailbox(from) });
        case.report().map(|report| report.channel)
    };
    assert_eq!(through("reports", "reports@example.com"), Ok(ChannelId(2)));
    assert_eq!(through("way-out", "reports@example.com"), Err(Silence::SameChannel));
    assert_eq!(through("nowhere", "reports@example.com"), Err(Silence::NoChannel("nowhere".into())));
    for (channel, from) in [("reports", "reports@other.example"), ("of-others", "reports@example.com")] {
        let silence = through(channel, from).unwrap_err();
        assert!(matches!(silence, Silence::Forbidden(_)) && silence.reason().unwrap().contains("[notices]"), "{silence:?}");
    }
    let mut unset = failure();
    unset.notices = None;
    assert_eq!((unset.silence(), unset.silence().reason()), (Silence::Unset, None));
}

#[test]
fn a_success_is_reported_where_it_was_asked_for_and_nobody_else_will() {
    assert!(success(Move::Send).text().contains("\r\nAction: relayed\r\nStatus: 2.1.5\r\n"));
    let mut by_next_hop = success(Move::Send);
    by_next_hop.offers_dsn = true;
    assert_eq!(by_next_hop.silence(), Silence::NothingToTell, "the next hop reports");
    let mut captured = success(Move::Capture);
    captured.offers_dsn = true;
    let text = captured.text();
    assert!(text.contains("\r\nAction: delivered\r\n") && !text.contains("Remote-MTA"), "{text}");
    assert_eq!(case(Move::Send, said(250, (2, 0, 0), "ok")).silence(), Silence::NothingToTell, "nobody asked");
    let mut same = success(Move::Send);
    same.tried_on = "reports";
    assert!(same.report().is_ok(), "nothing failed there");
}

#[test]
fn an_expired_recipient_is_reported_with_the_last_words_about_it() {
    let text = case(Move::Expire, said(450, (4, 2, 0), "greylisted")).text();
    assert!(text.contains("\r\nStatus: 4.4.7\r\n") && text.contains("450 4.2.0 greylisted"), "{text}");
    assert!(text.contains("the time for it is over"));
}

#[test]
fn a_delay_is_reported_once_after_four_hours_of_waiting() {
    let deferred = |attempts| case(Move::Defer, said(450, (4, 2, 0), "later")).attempts(attempts);
    let told: Vec<u32> = (0..30).filter(|attempts| deferred(*attempts).report().is_ok()).collect();
    assert_eq!(told, [5], "1, 5, 15 minutes, 1 and 3 hours are behind it then");
    let text = deferred(5).text();
    assert!(text.contains("\r\nAction: delayed\r\n") && text.contains("\r\nWill-Retry-Until: "), "{text}");
}

#[test]
fn what_is_still_open_or_waits_for_a_person_is_no_news() {
    for to in [Move::Hold, Move::GiveBack, Move::Doubt, Move::Defer] {
        assert_eq!(case(to, said(450, (4, 0, 0), "x")).silence(), Silence::NothingToTell, "{to:?}");
    }
}

#[test]
fn one_report_tells_of_all_recipients_of_an_attempt_that_want_it() {
    let mut case = failure();
    for (address, notify) in [("eva@example.org", None), ("quiet@example.org", Some(Notify::default()))] {
        let recipient = Recipient { notify, ..Recipient::new(ForwardPath::from(mailbox(address))) };
        case.envelope().recipients.push(recipient);
        let mut settled = case.settlement.recipients[0].clone();
        settled.index = case.settlement.recipients.len() as u32;
        case.settlement.recipients.push(settled);
    }
    let text = case.text();
    assert_eq!(text.matches("\r\nAction: failed\r\n").count(), 2);
    assert!(text.contains("eva@example.org") && !text.contains("quiet@example.org"));
}

#[test]
fn a_status_of_another_class_than_the_outcome_is_not_repeated() {
    assert!(case(Move::Fail, said(552, (2, 0, 0), "odd")).text().contains("\r\nStatus: 5.0.0\r\n"));
}

#[test]
fn the_same_attempt_makes_the_same_report_and_another_one_another() {
    let first = failure().report().unwrap();
    assert_eq!(failure().report().unwrap().id, first.id);
    let mut later = failure();
    later.settlement.at = Timestamp(AT.0 + 1);
    assert_ne!(later.report().unwrap().id, first.id);
}

#[test]
fn a_report_is_never_larger_than_the_channel_of_notices_takes() {
    let held_to = |limit: &str| {
        let mut case = failure();
        let mut reports = channel(2, "reports", Owner::Instance);
        reports.limits = mail::limits::Limits::parse(&[limit]).unwrap().windows;
        let ana = case.directory.person(PersonId(1)).unwrap().clone();
        case.directory = Directory::new(Vec::new(), vec![ana], Vec::new(), vec![channel(1, "way-out", Owner::Instance), reports]);
        case.settlement.recipients[0].said = said(550, (5, 1, 1), &"no such user here ".repeat(28));
        case.report().map(|report| report.body.len())
    };
    let whole = held_to("1 MB / 1 minute").unwrap();
    let brief = held_to(&format!("{} bytes / 1 minute", whole - 1)).unwrap();
    assert!(brief < whole, "{brief} of {whole}");
    let silence = held_to("300 bytes / 1 minute").unwrap_err();
    assert!(matches!(silence, Silence::TooLarge(_, 300)) && silence.reason().unwrap().contains("[notices]"), "{silence:?}");
}
