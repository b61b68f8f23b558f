#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;

const AT: Timestamp = Timestamp(1_795_593_600_000);

fn stamp() -> Stamp<'static> {
    Stamp {
        at: AT,
        id: MessageId::new(AT, [7; 10]),
        hostname: "mx.example",
        helo: "laptop",
        peer: None,
        protocol: "ESMTPSA",
        recipient: Some("luis@example.org"),
        control_fields: false,
    }
}

/// The message as kept, with `ID` for its id.
fn kept(message: &str) -> String {
    let bytes = prepare(message.as_bytes(), &stamp()).unwrap().bytes;
    String::from_utf8(bytes).unwrap().replace(&stamp().id.to_string(), "ID")
}

fn refusal(message: &str) -> Refusal {
    prepare(message.as_bytes(), &stamp()).unwrap_err()
}

const RECEIVED: &str = "Received: from laptop\r\n\tby mx.example (Sendero) with ESMTPSA id ID\r\n\tfor <luis@example.org>;\r\n\tWed, 25 Nov 2026 08:00:00 +0000\r\n";

#[test]
fn lines_are_added_in_front_where_they_are_missing() {
    let whole = "From: ana@example.com\r\nDate: x\r\nMessage-ID: <1@example.com>\r\n\r\nhi\r\n";
    assert_eq!(kept(whole), format!("{RECEIVED}{whole}"));
    let bare = "From: ana@example.com\r\n\r\nhi\r\n";
    let date = "Date: Wed, 25 Nov 2026 08:00:00 +0000\r\n";
    assert_eq!(kept(bare), format!("{RECEIVED}{date}Message-ID: <ID@mx.example>\r\n{bare}"));
    let dated = "date : x\r\nFrom: ana@example.com\r\n\r\n";
    assert_eq!(kept(dated), format!("{RECEIVED}Message-ID: <ID@mx.example>\r\n{dated}"));
    let named = "From: ana@example.com\r\nMESSAGE-id:\r\n <1@example.com>\r\n\r\n";
    assert_eq!(kept(named), format!("{RECEIVED}{date}{named}"));
}

#[test]
fn the_received_field_says_what_the_door_knows() {
    let mut stamp = Stamp { recipient: None, helo: "", protocol: "HTTP", ..stamp() };
    let received = |stamp: &Stamp<'_>| {
        let bytes = prepare(b"From: ana@example.com\r\nDate: x\r\nMessage-ID: <1@a>\r\n\r\n", stamp).unwrap().bytes;
        String::from_utf8(bytes).unwrap().replace(&stamp.id.to_string(), "ID").split("From:").next().unwrap().to_owned()
    };
    let by = "by mx.example (Sendero) with HTTP id ID;\r\n\tWed, 25 Nov 2026 08:00:00 +0000\r\n";
    assert_eq!(received(&stamp), format!("Received: from local\r\n\t{by}"));
    stamp.peer = Some("[127.0.0.1]");
    stamp.helo = "app.example";
    assert_eq!(received(&stamp), format!("Received: from app.example ([127.0.0.1])\r\n\t{by}"));
    for helo in ["a b", "x\r\nBcc: y", "a;b", "(x", "caf\u{e9}", "a@b"] {
        stamp.helo = helo;
        assert_eq!(received(&stamp), format!("Received: from local ([127.0.0.1])\r\n\t{by}"));
    }
}

#[test]
fn blind_copies_and_our_own_fields_never_leave() {
    let message = "Bcc: eva@example.com,\r\n joe@example.com\r\nFrom: ana@example.com\r\nx-sendero-tag: a=b\r\nBCC : x@example.com\r\nSubject: s\r\n folded\r\nResent-Bcc:\r\n\ty@example.com\r\nIdempotency-Key: k\r\n\r\nBcc: in the body stays\r\n";
    let bytes = kept(message);
    let rest = "From: ana@example.com\r\nSubject: s\r\n folded\r\n\r\nBcc: in the body stays\r\n";
    assert!(bytes.ends_with(&format!("<ID@mx.example>\r\n{rest}")), "{bytes}");
    let last = kept("From: ana@example.com\r\nBcc: x@example.com");
    assert!(last.ends_with("<ID@mx.example>\r\nFrom: ana@example.com\r\n"), "{last}");
}

#[test]
fn awkward_messages_are_kept_byte_for_byte() {
    for rest in [
        "From: ana@example.com\r\n\r\n",
        "From: ana@example.com\r\n\r\n.\r\n..\r\n.dot\r\n",
        "From: ana@example.com\r\n\r\n\r\n\r\n",
        "From:ana@example.com\r\nsubject:no space\r\nX-Empty:\r\nX-Spaces:   \t \r\n\r\nx\r\n",
        "FROM : ana@example.com\r\nSubject: a\r\n  b\r\n\tc\r\nX-Odd!#$%: 1\r\n\r\nx\r\n",
        "From: ana@example.com\r\nSubject: tr\u{e8}s\r\n\r\nUTF-8 \u{20ac}\r\n",
        "From: ana@example.com\r\nTo: undisclosed-recipients:;\r\nReceived: from a\r\nDKIM-Signature: v=1; b=a b\r\n\t c\r\n\r\nx\r\n",
        "From: ana@example.com\r\nDate: 1\r\nDate: 2\r\nTo: a\r\nTo: b\r\n\r\nx\r\n",
        "From: ana@example.com\r\nContent-Type: multipart/mixed; boundary=\"b\"\r\n\r\n--b\r\n\r\nFrom: luis@example.com\r\n--b--\r\n",
        "From: ana@example.com\r\nX-Long: 1\r\n",
        "From: ana@example.com\r\n\r\nlast line without end\r\n",
    ] {
        assert!(kept(rest).ends_with(&format!("\r\n{rest}")), "{rest:?}");
    }
    let long = format!("From: ana@example.com\r\nX: {0}\r\n\r\n{0}\r\n", "x".repeat(5000));
    assert!(kept(&long).ends_with(&long));
    let raw = b"From: ana@example.com\r\nX: \xff\xfe\r\n\r\n\x01\x80\xff\r\n";
    assert!(prepare(raw, &stamp()).unwrap().bytes.ends_with(raw));
}

#[test]
fn a_missing_final_line_end_is_supplied() {
    assert!(kept("From: ana@example.com\r\n\r\nno end").ends_with("\r\n\r\nno end\r\n"));
    assert!(kept("From: ana@example.com\r\n\r\n").ends_with("ana@example.com\r\n\r\n"));
    assert!(kept("From: ana@example.com\r\n").ends_with("From: ana@example.com\r\n"));
    assert!(kept("From: ana@example.com").ends_with("From: ana@example.com\r\n"));
}

#[test]
fn a_body_that_follows_the_header_without_a_blank_line_is_refused() {
    assert!(matches!(refusal("From: ana@example.com\r\nHello Luis,\r\n"), Refusal::Header(_)));
    assert!(matches!(refusal("Hello Luis,\r\nFrom: ana@example.com\r\n"), Refusal::Header(_)));
    assert!(matches!(refusal("\r\nFrom: ana@example.com\r\n"), Refusal::Header(_)));
    assert!(matches!(refusal(""), Refusal::Header(_)));
}

#[test]
fn loops_and_orders_to_a_provider_are_refused() {
    let passed = |times: usize| "Received: x\r\n".repeat(times) + "From: ana@example.com\r\n\r\n";
    assert_eq!(refusal(&passed(51)), Refusal::TooManyHops);
    assert!(prepare(passed(50).as_bytes(), &stamp()).is_ok());
    let order = "X-SMTPAPI: {\"to\":[\"all@example.com\"]}\r\nFrom: ana@example.com\r\n\r\n";
    assert_eq!(refusal(order), Refusal::ControlField("X-SMTPAPI".into()));
    let trusted = Stamp { control_fields: true, ..stamp() };
    assert!(prepare(order.as_bytes(), &trusted).unwrap().bytes.ends_with(order.as_bytes()));
}

#[test]
fn what_the_next_hop_must_offer_is_seen_in_what_is_kept() {
    let needs = |message: &str| {
        let prepared = prepare(message.as_bytes(), &stamp()).unwrap();
        (prepared.eight_bit, prepared.utf8_header)
    };
    assert_eq!(needs("From: ana@example.com\r\n\r\nplain\r\n"), (false, false));
    assert_eq!(needs("From: ana@example.com\r\n\r\n\u{f1}\r\n"), (true, false));
    assert_eq!(needs("From: An\u{e1} <ana@example.com>\r\n\r\nplain\r\n"), (true, true));
    assert_eq!(needs("From: ana@example.com\r\nBcc: An\u{e1} <a@example.com>\r\n\r\nplain\r\n"), (false, false));
}

#[test]
fn what_was_read_is_handed_on() {
    let prepared = prepare(
        b"From: =?utf-8?q?An=C3=A1?= <ana@example.com>\r\nSubject: =?utf-8?q?Hola_Luis?=\r\nMessage-ID: <1@example.com>\r\nX-Sendero-Channel: office\r\n\r\n",
        &stamp(),
    )
    .unwrap();
    assert_eq!(prepared.from_line, "An\u{e1} <ana@example.com>");
    assert_eq!(prepared.subject, "Hola Luis");
    assert_eq!(prepared.message_id, "1@example.com");
    assert_eq!(prepared.wishes.channel.as_deref(), Some("office"));
    assert_eq!(prepared.authors.first().to_string(), "ana@example.com");
    assert_eq!(prepare(b"From: a@b.example\r\n\r\n", &stamp()).unwrap().message_id, format!("{}@mx.example", stamp().id));
}

#[test]
fn the_message_is_copied_once_into_room_that_fits() {
    let message = format!("From: ana@example.com\r\nBcc: x@example.com\r\n\r\n{}\r\n", "x".repeat(100_000));
    let bytes = prepare(message.as_bytes(), &stamp()).unwrap().bytes;
    assert!(bytes.capacity() - bytes.len() < 64, "{} for {}", bytes.capacity(), bytes.len());
}

fn field() -> impl Strategy<Value = (bool, Vec<u8>)> {
    let stays =
        prop::sample::select(vec!["Subject", "To", "X-Odd", "Date", "Message-ID", "Received", "x-senderos", "Bccs", "Reply-To"]);
    let goes = prop::sample::select(vec!["Bcc", "bCC", "Resent-Bcc", "Idempotency-Key", "X-Sendero-Tag"]);
    let name = prop_oneof![stays.prop_map(|name| (false, name)), goes.prop_map(|name| (true, name))];
    let space = prop::sample::select(vec!["", " ", "\t "]);
    let value = "[a-z][ -~é]{0,20}(\r\n[ \t]{1,3}[!-~ñ]{1,10}){0,2}";
    (name, space, value).prop_map(|((removed, name), space, value)| (removed, format!("{name}{space}:{value}\r\n").into_bytes()))
}

proptest! {
    #[test]
    fn nothing_but_the_listed_fields_changes(
        before in prop::collection::vec(field(), 0..5),
        after in prop::collection::vec(field(), 0..5),
        body in prop::option::of(prop::collection::vec(any::<u8>().prop_filter("odd", |byte| !matches!(byte, b'\r' | b'\n' | 0)), 0..200)),
    ) {
        let author = (false, b"From: ana@example.com\r\n".to_vec());
        let fields: Vec<_> = before.into_iter().chain([author]).chain(after).collect();
        let rest = body.map_or(vec![], |body| [b"\r\n", &body[..]].concat());
        let message = [fields.iter().flat_map(|(_, field)| field.clone()).collect(), rest.clone()].concat();
        let mut expected: Vec<u8> = fields.iter().filter(|(removed, _)| !removed).flat_map(|(_, field)| field.clone()).collect();
        expected.extend_from_slice(&rest);
        if !expected.ends_with(b"\r\n") {
            expected.extend_from_slice(b"\r\n");
        }
        match prepare(&message, &stamp()) {
            Ok(prepared) => {
                prop_assert!(prepared.bytes.ends_with(&expected));
                let added = String::from_utf8(prepared.bytes[..prepared.bytes.len() - expected.len()].to_vec()).unwrap();
                let names: Vec<&str> = added.lines().filter(|line| !line.starts_with('\t')).filter_map(|line| line.split(':').next()).collect();
                let has = |name: &str| fields.iter().any(|(_, field)| field.to_ascii_lowercase().starts_with(name.as_bytes()));
                let mut wanted = vec!["Received"];
                if !has("date") { wanted.push("Date"); }
                if !has("message-id") { wanted.push("Message-ID"); }
                prop_assert_eq!(names, wanted);
            }
            // Keys twice, and tags or keys that make no sense, are refused rather than changed.
            Err(refusal) => prop_assert!(matches!(refusal, Refusal::Wish(_)), "{}", refusal),
        }
    }
}
