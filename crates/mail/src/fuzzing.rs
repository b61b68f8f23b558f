//! What the fuzz targets call; the same functions run in the tests over a kept corpus.
//!
//! Each takes any bytes, must not panic, and asserts what must hold for all of them.

use crate::header::{Authors, Header, authors_of};
use crate::id::MessageId;
use crate::rewrite::{Stamp, is_removed, prepare};
use crate::time::Timestamp;

/// A header is read, or refused. Authors read read back; what is prepared keeps every byte it must keep.
pub fn header(data: &[u8]) {
    if let Ok(header) = Header::parse(data) {
        covers_all(&header, data);
        let _ = (header.subject(), header.from_line(), header.message_id(), header.wishes(), header.control_field());
    }
    if let Ok(authors) = authors_of(data) {
        read_back(&authors);
    }
    let stamp = Stamp {
        at: Timestamp(1_795_593_600_000),
        id: MessageId::new(Timestamp(1_795_593_600_000), [7; 10]),
        hostname: "fuzz.example",
        helo: "",
        peer: None,
        protocol: "ESMTPSA",
        recipient: None,
        control_fields: data.len().is_multiple_of(2),
    };
    let Ok(prepared) = prepare(data, &stamp) else { return };
    assert_eq!(authors_of(&prepared.bytes).as_ref(), Ok(&prepared.authors));
    assert!(prepared.bytes.ends_with(b"\r\n"));
    assert_eq!(prepared.eight_bit, !prepared.bytes.is_ascii());
    let expected = without_removed(data);
    let from = prepared.bytes.len() - expected.len();
    assert!(prepared.bytes[from..] == expected);
    assert!(prepared.bytes.starts_with(b"Received: from "));
    assert!(prepared.subject.chars().count() <= 256 && !prepared.subject.chars().any(char::is_control));
}

/// Every byte of the header section belongs to exactly one field.
fn covers_all(header: &Header<'_>, message: &[u8]) {
    let mut at = 0;
    for field in &header.fields {
        assert_eq!(field.start, at);
        assert!(message[field.start..field.end].starts_with(field.name.as_bytes()));
        at = field.end;
    }
    assert_eq!(at, header.end);
    assert_eq!(header.has_body, message[header.end..].starts_with(b"\r\n"));
}

fn read_back(authors: &Authors) {
    let list = |all: &[smtp::Mailbox]| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mut text = format!("From: {}\r\n", list(&authors.from));
    if let Some(sender) = &authors.sender {
        text.push_str(&format!("Sender: <{sender}>\r\n"));
    }
    if !authors.resent.is_empty() {
        text.push_str(&format!("Resent-From: {}\r\n", list(&authors.resent)));
    }
    assert_eq!(authors_of(text.as_bytes()).as_ref(), Ok(authors));
}

/// The message less the fields that never leave, found line by line and not by the parser.
fn without_removed(message: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(message.len() + 2);
    let (mut in_header, mut removing) = (true, false);
    for line in message.split_inclusive(|byte| *byte == b'\n') {
        if line == b"\r\n" {
            in_header = false;
        }
        if in_header && !line.starts_with(b" ") && !line.starts_with(b"\t") {
            let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
            removing = is_removed(String::from_utf8_lossy(name).trim());
        }
        if !(in_header && removing) {
            kept.extend_from_slice(line);
        }
    }
    if !kept.ends_with(b"\r\n") {
        kept.extend_from_slice(b"\r\n");
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What headers are made of, so that random joins go deep.
    const WORDS: &[&[u8]] = &[
        b"From: ",
        b"from :",
        b"Sender: ",
        b"Resent-From: ",
        b"Bcc: ",
        b"X-Sendero-Tag: a=b",
        b"X-Sendero-Lane: now",
        b"Idempotency-Key: k",
        b"Subject: =?utf-8?q?a=0A?=",
        b"Message-ID: <1@a.example>",
        b"Date: x",
        b"X-SMTPAPI: {}",
        b"ana@example.com",
        b"Ana <ana@example.com>",
        b"\"a b\"@example.com",
        b"=?utf-8?q?x?=",
        b"(c)",
        b"\"",
        b"\\",
        b"<",
        b">",
        b"@",
        b",",
        b":",
        b";",
        b"\r\n",
        b"\r\n",
        b"\r\n",
        b"\r\n ",
        b"\r\n\t",
        b"\r\n\r\n",
        b" ",
        b"\r",
        b"\n",
        b"\0",
        b"\xff",
        "é".as_bytes(),
        b"text",
    ];

    fn joined(most: usize) -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop::sample::select(WORDS), 0..most).prop_map(|words| words.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn whatever_stands_in_a_header_it_holds(bytes in joined(16)) {
            header(&bytes);
        }

        #[test]
        fn whatever_follows_an_author_it_holds(bytes in joined(12)) {
            header(&[b"From: ana@example.com\r\n", &bytes[..]].concat());
            header(&[b"From: ", &bytes[..], b"\r\n\r\nbody"].concat());
        }

        #[test]
        fn whatever_the_bytes_are_it_holds(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            header(&bytes);
        }
    }
}
