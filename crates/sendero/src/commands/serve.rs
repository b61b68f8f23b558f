//! `sendero serve`: runs until it is told to stop.

use super::CommandError;
use crate::directory_file;
use crate::gateway::Gateway;
use crate::settings::Settings;
use std::path::Path;
use std::process::ExitCode;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Runs the gateway until SIGTERM or SIGINT, or until its store fails.
pub(super) async fn serve(settings: Settings, apply: Option<&Path>) -> Result<ExitCode, CommandError> {
    let desired = match apply {
        Some(path) => Some(directory_file::read(path).map_err(|problem| CommandError::Other(problem.to_string()))?),
        None => None,
    };
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut hangup = listen(SignalKind::hangup())?;
    let running = Gateway::start(settings, desired).await?;
    let failed = loop {
        tokio::select! {
            _ = terminate.recv() => break None,
            _ = interrupt.recv() => break None,
            _ = hangup.recv() => running.reload(),
            why = running.failed() => break Some(why),
        }
    };
    running.stop().await;
    match failed {
        None => Ok(ExitCode::SUCCESS),
        Some(why) => Err(CommandError::Other(format!("the store failed and the gateway has stopped: {why}"))),
    }
}

fn listen(kind: SignalKind) -> Result<Signal, CommandError> {
    signal(kind).map_err(|problem| CommandError::about("signals cannot be received", problem))
}
