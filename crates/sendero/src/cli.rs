//! The command line, as it is read. What each command does stands in [`crate::commands`].

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Takes mail in, keeps it safe, and lets it out through its sender's own channel.
#[derive(Debug, Parser)]
#[command(name = "sendero", version, propagate_version = true, disable_help_subcommand = true, max_term_width = 100)]
pub struct Cli {
    /// The settings file [default: ./sendero.toml, then /etc/sendero/sendero.toml, then built-in settings]
    #[arg(long, global = true, value_name = "FILE", env = "SENDERO_CONFIG")]
    pub config: Option<PathBuf>,
    /// The data folder, over what the settings say
    #[arg(long, global = true, value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// How answers are written
    #[arg(long, global = true, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// How answers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Table,
    /// For programs
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the gateway
    Serve {
        /// Apply this directory file first
        #[arg(long, value_name = "FILE")]
        apply: Option<PathBuf>,
    },
    /// See it at work: a real gateway in a fresh folder takes mail and hands it to a capture server
    Try {
        /// End when the tour is over, instead of staying up
        #[arg(long)]
        exit: bool,
    },
    /// Make teams, people, channels and tokens what a directory file says
    Apply {
        /// The directory file
        file: PathBuf,
        /// Only show what would change
        #[arg(long)]
        dry_run: bool,
        /// Disable what the file does not name
        #[arg(long)]
        prune: bool,
    },
    /// Send a message
    Send(Box<Send>),
    /// Look at messages, hold them, take them back, try them again
    #[command(subcommand)]
    Message(Message),
    /// Show what waits, for what, and until when, by channel
    Queue,
    /// Say when mail that is not sent yet would be through
    Estimate(Estimate),
    /// Look at the addresses that are not written to, and take them off the list
    #[command(subcommand)]
    Suppression(Suppression),
    /// Look at channels, try them, stop and resume them
    #[command(subcommand)]
    Channel(Channel),
    /// Show how the gateway is
    Status,
    /// Say what a reply of a next hop means, and what would follow; no gateway is asked
    Explain(Explain),
    /// Look at the settings
    #[command(subcommand)]
    Config(Config),
    /// Write a copy of everything that is kept into a new folder, while the gateway runs or not
    Backup {
        /// The folder; it must not be there
        folder: PathBuf,
    },
    /// Put a backup into an empty data folder; what is open in it is held
    Restore {
        /// The backup's folder
        folder: PathBuf,
    },
    /// Forget an address in mail that has ended: bodies go, its history stays under a pseudonym
    Forget {
        /// The address
        address: String,
        /// Take it off the lists of addresses that are not written to, too
        #[arg(long)]
        with_suppressions: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Look at what is kept on disk
    #[command(subcommand)]
    Store(Store),
    /// The next hop of the tour
    #[command(hide = true)]
    CaptureServer,
}

/// A message to be sent: composed from flags, or a whole one from a file.
#[derive(Args, Clone, Debug, Default)]
pub struct Send {
    /// Who it is from: an address, or `Name <address>`
    #[arg(long, required_unless_present = "file")]
    pub from: Option<String>,
    /// Who it is for; may be given several times
    #[arg(long)]
    pub to: Vec<String>,
    /// Who gets a copy
    #[arg(long)]
    pub cc: Vec<String>,
    /// Who gets a copy that the others do not see
    #[arg(long)]
    pub bcc: Vec<String>,
    /// The subject
    #[arg(long, conflicts_with = "file")]
    pub subject: Option<String>,
    /// The text; without it and without --file the text is read from standard input
    #[arg(long, conflicts_with = "file")]
    pub text: Option<String>,
    /// Attach a file; may be given several times
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    pub attach: Vec<PathBuf>,
    /// Send this whole message (.eml); '-' reads it from standard input
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// By this channel or not at all
    #[arg(long)]
    pub channel: Option<String>,
    /// A tag, name=value; may be given several times
    #[arg(long)]
    pub tag: Vec<String>,
    /// Not before this time: with its offset (2026-11-25T09:00:00+01:00), or a span from now (15m, 2h, 3d)
    #[arg(long, value_name = "TIME", value_parser = when)]
    pub schedule: Option<mail::when::When>,
    /// Not after this time, written alike: whoever it has not gone to by then does not get it
    #[arg(long, value_name = "TIME", value_parser = when)]
    pub expires: Option<mail::when::When>,
    /// Sending again with the same key sends nothing twice
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
    /// With the rights of this person [default: whose address the From is]
    #[arg(long, value_name = "ADDRESS")]
    pub person: Option<String>,
}

/// Mail that is not sent yet.
#[derive(Args, Clone, Debug)]
#[command(group = clap::ArgGroup::new("way").required(true).args(["channel", "from"]))]
pub struct Estimate {
    /// By this channel
    #[arg(long)]
    pub channel: Option<String>,
    /// By the channel that mail from this address takes
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<String>,
    /// In this lane: now, normal, bulk
    #[arg(long, default_value = "normal", value_parser = lane)]
    pub lane: mail::Lane,
    /// So many messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub messages: u64,
    /// Recipients of each message
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub recipients: u64,
    /// Bytes of each message
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub bytes: Option<u64>,
}

fn lane(text: &str) -> Result<mail::Lane, String> {
    mail::Lane::parse(text).ok_or_else(|| "there are: now, normal, bulk".to_owned())
}

fn when(text: &str) -> Result<mail::when::When, String> {
    let help = "a time is written with its offset, as 2026-11-25T09:00:00+01:00, or as a span from now, as 15m, 2h or 3d";
    mail::when::When::parse(text).ok_or_else(|| help.to_owned())
}

/// What to do with addresses that are not written to.
#[derive(Debug, Subcommand)]
pub enum Suppression {
    /// List them, with the reply that put them there
    List {
        /// Only those on this team's list
        #[arg(long, value_name = "NAME")]
        team: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
        /// The page behind this address
        #[arg(long, value_name = "ADDRESS")]
        after: Option<String>,
    },
    /// Let mail go to an address again
    Remove {
        /// The address
        address: String,
        /// Only on this team's list [default: on every list where it stands]
        #[arg(long, value_name = "NAME")]
        team: Option<String>,
    },
}

/// A reply, and where it was given.
#[derive(Args, Clone, Debug)]
pub struct Explain {
    /// The reply as the next hop said it, "550 5.1.1 no such user"; lines are separated by line breaks or \n
    pub reply: String,
    /// Who said it, as a channel's `provider`
    #[arg(long, value_name = "ID")]
    pub provider: Option<String>,
    /// When: connect, auth, mail, rcpt, data, api, oauth, ndr
    #[arg(long, default_value = "rcpt")]
    pub phase: String,
}

/// What to do with messages.
#[derive(Debug, Subcommand)]
pub enum Message {
    /// List messages, newest first
    List(Box<List>),
    /// Show one message: each recipient, and what happened
    Show {
        /// The message's id
        id: String,
        /// Show its bytes as they are handed over
        #[arg(long)]
        raw: bool,
    },
    /// Take a message back, as far as it has not left
    Cancel {
        /// The message's id
        id: String,
        /// Only this recipient; may be given several times
        #[arg(long)]
        recipient: Vec<String>,
    },
    /// Make a message wait until it is released
    Hold {
        /// The message's id
        id: String,
        /// Only this recipient; may be given several times
        #[arg(long, value_name = "ADDRESS")]
        recipient: Vec<String>,
    },
    /// Let a held message go on, or all that are held because they were restored
    Release {
        /// The message's id
        #[arg(required_unless_present = "restored", conflicts_with = "restored")]
        id: Option<String>,
        /// Only this recipient; may be given several times
        #[arg(long, value_name = "ADDRESS", conflicts_with = "restored")]
        recipient: Vec<String>,
        /// Everything that is held because it was restored from a backup or adopted
        #[arg(long)]
        restored: bool,
        /// Of that, only what is on this channel
        #[arg(long, value_name = "NAME", requires = "restored")]
        channel: Option<String>,
    },
    /// Try again what failed, expired or was cancelled, as a new message
    Retry {
        /// The message's id
        id: String,
        /// Only this recipient; may be given several times
        #[arg(long, value_name = "ADDRESS")]
        recipient: Vec<String>,
    },
}

/// Which messages: those for which all of it holds.
#[derive(Args, Clone, Debug)]
#[command(after_help = LIST_EXAMPLES)]
pub struct List {
    /// With a recipient in this state: queued, leased, held, sent, failed, expired, cancelled, suppressed, captured; may be given several times
    #[arg(long)]
    pub status: Vec<String>,
    /// On this channel
    #[arg(long)]
    pub channel: Option<String>,
    /// Of this person
    #[arg(long, value_name = "ADDRESS")]
    pub person: Option<String>,
    /// Through this team
    #[arg(long, value_name = "NAME")]
    pub team: Option<String>,
    /// In this lane: now, normal, bulk
    #[arg(long)]
    pub lane: Option<String>,
    /// With this tag, KEY=VALUE; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = tag)]
    pub tag: Vec<(String, String)>,
    /// For this recipient, or for anybody of a domain (@example.org)
    #[arg(long, value_name = "ADDRESS")]
    pub recipient: Option<String>,
    /// By this author, as the From field names it
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<String>,
    /// With this in the subject, in capitals or not
    #[arg(long, value_name = "PART")]
    pub subject: Option<String>,
    /// With an open recipient, whichever, that waits on this: turn, pace, channel, schedule, retry, uncertain, delivery, person
    #[arg(long, value_name = "KIND")]
    pub waiting_on: Option<String>,
    /// Accepted at or after this time (2026-11-25T08:00:00Z)
    #[arg(long, value_name = "TIME")]
    pub created_after: Option<String>,
    /// Accepted before this time
    #[arg(long, value_name = "TIME")]
    pub created_before: Option<String>,
    /// Only count recipients by state: of all mail, or of a channel, a person, a team
    #[arg(long)]
    pub count: bool,
    /// At most so many
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub limit: u16,
    /// The page behind this message
    #[arg(long, value_name = "ID")]
    pub after: Option<String>,
}

const LIST_EXAMPLES: &str = "Examples:
  sendero message list --status failed --status expired --recipient @example.org
  sendero message list --team sales --from ana@example.com --subject invoice
  sendero message list --tag campaign=spring --lane bulk --created-after 2026-11-01T00:00:00Z
  sendero message list --channel sales --waiting-on pace
  sendero message list --count --channel sales";

fn tag(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or("a tag is written KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// What to do with channels.
#[derive(Debug, Subcommand)]
pub enum Channel {
    /// List the channels
    List,
    /// Show one channel: its limits and their use, what replies taught, its history
    Show {
        /// Its name
        name: String,
    },
    /// Try a channel step by step; no message is sent
    Test {
        /// Its name
        name: String,
        /// Try this address in MAIL FROM, too
        #[arg(long, value_name = "ADDRESS")]
        from: Option<String>,
    },
    /// Stop a channel; its mail waits
    Pause {
        /// Its name
        name: String,
    },
    /// Let a channel go on, or try it again
    Resume {
        /// Its name
        name: String,
    },
}

/// What to do with settings.
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Read the settings and say what is wrong with them
    Check,
}

/// What to do with the disk.
#[derive(Debug, Subcommand)]
pub enum Store {
    /// Compare the log with its index, and every record with the table of states; of a backup its checksums, too
    Check {
        /// A backup, or another data folder [default: the data folder]
        folder: Option<PathBuf>,
    },
    /// After a data folder was copied by hand: hold what is open in it at the next start, since the gateway it was copied
    /// from may have sent it
    Adopt,
}
