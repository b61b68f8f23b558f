//! Backups of the running gateway: one at a time, on a thread of its own.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use store::backup::{BackupError, Plan, Progress, of_running};
use store::embedded::Embedded;
use web::Problem;
use web::view::{Backup, BackupState};

/// Takes backups.
pub(crate) struct Backups {
    queue: Arc<Embedded>,
    data_dir: PathBuf,
    min_free: u64,
    master_key_file: PathBuf,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    /// The one that is being taken, or the last one.
    last: Mutex<Option<Backup>>,
    stopped: AtomicBool,
}

impl Shared {
    fn last(&self) -> MutexGuard<'_, Option<Backup>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, change: impl FnOnce(&mut Backup)) {
        if let Some(backup) = self.last().as_mut() {
            change(backup);
        }
    }

    fn told(&self, progress: Progress) -> ControlFlow<()> {
        self.note(|backup| {
            progress.step.clone_into(&mut backup.step);
            backup.done_bytes = progress.done_bytes;
            backup.total_bytes = progress.total_bytes;
        });
        if self.stopped.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl Backups {
    pub(crate) fn new(queue: Arc<Embedded>, data_dir: &Path, min_free: u64, master_key_file: PathBuf) -> Self {
        let data_dir = data_dir.to_owned();
        Self { queue, data_dir, min_free, master_key_file, shared: Arc::default(), thread: Mutex::default() }
    }

    /// The one that is being taken, or the last one.
    pub(crate) fn last(&self) -> Option<Backup> {
        self.shared.last().clone()
    }

    /// Begins one.
    ///
    /// # Errors
    /// Another one is being taken, or the gateway stops.
    pub(crate) fn begin(&self, folder: PathBuf) -> Result<Backup, Problem> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if self.shared.stopped.load(Ordering::Relaxed) {
            return Err(Problem::new(503, "dependency_unavailable", "the gateway is stopping"));
        }
        let at = intake::wall_clock();
        let backup = {
            let mut last = self.shared.last();
            if last.as_ref().is_some_and(|last| last.state == BackupState::Running) {
                return Err(Problem::new(409, "backup_running", BackupError::Running.to_string()));
            }
            let begun = Backup {
                folder: folder.clone(),
                started_at: at,
                state: BackupState::Running,
                step: "reading".to_owned(),
                done_bytes: 0,
                total_bytes: 0,
                summary: None,
                problem: None,
                master_key_file: self.master_key_file.clone(),
            };
            last.insert(begun).clone()
        };
        let plan = Plan { data_dir: self.data_dir.clone(), folder, min_free: self.min_free, at };
        let (queue, shared) = (Arc::clone(&self.queue), Arc::clone(&self.shared));
        let spawned = std::thread::Builder::new().name("backup".to_owned()).spawn(move || take(&queue, &plan, &shared));
        match spawned {
            Ok(spawned) => *thread = Some(spawned),
            Err(error) => {
                self.shared.note(|backup| backup.state = BackupState::Failed);
                return Err(Problem::new(500, "internal_error", format!("no thread could be started: {error}")));
            }
        }
        Ok(backup)
    }

    /// Ends one that is being taken; nothing of it is left.
    pub(crate) fn stop(&self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the backup did not end in order");
        }
    }
}

fn take(queue: &Embedded, plan: &Plan, shared: &Shared) {
    match of_running(queue, plan, &mut |progress| shared.told(progress)) {
        Ok(summary) => {
            let (messages, took) = (summary.open_messages, summary.took_ms);
            tracing::info!(folder = %summary.folder.display(), bytes = summary.bytes, open.messages = messages, elapsed_ms = took, "a backup was taken");
            shared.note(|backup| {
                backup.state = BackupState::Done;
                backup.summary = Some(summary);
            });
        }
        Err(error) => {
            tracing::warn!(folder = %plan.folder.display(), %error, "no backup was taken");
            shared.note(|backup| {
                backup.state = BackupState::Failed;
                backup.problem = Some(error.to_string());
            });
        }
    }
}
