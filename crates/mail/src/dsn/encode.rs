//! Text of others, made safe for a field, a line or a part.

/// Longest value of a field, in bytes, so that no line comes near to 998.
const MAX_VALUE: usize = 700;
/// Where a field is folded, if there is a space.
const FOLD: usize = 76;
/// Room in an encoded word for what it encodes (RFC 2047 §2).
const WORD: usize = 45;

/// The text on one line: what would end it, be obeyed by a terminal or not be seen, becomes a space; at most 700 bytes.
pub(super) fn one_line(text: &str) -> String {
    let tame = |c: char| if smtp::is_unseen(c) { ' ' } else { c };
    let line: String = text.chars().map(tame).collect();
    cut(line.trim(), MAX_VALUE).to_owned()
}

/// The same in ASCII, with `?` for everything else.
pub(super) fn one_ascii_line(text: &str) -> String {
    one_line(text).chars().map(|c| if c.is_ascii() { c } else { '?' }).collect()
}

fn cut(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    &text[..end]
}

/// A field on as many lines as it needs, folded in front of its spaces, of which none is lost: they may be part of a
/// quoted local part.
pub(super) fn field(name: &str, value: &str) -> String {
    let mut text = format!("{name}:");
    let mut length = text.len();
    let value = format!(" {}", value.trim_matches(' '));
    let mut rest = value.trim_end_matches(' ');
    while !rest.is_empty() {
        let spaces = rest.len() - rest.trim_start_matches(' ').len();
        let (word, behind) = rest.split_at(rest[spaces..].find(' ').map_or(rest.len(), |at| spaces + at));
        if length + word.len() > FOLD && length > name.len() + 1 {
            text.push_str("\r\n");
            length = 0;
        }
        text.push_str(word);
        length += word.len();
        rest = behind;
    }
    text.push_str("\r\n");
    text
}

/// Text as it may stand in a field of ASCII: encoded words (RFC 2047), each on a line of its own, where needed.
pub(super) fn header_text(text: &str) -> String {
    if text.is_ascii() && !text.contains("=?") && text.len() <= FOLD {
        return text.to_owned();
    }
    let mut words = vec![String::new()];
    let mut length = 0;
    for c in text.chars() {
        let mut buffer = [0; 4];
        let encoded: String = c.encode_utf8(&mut buffer).bytes().map(word_byte).collect();
        if length + encoded.len() > WORD {
            words.push(String::new());
            length = 0;
        }
        length += encoded.len();
        words.last_mut().expect("there is one from the start").push_str(&encoded);
    }
    let words: Vec<String> = words.iter().map(|word| format!("=?utf-8?q?{word}?=")).collect();
    words.join("\r\n ")
}

fn word_byte(byte: u8) -> String {
    match byte {
        b' ' => "_".into(),
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        other => format!("={other:02X}"),
    }
}

/// Quoted-printable (RFC 2045 §6.7) of lines that end with CRLF.
pub(super) fn quoted_printable(text: &str) -> Vec<u8> {
    let mut out = String::with_capacity(text.len() * 2);
    for line in text.split_terminator("\r\n") {
        let mut length = 0;
        for (at, byte) in line.bytes().enumerate() {
            let last = at + 1 == line.len();
            let plain = matches!(byte, b'!'..=b'<' | b'>'..=b'~') || (byte == b' ' && !last);
            let encoded = if plain { char::from(byte).to_string() } else { format!("={byte:02X}") };
            if length + encoded.len() > FOLD - 1 {
                out.push_str("=\r\n");
                length = 0;
            }
            length += encoded.len();
            out.push_str(&encoded);
        }
        out.push_str("\r\n");
    }
    out.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_subject_becomes_encoded_words_that_no_line_outgrows() {
        let text = header_text(&"ñandú ".repeat(30));
        assert!(text.is_ascii());
        assert!(text.split("\r\n").all(|line| line.len() <= 76), "{text}");
        assert_eq!(header_text("plain"), "plain");
        assert_eq!(header_text("=?x"), "=?utf-8?q?=3D=3Fx?=");
    }

    #[test]
    fn quoted_printable_keeps_spaces_at_line_ends_and_breaks_long_lines() {
        assert_eq!(quoted_printable("a=b \r\né\r\n"), b"a=3Db=20\r\n=C3=A9\r\n");
        let long = quoted_printable(&format!("{}\r\n", "é".repeat(99)));
        assert!(long.split(|byte| *byte == b'\n').all(|line| line.len() <= 77));
    }

    #[test]
    fn a_folded_field_keeps_every_space_of_its_value() {
        let address = format!("rfc822;\"a  b   {} c\"@example.com", "word ".repeat(30));
        let text = field("Final-Recipient", &address);
        assert_eq!(text.replace("\r\n", ""), format!("Final-Recipient: {address}"));
        assert!(text.lines().skip(1).all(|line| line.starts_with(' ') && !line.trim().is_empty() && line.len() <= 76), "{text}");
        assert_eq!(field("Name", ""), "Name:\r\n");
    }

    #[test]
    fn a_field_is_folded_at_spaces_and_ends_nothing_but_itself() {
        let text = field("Diagnostic-Code", &one_line(&format!("smtp; 550 {}\r\nEvil: yes", "no such user ".repeat(9))));
        assert!(text.lines().skip(1).all(|line| line.starts_with(' ')), "{text}");
        assert!(text.replace("\r\n", "").contains("Evil: yes"));
    }
}
