#![allow(clippy::unwrap_used)]
use super::*;
use crate::envelope::Notify;
use mail_parser::{MessageParser, MimeHeaders};
use proptest::prelude::*;
use smtp::ForwardPath;

const MESSAGE: &str = "Received: from laptop by gw.example.com; Wed, 25 Nov 2026 08:00:00 +0000\r\n\
    From: Ana <ana@example.com>\r\nTo: luis@example.org\r\nSubject: hi\r\nDate: Wed, 25 Nov 2026 08:00:00 +0000\r\n\
    Message-ID: <m1@example.com>\r\n\r\nhello Luis\r\n";

fn recipient(address: &str) -> Recipient {
    Recipient::new(ForwardPath::from(Mailbox::parse(address).unwrap()))
}

fn said(text: &str) -> Diagnostic {
    Diagnostic { code: 550, enhanced: Some((5, 1, 1).into()), text: text.into() }
}

/// What a test changes about an ordinary failure.
struct Case {
    to: &'static str,
    recipient: Recipient,
    action: Action,
    said: Diagnostic,
    remote: String,
    envid: Option<String>,
    ret: Option<Ret>,
    message: Vec<u8>,
    message_id: String,
}

fn case() -> Case {
    Case {
        to: "ana@example.com",
        recipient: recipient("luis@example.org"),
        action: Action::Failed,
        said: said("no such user"),
        remote: "mx.example.org".into(),
        envid: None,
        ret: None,
        message: MESSAGE.into(),
        message_id: "msg_1@gw.example.com".into(),
    }
}

impl Case {
    fn write(&self) -> Dsn {
        let (from, to) = (Mailbox::parse("reports@example.com").unwrap(), Mailbox::parse(self.to).unwrap());
        let report = RecipientReport {
            recipient: &self.recipient,
            action: self.action,
            status: (5, 1, 1).into(),
            remote_mta: Some(&self.remote),
            said: Some(&self.said),
            last_attempt: Some(Timestamp(1_795_593_700_000)),
            suppressed: false,
            retry_until: (self.action == Action::Delayed).then_some(Timestamp(1_796_000_000_000)),
        };
        let dsn = Report {
            hostname: "gw.example.com",
            from: &from,
            to: &to,
            at: Timestamp(1_795_593_760_000),
            message_id: &self.message_id,
            arrival: Timestamp(1_795_593_600_000),
            envid: self.envid.as_deref(),
            ret: self.ret,
            queue_id: "msg_0",
            message: &self.message,
            recipients: &[report],
            most_bytes: u64::MAX,
        }
        .write();
        check(&dsn);
        dsn
    }

    fn text(&self) -> String {
        String::from_utf8(self.write().bytes).unwrap()
    }
}

/// What holds for every report: its lines, and its three parts as another reader sees them.
fn check(dsn: &Dsn) {
    assert!(dsn.bytes.ends_with(b"\r\n") && !smtp::data::has_odd_bytes(&dsn.bytes));
    let longest = dsn.bytes.split(|byte| *byte == b'\n').map(<[u8]>::len).max().unwrap();
    assert!(longest <= 999, "{longest}");
    assert_eq!(dsn.eight_bit, !dsn.bytes.is_ascii());
    let message = MessageParser::default().parse(&dsn.bytes).unwrap();
    assert_eq!(message.parts.len(), 4, "{}", String::from_utf8_lossy(&dsn.bytes));
    let kind = message.content_type().unwrap();
    assert_eq!(
        (kind.ctype(), kind.subtype(), kind.attribute("report-type")),
        ("multipart", Some("report"), Some("delivery-status"))
    );
    assert!(message.parts[1].is_text());
    let status = message.parts[2].content_type().unwrap();
    assert_eq!(status.ctype(), "message");
    assert!(status.subtype().unwrap().ends_with("delivery-status"));
    assert_eq!(message.header_values("Auto-Submitted").count(), 1);
    assert_eq!(message.header_values("To").count(), 1);
    assert_eq!(message.subject().unwrap().trim(), dsn.subject.trim());
}

/// The kinds of the two last parts.
fn kinds(dsn: &Dsn) -> String {
    let message = MessageParser::default().parse(&dsn.bytes).unwrap();
    let kind = |part: usize| message.parts[part].content_type().map(|kind| format!("{}/{}", kind.ctype(), kind.subtype().unwrap()));
    format!("{} {}", kind(2).unwrap(), kind(3).unwrap())
}

#[test]
fn a_report_has_everything_by_which_a_program_finds_out_what_happened() {
    let mut case = case();
    case.recipient.orcpt = Some("rfc822;luis+old@example.org".into());
    case.envid = Some("QQ 314159".into());
    let text = case.text();
    for line in [
        "From: Mail delivery reports <reports@example.com>",
        "To: <ana@example.com>",
        "Subject: Not delivered: hi",
        "Date: Wed, 25 Nov 2026 08:02:40 +0000",
        "Message-ID: <msg_1@gw.example.com>",
        "In-Reply-To: <m1@example.com>",
        "References: <m1@example.com>",
        "Auto-Submitted: auto-replied",
        "Reporting-MTA: dns; gw.example.com",
        "Original-Envelope-Id: QQ 314159",
        "Arrival-Date: Wed, 25 Nov 2026 08:00:00 +0000",
        "Original-Recipient: rfc822;luis+old@example.org",
        "Final-Recipient: rfc822;luis@example.org",
        "Action: failed",
        "Status: 5.1.1",
        "Remote-MTA: dns; mx.example.org",
        "Diagnostic-Code: smtp; 550 5.1.1 no such user",
        "Last-Attempt-Date: Wed, 25 Nov 2026 08:01:40 +0000",
    ] {
        assert_eq!(text.split("\r\n").filter(|found| *found == line).count(), 1, "{line} in:\n{text}");
    }
    assert!(!text.contains("Will-Retry-Until"));
}

#[test]
fn a_person_reads_what_happened_in_whose_words_and_what_to_do() {
    let text = case().text();
    for words in ["NOT delivered", "<luis@example.org>", "mx.example.org said:", "550 5.1.1 no such user", "written right", "msg_0"]
    {
        assert!(text.contains(words), "{words} in:\n{text}");
    }
    let mut late = case();
    (late.action, late.said) = (Action::Delayed, Diagnostic::own(None, "connection trouble"));
    let text = late.text();
    for words in ["Subject: Delayed: hi", "still tried", "It is tried until", "Will-Retry-Until: ", "connection trouble"] {
        assert!(text.contains(words), "{words} in:\n{text}");
    }
    assert!(!text.contains("Diagnostic-Code"), "nobody said it over SMTP");
}

#[test]
fn ret_decides_what_of_the_message_is_returned_and_only_a_failure_returns_it_whole() {
    let full = "message/delivery-status message/rfc822";
    let headers = "message/delivery-status text/rfc822-headers";
    for (ret, action, expected) in [
        (None, Action::Failed, headers),
        (Some(Ret::Headers), Action::Failed, headers),
        (Some(Ret::Full), Action::Failed, full),
        (Some(Ret::Full), Action::Delayed, headers),
        (Some(Ret::Full), Action::Relayed, headers),
        (Some(Ret::Full), Action::Delivered, headers),
    ] {
        let dsn = Case { ret, action, ..case() }.write();
        assert_eq!(kinds(&dsn), expected, "{ret:?} {action:?}");
        let text = String::from_utf8(dsn.bytes).unwrap();
        assert_eq!(text.contains("hello Luis"), expected == full);
        assert!(text.contains("\r\nReceived: from laptop"));
    }
}

#[test]
fn a_message_that_is_too_long_or_has_too_long_lines_is_returned_by_its_header() {
    let long = format!("{MESSAGE}{}", "0123456789012345678901234567890\r\n".repeat(2000));
    let wide = format!("{MESSAGE}{}\r\n", "x".repeat(999));
    let wide_header = MESSAGE.replace("Subject: hi", &format!("Subject: hi\r\nX-Wide: {}", "é".repeat(800)));
    for message in [long, wide, wide_header] {
        let dsn = Case { ret: Some(Ret::Full), message: message.into(), ..case() }.write();
        assert!(kinds(&dsn).ends_with("headers"));
    }
    let fits = format!("{MESSAGE}{}\r\n", "x".repeat(998));
    let dsn = Case { ret: Some(Ret::Full), message: fits.into(), ..case() }.write();
    assert!(kinds(&dsn).ends_with("rfc822"));
}

#[test]
fn utf8_in_addresses_or_header_makes_the_forms_of_rfc_6533() {
    let global = Case { recipient: recipient("josé@example.org"), ..case() }.write();
    assert_eq!(kinds(&global), "message/global-delivery-status text/rfc822-headers");
    assert!(String::from_utf8_lossy(&global.bytes).contains("Final-Recipient: utf-8;josé@example.org"));
    assert!(global.eight_bit && !global.utf8_header);

    let header = MESSAGE.replace("Subject: hi", "Subject: ¡hola!");
    let dsn = Case { message: header.clone().into(), ..case() }.write();
    assert_eq!(kinds(&dsn), "message/delivery-status message/global-headers");
    assert_eq!(dsn.subject, "Not delivered: ¡hola!");
    let dsn = Case { message: header.into(), ret: Some(Ret::Full), ..case() }.write();
    assert_eq!(kinds(&dsn), "message/delivery-status message/global");

    assert!(Case { to: "añá@example.com", ..case() }.write().utf8_header);
    let latin1 = MESSAGE.replace("hi", "h?").into_bytes().iter().map(|byte| if *byte == b'?' { 0xe9 } else { *byte }).collect();
    assert_eq!(kinds(&Case { message: latin1, ..case() }.write()), "message/delivery-status text/rfc822-headers");
}

#[test]
fn words_of_others_end_no_field_and_no_part() {
    let evil = "no\r\nEvil: yes\r\n\r\n--=_report_0_msg1gwexamplecom\r\nContent-Type: text/html\r\n\r\n<b>ñ</b>\u{85}\u{2028}\0x";
    let mut case = case();
    case.said = said(evil);
    case.remote = evil.into();
    case.envid = Some(evil.into());
    case.recipient.orcpt = Some(format!("rfc822;{evil}"));
    let text = case.text();
    assert!(!text.contains("\r\nEvil:") && !text.contains("\r\nContent-Type: text/html"), "{text}");
    let mut ascii = super::tests::case();
    ascii.said = said(evil);
    let dsn = ascii.write();
    assert!(dsn.bytes.is_ascii(), "without UTF-8 in an address the report is plain ASCII");
    let message = MessageParser::default().parse(&dsn.bytes).unwrap();
    assert!(message.body_text(0).unwrap().contains("<b>ñ</b>"), "people see the words as they were");
}

#[test]
fn a_message_that_holds_the_boundary_gets_another_one() {
    let first = "=_report_0_msg1gwexamplecom";
    assert!(case().text().contains(&format!("--{first}--")));
    let message = format!("{MESSAGE}--{first}--\r\n");
    let text = Case { message: message.into(), ret: Some(Ret::Full), ..case() }.text();
    assert!(text.ends_with("--=_report_1_msg1gwexamplecom--\r\n"), "{text}");
}

#[test]
fn a_report_is_wanted_as_notify_says_and_without_it_about_failure_and_delay() {
    let all = [Action::Failed, Action::Delayed, Action::Delivered, Action::Relayed, Action::Expanded];
    let notify = |success, failure, delay| Some(Notify { success, failure, delay });
    for (notify, expected) in [
        (None, [true, true, false, false, false]),
        (notify(false, false, false), [false; 5]),
        (notify(true, false, false), [false, false, true, true, true]),
        (notify(false, true, false), [true, false, false, false, false]),
        (notify(false, false, true), [false, true, false, false, false]),
    ] {
        let recipient = Recipient { notify, ..recipient("luis@example.org") };
        assert_eq!(all.map(|action| wanted(&recipient, action)), expected, "{notify:?}");
    }
}

proptest! {
    #[test]
    fn whatever_others_say_a_report_keeps_its_three_parts(
        text in any::<String>(),
        remote in ".{0,300}",
        envid in proptest::option::of(any::<String>()),
        orcpt in proptest::option::of("[a-z0-9]{1,8};.{1,400}"),
        message in prop_oneof![any::<Vec<u8>>(), "(Subject|X|Message-ID|\\PC{3}): .{0,1200}\r\n(Date: .{0,80}\r\n)?\r\n.{0,99}".prop_map(String::into_bytes)],
        full in any::<bool>(),
        failed in any::<bool>(),
        message_id in "[ -~]{0,80}",
    ) {
        let message_id = message_id.replace(['<', '>'], "");
        let mut case = Case { message, envid, message_id, ..case() };
        case.said = Diagnostic { code: if full { 550 } else { 0 }, enhanced: None, text };
        case.remote = remote;
        case.recipient.orcpt = orcpt;
        case.ret = full.then_some(Ret::Full);
        case.action = if failed { Action::Failed } else { Action::Delayed };
        case.write();
    }
}

/// A report about so many recipients with long names and long words, of which none is over so many bytes.
fn crowd(count: usize, message: &[u8], most_bytes: u64) -> Dsn {
    let recipients: Vec<Recipient> = (0..count)
        .map(|number| {
            let orcpt = Some(format!("rfc822;{}@example.org", "x".repeat(480)));
            Recipient { orcpt, ..recipient(&format!("user{number}@example.org")) }
        })
        .collect();
    let said = said(&"no such user here ".repeat(28));
    let report = |recipient| RecipientReport {
        recipient,
        action: Action::Failed,
        status: (5, 1, 1).into(),
        remote_mta: Some("mx.example.org"),
        said: Some(&said),
        last_attempt: None,
        suppressed: false,
        retry_until: None,
    };
    let mailbox = Mailbox::parse("ana@example.com").unwrap();
    Report {
        hostname: "gw.example.com",
        from: &mailbox,
        to: &mailbox,
        at: Timestamp(1_795_593_760_000),
        message_id: "msg_1@gw.example.com",
        arrival: Timestamp(1_795_593_600_000),
        envid: None,
        ret: Some(Ret::Full),
        queue_id: "msg_0",
        message,
        recipients: &recipients.iter().map(report).collect::<Vec<_>>(),
        most_bytes,
    }
    .write()
}

#[test]
fn a_report_about_a_thousand_recipients_is_no_longer_than_a_report_may_be() {
    let dsn = crowd(1000, MESSAGE.as_bytes(), u64::MAX);
    assert!((MAX_REPORT / 4..=MAX_REPORT).contains(&dsn.bytes.len()), "{}", dsn.bytes.len());
    let text = String::from_utf8(dsn.bytes).unwrap();
    let named = text.matches("\r\nFinal-Recipient:").count();
    assert!(named > 50 && text.contains(&format!("And {} more,", 1000 - named)), "{named}");
    assert!(text.contains("msg_0") && !text.contains("Original-Recipient"));
}

#[test]
fn a_report_leaves_out_the_message_before_it_leaves_out_recipients() {
    let message = format!("{MESSAGE}{}", "many words\r\n".repeat(4000));
    let text = |most: u64| {
        let dsn = crowd(3, message.as_bytes(), most);
        assert!(dsn.bytes.len() as u64 <= most, "{} of {most}", dsn.bytes.len());
        String::from_utf8(dsn.bytes).unwrap()
    };
    assert!(text(100_000).contains("many words"));
    let header = text(20_000);
    assert!(!header.contains("many words") && header.contains("text/rfc822-headers") && header.contains("Original-Recipient"));
    let brief = text(4_000);
    assert!(!brief.contains("text/rfc822-headers") && brief.contains("user2@example.org"), "{brief}");
}
