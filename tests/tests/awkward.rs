//! Awkward messages arrive byte for byte apart from added header lines, or are refused with a reason.

#![allow(clippy::unwrap_used)]

use scenarios::{Answer, Gateway, NextHop, Plan, Submitter, message};
use std::collections::BTreeSet;

/// One message, how it is submitted, and what must become of it.
struct Case {
    name: String,
    parameters: &'static str,
    reverse_path: &'static str,
    also_to: Vec<String>,
    way: Way,
    submitted: Vec<u8>,
    fate: Fate,
}

enum Way {
    /// DATA.
    Data,
    /// DATA, then these very bytes, whatever they mean.
    Wire,
    /// BDAT in chunks of these sizes, and a last one with the rest.
    Chunks(Vec<usize>),
}

enum Fate {
    /// It arrives with these bytes; fields of these names may stand in front, beside Received.
    Arrives(Vec<u8>, &'static [&'static str]),
    /// The reply has this code and begins like this.
    Refused(u16, &'static str),
}

const FROM: &str = "From: Ana <ana@example.com>\r\n";
const REST: &str = "Date: Wed, 25 Nov 2026 08:00:00 +0000\r\nMessage-ID: <awkward@example.com>\r\n";
const SMTPUTF8: &str = " BODY=8BITMIME SMTPUTF8";

fn with_body(body: impl AsRef<[u8]>) -> Vec<u8> {
    [FROM.as_bytes(), REST.as_bytes(), b"\r\n", body.as_ref()].concat()
}

fn with_header(fields: impl AsRef<[u8]>) -> Vec<u8> {
    [FROM.as_bytes(), fields.as_ref(), REST.as_bytes(), b"\r\nHola.\r\n"].concat()
}

/// It arrives as it was submitted.
fn same(name: impl Into<String>, submitted: Vec<u8>) -> Case {
    becomes(name, submitted.clone(), submitted)
}

fn becomes(name: impl Into<String>, submitted: Vec<u8>, arrives: Vec<u8>) -> Case {
    Case {
        name: name.into(),
        parameters: "",
        reverse_path: "ana@example.com",
        also_to: Vec::new(),
        way: Way::Data,
        submitted,
        fate: Fate::Arrives(arrives, &[]),
    }
}

fn refused(name: &str, code: u16, start: &'static str, submitted: Vec<u8>) -> Case {
    Case { fate: Fate::Refused(code, start), ..same(name, submitted) }
}

fn bodies() -> Vec<Case> {
    let every_byte: Vec<u8> = (1..=255).filter(|byte| !b"\r\n".contains(byte)).collect();
    let high: Vec<u8> = (0..20_000u32).map(|step| 0x80 | u8::try_from(step * 7 % 128).unwrap()).collect();
    let texts: [(&str, Vec<u8>); 37] = [
        ("empty body", b"".to_vec()),
        ("one blank line", b"\r\n".to_vec()),
        ("only a dot", b".\r\n".to_vec()),
        ("two dots", b"..\r\n".to_vec()),
        ("three dots", b"...\r\n".to_vec()),
        ("dot and blank", b". \r\n".to_vec()),
        ("first line begins with a dot", b".first\r\nsecond\r\n".to_vec()),
        ("last line is a dot", b"text\r\n.\r\n".to_vec()),
        ("dots alone in many lines", b".\r\n".repeat(500)),
        ("growing dots", (1..200).flat_map(|count| [b".".repeat(count), b"\r\n".to_vec()].concat()).collect()),
        ("line of 998", [b"x".repeat(998), b"\r\n".to_vec()].concat()),
        ("line of 999", [b"x".repeat(999), b"\r\n".to_vec()].concat()),
        ("line of 1001", [b"x".repeat(1001), b"\r\n".to_vec()].concat()),
        ("line of 5000 with dots", [b".x".repeat(2500), b"\r\n".to_vec()].concat()),
        ("line of 200,000", [b"long ".repeat(40_000), b"\r\n".to_vec()].concat()),
        ("UTF-8", "Señor Núñez: ¿mañana? 漢字 🙂\r\n".into()),
        ("Latin-1", b"Se\xf1or N\xfa\xf1ez\r\n".to_vec()),
        ("every byte but CR, LF and NUL", [&every_byte[..], b"\r\n"].concat()),
        ("high bytes alone", [&high[..], b"\r\n"].concat()),
        ("control characters", b"\x01\x07\x08\x0b\x0c\x1b[31m\x1a\x7f\r\n".to_vec()),
        ("trailing blanks", b"one  \t \r\n \r\n\t\r\n".to_vec()),
        ("blank lines alone", b"\r\n".repeat(300)),
        ("blank lines in front", b"\r\n\r\n\r\ntext\r\n".to_vec()),
        ("blank lines behind", b"text\r\n\r\n\r\n\r\n".to_vec()),
        ("lines of mailbox files", b"From ana Wed Nov 25\r\n>From here\r\n>>From\r\n".to_vec()),
        ("commands", b"QUIT\r\nRSET\r\nMAIL FROM:<x@example.com>\r\nDATA\r\nBDAT 3 LAST\r\n".to_vec()),
        ("fields in the body", b"Bcc: stays@example.org\r\nX-Sendero-Tag: stays\r\nIdempotency-Key: stays\r\n".to_vec()),
        ("another header behind", b"text\r\n\r\nFrom: stranger@example.net\r\nBcc: a@example.org\r\n\r\nmore\r\n".to_vec()),
        ("a signed text", b"-----BEGIN PGP SIGNED MESSAGE-----\r\n\r\n- - dash\r\n- -----\r\n".to_vec()),
        ("equal signs of quoted-printable", b"soft=\r\nbreak=20\r\n=2E\r\n=\r\n".to_vec()),
        ("nested parts", b"--a\r\nContent-Type: message/rfc822\r\n\r\nBcc: x@example.org\r\n\r\n--b--\r\n--a--\r\n".to_vec()),
        ("4,095 bytes in all", filled(4095)),
        ("4,096 bytes in all", filled(4096)),
        ("65,535 bytes in all", filled(65_535)),
        ("65,536 bytes in all", filled(65_536)),
        ("a megabyte", filled(1 << 20)),
        ("a megabyte of dots in lines", b".\r\n".repeat((1 << 20) / 3)),
    ];
    let mut cases: Vec<Case> = texts.into_iter().map(|(name, body)| same(name, with_body(body))).collect();
    cases.push(Case { parameters: " BODY=8BITMIME", ..same("declared 8-bit", with_body("maña\r\n")) });
    cases.push(Case { parameters: " SIZE=12", ..same("declared far too small", with_body("more than twelve bytes\r\n")) });
    cases.push(same("no blank line", [FROM, REST].concat().into_bytes()));
    cases.push(same("no body behind the blank line", [FROM, REST, "\r\n"].concat().into_bytes()));
    cases
}

/// A body with which a message has so many bytes.
fn filled(size: usize) -> Vec<u8> {
    let room = size - with_body("").len();
    let mut body = b"0123456789 0123456789 0123456789 0123456789 0123456789 0123456789\r\n".repeat(room / 67 + 1);
    body.truncate(room - 2);
    // A line end that was cut in two is none.
    if body.ends_with(b"\r") {
        body.pop();
        body.push(b'.');
    }
    body.extend_from_slice(b"\r\n");
    body
}

fn headers() -> Vec<Case> {
    let many: String = (0..300).map(|number| format!("X-Field-{number}: value {number}\r\n")).collect();
    let hops: String =
        (0..49).map(|number| format!("Received: from a by b{number}; Wed, 25 Nov 2026 08:00:00 +0000\r\n")).collect();
    let fields: [(&str, Vec<u8>); 31] = [
        ("folded subject", b"Subject: one\r\n two\r\n\tthree\r\n".to_vec()),
        ("subject begins on the next line", b"Subject:\r\n one\r\n".to_vec()),
        ("field of 2,000", [&b"X-Long: "[..], &b"y".repeat(2000), b"\r\n"].concat()),
        ("field folded 500 times", [&b"References:"[..], &b"\r\n <id@example.com>".repeat(500), b"\r\n"].concat()),
        ("300 fields", many.into_bytes()),
        ("no blank behind the colon", b"Subject:tight\r\n".to_vec()),
        ("many blanks behind the colon", b"Subject:    \t   wide   \r\n".to_vec()),
        ("empty value", b"X-Empty:\r\nX-Blank: \r\n".to_vec()),
        ("blank before the colon", b"Subject : spaced\r\n".to_vec()),
        ("two subjects", b"Subject: one\r\nSubject: two\r\n".to_vec()),
        ("odd names", b"X_odd!#$%&'*+.^`|~{}: 1\r\n1: 2\r\n-: 3\r\n".to_vec()),
        ("names in small letters", b"subject: small\r\nmime-version: 1.0\r\n".to_vec()),
        ("names in capitals", b"SUBJECT: LARGE\r\nMIME-VERSION: 1.0\r\n".to_vec()),
        ("encoded words", b"Subject: =?utf-8?b?w7E=?= =?iso-8859-1?q?=F1?= =?x?y?z?=\r\n".to_vec()),
        ("a broken encoded word", b"Subject: =?utf-8?b?%%%?= =?utf-8?q?=ZZ\r\n".to_vec()),
        ("group without members", b"To: undisclosed-recipients:;\r\n".to_vec()),
        ("unreadable To", b"To: <<<not an address>>>, ;;\r\nCc: @@\r\n".to_vec()),
        ("unreadable Date beside a good one", b"X-Date: yesterday\r\nDate: not a date\r\n".to_vec()),
        (
            "names that only look alike",
            b"Bcc-Note: stays\r\nX-Senderoo: stays\r\nXBcc: stays\r\nIdempotency-Keys: stays\r\n".to_vec(),
        ),
        ("Return-Path", b"Return-Path: <ana@example.com>\r\n".to_vec()),
        (
            "a signature of DKIM",
            b"DKIM-Signature: v=1; a=rsa-sha256; d=example.com;\r\n\ts=x; h=from : to;\r\n  b=AAAA\r\n BBBB=\r\n".to_vec(),
        ),
        ("49 hops", hops.into_bytes()),
        ("sender", b"Sender: ana@example.com\r\n".to_vec()),
        (
            "resent",
            b"Resent-From: ana@example.com\r\nResent-To: x@example.org\r\nResent-Date: Wed, 25 Nov 2026 08:00:00 +0000\r\n"
                .to_vec(),
        ),
        ("lengths", b"Content-Length: 3\r\nLines: 1\r\nStatus: RO\r\n".to_vec()),
        (
            "list fields",
            b"List-Unsubscribe: <mailto:x@example.com>,\r\n <http://example.com/u?a=1&b=2>\r\nPrecedence: bulk\r\n".to_vec(),
        ),
        ("control characters in a field", b"Subject: bell \x07 and escape \x1b[0m\r\n".to_vec()),
        ("colons and quotes", b"Subject: a:b: \"c\r\nX-Quote: \"never closed (nor this\r\n".to_vec()),
        ("tabs alone as folding", b"Subject: a\r\n\t\t\tb\r\n".to_vec()),
        ("raw UTF-8 undeclared", "Subject: mañana 漢字\r\n".into()),
        ("raw Latin-1", b"Subject: ma\xf1ana\r\n".to_vec()),
    ];
    let mut cases: Vec<Case> = fields.into_iter().map(|(name, fields)| same(name, with_header(fields))).collect();
    cases.push(Case {
        parameters: SMTPUTF8,
        ..same("raw UTF-8 declared", with_header("Subject: mañana\r\nTo: José <josé@example.org>\r\n"))
    });
    for (number, from) in [
        "\"Pérez, Ana\" <ana@example.com>",
        "ana@example.com (Ana (the first))",
        "\r\n Ana\r\n <ana@example.com>",
        "=?utf-8?q?Ana_P=C3=A9rez?= <ana@example.com>",
        "\"Ana \\\"the\\\" First\" <ana@EXAMPLE.com>",
        "   <ana@example.com>   ",
    ]
    .into_iter()
    .enumerate()
    {
        let text = format!("From: {from}\r\n{REST}\r\nHola.\r\n").into_bytes();
        cases.push(Case { parameters: SMTPUTF8, ..same(format!("an awkward From, {number}"), text) });
    }
    let two = format!("From: ana@example.com, ana.maria@example.com\r\nSender: ana@example.com\r\n{REST}\r\nHola.\r\n");
    cases.push(same("two authors and a sender", two.into_bytes()));
    cases.push(same("From comes last", format!("{REST}{FROM}\r\nHola.\r\n").into_bytes()));
    cases
}

fn removed_and_added() -> Vec<Case> {
    let removed = [
        ("Bcc", "Bcc: x@example.org\r\n"),
        ("folded Bcc", "Bcc: x@example.org,\r\n\ty@example.org,\r\n z@example.org\r\n"),
        ("empty Bcc", "Bcc:\r\n"),
        ("Bcc in small letters", "bcc: x@example.org\r\n"),
        ("Bcc with a blank before its colon", "Bcc : x@example.org\r\n"),
        ("two Bcc", "Bcc: x@example.org\r\nBCC: y@example.org\r\n"),
        ("Resent-Bcc", "Resent-Bcc: x@example.org\r\n"),
        ("tags", "X-Sendero-Tag: month=november\r\nX-Sendero-Tag:\r\n kind=offer\r\n"),
        ("lane", "X-Sendero-Lane: now\r\n"),
        ("channel", "x-sendero-channel: hop\r\n"),
        ("key", "Idempotency-Key: \"awkward-1\"\r\n"),
    ];
    let mut cases: Vec<Case> = Vec::new();
    for (name, field) in removed {
        let around = |field: &str| with_header(format!("X-Before: 1\r\n{field}X-After: 2\r\n"));
        cases.push(becomes(format!("{name} is removed"), around(field), around("")));
    }
    let bcc = "Bcc: x@example.org\r\n y@example.org\r\n";
    cases.push(becomes("Bcc comes first", [bcc.as_bytes(), &with_body("a\r\n")].concat(), with_body("a\r\n")));
    let last = |bcc: &str| format!("{FROM}{REST}{bcc}\r\nHola.\r\n").into_bytes();
    cases.push(becomes("Bcc comes last", last(bcc), last("")));
    let alone = |bcc: &str| format!("{FROM}{REST}{bcc}").into_bytes();
    cases.push(becomes("Bcc ends the message", alone(bcc), alone("")));
    for (name, header, added) in [
        ("no Date", "Message-ID: <nodate@example.com>\r\n", &["Date"][..]),
        ("no Message-ID", "Date: Wed, 25 Nov 2026 08:00:00 +0000\r\n", &["Message-ID"]),
        ("neither Date nor Message-ID", "Subject: bare\r\n", &["Date", "Message-ID"]),
    ] {
        let text = format!("{FROM}{header}\r\nHola.\r\n").into_bytes();
        cases.push(Case { fate: Fate::Arrives(text.clone(), added), ..same(name, text) });
    }
    cases
}

fn chunks() -> Vec<Case> {
    let text = with_body("uno\r\n.\r\n..dos\r\n\r\ntres maña\r\n");
    let sizes = [
        ("one chunk", vec![]),
        ("two chunks", vec![40]),
        ("chunks of one byte", vec![1; text.len() - 1]),
        ("chunks of nothing", vec![0, 10, 0, 0, 20, 0]),
        ("an empty last chunk", vec![text.len()]),
        ("a chunk that ends within CRLF", vec![FROM.len() - 1, 1, 2]),
        ("a chunk that ends within a dotted line", vec![text.len() - 25, 1, 1, 1, 1]),
    ];
    let mut cases: Vec<Case> = sizes.into_iter().map(|(name, sizes)| chunked(name, sizes, text.clone())).collect();
    cases.push(chunked("a megabyte in chunks", vec![65_536; 15], with_body(filled(1 << 20))));
    let (open, closed) = (with_body("no line end"), with_body("no line end\r\n"));
    cases.push(Case { fate: Fate::Arrives(closed, &[]), ..chunked("no final CRLF", vec![5], open) });
    let (open, closed) = (with_body("a\r\n."), with_body("a\r\n.\r\n"));
    cases.push(Case { fate: Fate::Arrives(closed, &[]), ..chunked("ends with a dot", vec![], open) });
    cases.push(Case { fate: Fate::Refused(550, "5.6.0"), ..chunked("a bare LF in a chunk", vec![], with_body("a\nb\r\n")) });
    cases.push(Case { fate: Fate::Refused(550, "5.6.0"), ..chunked("a NUL in a chunk", vec![9], with_body("a\0b\r\n")) });
    cases.push(Case {
        fate: Fate::Refused(552, "5.3.4"),
        ..chunked("chunks that are too much", vec![1 << 20], with_body(filled(5 << 20)))
    });
    cases
}

fn chunked(name: &str, sizes: Vec<usize>, text: Vec<u8>) -> Case {
    Case { parameters: " BODY=8BITMIME", way: Way::Chunks(sizes), ..same(name, text) }
}

fn envelopes() -> Vec<Case> {
    let to = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect();
    let hundred = (0..100).map(|number| format!("many-{number}@example.org")).collect();
    let text = || with_body("Hola.\r\n");
    vec![
        Case { reverse_path: "", ..same("null reverse-path", text()) },
        Case { also_to: hundred, ..same("a hundred recipients", text()) },
        Case {
            also_to: to(&["\"luis x\"@example.org", "\"a>b\"@example.org", "\"q\\\"q\"@example.org"]),
            ..same("quoted local parts", text())
        },
        Case { also_to: to(&["luis@[192.0.2.1]"]), ..same("an address literal", text()) },
        Case { also_to: to(&["a+b=c/d!e@example.org", "#%&'*?^`{|}~@example.org"]), ..same("odd atoms", text()) },
        Case {
            also_to: to(&["josé@example.org", "用户@例子.example"]), parameters: SMTPUTF8, ..same("UTF-8 addresses", text())
        },
    ]
}

fn refusals() -> Vec<Case> {
    let many = "X-Field: 1\r\n".repeat(1001);
    let long = format!("X-Long: {}\r\n", "y".repeat(300 * 1024));
    let hops = "Received: from a by b; Wed, 25 Nov 2026 08:00:00 +0000\r\n".repeat(51);
    let from = |from: &str| format!("{from}{REST}\r\nHola.\r\n").into_bytes();
    let mut cases = vec![
        refused("nothing at all", 550, "5.6.0", Vec::new()),
        refused("no From", 550, "5.6.0", from("To: x@example.org\r\n")),
        refused("two From", 550, "5.6.0", from(&FROM.repeat(2))),
        refused("two authors without sender", 550, "5.6.0", from("From: ana@example.com, ana.maria@example.com\r\n")),
        refused("a group as From", 550, "5.6.0", from("From: us: ana@example.com;\r\n")),
        refused("no address in From", 550, "5.6.0", from("From: Ana\r\n")),
        refused("an empty From", 550, "5.6.0", from("From:\r\n")),
        refused("somebody else's From", 550, "5.7.1", from("From: luis@example.org\r\n")),
        refused(
            "somebody else among the authors",
            550,
            "5.7.1",
            from("From: ana@example.com, x@example.org\r\nSender: ana@example.com\r\n"),
        ),
        refused("somebody else's Sender", 550, "5.7.1", with_header("Sender: luis@example.org\r\n")),
        refused("somebody else's Resent-From", 550, "5.7.1", with_header("Resent-From: luis@example.org\r\n")),
        refused("a From that is read in two ways", 550, "5.6.0", from("From: <ana@example.com> <luis@example.org>\r\n")),
        refused("a line without colon", 550, "5.6.0", with_header("no field\r\n")),
        refused("a name with blanks", 550, "5.6.0", with_header("two words: x\r\n")),
        refused("no name", 550, "5.6.0", with_header(": x\r\n")),
        refused("a continuation of nothing", 550, "5.6.0", [b" first\r\n", &with_body("")[..]].concat()),
        refused("a line of blanks in the header", 550, "5.6.0", with_header("Subject: x\r\n \t \r\nX: y\r\n")),
        refused("1,001 fields", 550, "5.6.0", with_header(many)),
        refused("a header of 300 KiB", 550, "5.6.0", with_header(long)),
        refused("51 hops", 554, "5.4.6", with_header(hops)),
        refused("orders to a provider", 550, "5.7.1", with_header("X-SMTPAPI: {\"to\":[\"x@example.org\"]}\r\n")),
        refused("an unknown wish", 550, "5.5.4", with_header("X-Sendero-Colour: blue\r\n")),
        refused("an unknown channel", 550, "5.7.1", with_header("X-Sendero-Channel: nowhere\r\n")),
        refused("two keys", 550, "5.5.4", with_header("Idempotency-Key: a\r\nIdempotency-Key: b\r\n")),
        refused("too large", 552, "5.3.4", with_body(filled(5 << 20))),
    ];
    for (name, body) in [
        ("a NUL", &b"a\0b\r\n.\r\n"[..]),
        ("a bare LF", b"a\nb\r\n.\r\n"),
        ("a bare CR", b"a\rb\r\n.\r\n"),
        ("a CR before CRLF", b"a\r\r\n.\r\n"),
        ("LF dot LF", b"a\n.\nMAIL FROM:<ana@example.com>\r\n.\r\n"),
        ("LF dot CRLF", b"a\n.\r\nMAIL FROM:<ana@example.com>\r\n.\r\n"),
        ("CRLF dot LF", b"a\r\n.\nMAIL FROM:<ana@example.com>\r\n.\r\n"),
        ("CR dot CR", b"a\r.\rMAIL FROM:<ana@example.com>\r\n.\r\n"),
        ("CRLF dot CR", b"a\r\n.\rMAIL FROM:<ana@example.com>\r\n.\r\n"),
        ("CRLF NUL dot CRLF", b"a\r\n\0.\r\nMAIL FROM:<ana@example.com>\r\n.\r\n"),
    ] {
        cases.push(Case { way: Way::Wire, ..refused(name, 550, "5.6.0", with_body(body)) });
    }
    cases.push(Case {
        way: Way::Wire,
        ..refused("a bare LF in the header", 550, "5.6.0", [&with_header("X: a\nBcc: b\r\n")[..], b".\r\n"].concat())
    });
    cases.push(Case {
        also_to: vec!["josé@example.org".to_owned()],
        ..refused("a UTF-8 address undeclared", 553, "5.6.7", with_body(""))
    });
    cases.push(Case { reverse_path: "luis@example.org", ..refused("somebody else's reverse-path", 550, "5.7.1", with_body("")) });
    cases
}

fn submit(port: u16, case: &Case, to: &[&str]) -> std::io::Result<Answer> {
    let mut client = Submitter::connect(port)?;
    if let Some(refusal) = client.envelope(case.reverse_path, case.parameters, to)? {
        return Ok(refusal);
    }
    match &case.way {
        Way::Data => client.data(&case.submitted),
        Way::Chunks(sizes) => client.chunks(&case.submitted, sizes),
        Way::Wire => {
            let go_ahead = client.command("DATA")?;
            assert_eq!(go_ahead.code, 354, "{}", case.name);
            client.raw(&case.submitted)?;
            let answer = client.answer()?;
            // Whatever stood behind the odd bytes is not obeyed.
            assert!(client.is_closed(), "{}: the connection goes on", case.name);
            Ok(answer)
        }
    }
}

fn judge(case: &Case, to: &[&str], hop: &NextHop) -> Result<(), String> {
    let Fate::Arrives(wanted, added) = &case.fate else { return Ok(()) };
    let taken = hop.message_for(to[0]);
    let allowed = [&["Received"], *added].concat();
    message::only_added_in_front(&taken.bytes, wanted, &allowed)?;
    for name in *added {
        message::field(&taken.bytes, name).ok_or_else(|| format!("{name} was not added"))?;
    }
    let declared = |parameter: &str| taken.parameters.split(' ').any(|word| word == parameter);
    if !taken.bytes.is_ascii() && !declared("BODY=8BITMIME") {
        return Err(format!("8-bit, and handed over with '{}'", taken.parameters));
    }
    let (left, right): (BTreeSet<&str>, BTreeSet<&str>) =
        (taken.recipients.iter().map(String::as_str).collect(), to.iter().copied().collect());
    if left != right || taken.reverse_path != case.reverse_path {
        return Err(format!("the envelope is {} to {:?}", taken.reverse_path, taken.recipients));
    }
    Ok(())
}

#[test]
fn awkward_messages_arrive_byte_for_byte_or_are_refused() {
    let hop = NextHop::start();
    let mut gateway =
        Gateway::start(Plan { further_settings: "[limits]\nmessage_size = \"2MiB\"", ..Plan::for_next_hop(hop.port()) });
    let cases: Vec<Case> =
        [bodies(), headers(), removed_and_added(), chunks(), envelopes(), refusals()].into_iter().flatten().collect();
    let mut problems = Vec::new();
    let first = |number: usize| format!("case-{number}@example.org");
    for (number, case) in cases.iter().enumerate() {
        let first = first(number);
        let to: Vec<&str> = [first.as_str()].into_iter().chain(case.also_to.iter().map(String::as_str)).collect();
        let answer = submit(gateway.trusted, case, &to);
        let as_wanted = match (&answer, &case.fate) {
            (Ok(answer), Fate::Arrives(..)) => answer.is(250, "2.0.0 queued as msg_"),
            (Ok(answer), Fate::Refused(code, start)) => answer.is(*code, start),
            (Err(_), _) => false,
        };
        if !as_wanted {
            problems.push(format!("{}: answered with {answer:?}", case.name));
            continue;
        }
        if let Err(problem) = judge(case, &to, &hop) {
            problems.push(format!("{}: {problem}", case.name));
        }
    }
    assert!(problems.is_empty(), "{} of {}:\n{}", problems.len(), cases.len(), problems.join("\n"));
    let arriving = cases.iter().filter(|case| matches!(case.fate, Fate::Arrives(..))).count();
    let (status, _) = gateway.stop();
    assert!(status.success(), "{status}");
    // Nothing that was refused, and nothing that hid in another message.
    assert_eq!(hop.count(), arriving, "each left once and nothing else");
    println!(
        "SENDERO-FIGURE awkward_messages={} arrived={arriving} refused={} altered=0 lost=0",
        cases.len(),
        cases.len() - arriving
    );
}
