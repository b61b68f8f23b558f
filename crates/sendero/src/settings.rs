//! The settings of the process: one file, the environment over it, flags over that.
//!
//! Every setting has a default. What is not a setting is an error that names the nearest one.

#[doc(hidden)]
pub mod fuzzing;
mod open_caps;
mod read;
mod replies;
mod sources;
mod units;

pub use self::open_caps::OpenCaps;
pub use self::replies::Replies;
pub use self::sources::{Flags, Loaded, load};

use self::read::Reader;
use delivery::guard::Allow;
use intake::listener::{Bind, Listener, Login, Mode};
use mail::retry::RetrySchedule;
use smtp::Mailbox;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Everything the operator may set.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where mail and directory are kept.
    pub data_dir: PathBuf,
    /// The name in EHLO, Received and Message-ID.
    pub hostname: String,
    /// The address people use to reach this gateway by HTTP.
    pub public_url: Option<String>,
    /// The HTTP side.
    pub http: Http,
    /// Where mail is taken by SMTP.
    pub submission: Vec<Listener>,
    /// Certificate and key; self-signed ones are made when absent.
    pub tls: Option<TlsFiles>,
    /// What channels may reach beside the public network.
    pub network: Network,
    /// Retries and room.
    pub queue: Queue,
    /// What replies mean.
    pub replies: Replies,
    /// Where the master key is.
    pub master_key_file: Option<PathBuf>,
    /// How reports and notices leave; `None` while they are only shown.
    pub notices: Option<Notices>,
    /// The log.
    pub log: Log,
    /// Caps.
    pub limits: Limits,
}

/// The HTTP side.
#[derive(Clone, Debug)]
pub struct Http {
    /// Addresses; none is allowed.
    pub listen: Vec<SocketAddr>,
}

/// Files of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, PEM.
    pub certificate: PathBuf,
    /// The key, PEM.
    pub key: PathBuf,
}

/// What channels may reach.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// Private addresses and odd ports that are permitted.
    pub allow: Allow,
    /// Further roots for upstream TLS, PEM files.
    pub trust: Vec<PathBuf>,
}

/// Retries and room.
#[derive(Clone, Debug)]
pub struct Queue {
    /// The waits after a deferred attempt, and the lifetime.
    pub schedule: RetrySchedule,
    /// The first wait, which also follows an uncertain hand-over.
    pub first_retry: Duration,
    /// Free bytes of the disk below which no mail is taken.
    pub min_free: u64,
    /// Bodies of ended mail are kept so long, as long as there is room.
    pub keep_bodies: Duration,
    /// What became of mail is known so long after its end.
    pub keep_history: Duration,
    /// How much open mail one token, one person and one team may have.
    pub open: OpenCaps,
}

/// How reports and notices of the gateway itself leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notices {
    /// The name of the channel. Whether there is one, the directory says when it is needed.
    pub channel: String,
    /// Their From.
    pub from: Mailbox,
}

/// The log on standard error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// How lines are written.
    pub format: LogFormat,
    /// What is written: a level, or directives by target as `info,delivery=warn`.
    pub level: String,
    /// Addresses are replaced by a hash in the delivery log.
    pub hash_addresses: bool,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// `key=value` pairs.
    Logfmt,
    /// One JSON object a line.
    Json,
}

/// Caps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest message in bytes.
    pub message_size: u64,
    /// Most recipients of one message.
    pub recipients: usize,
    /// Most SMTP connections at once.
    pub connections: usize,
    /// Most of them from one address.
    pub connections_per_address: usize,
    /// Most HTTP connections at once.
    pub http_connections: usize,
}

/// What is wrong with settings: all of it at once, each with where it stands and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct SettingsError(pub Vec<String>);

impl Settings {
    /// What holds where nothing is set.
    #[must_use]
    pub fn defaults() -> Self {
        let mut reader = Reader::new(Vec::new());
        let settings = Self::read(&mut reader);
        debug_assert!(reader.finish().is_ok(), "defaults are valid");
        settings
    }

    /// Takes every setting out of the reader. This is the list of all there are.
    fn read(reader: &mut Reader) -> Self {
        let retry = reader.list("queue.retry", units::duration).unwrap_or_else(default_retry);
        let max_age = reader.value("queue.max_age", units::duration).unwrap_or(Duration::from_secs(5 * 86_400));
        let first_retry = retry.first().copied().unwrap_or(Duration::from_secs(60));
        if max_age <= first_retry {
            // The first deferral would end every message.
            reader
                .wrong("queue.max_age", "it is longer than the first step of queue.retry, as \"5d\"; nothing would be tried again");
        }
        let schedule = RetrySchedule::new(retry, max_age).unwrap_or_else(|problem| {
            reader.wrong("queue.retry", &problem.to_string());
            RetrySchedule::default()
        });
        Self {
            data_dir: reader.path("data_dir").unwrap_or_else(|| PathBuf::from("sendero-data")),
            hostname: reader.value("hostname", read::hostname).unwrap_or_else(machine_name),
            public_url: reader.value("public_url", read::url),
            http: read_http(reader),
            submission: read_submission(reader).unwrap_or_else(default_submission),
            tls: read_tls(reader),
            network: Network { allow: read_allow(reader), trust: reader.paths("network.trust").unwrap_or_default() },
            queue: Queue {
                schedule,
                first_retry,
                min_free: reader.value("queue.min_free", units::size).unwrap_or(512 << 20),
                keep_bodies: reader.value("queue.keep_bodies", units::duration).unwrap_or(Duration::from_secs(7 * 86_400)),
                open: OpenCaps::read(reader),
                keep_history: reader.value("queue.keep_history", read::history).unwrap_or(Duration::from_secs(90 * 86_400)),
            },
            replies: Replies { rules: reader.path("replies.rules") },
            master_key_file: reader.path("secrets.master_key_file"),
            notices: read_notices(reader),
            log: Log {
                format: reader.value("log.format", read::log_format).unwrap_or(LogFormat::Logfmt),
                level: reader.value("log.level", read::log_level).unwrap_or_else(|| "info".to_owned()),
                hash_addresses: reader.value("log.addresses", read::addresses).unwrap_or(false),
            },
            limits: Limits {
                message_size: reader.value("limits.message_size", read::message_size).unwrap_or(50 << 20),
                recipients: reader.value("limits.recipients", read::count).unwrap_or(1000),
                connections: reader.value("limits.connections", read::count).unwrap_or(1000),
                connections_per_address: reader.value("limits.connections_per_address", read::count).unwrap_or(50),
                http_connections: reader.value("limits.http_connections", read::count).unwrap_or(256),
            },
        }
    }

    /// The socket by which the command line talks to the running gateway.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.data_dir.join("sendero.sock")
    }
}

fn default_retry() -> Vec<Duration> {
    [60, 300, 900, 3600, 3 * 3600, 6 * 3600].map(Duration::from_secs).to_vec()
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn default_submission() -> Vec<Listener> {
    let listener = |port, mode| Listener { bind: Bind::Tcp(local(port)), mode, login: Login::Required };
    vec![listener(2587, Mode::Starttls), listener(2465, Mode::Implicit)]
}

/// The machine's name, as far as it is one that may stand in EHLO.
fn machine_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    read::hostname(name.trim()).unwrap_or_else(|_| "localhost".to_owned())
}

fn read_http(reader: &mut Reader) -> Http {
    let listen = reader.list("http.listen", read::address).unwrap_or_else(|| vec![local(8080)]);
    let may_be_clear = reader.value("http.clear_beyond_loopback", read::flag).unwrap_or(false);
    if let Some(open) = listen.iter().find(|address| !may_be_clear && !address.ip().is_loopback()) {
        let problem = format!(
            "{open} is no loopback address, and bearer tokens would travel in clear text; listen on 127.0.0.1 behind a proxy \
             with TLS, or, where nobody can listen in between, say so: clear_beyond_loopback = true"
        );
        reader.wrong("http.listen", &problem);
    }
    Http { listen }
}

fn read_tls(reader: &mut Reader) -> Option<TlsFiles> {
    match (reader.path("tls.certificate"), reader.path("tls.key")) {
        (Some(certificate), Some(key)) => Some(TlsFiles { certificate, key }),
        (None, None) => None,
        (Some(_), None) => {
            reader.wrong("tls.certificate", "a certificate needs its key: set tls.key too");
            None
        }
        (None, Some(_)) => {
            reader.wrong("tls.key", "a key needs its certificate: set tls.certificate too");
            None
        }
    }
}

fn read_notices(reader: &mut Reader) -> Option<Notices> {
    match (reader.value("notices.channel", read::channel_name), reader.value("notices.from", read::sender)) {
        (Some(channel), Some(from)) => Some(Notices { channel, from }),
        (None, None) => None,
        (Some(_), None) => {
            reader.missing("notices.from", "say which address reports are from, as \"reports@example.com\"");
            None
        }
        (None, Some(_)) => {
            reader.missing("notices.channel", "name the channel by which reports leave");
            None
        }
    }
}

fn read_allow(reader: &mut Reader) -> Allow {
    let entries = reader.list("network.allow", |text| Ok(text.to_owned())).unwrap_or_default();
    Allow::parse(&entries).unwrap_or_else(|problem| {
        reader.wrong("network.allow", &problem.to_string());
        Allow::default()
    })
}

fn read_submission(reader: &mut Reader) -> Option<Vec<Listener>> {
    let tables = reader.tables("submission")?;
    let listeners: Vec<Option<Listener>> = tables.iter().map(|prefix| read_listener(reader, prefix)).collect();
    Some(listeners.into_iter().flatten().collect())
}

fn read_listener(reader: &mut Reader, prefix: &str) -> Option<Listener> {
    let key = |name: &str| format!("{prefix}.{name}");
    let bind = reader.value(&key("listen"), read::bind);
    let mode = reader.value(&key("tls"), read::mode);
    let networks =
        reader.list(&key("trusted"), |text| text.parse().map_err(|problem: intake::network::NotANetwork| problem.to_string()));
    let person = reader.value(&key("person"), read::person);
    let Some(bind) = bind else {
        reader.missing(&key("listen"), "say where to listen, as \"127.0.0.1:2587\" or \"unix:/run/sendero/smtp\"");
        return None;
    };
    let is_socket = matches!(bind, Bind::Unix(_));
    let mode = mode.unwrap_or(if is_socket { Mode::Clear } else { Mode::Starttls });
    let login = match (person, networks) {
        (None, None) => Login::Required,
        (Some(person), networks) if is_socket || networks.is_some() => {
            Login::Trusted { networks: networks.unwrap_or_default(), person, every_user: false }
        }
        (Some(_), _) => {
            reader.wrong(&key("person"), "say who may connect without login: trusted = [\"127.0.0.0/8\"]");
            return None;
        }
        (None, Some(_)) => {
            reader.wrong(&key("trusted"), "say with whose rights such mail is sent: person = \"host@example.com\"");
            return None;
        }
    };
    let listener = Listener { bind, mode, login };
    match unsafe_listener(&listener) {
        None => Some(listener),
        Some(problem) => {
            reader.wrong(&key("tls"), problem);
            None
        }
    }
}

/// Why a listener would be of no use, or of use to strangers.
fn unsafe_listener(listener: &Listener) -> Option<&'static str> {
    let clear = listener.mode == Mode::Clear;
    match &listener.bind {
        Bind::Tcp(address) if clear && !address.ip().is_loopback() => {
            Some("tls = \"none\" is for loopback addresses and Unix sockets only; use \"starttls\" or \"implicit\"")
        }
        Bind::Tcp(_) if clear && listener.login == Login::Required => {
            Some("nobody signs in without TLS; use tls = \"starttls\", or name the trusted networks and the person")
        }
        Bind::Unix(_) if !clear => Some("a Unix socket has tls = \"none\""),
        Bind::Unix(_) if listener.login == Login::Required => {
            Some("a Unix socket needs person = \"...\": with whose rights mail is sent")
        }
        Bind::Tcp(_) | Bind::Unix(_) => None,
    }
}

#[cfg(test)]
mod tests;
