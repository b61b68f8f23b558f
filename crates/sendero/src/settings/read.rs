//! Taking settings out of what the sources gave, one by one, and finding what is left over.

use super::{LogFormat, SettingsError, units};
use intake::listener::{Bind, Mode};
use mail::nearest::nearest;
use smtp::{Domain, Mailbox};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Value;

/// Keys that are planned for later versions.
const LATER: &[&str] = &["tls.acme", "http.trusted_proxies"];

/// One setting as a source gave it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// `queue.min_free`; for a table of an array `submission[0].listen`.
    pub(super) key: String,
    pub(super) value: Value,
    /// Where it stands, for errors: a file's name, an environment variable, a flag.
    pub(super) origin: String,
    /// What relative paths are relative to.
    pub(super) base: PathBuf,
}

pub(super) struct Reader {
    entries: Vec<Entry>,
    taken: Vec<Entry>,
    known: Vec<String>,
    problems: Vec<String>,
}

impl Reader {
    /// Later entries stand over earlier ones.
    pub(super) fn new(entries: Vec<Entry>) -> Self {
        Self { entries, taken: Vec::new(), known: Vec::new(), problems: Vec::new() }
    }

    fn take(&mut self, key: &str) -> Option<Entry> {
        self.known.push(key.to_owned());
        let (mut found, rest): (Vec<Entry>, Vec<Entry>) =
            std::mem::take(&mut self.entries).into_iter().partition(|entry| entry.key == key);
        self.entries = rest;
        let last = found.pop()?;
        self.taken.push(last.clone());
        Some(last)
    }

    /// A setting with one value.
    pub(super) fn value<T>(&mut self, key: &str, read: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let entry = self.take(key)?;
        let read = match &entry.value {
            Value::String(text) => read(text),
            Value::Integer(number) => read(&number.to_string()),
            Value::Boolean(flag) => read(if *flag { "true" } else { "false" }),
            other => Err(format!("one value stands here, not {}", kind(other))),
        };
        self.noted(&entry, read)
    }

    /// A setting with several values; one alone may stand without brackets.
    pub(super) fn list<T>(&mut self, key: &str, read: impl Fn(&str) -> Result<T, String>) -> Option<Vec<T>> {
        let entry = self.take(key)?;
        let texts = texts(&entry.value);
        let read = texts.and_then(|texts| texts.iter().map(|text| read(text)).collect());
        self.noted(&entry, read)
    }

    /// A path, relative to where it was set.
    pub(super) fn path(&mut self, key: &str) -> Option<PathBuf> {
        let path =
            self.value(key, |text| if text.is_empty() { Err("a path is not empty".to_owned()) } else { Ok(text.to_owned()) })?;
        Some(self.base(key).join(path))
    }

    /// Several paths, relative to where they were set.
    pub(super) fn paths(&mut self, key: &str) -> Option<Vec<PathBuf>> {
        let paths = self.list(key, |text| Ok(text.to_owned()))?;
        let base = self.base(key);
        Some(paths.into_iter().map(|path| base.join(path)).collect())
    }

    fn base(&self, key: &str) -> PathBuf {
        self.taken.iter().rev().find(|entry| entry.key == key).map(|entry| entry.base.clone()).unwrap_or_default()
    }

    /// The tables of an array, as prefixes of their keys; `None` when there is no such array.
    pub(super) fn tables(&mut self, name: &str) -> Option<Vec<String>> {
        if self.entries.iter().any(|entry| entry.key == name) {
            return self.no_tables(name);
        }
        let mut prefixes: Vec<String> = Vec::new();
        for entry in &self.entries {
            let prefix = entry.key.split_once('.').map_or(entry.key.as_str(), |(prefix, _)| prefix);
            if prefix.strip_prefix(name).is_some_and(|rest| rest.starts_with('[')) && !prefixes.iter().any(|known| known == prefix)
            {
                prefixes.push(prefix.to_owned());
            }
        }
        // A table with nothing in it stands there as itself.
        self.entries.retain(|entry| !prefixes.contains(&entry.key));
        (!prefixes.is_empty()).then_some(prefixes)
    }

    /// Something stands where an array of tables may: an empty list means none, anything else is wrong.
    fn no_tables(&mut self, name: &str) -> Option<Vec<String>> {
        let entry = self.take(name)?;
        let read = match &entry.value {
            Value::Array(values) if values.is_empty() => Ok(Vec::new()),
            _ => Err(format!("write [[{name}]] and its settings below")),
        };
        self.noted(&entry, read)
    }

    fn noted<T>(&mut self, entry: &Entry, read: Result<T, String>) -> Option<T> {
        match read {
            Ok(value) => Some(value),
            Err(problem) => {
                self.problems.push(format!("{}: {}: {problem}", entry.origin, entry.key));
                None
            }
        }
    }

    /// Notes a problem of a setting that was taken.
    pub(super) fn wrong(&mut self, key: &str, problem: &str) {
        let origin = self.taken.iter().rev().find(|entry| entry.key == key).map_or("settings", |entry| &entry.origin);
        self.problems.push(format!("{origin}: {key}: {problem}"));
    }

    /// Notes that a setting must be there and is not. A wrong value has been noted already.
    pub(super) fn missing(&mut self, key: &str, remedy: &str) {
        if self.taken.iter().any(|entry| entry.key == key) {
            return;
        }
        // Where its neighbours stand, it belongs.
        let section = &key[..key.rfind('.').map_or(0, |dot| dot + 1)];
        let origin = self.taken.iter().rev().find(|entry| entry.key.starts_with(section)).map_or("settings", |entry| &entry.origin);
        self.problems.push(format!("{origin}: {key} is missing: {remedy}"));
    }

    /// Ends the reading: what was not taken is no setting.
    pub(super) fn finish(mut self) -> Result<(), SettingsError> {
        let known: Vec<String> = self
            .known
            .iter()
            .map(|key| shape(key))
            .chain(["listen", "tls", "trusted", "person"].map(|name| format!("submission[].{name}")))
            .collect();
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        for entry in std::mem::take(&mut self.entries) {
            let problem = unknown(&entry.key, &known);
            self.problems.push(format!("{}: {problem}", entry.origin));
        }
        if self.problems.is_empty() { Ok(()) } else { Err(SettingsError(self.problems)) }
    }
}

/// A key without the numbers of arrays.
fn shape(key: &str) -> String {
    match (key.find('['), key.find(']')) {
        (Some(open), Some(close)) if open < close => format!("{}[]{}", &key[..open], &key[close + 1..]),
        _ => key.to_owned(),
    }
}

fn unknown(key: &str, known: &[&str]) -> String {
    let plain = shape(key);
    let is_later = |later: &&&str| plain == **later || plain.strip_prefix(**later).is_some_and(|rest| rest.starts_with(['.', '[']));
    if let Some(later) = LATER.iter().find(is_later) {
        return format!("{later} is not in this version; leave it out");
    }
    if plain.starts_with("submission.") {
        return "write [[submission]], with two brackets: there may be several".to_owned();
    }
    match nearest(&plain, known) {
        Some(near) => format!("there is no setting '{key}'; did you mean '{}'?", near.replace("[]", "")),
        None => format!("there is no setting '{key}'; leave it out"),
    }
}

fn texts(value: &Value) -> Result<Vec<String>, String> {
    match value {
        Value::String(text) => Ok(vec![text.clone()]),
        Value::Array(values) => values
            .iter()
            .map(|value| {
                value
                    .as_str()
                    .map(str::to_owned)
                    .ok_or_else(|| format!("a list of texts stands here, and one entry is {}", kind(value)))
            })
            .collect(),
        other => Err(format!("a list of texts stands here, not {}", kind(other))),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a text",
        Value::Integer(_) => "a number",
        Value::Float(_) => "a number with a fraction",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    }
}

pub(super) fn hostname(text: &str) -> Result<String, String> {
    let domain =
        Domain::parse(text).map_err(|problem| format!("'{text}' is no host name: {problem}; write it as mail.example.com"))?;
    Ok(domain.to_ascii())
}

pub(super) fn url(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.contains([' ', '@']) => Ok(text.trim_end_matches('/').to_owned()),
        _ => Err(format!("'{text}' is no address of a site; write it as https://mail.example.com")),
    }
}

pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("'{text}' is no address with port; write it as 127.0.0.1:8080 or [::1]:8080"))
}

pub(super) fn bind(text: &str) -> Result<Bind, String> {
    match text.strip_prefix("unix:") {
        Some(path) if Path::new(path).is_absolute() => Ok(Bind::Unix(PathBuf::from(path))),
        Some(_) => Err(format!("'{text}': a Unix socket's path begins with /, as unix:/run/sendero/smtp")),
        None => address(text).map(Bind::Tcp),
    }
}

pub(super) fn mode(text: &str) -> Result<Mode, String> {
    match text {
        "starttls" => Ok(Mode::Starttls),
        "implicit" => Ok(Mode::Implicit),
        "none" => Ok(Mode::Clear),
        _ => Err(format!("'{text}' is not known; there are: starttls, implicit, none")),
    }
}

pub(super) fn person(text: &str) -> Result<String, String> {
    Mailbox::parse(text)
        .map(|mailbox| mailbox.to_string())
        .map_err(|problem| format!("'{text}' is no address of a person: {problem}"))
}

pub(super) fn sender(text: &str) -> Result<Mailbox, String> {
    Mailbox::parse(text).map_err(|problem| format!("'{text}' is no e-mail address: {problem}; write it as reports@example.com"))
}

pub(super) fn channel_name(text: &str) -> Result<String, String> {
    if (1..=128).contains(&text.len()) && !text.chars().any(char::is_control) {
        Ok(text.to_owned())
    } else {
        Err(format!("'{}' is no name of a channel; 'sendero channel list' shows the names", text.escape_debug()))
    }
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "logfmt" => Ok(LogFormat::Logfmt),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("'{text}' is not known; there are: logfmt, json")),
    }
}

pub(super) fn log_level(text: &str) -> Result<String, String> {
    const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
    // A bare word that is no level would be taken for the name of a target, and silence everything.
    let is_word_of_level = |word: &str| LEVELS.contains(&word.to_ascii_lowercase().as_str());
    let bare_words_are_levels = text.split(',').all(|part| part.contains('=') || is_word_of_level(part.trim()));
    if bare_words_are_levels && text.parse::<tracing_subscriber::filter::Targets>().is_ok() {
        return Ok(text.to_owned());
    }
    Err(format!("'{text}' is no level; there are: {}", LEVELS.join(", ")))
}

pub(super) fn flag(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| format!("'{text}' is not known; write true or false"))
}

pub(super) fn addresses(text: &str) -> Result<bool, String> {
    match text {
        "full" => Ok(false),
        "hashed" => Ok(true),
        _ => Err(format!("'{text}' is not known; there are: full, hashed")),
    }
}

pub(super) fn count(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|count| (1..=1_000_000).contains(count))
        .ok_or_else(|| format!("'{text}' is no number from 1 to 1000000"))
}

/// Idempotency keys need what became of their messages for three days.
pub(super) fn history(text: &str) -> Result<Duration, String> {
    let least = Duration::from_secs(3 * 86_400);
    units::duration(text)
        .and_then(|kept| if kept >= least { Ok(kept) } else { Err(format!("'{text}': it is kept for 3d at least, as 90d")) })
}

pub(super) fn message_size(text: &str) -> Result<u64, String> {
    let size = units::size(text)?;
    let most = 256 << 20;
    if (1024..=most).contains(&size) {
        Ok(size)
    } else {
        Err(format!("'{text}': a message may have from 1KiB to {}MiB", most >> 20))
    }
}
