//! Encoded words (RFC 2047), read for lists and looked through for what they hide.

use memchr::memmem;
use std::borrow::Cow;
use std::ops::Range;

/// Longest word looked at, in bytes. RFC 2047 §2 allows 75; real ones are longer.
const LONGEST: usize = 512;

struct Word<'a> {
    charset: &'a str,
    bytes: Vec<u8>,
}

/// The text with its encoded words decoded, as far as their charset is UTF-8, US-ASCII or Latin-1.
pub(super) fn decode(text: &str) -> Cow<'_, str> {
    let Some(first) = find(text) else { return text.into() };
    let mut out = Decoded { text: String::with_capacity(text.len()), ..Decoded::default() };
    let mut rest = text;
    let mut next = Some(first);
    while let Some((place, word)) = next {
        out.between(&rest[..place.start]);
        out.word(&word, &rest[place.clone()]);
        rest = &rest[place.end..];
        next = find(rest);
    }
    out.flush();
    out.text.push_str(rest);
    out.text.into()
}

/// True when a word decodes to a line end or a NUL, with which a careless reader begins a new field.
pub(super) fn hides_line_end(text: &str) -> bool {
    let mut rest = text;
    while let Some((place, word)) = find(rest) {
        if word.bytes.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            return true;
        }
        rest = &rest[place.end..];
    }
    false
}

/// Bytes of one charset are gathered over neighbouring words: some writers cut characters in two.
#[derive(Default)]
struct Decoded {
    text: String,
    bytes: Vec<u8>,
    charset: Option<Charset>,
    after_word: bool,
}

impl Decoded {
    fn between(&mut self, plain: &str) {
        // White space between two encoded words is not part of the text.
        if !(self.after_word && plain.trim().is_empty()) {
            self.flush();
            self.text.push_str(plain);
        }
    }

    fn word(&mut self, word: &Word<'_>, as_written: &str) {
        let charset = Charset::of(word.charset);
        self.after_word = charset.is_some();
        if charset != self.charset {
            self.flush();
        }
        match charset {
            Some(_) => self.bytes.extend_from_slice(&word.bytes),
            None => self.text.push_str(as_written),
        }
        self.charset = charset;
    }

    fn flush(&mut self) {
        match self.charset {
            None => {}
            Some(Charset::Utf8) => self.text.push_str(&String::from_utf8_lossy(&self.bytes)),
            Some(Charset::Latin1) => self.text.extend(self.bytes.iter().map(|byte| latin1(*byte))),
        }
        self.bytes.clear();
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Charset {
    Utf8,
    Latin1,
}

impl Charset {
    fn of(name: &str) -> Option<Self> {
        // A language may follow (RFC 2231 §5).
        let name = name.split('*').next().unwrap_or_default();
        let is = |known: &[&str]| known.iter().any(|known| name.eq_ignore_ascii_case(known));
        if is(&["utf-8", "utf8", "us-ascii"]) {
            return Some(Self::Utf8);
        }
        is(&["iso-8859-1", "iso-8859-15", "windows-1252"]).then_some(Self::Latin1)
    }
}

/// Mail that says Latin-1 means windows-1252 where the two differ.
fn latin1(byte: u8) -> char {
    const UPPER: [char; 32] = [
        '€', ' ', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', ' ', 'Ž', ' ', ' ', '‘', '’', '“', '”', '•', '–', '—',
        '˜', '™', 'š', '›', 'œ', ' ', 'ž', 'Ÿ',
    ];
    match byte {
        0x80..=0x9f => UPPER[usize::from(byte - 0x80)],
        other => char::from(other),
    }
}

/// The first encoded word, and its place.
fn find(text: &str) -> Option<(Range<usize>, Word<'_>)> {
    let mut from = 0;
    while let Some(found) = memmem::find(&text.as_bytes()[from..], b"=?") {
        let start = from + found;
        if let Some((word, length)) = parse(&text.as_bytes()[start..]) {
            return Some((start..start + length, word));
        }
        from = start + 2;
    }
    None
}

/// `=?charset?encoding?text?=` at the front, and its length.
fn parse(text: &[u8]) -> Option<(Word<'_>, usize)> {
    let text = &text[..text.len().min(LONGEST)];
    let inner = &text[2..];
    let mark = memchr::memchr(b'?', inner)?;
    let charset = std::str::from_utf8(&inner[..mark]).ok()?;
    if charset.is_empty() || !charset.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'=') {
        return None;
    }
    let [encoding, b'?', rest @ ..] = &inner[mark + 1..] else { return None };
    let end = memmem::find(rest, b"?=")?;
    let payload = &rest[..end];
    if !payload.iter().all(u8::is_ascii_graphic) {
        return None;
    }
    let bytes = match encoding {
        b'B' | b'b' => from_base64(payload)?,
        b'Q' | b'q' => from_q(payload)?,
        _ => return None,
    };
    Some((Word { charset, bytes }, text.len() - rest.len() + end + 2))
}

fn from_base64(text: &[u8]) -> Option<Vec<u8>> {
    let digits = text.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1);
    let mut bytes = Vec::with_capacity(digits * 3 / 4);
    let (mut value, mut bits) = (0u32, 0);
    for byte in &text[..digits] {
        value = (value << 6 | u32::from(base64_digit(*byte)?)) & 0xffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((value >> bits & 0xff) as u8);
        }
    }
    Some(bytes)
}

fn base64_digit(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

fn from_q(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        rest = tail;
        match first {
            b'_' => bytes.push(b' '),
            b'=' => {
                let [high, low, behind @ ..] = tail else { return None };
                bytes.push(hex(*high)? << 4 | hex(*low)?);
                rest = behind;
            }
            other => bytes.push(*other),
        }
    }
    Some(bytes)
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_words_become_the_text_they_stand_for() {
        for (text, expected) in [
            ("plain", "plain"),
            ("=?utf-8?Q?a=C3=B1o?=", "año"),
            ("=?UTF-8?B?SG9sYQ==?= and =?utf-8?q?more?=", "Hola and more"),
            ("=?utf-8?q?one?= =?utf-8?q?two?=", "onetwo"),
            ("=?utf-8?q?a=C3?=\t=?utf-8?q?=B1o?=", "año"),
            ("=?iso-8859-1?q?a=F1o?= =?utf-8?q?_=E2=82=AC?=", "año €"),
            ("=?windows-1252?Q?5_=80?=", "5 €"),
            ("=?utf-8*es?Q?a=C3=B1o?=", "año"),
            ("Re: =?utf-8?q?x?=!", "Re: x!"),
            ("=?koi8-r?B?8NLJ18XU?= =?utf-8?q?x?=", "=?koi8-r?B?8NLJ18XU?= x"),
            ("=?utf-8?q?no end", "=?utf-8?q?no end"),
            ("=?utf-8?x?abc?=", "=?utf-8?x?abc?="),
            ("=?utf-8?q?=Z?=", "=?utf-8?q?=Z?="),
            ("=?utf-8?b?*?=", "=?utf-8?b?*?="),
            ("=?=?utf-8?q?x?=", "=?x"),
            ("a=?b", "a=?b"),
        ] {
            assert_eq!(decode(text), expected, "{text}");
        }
    }

    #[test]
    fn line_ends_within_words_are_found() {
        assert!(hides_line_end("=?utf-8?q?a=0D=0AFrom:_x?="));
        assert!(hides_line_end("=?x-unknown?b?DQo=?="));
        assert!(hides_line_end("Ana =?utf-8?q?ok?= =?utf-8?q?=00?="));
        assert!(!hides_line_end("=?utf-8?q?An=C3=A1?= <ana@example.com>"));
    }
}
