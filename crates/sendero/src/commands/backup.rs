//! `sendero backup`, `sendero restore`, `sendero store adopt` and `sendero store check`.

use super::{CommandError, block_on};
use crate::cli::Output;
use crate::client::{Client, ClientError, Content};
use crate::settings::Settings;
use crate::show;
use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use store::backup::{Manifest, Plan, Progress, of_stopped, restore as put_back};
use store::seal::default_key_path;
use web::view::{Backup, BackupRequest, BackupState};

/// How often a running backup is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Takes a backup, by the gateway that runs, else without one.
pub(super) fn backup(client: &Client, settings: &Settings, folder: &Path, output: Output) -> Result<ExitCode, CommandError> {
    let folder = std::path::absolute(folder).map_err(|problem| CommandError::about(folder.display(), problem))?;
    let begun = block_on(async {
        let request = serde_json::to_vec(&BackupRequest { folder: folder.clone() });
        let request = request.map_err(|problem| CommandError::about("the request", problem))?;
        match client.post::<Backup>("/api/v1/backup", &[], Content::Json(request.into())).await {
            Ok(begun) => follow(client, begun).await.map(Some),
            Err(ClientError::NotRunning(_)) => Ok(None),
            Err(problem) => Err(problem.into()),
        }
    })?;
    let backup = match begun {
        Some(backup) => backup,
        None => without_gateway(settings, &folder)?,
    };
    show::backup(&backup, output);
    Ok(ExitCode::SUCCESS)
}

async fn follow(client: &Client, mut backup: Backup) -> Result<Backup, CommandError> {
    let mut line = Line::default();
    let folder = backup.folder.clone();
    while backup.state == BackupState::Running {
        line.show(&backup.step, backup.done_bytes, backup.total_bytes);
        tokio::time::sleep(LOOK_EVERY).await;
        backup = client.get("/api/v1/backup", &[]).await?;
        if backup.folder != folder {
            return Err(CommandError::Other(format!(
                "another backup was begun; whether {} is there says how this one ended",
                folder.display()
            )));
        }
    }
    drop(line);
    match backup.state {
        BackupState::Done => Ok(backup),
        BackupState::Running | BackupState::Failed => {
            let problem = backup.problem.unwrap_or_else(|| "the gateway does not say why; its log may".to_owned());
            Err(CommandError::about("no backup was taken", problem))
        }
    }
}

fn without_gateway(settings: &Settings, folder: &Path) -> Result<Backup, CommandError> {
    let key = match &settings.master_key_file {
        Some(key) => key.clone(),
        None if settings.data_dir.join("id").exists() => {
            default_key_path(&settings.data_dir).map_err(|problem| CommandError::Other(problem.to_string()))?
        }
        None => std::path::PathBuf::new(),
    };
    let at = intake::wall_clock();
    let plan = Plan { data_dir: settings.data_dir.clone(), folder: folder.to_owned(), min_free: settings.queue.min_free, at };
    let mut line = Line::default();
    let taken = of_stopped(&plan, &mut |progress| line.progress(progress));
    drop(line);
    let summary = taken.map_err(|problem| CommandError::about("no backup was taken", problem))?;
    Ok(Backup {
        folder: summary.folder.clone(),
        started_at: at,
        state: BackupState::Done,
        step: String::new(),
        done_bytes: summary.bytes,
        total_bytes: summary.bytes,
        summary: Some(summary),
        problem: None,
        master_key_file: std::path::absolute(&key).unwrap_or(key),
    })
}

/// Puts a backup into the data folder that the settings name.
pub(super) fn restore(settings: &Settings, folder: &Path, output: Output) -> Result<ExitCode, CommandError> {
    let mut line = Line::default();
    let done = put_back(folder, &settings.data_dir, settings.master_key_file.as_deref(), &mut |progress| line.progress(progress));
    drop(line);
    let restored = done.map_err(|problem| CommandError::Other(problem.to_string()))?;
    show::restored(&restored, &settings.data_dir, output);
    Ok(ExitCode::SUCCESS)
}

/// Lets the next start hold what is open in a data folder that was copied.
pub(super) fn adopt(settings: &Settings, output: Output) -> Result<ExitCode, CommandError> {
    if Manifest::is_in(&settings.data_dir) {
        let folder = settings.data_dir.display();
        return Err(CommandError::Other(format!(
            "not adopted: {folder} is a backup; 'sendero restore {folder}' makes a data folder of it"
        )));
    }
    let queue = settings.data_dir.join("queue");
    store::embedded::adopt(&queue, intake::wall_clock()).map_err(|problem| CommandError::about("not adopted", problem))?;
    show::adopted(&settings.data_dir, output);
    Ok(ExitCode::SUCCESS)
}

/// Checks the queue of the data folder, or a backup.
pub(super) fn check(settings: &Settings, folder: Option<&Path>, output: Output) -> Result<ExitCode, CommandError> {
    let folder = folder.unwrap_or(&settings.data_dir);
    let mut problems = None;
    if Manifest::is_in(folder) {
        let mut line = Line::default();
        let checked = Manifest::read(folder)
            .and_then(|manifest| manifest.verify(folder, &mut |progress| line.progress(progress)).map(|found| (manifest, found)));
        drop(line);
        problems = Some(checked.map_err(|problem| CommandError::Other(problem.to_string()))?);
    }
    let queue = folder.join("queue");
    let report = store::embedded::check(&queue).map_err(|problem| CommandError::about(queue.display(), problem))?;
    let is_whole = problems.as_ref().is_none_or(|(_, problems)| problems.is_empty());
    show::store_report(&report, problems.as_ref(), output);
    Ok(if report.is_clean() && is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A line on a terminal that says how far something is; it is gone when this is.
#[derive(Default)]
struct Line {
    shown: Option<(u64, String)>,
}

impl Line {
    fn progress(&mut self, progress: Progress) -> ControlFlow<()> {
        self.show(progress.step, progress.done_bytes, progress.total_bytes);
        ControlFlow::Continue(())
    }

    fn show(&mut self, step: &str, done: u64, total: u64) {
        let percent = (done * 100).checked_div(total).unwrap_or(0).min(100);
        let shown = Some((percent, step.to_owned()));
        if !std::io::stderr().is_terminal() || self.shown == shown {
            return;
        }
        self.shown = shown;
        let filled = usize::try_from(percent / 4).unwrap_or(0);
        eprint!("\r{step:<10} [{:<25}] {percent:>3} %  {} of {} MiB ", "#".repeat(filled), done >> 20, total >> 20);
        let _ = std::io::stderr().flush();
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.shown.is_some() {
            eprint!("\r{:<70}\r", "");
        }
    }
}
