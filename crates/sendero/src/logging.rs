//! The log on standard error: logfmt or JSON, written by a thread of its own.
//!
//! Who logs a line hands it over in memory and goes on. The writer takes all that waits in one
//! write, and at the end of the process writes what is left.

mod logfmt;

use crate::settings::{Log, LogFormat};
use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Bytes that may wait for the writer; beyond them who logs waits, so that no line is lost.
const MOST_WAITING: usize = 8 << 20;

/// The writer waits so long for further lines: one write for many costs less than a write for each.
const LINGER: Duration = Duration::from_millis(20);

/// Keeps the log going; writes what is left when it is dropped.
#[must_use = "the log ends when this is dropped"]
pub struct Logging {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<Waiting>,
    /// There is something to write, or the end has come.
    filled: Condvar,
    /// There is room again.
    emptied: Condvar,
}

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    ended: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, line: &[u8]) {
        let mut waiting = self.lock();
        while waiting.bytes.len() > MOST_WAITING && !waiting.ended {
            waiting = self.emptied.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        let was_empty = waiting.bytes.is_empty();
        waiting.bytes.extend_from_slice(line);
        let ended = waiting.ended;
        drop(waiting);
        if ended {
            // The writer is gone: late lines are written by whoever has them.
            self.write_rest();
        } else if was_empty {
            self.filled.notify_one();
        }
    }

    fn write_rest(&self) {
        let rest = std::mem::take(&mut self.lock().bytes);
        // Standard error may be closed; there is nobody left to tell.
        let _ = std::io::stderr().write_all(&rest);
    }

    fn run(&self) {
        let mut batch = Vec::new();
        loop {
            let mut waiting = self.lock();
            while waiting.bytes.is_empty() && !waiting.ended {
                waiting = self.filled.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
            let lingered = self.filled.wait_timeout_while(waiting, LINGER, |waiting| !waiting.ended);
            let (mut waiting, _) = lingered.unwrap_or_else(PoisonError::into_inner);
            let ended = waiting.ended;
            std::mem::swap(&mut batch, &mut waiting.bytes);
            drop(waiting);
            self.emptied.notify_all();
            let _ = std::io::stderr().write_all(&batch);
            batch.clear();
            if ended {
                return self.write_rest();
            }
        }
    }
}

/// Starts the log of this process.
///
/// # Errors
/// The level is not understood, or a log was started already.
pub fn start(settings: &Log) -> anyhow::Result<Logging> {
    let shared = Arc::new(Shared::default());
    let running = Arc::clone(&shared);
    let writer = std::thread::Builder::new().name("log".to_owned()).spawn(move || running.run())?;
    let logging = Logging { shared: Arc::clone(&shared), writer: Some(writer) };
    let filter: Targets = settings.level.parse()?;
    let registry = tracing_subscriber::registry().with(filter);
    let make = Lines(shared);
    match settings.format {
        LogFormat::Logfmt => registry.with(logfmt::Logfmt::new(make)).try_init()?,
        LogFormat::Json => {
            let layer = tracing_subscriber::fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(false);
            registry.with(layer.with_writer(make)).try_init()?;
        }
    }
    Ok(logging)
}

impl Drop for Logging {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.filled.notify_one();
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has nothing more to say.
            let _ = writer.join();
        }
    }
}

/// Hands out places to write one line to.
#[derive(Clone)]
struct Lines(Arc<Shared>);

/// One line, handed over when it is complete.
struct Line {
    shared: Arc<Shared>,
    bytes: Vec<u8>,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { shared: Arc::clone(&self.0), bytes: Vec::new() }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.shared.add(&self.bytes);
    }
}
