//! What the commands do, and how the process ends.

mod ask;
mod backup;
mod explain;
mod forget;
pub mod send;
mod serve;

use crate::cli::{Cli, Command, Config, Output, Store};
use crate::client::{Client, ClientError};
use crate::settings::{Flags, Loaded, Settings, SettingsError, load};
use crate::{logging, tour};
use std::process::ExitCode;
use std::time::Duration;

/// No gateway runs, as sysexits.h has it: a service is unavailable.
const NOT_RUNNING: u8 = 69;

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The gateway said no, or does not run.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Anything else; the text says what to do.
    #[error("{0}")]
    Other(String),
}

impl CommandError {
    /// Any error, with what it was about.
    pub fn about(what: impl std::fmt::Display, problem: impl std::fmt::Display) -> Self {
        Self::Other(format!("{what}: {problem}"))
    }

    fn code(&self) -> u8 {
        match self {
            Self::Client(ClientError::NotRunning(_)) => NOT_RUNNING,
            Self::Client(_) | Self::Settings(_) | Self::Other(_) => 1,
        }
    }
}

impl From<anyhow::Error> for CommandError {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(format!("{error:#}"))
    }
}

/// Carries a command out; the process ends with the answer.
#[must_use]
pub fn main(cli: Cli) -> ExitCode {
    let output = cli.output;
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            complain(&error, output);
            ExitCode::from(error.code())
        }
    }
}

fn complain(error: &CommandError, output: Output) {
    if let (Output::Json, CommandError::Client(ClientError::Refused(problem))) = (output, error)
        && let Ok(text) = serde_json::to_string(problem)
    {
        eprintln!("{text}");
        return;
    }
    eprintln!("sendero: {error}");
}

fn run(cli: Cli) -> Result<ExitCode, CommandError> {
    match cli.command {
        Command::CaptureServer => return block_on(tour::capture_server::run()).map(|()| ExitCode::SUCCESS),
        Command::Try { exit } => return block_on(tour::run(exit, cli.output)),
        _ => {}
    }
    let flags = Flags { config: cli.config, data_dir: cli.data_dir };
    let loaded = load(&flags, std::env::vars())?;
    match cli.command {
        Command::Serve { apply } => serve_logged(loaded, apply.as_deref()),
        Command::Config(Config::Check) => {
            check_settings(&loaded)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Explain(what) => explain::explain(&what, &loaded.settings.replies, cli.output),
        Command::Store(Store::Check { folder }) => backup::check(&loaded.settings, folder.as_deref(), cli.output),
        Command::Store(Store::Adopt) => backup::adopt(&loaded.settings, cli.output),
        Command::Restore { folder } => backup::restore(&loaded.settings, &folder, cli.output),
        Command::Backup { folder } => backup::backup(&client(&loaded), &loaded.settings, &folder, cli.output),
        command => block_on(ask::ask(&client(&loaded), command, cli.output)),
    }
}

fn client(loaded: &Loaded) -> Client {
    let named = loaded.file.is_some() || loaded.settings.data_dir != Settings::defaults().data_dir;
    Client::new(loaded.settings.socket()).of_any_user(named)
}

fn serve_logged(loaded: Loaded, apply: Option<&std::path::Path>) -> Result<ExitCode, CommandError> {
    let log = logging::start(&loaded.settings.log)?;
    for name in &loaded.ignored {
        tracing::warn!("the environment variable {name} sets nothing: settings are written SENDERO_SECTION__SETTING");
    }
    let ended = block_on(serve::serve(loaded.settings, apply));
    drop(log);
    ended
}

/// Threads that read the disk have so long once everything else has ended.
const READERS_END_WITHIN: Duration = Duration::from_secs(2);

fn block_on<T>(work: impl Future<Output = Result<T, CommandError>>) -> Result<T, CommandError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|problem| CommandError::about("no threads could be started", problem))?;
    let result = runtime.block_on(work);
    // What still reads for somebody who has gone keeps nobody from ending.
    runtime.shutdown_timeout(READERS_END_WITHIN);
    result
}

fn check_settings(loaded: &Loaded) -> Result<(), CommandError> {
    let file = loaded.file.as_ref().map_or_else(|| "built-in settings".to_owned(), |path| path.display().to_string());
    for name in &loaded.ignored {
        println!("{name}: sets nothing; settings are written SENDERO_SECTION__SETTING");
    }
    let settings = &loaded.settings;
    if let Some(files) = &settings.tls {
        intake::ServerTls::from_files(&files.certificate, &files.key).map_err(|problem| CommandError::about("[tls]", problem))?;
    }
    delivery::tls::Tls::new(&settings.network.trust).map_err(|problem| CommandError::Other(problem.to_string()))?;
    settings.replies.load()?;
    println!("{file}: no problem found");
    println!("data folder: {}", settings.data_dir.display());
    Ok(())
}
