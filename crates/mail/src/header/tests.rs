#![allow(clippy::unwrap_used)]
use super::*;

fn authors(header: &str) -> Result<Vec<String>, HeaderError> {
    let message = header.replace('\n', "\r\n") + "\r\n\r\nbody\r\n";
    let authors = authors_of(message.as_bytes())?;
    Ok(authors.all().map(ToString::to_string).collect())
}

#[test]
fn authors_are_read_in_every_legal_form() {
    for (header, expected) in [
        ("From: ana@example.com", "ana@example.com"),
        ("from:ana@example.com", "ana@example.com"),
        ("FROM :  ana@example.com", "ana@example.com"),
        ("From: <ana@example.com>", "ana@example.com"),
        ("From: Ana <ana@example.com>", "ana@example.com"),
        ("From: Ana M. Lopez <ana@example.com>", "ana@example.com"),
        ("From: \"Lopez, Ana\" <ana@example.com>", "ana@example.com"),
        ("From: \"a <luis@example.com>\" <ana@example.com>", "ana@example.com"),
        ("From: =?utf-8?q?An=C3=A1?= <ana@example.com>", "ana@example.com"),
        ("From: Aná <ana@example.com>", "ana@example.com"),
        ("From: (sales) Ana (x (nested \\) y)) <ana@example.com> (end)", "ana@example.com"),
        ("From: Ana\n <ana@example.com>", "ana@example.com"),
        ("From:\n Ana\n\t<ana@example.com>", "ana@example.com"),
        ("From: \"ana maria\"@example.com", "\"ana maria\"@example.com"),
        ("From: ana@[192.0.2.1]", "ana@[192.0.2.1]"),
        ("From: añá@éxample.es", "añá@éxample.es"),
        ("From: ana@example.com, luis@example.com\nSender: ana@example.com", "ana@example.com,luis@example.com,ana@example.com"),
        (
            "From: A <ana@example.com>,\n L <luis@example.com>\nSender: ana@example.com",
            "ana@example.com,luis@example.com,ana@example.com",
        ),
        ("From: ana@example.com\nSender: Luis <luis@example.com>", "ana@example.com,luis@example.com"),
        (
            "From: ana@example.com\nResent-From: luis@example.com\nResent-Sender: eva@example.com",
            "ana@example.com,luis@example.com,eva@example.com",
        ),
        (
            "From: ana@example.com\nResent-From: a@example.com\nResent-From: b@example.com",
            "ana@example.com,a@example.com,b@example.com",
        ),
        ("Subject: From: luis@example.com\nFrom: ana@example.com", "ana@example.com"),
        ("Subject: x\n From: luis@example.com\nFrom: ana@example.com", "ana@example.com"),
    ] {
        assert_eq!(authors(header).map(|all| all.join(",")).as_deref(), Ok(expected), "{header}");
    }
}

#[test]
fn authors_that_cannot_be_read_exactly_are_refused() {
    for header in [
        "Subject: x",
        "From:",
        "From: ",
        "From: Ana",
        "From: ana",
        "From: @example.com",
        "From: ana@",
        "From: <>",
        "From: Ana <>",
        "From: <ana@example.com",
        "From: ana@example.com>",
        "From: <<ana@example.com>>",
        "From: <ana@example.com> <luis@example.com>",
        "From: Ana <ana@example.com> luis@example.com",
        "From: ana@example.com luis@example.com",
        "From: ana@example.com,",
        "From: ,ana@example.com",
        "From: ana@example.com,,luis@example.com",
        "From: ana@example.com;luis@example.com",
        "From: team: ana@example.com;",
        "From: team:;",
        "From: <@relay.example:ana@example.com>",
        "From: ana @example.com",
        "From: ana@ example.com",
        "From: ana@example.com@luis.example",
        "From: ana@luis.example <ana@example.com>",
        "From: luis@example.com, <ana@example.com>",
        "From: \"Ana <ana@example.com>",
        "From: (Ana ana@example.com",
        "From: Ana) ana@example.com",
        "From: Ana \\<ana@example.com>",
        "From: ana.@example.com",
        "From: .ana@example.com",
        "From: ana..maria@example.com",
        "From: ana@example..com",
        "From: ana@-example.com",
        "From: [ana@example.com]",
        "From: ana@[300.1.1.1]",
        "From: ana\u{1}@example.com",
        "From: ana@exam\u{7f}ple.com",
        "From: ana@example.com\nFrom: ana@example.com",
        "From: ana@example.com\nfrom : luis@example.com",
        "From: ana@example.com\nFROM\t: luis@example.com",
        "From: ana@example.com\nSender: ana@example.com\nSender: luis@example.com",
        "From: ana@example.com\nSender: ana@example.com, luis@example.com",
        "From: ana@example.com\nSender:",
        "From: ana@example.com, luis@example.com",
        "From: ana@example.com\nResent-From: nobody",
        "From: ana@example.com\nResent-Sender: a@example.com, b@example.com",
        " From: ana@example.com",
        "no colon here\nFrom: ana@example.com",
        "Bad Name: x\nFrom: ana@example.com",
        ": x\nFrom: ana@example.com",
        "Subject: x\n \nFrom: ana@example.com",
        "Subject: x\n\t\t\nFrom: ana@example.com",
        "From: ana@example.com\n\u{a0}x",
    ] {
        assert!(authors(header).is_err(), "{header:?} gave {:?}", authors(header));
    }
}

#[test]
fn bytes_that_are_no_text_have_no_author() {
    assert!(authors_of(b"From: \xff <ana@example.com>\r\n\r\n").is_err());
}

#[test]
fn fields_keep_their_places() {
    let message = b"A: 1\r\nB: 2\r\n folded\r\nC:\r\n\r\nbody";
    let header = Header::parse(message).unwrap();
    let shown: Vec<(&str, String, &[u8])> =
        header.fields.iter().map(|f| (f.name, f.unfolded(), &message[f.start..f.end])).collect();
    assert_eq!(
        shown,
        [
            ("A", "1".to_owned(), &b"A: 1\r\n"[..]),
            ("B", "2 folded".to_owned(), b"B: 2\r\n folded\r\n"),
            ("C", String::new(), b"C:\r\n")
        ]
    );
    assert_eq!(&message[header.end..], b"\r\nbody");
    assert_eq!(header.fields[1].value, b" 2\r\n folded");
}

#[test]
fn lists_show_decoded_text_on_one_line() {
    let message = b"Subject: =?utf-8?B?SG9sYQ==?=\r\n =?utf-8?Q?_a=C3=B1o?= 2026 =?x\r\nFrom: a@b.example\r\n\r\n";
    assert_eq!(Header::parse(message).unwrap().subject(), "Hola año 2026 =?x");
}

#[test]
fn wishes_are_read_and_those_of_later_versions_are_named() {
    let message = b"X-Sendero-Channel: office\r\nx-sendero-lane: NOW\r\nX-Sendero-Tag: job=42\r\nIdempotency-Key: \"k 1\"\r\n\r\n";
    let wishes = Header::parse(message).unwrap().wishes().unwrap();
    assert_eq!(wishes.channel.as_deref(), Some("office"));
    assert_eq!(wishes.lane, Some(Lane::Now));
    assert_eq!(wishes.tags, [("job".to_owned(), "42".to_owned())]);
    assert_eq!(wishes.idempotency_key.as_deref(), Some("k 1"));
    for (field, words) in [
        ("X-Sendero-Schedule: tomorrow", "not in this version"),
        ("X-Sendero-Lane: fast", "now, normal or bulk"),
        ("Idempotency-Key:", "1 to 255"),
    ] {
        let message = format!("{field}\r\n\r\n");
        let error = Header::parse(message.as_bytes()).unwrap().wishes().unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn orders_to_a_provider_are_found() {
    for name in ["X-SMTPAPI", "x-mailgun-variables", "X-MSYS-API", "X-PM-Message-Stream"] {
        assert!(is_control(name), "{name}");
    }
    assert!(!is_control("X-Mailer") && !is_control("Subject"));
}
