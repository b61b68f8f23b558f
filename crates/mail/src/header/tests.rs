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
        ("From: Ana <Ana@EXAMPLE.com>", "Ana@EXAMPLE.com"),
        ("From: \"Ana\" Maria \"L.\" <ana@example.com>", "ana@example.com"),
        ("From: \"a, b; c: d\" <ana@example.com>", "ana@example.com"),
        ("From: =?iso-2022-jp?B?GyRCJCIbKEI=?= <ana@example.com>", "ana@example.com"),
        ("From: =?utf-8?q?A?= =?utf-8?q?B?=\n =?utf-8?q?C?= <ana@example.com>", "ana@example.com"),
        ("From: ana+news=x@example.com", "ana+news=x@example.com"),
        ("From: o'hara@example.com", "o'hara@example.com"),
        ("From: 'Ana' <ana@example.com>", "ana@example.com"),
        ("From: \t<ana@example.com>\t", "ana@example.com"),
        ("From: Ana\u{a0}Lopez <ana@example.com>", "ana@example.com"),
        ("From: ana@[IPv6:2001:db8::1]", "ana@[IPv6:2001:db8::1]"),
        ("From: ana@localhost", "ana@localhost"),
        ("Reply-To: x@y.example, bad\nFrom: ana@example.com\nTo: team: a@b.example;", "ana@example.com"),
        ("X-From: luis@example.com\nFrom: ana@example.com\nFrom-X: eva@example.com", "ana@example.com"),
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
        "From: ana@example.com\nSender: team: ana@example.com;",
        "From: ana@example.com\nSender: ana@example.com\nSENDER :ana@example.com",
        "From: ana@example.com\nResent-From: ana@example.com,",
        "From: .Ana <ana@example.com>",
        "From: (x) . <ana@example.com>",
        "From: Ana <ana(x)@example.com>",
        "From: Ana <ana\n @example.com>",
        "From: ana (x)@example.com",
        "From: ana@(x)example.com",
        "From: Ana <ana@example.com> (not closed",
        "From: =?utf-8?q?luis=40other.example?=@example.com",
        "From: =?utf-8?q?a=0D=0AFrom:_luis=40example.com?= <ana@example.com>",
        "From: =?utf-8?b?DQo=?= <ana@example.com>",
        "From: \"luis@other.example\"@example.com",
        "From: \"luis@other.example> <x\"@example.com",
        "From: \"a\\\"b\"@example.com",
        "From: luis\u{ff20}other.example@example.com",
        "From: ana\u{200b}@example.com",
        "From: ana\u{a0}@example.com",
        "From: Ana\u{2028}From: luis@example.com <ana@example.com>",
        "From: Ana\u{85}x <ana@example.com>",
        "From: Ana\u{b}x <ana@example.com>",
        "From: \"unended\\\" <ana@example.com>",
        "From: ana@example.com, \"Luis",
        "From ana@example.com Wed Nov 25 08:00:00 2026\nFrom: ana@example.com",
        "From\u{a0}: luis@example.com\nFrom: ana@example.com",
        ">From: luis@example.com\n From: ana@example.com",
        "Subject: x\n\u{b}\nFrom: ana@example.com",
    ] {
        assert!(authors(header).is_err(), "{header:?} gave {:?}", authors(header));
    }
}

#[test]
fn a_refusal_names_the_field_and_the_reason() {
    for (header, words) in [
        ("Subject: x", "the message has no From field"),
        ("From: a@b.example\nFrom: a@b.example", "the message has more than one From field"),
        ("From: Ana", "the From field cannot be read: it is not of the form 'Name <name@domain>, ...'"),
        ("From: a@b.example\nSender: x:;", "the Sender field cannot be read: a group stands where an address must"),
        ("From: a@b.example\nResent-From: \"x", "the Resent-From field cannot be read: a quote, comment or bracket does not end"),
        ("From: a@b.example, c@b.example", "a From field with several addresses needs a Sender field"),
        ("From: a@b.example\nno colon", "line 2 of the header is neither 'Name: value' nor the continuation of one"),
        ("From: a@b.example\n \nX: y", "line 2 of the header holds nothing but white space"),
    ] {
        assert_eq!(authors(header).unwrap_err().to_string(), words, "{header}");
    }
}

#[test]
fn destinations_are_those_of_to_cc_and_bcc_and_of_their_groups() {
    let destinations = |header: &str| {
        let message = header.replace('\n', "\r\n") + "\r\n\r\n";
        let found = Header::parse(message.as_bytes()).unwrap().destinations();
        found.map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
    };
    for (header, expected) in [
        (
            "Cc: c@x.example\nTo: \"A, B\" <a@x.example>,\n b@x.example\nBcc: d@x.example",
            "a@x.example,b@x.example,c@x.example,d@x.example",
        ),
        ("To: undisclosed-recipients:;\nBcc: a@x.example", "a@x.example"),
        ("To: team: a@x.example, B <b@x.example>;, c@x.example", "a@x.example,b@x.example,c@x.example"),
        ("To: a@x.example\nBcc:", "a@x.example"),
        ("Subject: x", ""),
    ] {
        assert_eq!(destinations(header).as_deref(), Ok(expected), "{header}");
    }
    for header in
        ["To: a@x.example,", "To: Ana", "To: a@b: c@x.example;", "Cc: a: b: c@x.example;", "To: \"x", "To: a@x.example b@x.example"]
    {
        assert!(destinations(header).is_err(), "{header}");
    }
}

#[test]
fn odd_bytes_in_the_header_are_refused() {
    for message in [
        &b"Subject: x\rFrom: luis@example.com\r\nFrom: ana@example.com\r\n\r\n"[..],
        b"Subject: x\nFrom: ana@example.com\r\n\r\n",
        b"From: ana@example.com\r\nX: \0\r\n\r\n",
        b"From: ana@example.com\r\n\n",
        b"From: ana@example.com\r\nX: y\r",
        b"From: ana@example.com\r\n\r\r\n",
    ] {
        assert!(matches!(authors_of(message), Err(HeaderError::OddBytes(_))), "{:?}", authors_of(message));
    }
    assert!(authors_of(b"From: \xff <ana@example.com>\r\n\r\n").is_err());
    assert!(authors_of(b"X: \xff\x01\r\nFrom: ana@example.com\r\n\r\nbare\nlines\r here\0").is_ok());
}

#[test]
fn a_header_has_limits_and_a_stored_one_room_for_the_added_lines() {
    let fields = |count: usize| format!("From: ana@example.com\r\n{}\r\n", "X: y\r\n".repeat(count - 1));
    assert!(Header::parse(fields(MAX_FIELDS).as_bytes()).is_ok());
    assert_eq!(Header::parse(fields(MAX_FIELDS + 1).as_bytes()).unwrap_err(), HeaderError::TooLong);
    assert_eq!(Header::parse("X: y\r\n".repeat(MAX_FIELDS + 1).as_bytes()).unwrap_err(), HeaderError::TooLong);
    assert!(authors_of(fields(MAX_FIELDS + 3).as_bytes()).is_ok());
    let long = |length: usize| format!("From: ana@example.com\r\nX: {}\r\n\r\n", "y".repeat(length));
    assert!(Header::parse(long(MAX_HEADER - 100).as_bytes()).is_ok());
    assert_eq!(Header::parse(long(MAX_HEADER).as_bytes()).unwrap_err(), HeaderError::TooLong);
    assert!(authors_of(long(MAX_HEADER).as_bytes()).is_ok());
}

#[test]
fn fields_keep_their_places() {
    let message = b"A: 1\r\nB : 2\r\n folded\r\n\ttwice\r\nC:\r\n\r\nbody";
    let header = Header::parse(message).unwrap();
    let shown: Vec<(&str, String, &[u8])> =
        header.fields.iter().map(|field| (field.name, field.unfolded(), &message[field.start..field.end])).collect();
    assert_eq!(
        shown,
        [
            ("A", "1".to_owned(), &b"A: 1\r\n"[..]),
            ("B", "2 folded\ttwice".to_owned(), b"B : 2\r\n folded\r\n\ttwice\r\n"),
            ("C", String::new(), b"C:\r\n")
        ]
    );
    assert_eq!(&message[header.end..], b"\r\nbody");
    assert_eq!(header.fields[1].value, b" 2\r\n folded\r\n\ttwice");
}

#[test]
fn a_message_may_lack_its_body_its_blank_line_and_its_last_line_end() {
    for (message, end, has_body) in [
        (&b"A: 1\r\n\r\nbody"[..], 6, true),
        (b"A: 1\r\n\r\n", 6, true),
        (b"A: 1\r\n", 6, false),
        (b"A: 1", 4, false),
        (b"", 0, false),
    ] {
        let header = Header::parse(message).unwrap();
        assert_eq!((header.end, header.has_body), (end, has_body));
    }
    assert_eq!(authors_of(b"From: ana@example.com").unwrap().first().to_string(), "ana@example.com");
    assert_eq!(Header::parse(b"\r\nFrom: in the body\r\n").unwrap().authors(), Err(HeaderError::NoFrom));
}

#[test]
fn lists_show_decoded_text_on_one_line() {
    let shown = |subject: &str| {
        let message = format!("Subject: {subject}\r\nFrom: a@b.example\r\n\r\n");
        Header::parse(message.as_bytes()).unwrap().subject()
    };
    assert_eq!(shown("=?utf-8?B?SG9sYQ==?=\r\n =?utf-8?Q?_a=C3=B1o?= 2026 =?x"), "Hola año 2026 =?x");
    assert_eq!(shown("a\tb\u{1b}[31m"), "a b [31m");
    assert_eq!(shown("=?utf-8?q?a=0D=0AX:_y?="), "a  X: y");
    assert_eq!(
        shown("=?utf-8?q?a=E2=80=AEb?= c\u{2028}d\u{200b}e \u{1f469}\u{200d}\u{1f467}"),
        "a b c d e \u{1f469}\u{200d}\u{1f467}"
    );
    assert_eq!(shown(&"ñ".repeat(10_000)).chars().count(), 256);
    assert_eq!(shown(&"=?a?q?".repeat(40_000)).chars().count(), 256);
    assert_eq!(shown(""), "");
}

#[test]
fn a_message_id_is_shown_without_its_brackets() {
    let id = |value: &str| Header::parse(format!("message-id: {value}\r\n\r\n").as_bytes()).unwrap().message_id();
    assert_eq!(id("<1@example.com>").as_deref(), Some("1@example.com"));
    assert_eq!(id("\r\n <1@example.com> (comment)").as_deref(), Some("1@example.com"));
    assert_eq!(id("1@example.com").as_deref(), Some("1@example.com"));
    assert_eq!(id("<>"), None);
    assert_eq!(id(""), None);
}
