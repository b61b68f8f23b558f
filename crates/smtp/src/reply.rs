//! Replies (RFC 5321 §4.2) with enhanced status codes (RFC 3463): values, their form on the
//! wire, and a reader that takes bytes as they come.

use crate::address::is_unseen;
use bytes::{Buf, BufMut, BytesMut};

/// The longest reply line that is read, without its line end.
pub const MAX_LINE: usize = 4096;
/// The most lines that are read of one reply.
pub const MAX_LINES: usize = 512;
/// The most bytes that are read of one reply.
pub const MAX_REPLY: usize = 64 * 1024;
/// Text beyond this is folded into a further line when a reply is written (RFC 5321 §4.5.3.1.5).
const FOLD: usize = 480;

/// An enhanced status code such as `2.1.5` (RFC 3463).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EnhancedCode {
    /// 2 success, 4 transient, 5 permanent.
    pub class: u8,
    /// What it is about: address, mailbox, mail system, ...
    pub subject: u16,
    /// What exactly.
    pub detail: u16,
}

impl EnhancedCode {
    /// The three numbers as they are.
    #[must_use]
    pub const fn new(class: u8, subject: u16, detail: u16) -> Self {
        Self { class, subject, detail }
    }

    /// Reads `class.subject.detail` with class 2, 4 or 5 and one to three digits each.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let class = match parts.next()? {
            "2" => 2,
            "4" => 4,
            "5" => 5,
            _ => return None,
        };
        let subject = small_number(parts.next()?)?;
        let detail = small_number(parts.next()?)?;
        parts.next().is_none().then_some(Self { class, subject, detail })
    }
}

fn small_number(text: &str) -> Option<u16> {
    let digits = (1..=3).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

impl std::fmt::Display for EnhancedCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

impl From<(u8, u16, u16)> for EnhancedCode {
    fn from((class, subject, detail): (u8, u16, u16)) -> Self {
        Self { class, subject, detail }
    }
}

/// One reply: three digits, perhaps an enhanced code, and lines of text without what
/// no eye sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    code: u16,
    enhanced: Option<EnhancedCode>,
    /// Lines joined by `\n`, which is the only control character in it.
    text: String,
}

impl Reply {
    /// A reply with an enhanced code. `\n` in `text` begins a further line; other
    /// characters that no eye sees are dropped.
    ///
    /// # Panics
    /// When `code` is not within 200 to 599.
    #[must_use]
    pub fn new(code: u16, enhanced: impl Into<EnhancedCode>, text: impl AsRef<str>) -> Self {
        Self { enhanced: Some(enhanced.into()), ..Self::plain(code, text) }
    }

    /// A reply without an enhanced code, as greetings, EHLO replies and 3xx have none.
    ///
    /// # Panics
    /// When `code` is not within 200 to 599.
    #[must_use]
    pub fn plain(code: u16, text: impl AsRef<str>) -> Self {
        assert!((200..600).contains(&code), "a reply code has three digits and begins with 2 to 5");
        let text = text.as_ref();
        let mut clean = String::with_capacity(text.len());
        for (number, line) in text.split('\n').enumerate() {
            if number > 0 {
                clean.push('\n');
            }
            push_clean(&mut clean, line);
        }
        Self { code, enhanced: None, text: clean }
    }

    /// The three digits.
    #[must_use]
    pub fn code(&self) -> u16 {
        self.code
    }

    /// The enhanced status code, where there is one.
    #[must_use]
    pub fn enhanced(&self) -> Option<EnhancedCode> {
        self.enhanced
    }

    /// The text on one line, without codes.
    #[must_use]
    pub fn text(&self) -> String {
        self.text.replace('\n', " ")
    }

    /// The lines of text; at least one, which may be empty.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.text.split('\n')
    }

    /// 2xx: done.
    #[must_use]
    pub fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// 3xx: go on (354, 334).
    #[must_use]
    pub fn is_intermediate(&self) -> bool {
        self.code / 100 == 3
    }

    /// 4xx: not now.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.code / 100 == 4
    }

    /// 5xx: no.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        self.code / 100 == 5
    }

    /// Writes the reply as it goes over the wire, the enhanced code on every line (RFC 2034 §4).
    pub fn encode(&self, out: &mut impl BufMut) {
        let mut lines = self.lines().flat_map(folded).peekable();
        while let Some(line) = lines.next() {
            let mark = if lines.peek().is_some() { '-' } else { ' ' };
            out.put_slice(format!("{}{mark}", self.code).as_bytes());
            if let Some(enhanced) = self.enhanced {
                out.put_slice(enhanced.to_string().as_bytes());
                if !line.is_empty() {
                    out.put_u8(b' ');
                }
            }
            out.put_slice(line.as_bytes());
            out.put_slice(b"\r\n");
        }
    }

    /// The bytes of [`Reply::encode`].
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.text.len() + 16);
        self.encode(&mut bytes);
        bytes
    }
}

/// Code, enhanced code and text on one line, for logs.
impl std::fmt::Display for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, " {enhanced}")?;
        }
        if !self.text.is_empty() {
            write!(f, " {}", self.text())?;
        }
        Ok(())
    }
}

/// Cuts a line into pieces that fit a reply line; a short or empty line is one piece.
fn folded(line: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let line = rest?;
        if line.len() <= FOLD {
            rest = None;
            return Some(line);
        }
        let at = line.floor_char_boundary(FOLD);
        let (piece, remainder) = line.split_at(at);
        rest = Some(remainder);
        Some(piece)
    })
}

fn push_clean(into: &mut String, line: &str) {
    if !line.chars().any(is_unseen) {
        into.push_str(line);
        return;
    }
    into.extend(line.chars().filter_map(|c| match c {
        '\t' => Some(' '),
        c if is_unseen(c) => None,
        c => Some(c),
    }));
}

/// Why bytes are no reply. Nothing can be read from that connection any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// A line longer than [`MAX_LINE`].
    #[error("a reply line is longer than {MAX_LINE} bytes")]
    LineTooLong,
    /// More than [`MAX_LINES`] lines or [`MAX_REPLY`] bytes.
    #[error("a reply has more than {MAX_LINES} lines or {MAX_REPLY} bytes")]
    TooLong,
    /// A line that does not begin with three digits of a legal code, then a space, `-` or its end.
    #[error("a line does not begin with a reply code")]
    NotAReply,
    /// The lines of one reply carry different codes.
    #[error("the lines of one reply carry the codes {0} and {1}")]
    CodesDiffer(u16, u16),
}

/// Puts replies together from bytes as they arrive, in pieces of any size.
///
/// Lines may end in LF alone, as some servers write them. After an error every further call
/// gives an error.
#[derive(Debug, Default)]
pub struct ReplyReader {
    buffer: BytesMut,
    /// Bytes at the front of `buffer` known to hold no LF.
    scanned: usize,
    partial: Option<Partial>,
}

/// The lines so far of a reply whose last line has not come.
#[derive(Debug)]
struct Partial {
    reply: Reply,
    lines: usize,
    bytes: usize,
}

impl ReplyReader {
    /// Nothing read yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes as they came.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// True when no byte waits, not even part of a reply.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty() && self.partial.is_none()
    }

    /// The next whole reply; `None` when more bytes are needed.
    ///
    /// # Errors
    /// When the bytes are no reply or break a limit.
    pub fn next_reply(&mut self) -> Result<Option<Reply>, ReplyError> {
        while let Some(length) = self.line_length()? {
            let line = Line::parse(&self.buffer[..length])?;
            let bytes = length + 1;
            let last = line.last;
            match &mut self.partial {
                None if last => {
                    let reply = line.into_reply();
                    self.consume(bytes);
                    return Ok(Some(reply));
                }
                None => self.partial = Some(Partial { reply: line.into_reply(), lines: 1, bytes }),
                Some(partial) => partial.add(line, bytes)?,
            }
            self.consume(bytes);
            if last && let Some(partial) = self.partial.take() {
                return Ok(Some(partial.reply));
            }
        }
        Ok(None)
    }

    fn consume(&mut self, bytes: usize) {
        self.buffer.advance(bytes);
        self.scanned = 0;
    }

    /// Bytes before the next LF, if that has come.
    fn line_length(&mut self) -> Result<Option<usize>, ReplyError> {
        let found = memchr::memchr(b'\n', &self.buffer[self.scanned..]).map(|at| at + self.scanned);
        self.scanned = found.unwrap_or(self.buffer.len());
        // One byte more for the CR, which is not part of the line.
        if self.scanned > MAX_LINE + 1 {
            return Err(ReplyError::LineTooLong);
        }
        Ok(found)
    }
}

impl Partial {
    fn add(&mut self, line: Line<'_>, bytes: usize) -> Result<(), ReplyError> {
        if line.code != self.reply.code {
            return Err(ReplyError::CodesDiffer(self.reply.code, line.code));
        }
        self.lines += 1;
        self.bytes += bytes;
        if self.lines > MAX_LINES || self.bytes > MAX_REPLY {
            return Err(ReplyError::TooLong);
        }
        self.reply.add(line);
        Ok(())
    }
}

impl Reply {
    fn add(&mut self, line: Line<'_>) {
        let (enhanced, text) = line.split_enhanced();
        self.text.push('\n');
        match (self.enhanced, enhanced) {
            (None, Some(found)) => self.enhanced = Some(found),
            (Some(first), Some(found)) if first != found => {
                push_clean(&mut self.text, &line.text);
                return;
            }
            _ => {}
        }
        push_clean(&mut self.text, text);
    }
}

/// One line of a reply.
struct Line<'a> {
    code: u16,
    last: bool,
    text: std::borrow::Cow<'a, str>,
}

impl<'a> Line<'a> {
    fn parse(line: &'a [u8]) -> Result<Self, ReplyError> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let (digits, rest) = line.split_at_checked(3).ok_or(ReplyError::NotAReply)?;
        if !digits.iter().all(u8::is_ascii_digit) || !(b'2'..=b'5').contains(&digits[0]) {
            return Err(ReplyError::NotAReply);
        }
        let code = digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
        let last = match rest.first() {
            None | Some(b' ') => true,
            Some(b'-') => false,
            Some(_) => return Err(ReplyError::NotAReply),
        };
        let text = String::from_utf8_lossy(rest.get(1..).unwrap_or_default());
        Ok(Self { code, last, text })
    }

    /// The enhanced code in front of the text; 3xx replies have none (RFC 2034 §4).
    fn split_enhanced(&self) -> (Option<EnhancedCode>, &str) {
        if self.code / 100 == 3 {
            return (None, &self.text);
        }
        let (word, rest) = self.text.split_once(' ').unwrap_or((&self.text, ""));
        match EnhancedCode::parse(word) {
            Some(code) => (Some(code), rest),
            None => (None, &self.text),
        }
    }

    fn into_reply(self) -> Reply {
        let (enhanced, text) = self.split_enhanced();
        let mut clean = String::with_capacity(text.len());
        push_clean(&mut clean, text);
        Reply { code: self.code, enhanced, text: clean }
    }
}

/// Reads replies from arbitrary bytes: whatever the pieces, the same replies come out, and each
/// survives being written and read again.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    let (cut, data) = data.split_first().unwrap_or((&1, &[]));
    let whole = read_all(data, data.len().max(1));
    let pieces = read_all(data, usize::from(*cut).max(1));
    assert_eq!(whole, pieces);
    for reply in whole.0 {
        assert!(reply.text.chars().all(|c| c == '\n' || !is_unseen(c)));
        let (again, error) = read_all(&reply.to_bytes(), 7);
        assert_eq!(error, None);
        assert_eq!(again.len(), 1);
        assert_eq!(again[0].code, reply.code);
    }
}

fn read_all(data: &[u8], piece: usize) -> (Vec<Reply>, Option<ReplyError>) {
    let mut reader = ReplyReader::new();
    let mut replies = Vec::new();
    for bytes in data.chunks(piece) {
        reader.receive(bytes);
        loop {
            match reader.next_reply() {
                Ok(Some(reply)) => replies.push(reply),
                Ok(None) => break,
                Err(error) => return (replies, Some(error)),
            }
        }
    }
    (replies, None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> String {
        let (replies, error) = read_all(bytes, bytes.len());
        for piece in 1..bytes.len() {
            assert_eq!((replies.clone(), error), read_all(bytes, piece));
        }
        let mut shown: Vec<_> = replies.iter().map(ToString::to_string).collect();
        shown.extend(error.map(|error| format!("{error:?}")));
        shown.join(" | ")
    }

    #[test]
    fn replies_of_every_legal_shape_are_read() {
        assert_eq!(read(b"250 2.1.5 ok\r\n"), "250 2.1.5 ok");
        assert_eq!(read(b"250\r\n"), "250");
        assert_eq!(read(b"250 \r\n"), "250");
        assert_eq!(read(b"250 2.0.0\r\n"), "250 2.0.0");
        assert_eq!(read(b"220 hello\n"), "220 hello");
        assert_eq!(read(b"250-a\r\n250-b\r\n250 c\r\n"), "250 a b c");
        assert_eq!(read(b"250-a\r\n250-\r\n250\r\n"), "250 a  ");
        assert_eq!(read(b"550-5.7.1 no\r\n550-5.7.1 never\r\n550 5.7.1 go\r\n"), "550 5.7.1 no never go");
        assert_eq!(read(b"550-no\r\n550 5.7.1 never\r\n"), "550 5.7.1 no never");
        assert_eq!(read(b"550-5.7.1 no\r\n550 5.7.2 never\r\n"), "550 5.7.1 no 5.7.2 never");
        assert_eq!(read(b"250 a\r\n354 b\r\n"), "250 a | 354 b");
        assert_eq!(read(b"354 2.0.0 go\r\n"), "354 2.0.0 go");
        assert_eq!(read(b"250 2.1.5ok\r\n250 3.1.5 x\r\n250 2.1.5000 y\r\n"), "250 2.1.5ok | 250 3.1.5 x | 250 2.1.5000 y");
    }

    #[test]
    fn text_never_holds_what_no_eye_sees() {
        assert_eq!(read(b"550 a\x1b[31m\tb\x00c\rd\r\n"), "550 a[31m bcd");
        assert_eq!(read(b"550 caf\xe9 \xc2\x85x\r\n"), "550 caf\u{fffd} x");
        assert_eq!(read("550 a\u{202e}b\u{2028}c\u{200b}d\u{feff}e\u{e0041}f\r\n".as_bytes()), "550 abcdef");
        assert_eq!(Reply::new(550, (5, 0, 0), "a\r\nb\x07").to_bytes(), b"550-5.0.0 a\r\n550 5.0.0 b\r\n");
    }

    #[test]
    fn what_is_no_reply_is_an_error() {
        for bytes in [&b"hello\r\n"[..], b"\r\n", b"25\r\n", b"2500 x\r\n", b"150 x\r\n", b"650 x\r\n", b"25x y\r\n", b"250\tx\r\n"]
        {
            assert_eq!(read(bytes), "NotAReply");
        }
        assert_eq!(read(b"250-a\r\n251 b\r\n"), "CodesDiffer(250, 251)");
    }

    #[test]
    fn limits_hold_on_both_sides() {
        let line = |length: usize| [b"250 ".to_vec(), vec![b'x'; length - 4]].concat();
        let fits = [line(MAX_LINE), b"\r\n".to_vec()].concat();
        assert_eq!(read_all(&fits, 1000).0.len(), 1);
        assert_eq!(read_all(&line(MAX_LINE + 2), 1000).1, Some(ReplyError::LineTooLong));
        let lines = |count: usize| [b"250-x\r\n".repeat(count - 1), b"250 x\r\n".to_vec()].concat();
        assert_eq!(read_all(&lines(MAX_LINES), 1000).0.len(), 1);
        assert_eq!(read_all(&lines(MAX_LINES + 1), 1000).1, Some(ReplyError::TooLong));
        let long = [b"250-".to_vec(), vec![b'x'; 4000], b"\r\n".to_vec()].concat().repeat(20);
        assert_eq!(read_all(&long, 1000).1, Some(ReplyError::TooLong));
    }

    #[test]
    fn long_text_is_folded_into_lines_that_fit() {
        let bytes = Reply::new(550, (5, 0, 0), "é".repeat(1000)).to_bytes();
        assert!(bytes.split(|byte| *byte == b'\n').all(|line| line.len() <= 511));
        assert_eq!(read_all(&bytes, 100).0[0].text().replace(' ', ""), "é".repeat(1000));
    }

    #[test]
    fn severities_follow_the_first_digit() {
        let at = |code| {
            let reply = Reply::plain(code, "");
            (reply.is_positive(), reply.is_intermediate(), reply.is_transient(), reply.is_permanent())
        };
        assert_eq!(at(250), (true, false, false, false));
        assert_eq!(at(354), (false, true, false, false));
        assert_eq!(at(451), (false, false, true, false));
        assert_eq!(at(550), (false, false, false, true));
    }

    proptest! {
        #[test]
        fn a_reply_written_is_the_reply_read(code in 200u16..600, enhanced in proptest::option::of((2u16..6, 0u16..1000, 0u16..1000)),
                                            lines in proptest::collection::vec("[a-zA-Zé:<>@]{0,40}( [a-z0-9.]{0,9}){0,3}", 1..5)) {
            let text = lines.join("\n");
            let reply = match enhanced {
                Some((class, subject, detail)) if code / 100 != 3 && class != 3 => {
                    Reply::new(code, (u8::try_from(class).unwrap(), subject, detail), text)
                }
                _ => Reply::plain(code, text),
            };
            let (again, error) = read_all(&reply.to_bytes(), 5);
            prop_assert_eq!(error, None);
            prop_assert_eq!(again, vec![reply]);
        }

        #[test]
        fn any_bytes_are_read_alike_in_any_pieces(data in proptest::collection::vec(prop_oneof![Just(b'2'), Just(b'5'), Just(b'0'), Just(b' '), Just(b'-'), Just(b'\r'), Just(b'\n'), any::<u8>()], 0..200)) {
            fuzz(&data);
        }
    }
}
