//! Backups of the running gateway: one at a time, on a thread of its own.

use mail::Timestamp;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use store::backup::{BackupError, Plan, Progress, Summary, of_running};
use store::embedded::Embedded;
use web::Problem;
use web::view::{Backup, BackupState};

/// How long a stop waits for a backup to end. It ends between two pieces; a disk that hangs may keep it for ever.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// How often it looks whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(20);

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
    last: Mutex<Option<One>>,
    stopped: AtomicBool,
}

/// One backup.
struct One {
    folder: PathBuf,
    begun: Timestamp,
    at: Progress,
    state: State,
}

/// How it is.
enum State {
    Running,
    Done(Summary),
    Failed(String),
}

impl Shared {
    fn last(&self) -> MutexGuard<'_, Option<One>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_running(&self) -> bool {
        self.last().as_ref().is_some_and(|last| matches!(last.state, State::Running))
    }

    fn ended(&self, state: State) {
        if let Some(last) = self.last().as_mut() {
            last.state = state;
        }
    }

    fn told(&self, progress: Progress) -> ControlFlow<()> {
        if let Some(last) = self.last().as_mut() {
            last.at = progress;
        }
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
        self.notice_a_panic(&self.thread());
        self.shared.last().as_ref().map(|last| self.view(last))
    }

    /// Begins one.
    ///
    /// # Errors
    /// Another one is being taken, or the gateway stops.
    pub(crate) fn begin(&self, folder: PathBuf) -> Result<Backup, Problem> {
        let mut thread = self.thread();
        if self.shared.stopped.load(Ordering::Relaxed) {
            return Err(Problem::new(503, "dependency_unavailable", "the gateway is stopping"));
        }
        self.notice_a_panic(&thread);
        if self.shared.is_running() {
            return Err(Problem::new(409, "backup_running", BackupError::Running.to_string()));
        }
        let begun = intake::wall_clock();
        let at = Progress { step: "reading", done_bytes: 0, total_bytes: 0 };
        let one = One { folder: folder.clone(), begun, at, state: State::Running };
        let view = self.view(&one);
        *self.shared.last() = Some(one);
        let plan = Plan { data_dir: self.data_dir.clone(), folder, min_free: self.min_free, at: begun };
        let (queue, shared) = (Arc::clone(&self.queue), Arc::clone(&self.shared));
        let spawned = std::thread::Builder::new().name("backup".to_owned()).spawn(move || take(&queue, &plan, &shared));
        match spawned {
            Ok(spawned) => *thread = Some(spawned),
            Err(error) => {
                let why = format!("no thread could be started: {error}");
                self.shared.ended(State::Failed(why.clone()));
                return Err(Problem::new(500, "internal_error", why));
            }
        }
        Ok(view)
    }

    /// Ends one that is being taken; nothing of it is left, unless a disk does not answer: that is not waited for.
    pub(crate) fn stop(&self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread().take() else { return };
        let until = Instant::now() + STOP_GRACE;
        while !thread.is_finished() {
            if Instant::now() > until {
                let waited_s = STOP_GRACE.as_secs();
                return tracing::warn!(waited_s, "a backup did not end; what it leaves has a name that ends with .partial");
            }
            std::thread::sleep(LOOK_EVERY);
        }
        if thread.join().is_err() {
            tracing::error!("the backup did not end in order");
        }
    }

    fn thread(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread that is gone takes no backup, whatever it said last.
    fn notice_a_panic(&self, thread: &Option<JoinHandle<()>>) {
        if thread.as_ref().is_some_and(JoinHandle::is_finished) && self.shared.is_running() {
            self.shared.ended(State::Failed("it broke off by a mistake of the gateway, which its log tells of".to_owned()));
        }
    }

    fn view(&self, one: &One) -> Backup {
        let (state, summary, problem) = match &one.state {
            State::Running => (BackupState::Running, None, None),
            State::Done(summary) => (BackupState::Done, Some(summary.clone()), None),
            State::Failed(why) => (BackupState::Failed, None, Some(why.clone())),
        };
        Backup {
            folder: one.folder.clone(),
            started_at: one.begun,
            state,
            step: one.at.step.to_owned(),
            done_bytes: one.at.done_bytes,
            total_bytes: one.at.total_bytes,
            summary,
            problem,
            master_key_file: self.master_key_file.clone(),
        }
    }
}

fn take(queue: &Embedded, plan: &Plan, shared: &Shared) {
    match of_running(queue, plan, &mut |progress| shared.told(progress)) {
        Ok(summary) => {
            let (messages, took) = (summary.open_messages, summary.took_ms);
            tracing::info!(folder = %summary.folder.display(), bytes = summary.bytes, open.messages = messages, elapsed_ms = took, "a backup was taken");
            shared.ended(State::Done(summary));
        }
        Err(error) => {
            tracing::warn!(folder = %plan.folder.display(), %error, "no backup was taken");
            shared.ended(State::Failed(error.to_string()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::embedded::Options;

    #[test]
    fn a_backup_that_breaks_off_has_failed_and_says_so() {
        let home = tempfile::tempdir().expect("a folder");
        let options = Options { min_free: 0, reserve: 0, ..Options::new(home.path().join("queue"), Timestamp(0)) };
        let queue = Arc::new(Embedded::open(options).expect("a queue"));
        let backups = Backups::new(queue, home.path(), 0, PathBuf::new());
        let at = Progress { step: "log", done_bytes: 1, total_bytes: 2 };
        let one = One { folder: home.path().join("backup"), begun: Timestamp(0), at, state: State::Running };
        *backups.shared.last() = Some(one);
        let broken = std::thread::spawn(|| std::panic::resume_unwind(Box::new("a mistake")));
        while !broken.is_finished() {
            std::thread::yield_now();
        }
        *backups.thread() = Some(broken);
        let last = backups.last().expect("the one that was begun");
        assert_eq!(last.state, BackupState::Failed);
        assert!(last.problem.is_some_and(|why| why.contains("its log")), "with a reason");
        assert!(backups.begin(home.path().join("second")).is_ok(), "another one can be begun");
        backups.stop();
    }
}
