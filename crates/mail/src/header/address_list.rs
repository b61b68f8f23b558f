//! A mailbox-list (RFC 5322 §3.4), read strictly.

use super::encoded_word;
use smtp::Mailbox;

/// Why a text is no list of mailboxes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressListError {
    /// No address.
    #[error("it holds no address")]
    Empty,
    /// More than one where one may stand.
    #[error("it holds more than one address")]
    Several,
    /// A group, which has no author.
    #[error("a group stands where an address must")]
    Group,
    /// A comment, quoted string or bracket that does not end.
    #[error("a quote, comment or bracket does not end")]
    Unclosed,
    /// Text behind or between what was understood.
    #[error("it is not of the form 'Name <name@domain>, ...'")]
    Syntax,
    /// An address that is none.
    #[error("an address in it is not valid")]
    Address,
    /// An address about which readers disagree: in encoded words, with specials in quotes, with odd spaces.
    #[error("an address in it can be read in two ways; write it plainly")]
    Ambiguous,
    /// Not UTF-8, or control characters, or a line end in an encoded word.
    #[error("it holds bytes that are no text")]
    Bytes,
}

#[derive(Debug, PartialEq)]
enum Token<'a> {
    /// Atom characters and dots.
    Word(&'a str),
    /// A quoted string with its quotes.
    Quoted(&'a str),
    /// A domain literal with its brackets.
    Literal(&'a str),
    At,
    Comma,
    Colon,
    Semicolon,
    Open,
    Close,
    Space,
}

/// Reads every mailbox of a field's value.
///
/// # Errors
/// Anything that is not exactly a mailbox-list.
pub(super) fn mailboxes(value: &[u8]) -> Result<Vec<Mailbox>, AddressListError> {
    let tokens = tokens(checked(value)?)?;
    if tokens.iter().any(|token| matches!(token, Token::Colon | Token::Semicolon)) {
        return Err(AddressListError::Group);
    }
    tokens.split(|token| *token == Token::Comma).map(mailbox).collect()
}

/// Reads every mailbox of an address-list: groups give their members, and may have none.
///
/// # Errors
/// A member or an address that cannot be read.
pub(super) fn members(value: &[u8]) -> Result<Vec<Mailbox>, AddressListError> {
    let tokens = tokens(checked(value)?)?;
    let has_group = tokens.contains(&Token::Colon);
    let mut found = Vec::new();
    for entry in tokens.split(|token| matches!(token, Token::Comma | Token::Semicolon)) {
        let named = entry.iter().position(|token| *token == Token::Colon);
        let (name, entry) = entry.split_at(named.map_or(0, |colon| colon + 1));
        if !is_phrase(name.strip_suffix(&[Token::Colon]).unwrap_or(name)) {
            return Err(AddressListError::Syntax);
        }
        if !(has_group && trim(entry).is_empty()) {
            found.push(mailbox(entry)?);
        }
    }
    Ok(found)
}

fn checked(value: &[u8]) -> Result<&str, AddressListError> {
    let text = std::str::from_utf8(value).map_err(|_| AddressListError::Bytes)?;
    let is_folding = |c: char| matches!(c, '\t' | '\r' | '\n');
    let breaks_lines = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    let odd = text.chars().any(|c| breaks_lines(c) && !is_folding(c)) || encoded_word::hides_line_end(text);
    if odd { Err(AddressListError::Bytes) } else { Ok(text) }
}

fn tokens(text: &str) -> Result<Vec<Token<'_>>, AddressListError> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            ' ' | '\t' | '\r' | '\n' => (Token::Space, 1),
            '(' => (Token::Space, comment(rest)?),
            '"' => {
                let length = quoted(rest)?;
                (Token::Quoted(&rest[..length]), length)
            }
            '[' => {
                let length = rest.find(']').ok_or(AddressListError::Unclosed)? + 1;
                (Token::Literal(&rest[..length]), length)
            }
            '@' => (Token::At, 1),
            ',' => (Token::Comma, 1),
            '<' => (Token::Open, 1),
            '>' => (Token::Close, 1),
            ':' => (Token::Colon, 1),
            ';' => (Token::Semicolon, 1),
            ')' | ']' | '\\' => return Err(AddressListError::Syntax),
            _ => {
                let length = rest.find(|c: char| " \t\r\n()<>[]:;@\\,\"".contains(c)).unwrap_or(rest.len());
                (Token::Word(&rest[..length]), length)
            }
        };
        if token != Token::Space || tokens.last() != Some(&Token::Space) {
            tokens.push(token);
        }
        rest = &rest[length..];
    }
    Ok(tokens)
}

/// Length of a comment, which may hold others.
fn comment(text: &str) -> Result<usize, AddressListError> {
    let (mut depth, mut escaped) = (0usize, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'(' => depth += 1,
            b')' => {
                depth -= 1;
                if depth == 0 {
                    return Ok(at + 1);
                }
            }
            _ => {}
        }
    }
    Err(AddressListError::Unclosed)
}

fn quoted(text: &str) -> Result<usize, AddressListError> {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Ok(at + 1),
            _ => {}
        }
    }
    Err(AddressListError::Unclosed)
}

fn mailbox(entry: &[Token<'_>]) -> Result<Mailbox, AddressListError> {
    let entry = trim(entry);
    if entry.is_empty() {
        return Err(AddressListError::Empty);
    }
    let Some(open) = entry.iter().position(|token| *token == Token::Open) else {
        return addr_spec(entry);
    };
    let (phrase, rest) = entry.split_at(open);
    let [_, inner @ .., Token::Close] = rest else {
        return Err(AddressListError::Syntax);
    };
    if !is_phrase(phrase) {
        return Err(AddressListError::Syntax);
    }
    addr_spec(trim(inner))
}

/// Words with dots among them (RFC 5322 §4.1), the first of which is no dot.
fn is_phrase(tokens: &[Token<'_>]) -> bool {
    let is_word = |token: &Token<'_>| matches!(token, Token::Word(_) | Token::Quoted(_) | Token::Space);
    let begins_with_dot = matches!(trim(tokens).first(), Some(Token::Word(word)) if word.starts_with('.'));
    tokens.iter().all(is_word) && !begins_with_dot
}

fn trim<'a, 'b>(mut tokens: &'a [Token<'b>]) -> &'a [Token<'b>] {
    while let [Token::Space, rest @ ..] | [rest @ .., Token::Space] = tokens {
        tokens = rest;
    }
    tokens
}

/// `local@domain`; white space inside is obsolete and refused, since readers disagree about it.
fn addr_spec(tokens: &[Token<'_>]) -> Result<Mailbox, AddressListError> {
    let (local, domain) = match tokens {
        [Token::Word(local) | Token::Quoted(local), Token::At, Token::Word(domain) | Token::Literal(domain)] => (local, domain),
        _ => return Err(AddressListError::Syntax),
    };
    let mailbox = Mailbox::parse(&format!("{local}@{domain}")).map_err(|_| AddressListError::Address)?;
    if is_ambiguous(mailbox.local_part().value()) { Err(AddressListError::Ambiguous) } else { Ok(mailbox) }
}

/// Some readers decode words within addresses, forget about quotes, or fold wide forms into ASCII:
/// for them such a name ends earlier, and another domain follows.
fn is_ambiguous(local: &str) -> bool {
    local.contains("=?") || local.chars().any(is_misread)
}

fn is_misread(c: char) -> bool {
    match c {
        '@' | '<' | '>' | ',' | ':' | ';' | '(' | ')' | '[' | ']' | '"' | '\\' => true,
        // Small and wide forms of ASCII, zero-width and direction marks.
        '\u{fe50}'..='\u{fe6f}' | '\u{ff00}'..='\u{ffef}' => true,
        '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{ad}' => true,
        ' ' => false,
        other => other.is_whitespace(),
    }
}
