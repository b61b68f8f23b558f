//! A mailbox-list (RFC 5322 §3.4), read strictly.

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
    /// Not UTF-8, or control characters.
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
    Open,
    Close,
    Space,
}

/// Reads every mailbox of a field's value.
///
/// # Errors
/// Anything that is not exactly a mailbox-list.
pub(super) fn parse(value: &[u8]) -> Result<Vec<Mailbox>, AddressListError> {
    let text = std::str::from_utf8(value).map_err(|_| AddressListError::Bytes)?;
    if text.chars().any(|c| c.is_control() && !matches!(c, '\t' | '\r' | '\n')) {
        return Err(AddressListError::Bytes);
    }
    let tokens = tokens(text)?;
    let mut mailboxes = Vec::new();
    for entry in tokens.split(|token| *token == Token::Comma) {
        mailboxes.push(mailbox(entry)?);
    }
    if mailboxes.is_empty() { Err(AddressListError::Empty) } else { Ok(mailboxes) }
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
            ':' | ';' => return Err(AddressListError::Group),
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
    let is_phrase = |token: &Token<'_>| matches!(token, Token::Word(_) | Token::Quoted(_) | Token::Space);
    if !phrase.iter().all(is_phrase) {
        return Err(AddressListError::Syntax);
    }
    addr_spec(trim(inner))
}

fn trim<'a, 'b>(mut tokens: &'a [Token<'b>]) -> &'a [Token<'b>] {
    while let [Token::Space, rest @ ..] | [rest @ .., Token::Space] = tokens {
        tokens = rest;
    }
    tokens
}

/// `local@domain`; white space inside is obsolete and refused, since readers disagree about it.
fn addr_spec(tokens: &[Token<'_>]) -> Result<Mailbox, AddressListError> {
    let text = match tokens {
        [Token::Word(local) | Token::Quoted(local), Token::At, Token::Word(domain) | Token::Literal(domain)] => {
            format!("{local}@{domain}")
        }
        _ => return Err(AddressListError::Syntax),
    };
    Mailbox::parse(&text).map_err(|_| AddressListError::Address)
}
