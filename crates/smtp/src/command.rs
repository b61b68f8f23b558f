//! Commands (RFC 5321 §4.1.1) with the parameters of the extensions offered.

use crate::address::{AddressError, ForwardPath, ReversePath};
use crate::reply::Reply;
use std::fmt;

/// One command line, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `EHLO domain`.
    Ehlo(String),
    /// `HELO domain`.
    Helo(String),
    /// `MAIL FROM:<...>`.
    Mail(ReversePath, MailParameters),
    /// `RCPT TO:<...>`.
    Rcpt(ForwardPath, RcptParameters),
    /// `DATA`.
    Data,
    /// `BDAT size [LAST]` (RFC 3030).
    Bdat {
        /// Bytes that follow.
        size: u64,
        /// The message is complete after them.
        last: bool,
    },
    /// `RSET`.
    Rset,
    /// `NOOP`.
    Noop,
    /// `QUIT`.
    Quit,
    /// `VRFY`.
    Vrfy,
    /// `HELP`.
    Help,
    /// `AUTH mechanism [initial-response]` (RFC 4954).
    Auth {
        /// As given.
        mechanism: String,
        /// `=` is an empty one.
        initial: Option<InitialResponse>,
    },
    /// `STARTTLS`.
    StartTls,
    /// A verb of HTTP: another protocol talks, perhaps on somebody else's behalf.
    Http,
}

/// What a client sends with AUTH: it holds a secret, and is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct InitialResponse(String);

impl InitialResponse {
    /// As given, for the exchange.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for InitialResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Parameters of MAIL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailParameters {
    /// `SIZE=` (RFC 1870), in bytes.
    pub size: Option<u64>,
    /// `BODY=8BITMIME` (RFC 6152).
    pub eight_bit: bool,
    /// `SMTPUTF8` (RFC 6531).
    pub smtputf8: bool,
    /// `RET=` (RFC 3461): true is FULL, false is HDRS.
    pub ret_full: Option<bool>,
    /// `ENVID=` (RFC 3461), decoded.
    pub envid: Option<String>,
}

/// Parameters of RCPT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RcptParameters {
    /// `NOTIFY=` (RFC 3461).
    pub notify: Option<NotifyParameter>,
    /// `ORCPT=` (RFC 3461) as `type;address`, decoded.
    pub orcpt: Option<String>,
}

/// `NOTIFY=`; all false is `NEVER`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NotifyParameter {
    /// `SUCCESS`.
    pub success: bool,
    /// `FAILURE`.
    pub failure: bool,
    /// `DELAY`.
    pub delay: bool,
}

/// Why a line is no command that is obeyed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandError {
    /// No such verb.
    Unknown,
    /// A verb with the wrong arguments.
    Syntax(&'static str),
    /// An address that is none.
    Address(AddressError),
    /// A parameter that is not known.
    Parameter(String),
    /// A known parameter with a wrong value, or given twice.
    Value(&'static str),
    /// BODY=BINARYMIME.
    Binary,
}

impl From<&CommandError> for Reply {
    fn from(error: &CommandError) -> Self {
        match error {
            CommandError::Unknown => Self::new(500, (5, 5, 1), "command not known here"),
            CommandError::Syntax(usage) => Self::new(501, (5, 5, 4), format!("write: {usage}")),
            CommandError::Address(problem) => Self::new(501, (5, 1, 3), problem.to_string()),
            CommandError::Parameter(name) => Self::new(555, (5, 5, 4), format!("parameter {name} is not known here")),
            CommandError::Value(name) => Self::new(501, (5, 5, 4), wrong_value(name)),
            CommandError::Binary => Self::new(504, (5, 6, 1), "binary bodies are not taken; use BODY=8BITMIME"),
        }
    }
}

/// What to write instead, for the parameters whose values are words.
fn wrong_value(name: &str) -> String {
    let help = match name {
        "RET" => "; write RET=FULL or RET=HDRS",
        "NOTIFY" => "; write NOTIFY=NEVER, or a list of SUCCESS, FAILURE and DELAY",
        "ENVID" => "; write at most 100 characters of printable ASCII as xtext (RFC 3461)",
        "ORCPT" => "; write ORCPT=type;address as xtext, at most 500 characters (RFC 3461)",
        _ => "",
    };
    format!("parameter {name} has no valid value, or stands twice{help}")
}

impl Command {
    /// Reads a line without its CRLF.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(line: &str) -> Result<Self, CommandError> {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim_matches(' ');
        let bare = |command, usage| if rest.is_empty() { Ok(command) } else { Err(CommandError::Syntax(usage)) };
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" => hello(rest, "EHLO name").map(Self::Ehlo),
            "HELO" => hello(rest, "HELO name").map(Self::Helo),
            "MAIL" => mail(rest),
            "RCPT" => rcpt(rest),
            "DATA" => bare(Self::Data, "DATA"),
            "BDAT" => bdat(rest),
            "RSET" => bare(Self::Rset, "RSET"),
            "NOOP" => Ok(Self::Noop),
            "QUIT" => bare(Self::Quit, "QUIT"),
            "VRFY" => Ok(Self::Vrfy),
            "HELP" => Ok(Self::Help),
            "AUTH" => auth(rest),
            "STARTTLS" => bare(Self::StartTls, "STARTTLS"),
            "GET" | "POST" | "PUT" | "HEAD" | "DELETE" | "OPTIONS" | "CONNECT" | "TRACE" | "PATCH" | "PRI" => Ok(Self::Http),
            // Any other verb of HTTP shows itself by the end of its line.
            _ if rest.rsplit(' ').next().is_some_and(|last| last.starts_with("HTTP/")) => Ok(Self::Http),
            _ => Err(CommandError::Unknown),
        }
    }
}

/// The name a client gives itself. It goes into a Received field, so what has no place in one becomes `?`;
/// desktop computers do call themselves such names, and are no worse for it.
fn hello(name: &str, usage: &'static str) -> Result<String, CommandError> {
    if name.is_empty() || name.len() > 255 || name.chars().any(|c| c == ' ' || c.is_control()) {
        return Err(CommandError::Syntax(usage));
    }
    let tame = |c: char| if c.is_ascii_alphanumeric() || ".-_[]:".contains(c) { c } else { '?' };
    Ok(name.chars().map(tame).collect())
}

fn auth(rest: &str) -> Result<Command, CommandError> {
    let usage = CommandError::Syntax("AUTH mechanism [initial-response]");
    let mut words = rest.split(' ').filter(|word| !word.is_empty());
    let mechanism = words.next().ok_or(usage.clone())?.to_owned();
    let initial = words.next().map(|word| InitialResponse(word.to_owned()));
    if words.next().is_some() { Err(usage) } else { Ok(Command::Auth { mechanism, initial }) }
}

fn bdat(rest: &str) -> Result<Command, CommandError> {
    let usage = || CommandError::Syntax("BDAT size [LAST]");
    let (size, end) = rest.split_once(' ').unwrap_or((rest, ""));
    let last = match end {
        "" => false,
        word if word.eq_ignore_ascii_case("LAST") => true,
        _ => return Err(usage()),
    };
    let size = digits(size).ok_or_else(usage)?;
    Ok(Command::Bdat { size, last })
}

fn digits(text: &str) -> Option<u64> {
    let valid = !text.is_empty() && text.len() <= 20 && text.bytes().all(|byte| byte.is_ascii_digit());
    // Twenty digits may be more than fits: then it is too large by any limit.
    valid.then(|| text.parse().unwrap_or(u64::MAX))
}

/// Splits `FROM:<...> parameters` into the path and the parameters.
fn path_of<'a>(rest: &'a str, keyword: &str, usage: &'static str) -> Result<(&'a str, &'a str), CommandError> {
    let head = rest.get(..keyword.len()).filter(|head| head.eq_ignore_ascii_case(keyword));
    head.ok_or(CommandError::Syntax(usage))?;
    // A space behind the colon is against the grammar and common.
    let rest = rest[keyword.len()..].trim_start_matches(' ');
    let end = end_of_path(rest).ok_or(CommandError::Syntax(usage))?;
    let (path, parameters) = rest.split_at(end);
    match parameters.strip_prefix(' ') {
        Some(parameters) => Ok((path, parameters)),
        None if parameters.is_empty() => Ok((path, "")),
        None => Err(CommandError::Syntax(usage)),
    }
}

/// The end of `<...>`, brackets within quotes left aside.
fn end_of_path(text: &str) -> Option<usize> {
    if !text.starts_with('<') {
        return None;
    }
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if !quoted => return Some(at + 1),
            _ => {}
        }
    }
    None
}

fn mail(rest: &str) -> Result<Command, CommandError> {
    let (path, parameters) = path_of(rest, "FROM:", "MAIL FROM:<address> [parameters]")?;
    let path = ReversePath::parse(path).map_err(CommandError::Address)?;
    let mut found = MailParameters::default();
    let mut seen = Vec::new();
    for (name, value) in each_parameter(parameters, &mut seen)? {
        mail_parameter(&mut found, &name, value)?;
    }
    Ok(Command::Mail(path, found))
}

fn mail_parameter(found: &mut MailParameters, name: &str, value: Option<&str>) -> Result<(), CommandError> {
    match (name, value) {
        ("SIZE", Some(value)) => found.size = Some(digits(value).ok_or(CommandError::Value("SIZE"))?),
        ("BODY", Some(value)) if value.eq_ignore_ascii_case("7BIT") => found.eight_bit = false,
        ("BODY", Some(value)) if value.eq_ignore_ascii_case("8BITMIME") => found.eight_bit = true,
        ("BODY", Some(value)) if value.eq_ignore_ascii_case("BINARYMIME") => return Err(CommandError::Binary),
        ("SMTPUTF8", None) => found.smtputf8 = true,
        ("RET", Some(value)) if value.eq_ignore_ascii_case("FULL") => found.ret_full = Some(true),
        ("RET", Some(value)) if value.eq_ignore_ascii_case("HDRS") => found.ret_full = Some(false),
        ("ENVID", Some(value)) => found.envid = Some(envid(value).ok_or(CommandError::Value("ENVID"))?),
        // Whom another server believed; RFC 4954 §5 lets a server ignore it that trusts nobody.
        ("AUTH", Some(value)) if xtext(value).is_some() => {}
        ("AUTH", _) => return Err(CommandError::Value("AUTH")),
        ("BODY", _) => return Err(CommandError::Value("BODY")),
        ("RET", _) => return Err(CommandError::Value("RET")),
        ("SIZE", _) => return Err(CommandError::Value("SIZE")),
        ("ENVID", _) => return Err(CommandError::Value("ENVID")),
        ("SMTPUTF8", _) => return Err(CommandError::Value("SMTPUTF8")),
        _ => return Err(CommandError::Parameter(name.to_owned())),
    }
    Ok(())
}

fn rcpt(rest: &str) -> Result<Command, CommandError> {
    let (path, parameters) = path_of(rest, "TO:", "RCPT TO:<address> [parameters]")?;
    let path = ForwardPath::parse(path).map_err(CommandError::Address)?;
    let mut found = RcptParameters::default();
    let mut seen = Vec::new();
    for (name, value) in each_parameter(parameters, &mut seen)? {
        match (name.as_str(), value) {
            ("NOTIFY", Some(value)) => found.notify = Some(notify(value).ok_or(CommandError::Value("NOTIFY"))?),
            ("ORCPT", Some(value)) => found.orcpt = Some(orcpt(value).ok_or(CommandError::Value("ORCPT"))?),
            ("NOTIFY", None) => return Err(CommandError::Value("NOTIFY")),
            ("ORCPT", None) => return Err(CommandError::Value("ORCPT")),
            _ => return Err(CommandError::Parameter(name)),
        }
    }
    Ok(Command::Rcpt(path, found))
}

type Parameters<'a> = Vec<(String, Option<&'a str>)>;

/// The parameters with upper-case names; one that stands twice is an error.
fn each_parameter<'a>(text: &'a str, seen: &mut Vec<String>) -> Result<Parameters<'a>, CommandError> {
    let mut all = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
        let name = name.to_ascii_uppercase();
        let valid = (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !valid || value == Some("") {
            return Err(CommandError::Syntax("parameters as NAME or NAME=value"));
        }
        if seen.contains(&name) {
            return Err(CommandError::Value("list"));
        }
        seen.push(name.clone());
        all.push((name, value));
    }
    Ok(all)
}

/// At most 100 characters, and ASCII once decoded (RFC 3461 §4.4).
fn envid(value: &str) -> Option<String> {
    xtext(value).filter(|decoded| value.len() <= 100 && decoded.is_ascii())
}

fn notify(value: &str) -> Option<NotifyParameter> {
    let mut found = NotifyParameter::default();
    if value.eq_ignore_ascii_case("NEVER") {
        return Some(found);
    }
    for word in value.split(',') {
        match word.to_ascii_uppercase().as_str() {
            "SUCCESS" => found.success = true,
            "FAILURE" => found.failure = true,
            "DELAY" => found.delay = true,
            _ => return None,
        }
    }
    Some(found)
}

fn orcpt(value: &str) -> Option<String> {
    let (kind, address) = value.split_once(';')?;
    let valid = !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') && value.len() <= 500;
    if !valid || address.is_empty() {
        return None;
    }
    Some(format!("{};{}", kind.to_ascii_lowercase(), xtext(address)?))
}

/// Decodes xtext (RFC 3461 §4); UTF-8 is let through (RFC 6533).
#[must_use]
pub fn xtext(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        match first {
            b'+' => {
                let hex = std::str::from_utf8(tail.get(..2)?).ok()?;
                if hex.bytes().any(|byte| !matches!(byte, b'0'..=b'9' | b'A'..=b'F')) {
                    return None;
                }
                bytes.push(u8::from_str_radix(hex, 16).ok()?);
                rest = &tail[2..];
            }
            b'=' | 0..=32 | 127 => return None,
            other => {
                bytes.push(*other);
                rest = tail;
            }
        }
    }
    let decoded = String::from_utf8(bytes).ok()?;
    (!decoded.chars().any(char::is_control)).then_some(decoded)
}

/// Encodes as xtext.
#[must_use]
pub fn to_xtext(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '+' | '=' | '\0'..=' ' | '\u{7f}' => encoded.push_str(&format!("+{:02X}", u32::from(c))),
            other => encoded.push(other),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn commands_are_read_in_any_case_with_their_parameters() {
        let Command::Mail(path, parameters) =
            Command::parse("mail from:<ana@example.com> size=1000 BODY=8BITMIME SMTPUTF8 RET=hdrs ENVID=a+2Bb").unwrap()
        else {
            panic!("not MAIL");
        };
        assert_eq!(path.to_string(), "ana@example.com");
        let expected =
            MailParameters { size: Some(1000), eight_bit: true, smtputf8: true, ret_full: Some(false), envid: Some("a+b".into()) };
        assert_eq!(parameters, expected);
        let Command::Rcpt(_, parameters) =
            Command::parse("RCPT TO:<\"a>b\"@example.com> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a@b.example").unwrap()
        else {
            panic!("not RCPT");
        };
        assert_eq!(parameters.notify, Some(NotifyParameter { success: true, failure: false, delay: true }));
        assert_eq!(parameters.orcpt.as_deref(), Some("rfc822;a@b.example"));
        assert_eq!(Command::parse("BDAT 0 last"), Ok(Command::Bdat { size: 0, last: true }));
        assert_eq!(Command::parse("POST / HTTP/1.1"), Ok(Command::Http));
        assert_eq!(Command::parse("PROPFIND /x HTTP/1.1"), Ok(Command::Http));
    }

    #[test]
    fn each_wrong_line_gets_the_reply_that_says_so() {
        for (line, code) in [
            ("", 500),
            ("FOO", 500),
            ("EHLO", 501),
            ("DATA now", 501),
            ("MAIL", 501),
            ("MAIL FROM:", 501),
            ("MAIL FROM:ana@example.com", 501),
            ("MAIL FROM:<ana>", 501),
            ("MAIL FROM:<ana@example.com>SIZE=1", 501),
            ("MAIL FROM:<> SIZE=x", 501),
            ("MAIL FROM:<> SIZE=1 SIZE=1", 501),
            ("MAIL FROM:<> FOO=1", 555),
            ("MAIL FROM:<> BODY=BINARYMIME", 504),
            ("MAIL FROM:<> ENVID=+zz", 501),
            ("MAIL FROM:<> ENVID=+C3+A9", 501),
            ("MAIL FROM:<> ENVID=a ENVID=b", 501),
            ("MAIL FROM:<> RET=BODY", 501),
            ("MAIL FROM:<> RET", 501),
            ("RCPT TO:<a@b.example> ORCPT=a@b.example", 501),
            ("RCPT TO:<a@b.example> ORCPT=rfc822;", 501),
            ("RCPT TO:<a@b.example> ORCPT=rfc822;a+4", 501),
            ("MAIL FROM:<> AUTH=+zz", 501),
            ("MAIL FROM:<> AUTH", 501),
            ("RCPT TO:<>", 501),
            ("RCPT TO:<postmaster>", 501),
            ("RCPT TO:<a@b.example> NOTIFY=NEVER,FAILURE", 501),
            ("RCPT TO:<a@b.example> NOTIFY=", 501),
            ("BDAT", 501),
            ("BDAT -1", 501),
            ("BDAT 1 FIRST", 501),
            ("AUTH", 501),
            ("AUTH PLAIN a b", 501),
        ] {
            let error = Command::parse(line).unwrap_err();
            assert_eq!(Reply::from(&error).code(), code, "{line}");
        }
    }

    #[test]
    fn parameters_of_reports_have_the_lengths_of_rfc_3461() {
        let envid = |length| Command::parse(&format!("MAIL FROM:<> ENVID={}", "e".repeat(length)));
        assert!(envid(100).is_ok() && envid(101) == Err(CommandError::Value("ENVID")));
        let orcpt = |length: usize| Command::parse(&format!("RCPT TO:<a@b.example> ORCPT=rfc822;{}", "o".repeat(length - 7)));
        assert!(orcpt(500).is_ok() && orcpt(501) == Err(CommandError::Value("ORCPT")));
    }

    #[test]
    fn a_secret_given_with_auth_is_never_printed() {
        let shown = format!("{:?}", Command::parse("AUTH PLAIN AGFuYQBwdw==").unwrap());
        assert!(!shown.contains("AGFuYQBwdw"), "{shown}");
    }

    #[test]
    fn a_name_holds_nothing_that_would_break_a_received_field() {
        assert_eq!(Command::parse("EHLO jos\u{e9}(pc"), Ok(Command::Ehlo("jos??pc".into())));
        assert_eq!(Command::parse("EHLO [IPv6:2001:db8::1]"), Ok(Command::Ehlo("[IPv6:2001:db8::1]".into())));
        assert!(Command::parse("EHLO a b").is_err());
    }

    #[test]
    fn xtext_reads_back() {
        for text in ["plain", "a+b=c d", "é"] {
            assert_eq!(xtext(&to_xtext(text)).as_deref(), Some(text));
        }
    }
}
