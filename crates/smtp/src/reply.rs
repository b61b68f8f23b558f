//! Replies (RFC 5321 §4.2) and enhanced status codes (RFC 3463).

use bytes::{BufMut, BytesMut};
use std::fmt;

/// Longest reply line that is read, in bytes. RFC 5321 §4.5.3.1.5 says 512; servers write more.
pub const MAX_REPLY_LINE: usize = 4096;
/// Most lines of one reply.
pub const MAX_REPLY_LINES: usize = 512;
/// Longest reply in all, in bytes.
pub const MAX_REPLY: usize = 64 * 1024;

/// An enhanced status code, `5.1.1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EnhancedCode {
    /// 2, 4 or 5.
    pub class: u8,
    /// What it is about.
    pub subject: u16,
    /// What precisely.
    pub detail: u16,
}

impl EnhancedCode {
    /// `class.subject.detail`.
    #[must_use]
    pub const fn new(class: u8, subject: u16, detail: u16) -> Self {
        Self { class, subject, detail }
    }

    /// Reads `5.1.1`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let number = |text: &str| {
            (1..=3)
                .contains(&text.len())
                .then(|| text.parse::<u16>().ok())
                .flatten()
                .filter(|_| text.bytes().all(|b| b.is_ascii_digit()))
        };
        let mut parts = text.split('.');
        let class = match parts.next()? {
            "2" => 2,
            "4" => 4,
            "5" => 5,
            _ => return None,
        };
        let code = Self { class, subject: number(parts.next()?)?, detail: number(parts.next()?)? };
        parts.next().is_none().then_some(code)
    }
}

impl fmt::Display for EnhancedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

/// A reply: three digits, perhaps an enhanced code, and text without control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    code: u16,
    enhanced: Option<EnhancedCode>,
    lines: Vec<String>,
}

impl Reply {
    /// A reply of one line with an enhanced code.
    #[must_use]
    pub fn new(code: u16, enhanced: (u8, u16, u16), text: impl AsRef<str>) -> Self {
        let (class, subject, detail) = enhanced;
        Self { code, enhanced: Some(EnhancedCode { class, subject, detail }), lines: vec![clean(text.as_ref())] }
    }

    /// A reply of one line without an enhanced code, as greeting, EHLO, 3xx and 221 of old have it.
    #[must_use]
    pub fn plain(code: u16, text: impl AsRef<str>) -> Self {
        Self { code, enhanced: None, lines: vec![clean(text.as_ref())] }
    }

    /// A reply of several lines without an enhanced code.
    #[must_use]
    pub fn multiline(code: u16, lines: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        Self { code, enhanced: None, lines: lines.into_iter().map(|line| clean(line.as_ref())).collect() }
    }

    /// The three digits.
    #[must_use]
    pub fn code(&self) -> u16 {
        self.code
    }

    /// The enhanced code.
    #[must_use]
    pub fn enhanced(&self) -> Option<EnhancedCode> {
        self.enhanced
    }

    /// The lines, without codes.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// The text on one line.
    #[must_use]
    pub fn text(&self) -> String {
        self.lines.join(" ").trim().to_owned()
    }

    /// 2xx.
    #[must_use]
    pub fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// 3xx: more is awaited.
    #[must_use]
    pub fn is_intermediate(&self) -> bool {
        self.code / 100 == 3
    }

    /// 4xx: later may help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.code / 100 == 4
    }

    /// 5xx.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        self.code / 100 == 5
    }

    /// Writes it as it goes over the wire.
    pub fn encode(&self, out: &mut BytesMut) {
        let last = self.lines.len().saturating_sub(1);
        for (at, line) in self.lines.iter().enumerate() {
            let code = self.code;
            let digits = [b'0' + (code / 100 % 10) as u8, b'0' + (code / 10 % 10) as u8, b'0' + (code % 10) as u8];
            out.put_slice(&digits);
            out.put_u8(if at == last { b' ' } else { b'-' });
            if let Some(enhanced) = self.enhanced {
                out.put_slice(enhanced.to_string().as_bytes());
                out.put_u8(b' ');
            }
            out.put_slice(line.as_bytes());
            out.put_slice(b"\r\n");
        }
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, " {enhanced}")?;
        }
        write!(f, " {}", self.text())
    }
}

fn clean(text: &str) -> String {
    if text.chars().any(char::is_control) {
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
    } else {
        text.to_owned()
    }
}

/// Why bytes are no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// A line does not begin with three digits and a space, a hyphen or its end.
    #[error("what came is not an SMTP reply")]
    Malformed,
    /// The lines of one reply have different codes.
    #[error("the lines of one reply have different codes")]
    MixedCodes,
    /// Longer than any honest reply.
    #[error("the reply does not end")]
    TooLong,
}

/// Reads replies from bytes as they come.
#[derive(Debug, Default)]
pub struct ReplyReader {
    code: u16,
    enhanced: Option<EnhancedCode>,
    lines: Vec<String>,
    size_bytes: usize,
    /// Where in the input the search for a line end goes on.
    searched: usize,
}

impl ReplyReader {
    /// Takes the next whole reply off the front of `input`, or nothing while it is incomplete.
    ///
    /// # Errors
    /// The peer does not speak SMTP. The reader is of no further use then.
    pub fn take(&mut self, input: &mut BytesMut) -> Result<Option<Reply>, ReplyError> {
        loop {
            let Some(end) = memchr::memchr(b'\n', &input[self.searched..]).map(|at| at + self.searched) else {
                self.searched = input.len();
                return if input.len() > MAX_REPLY_LINE { Err(ReplyError::TooLong) } else { Ok(None) };
            };
            self.searched = 0;
            let line = input.split_to(end + 1);
            if self.add_line(&line)? {
                return Ok(Some(self.finish()));
            }
        }
    }

    /// True while part of a reply has been read.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        !self.lines.is_empty()
    }

    fn add_line(&mut self, line: &[u8]) -> Result<bool, ReplyError> {
        self.size_bytes += line.len();
        if line.len() > MAX_REPLY_LINE || self.size_bytes > MAX_REPLY || self.lines.len() >= MAX_REPLY_LINES {
            return Err(ReplyError::TooLong);
        }
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let code = code_of(line).ok_or(ReplyError::Malformed)?;
        let last = match line.get(3) {
            None | Some(b' ') => true,
            Some(b'-') => false,
            Some(_) => return Err(ReplyError::Malformed),
        };
        if self.lines.is_empty() {
            self.code = code;
        } else if self.code != code {
            return Err(ReplyError::MixedCodes);
        }
        let text = String::from_utf8_lossy(line.get(4..).unwrap_or_default());
        let text = self.without_enhanced(&text);
        self.lines.push(clean(text));
        Ok(last)
    }

    /// Strips an enhanced code that fits the reply's class, and keeps the first one.
    fn without_enhanced<'a>(&mut self, text: &'a str) -> &'a str {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let Some(enhanced) = EnhancedCode::parse(word).filter(|found| u16::from(found.class) == self.code / 100) else {
            return text;
        };
        match self.enhanced {
            None if self.lines.is_empty() => self.enhanced = Some(enhanced),
            Some(first) if first == enhanced => {}
            _ => return text,
        }
        rest
    }

    fn finish(&mut self) -> Reply {
        let reader = std::mem::take(self);
        Reply { code: reader.code, enhanced: reader.enhanced, lines: reader.lines }
    }
}

fn code_of(line: &[u8]) -> Option<u16> {
    let digits = line.get(..3)?;
    let valid = matches!(digits[0], b'2'..=b'5') && digits[1].is_ascii_digit() && digits[2].is_ascii_digit();
    valid.then(|| digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(wire: &[u8]) -> Result<Option<Reply>, ReplyError> {
        ReplyReader::default().take(&mut BytesMut::from(wire))
    }

    #[test]
    fn replies_of_any_legal_shape_are_read() {
        for (wire, shown) in [
            (&b"250 2.1.5 ok\r\n"[..], "250 2.1.5 ok"),
            (b"250\r\n", "250 "),
            (b"250 \r\n", "250 "),
            (b"250-first\r\n250-second\r\n250 third\r\n", "250 first second third"),
            (b"550-5.1.1 no such\r\n550 5.1.1 user\r\n", "550 5.1.1 no such user"),
            (b"550-5.7.1 one\r\n550 two\r\n", "550 5.7.1 one two"),
            (b"250 5.1.1 odd class stays text\r\n", "250 5.1.1 odd class stays text"),
            (b"220 bare line end\n", "220 bare line end"),
            (b"250 \xff\x01binary\r\n", "250 \u{fffd} binary"),
            (b"354 go\r\n", "354 go"),
        ] {
            assert_eq!(read(wire).unwrap().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_reply_is_refused_and_never_awaited_for_ever() {
        for wire in [&b"hello\r\n"[..], b"25 x\r\n", b"250x\r\n", b"150 preliminary\r\n", b"650 no\r\n", b"\r\n", b"2\r\n"] {
            assert_eq!(read(wire), Err(ReplyError::Malformed), "{wire:?}");
        }
        assert_eq!(read(b"250-a\r\n251 b\r\n"), Err(ReplyError::MixedCodes));
        assert_eq!(read(&vec![b'2'; 5000]), Err(ReplyError::TooLong));
        assert_eq!(read(&b"250-again\r\n".repeat(600)), Err(ReplyError::TooLong));
    }

    #[test]
    fn a_reply_reads_the_same_cut_at_every_byte() {
        let wire = b"250-mail.example\r\n250-SIZE 1000\r\n250 2.0.0 ok\r\n";
        for cut in 0..wire.len() {
            let mut reader = ReplyReader::default();
            let mut input = BytesMut::from(&wire[..cut]);
            assert_eq!(reader.take(&mut input), Ok(None));
            input.extend_from_slice(&wire[cut..]);
            assert_eq!(reader.take(&mut input).unwrap().unwrap().lines().len(), 3);
        }
    }

    #[test]
    fn a_reply_is_written_as_it_is_read() {
        let reply = Reply::new(550, (5, 7, 1), "ana@example.com is not\r\nyours");
        let mut wire = BytesMut::new();
        reply.encode(&mut wire);
        assert_eq!(&wire[..], b"550 5.7.1 ana@example.com is not  yours\r\n");
        assert_eq!(ReplyReader::default().take(&mut wire), Ok(Some(reply)));
    }
}
