//! The capture server's process, as the tour sees it.

use super::capture_server::{Captured, Listening};
use crate::commands::CommandError;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

const START: Duration = Duration::from_secs(10);

/// The capture server.
pub(super) struct Hop {
    child: Child,
    /// Its input: it ends when this does.
    _input: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
    pub(super) pid: u32,
    pub(super) port: u16,
    gone: bool,
}

impl Hop {
    /// Starts this very program again, as a capture server.
    pub(super) async fn start() -> Result<Self, CommandError> {
        let failed = |problem: &dyn std::fmt::Display| CommandError::about("the capture server did not start", problem);
        let program = std::env::current_exe().map_err(|problem| failed(&problem))?;
        let mut child = Command::new(program)
            .arg("capture-server")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|problem| failed(&problem))?;
        let stdout = child.stdout.take().ok_or_else(|| failed(&"it has no output"))?;
        let mut lines = BufReader::new(stdout).lines();
        let first = timeout(START, lines.next_line()).await.map_err(|_| failed(&"it said nothing"))?;
        let first = first.map_err(|problem| failed(&problem))?.unwrap_or_default();
        let listening: Listening = serde_json::from_str(&first).map_err(|problem| failed(&problem))?;
        let pid = child.id().unwrap_or_default();
        Ok(Self { _input: child.stdin.take(), child, lines, pid, port: listening.port, gone: false })
    }

    /// The next message it took; `None` once it has ended.
    pub(super) async fn next(&mut self) -> Option<Captured> {
        while !self.gone {
            match self.lines.next_line().await {
                Ok(Some(line)) => {
                    if let Ok(captured) = serde_json::from_str(&line) {
                        return Some(captured);
                    }
                }
                Ok(None) | Err(_) => self.gone = true,
            }
        }
        None
    }

    /// True once its process has ended and all it said was read.
    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }

    /// Ends it.
    pub(super) async fn stop(mut self) {
        // It may have ended already.
        let _ = self.child.kill().await;
    }
}
