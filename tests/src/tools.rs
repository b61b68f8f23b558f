//! Programs of others, and ports.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Where programs are looked for beside `PATH`: a plain user's has no `sbin`.
const FURTHER: [&str; 3] = ["/usr/sbin", "/usr/bin", "/sbin"];

/// The program of that name.
///
/// # Panics
/// It is not installed: the text says what to run.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(FURTHER.iter().map(PathBuf::from));
    let found = folders.map(|folder| folder.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("the program '{name}' is not installed; run `cargo xtask packages`"))
}

/// Runs a command to its end with these bytes as input.
///
/// # Panics
/// It cannot be started.
pub fn run(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"));
    let mut pipe = child.stdin.take().expect("it is piped");
    // A program that does not read its input is judged by how it ends.
    let _ = pipe.write_all(input);
    drop(pipe);
    child.wait_with_output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Runs a command that must end with 0; returns what it printed.
///
/// # Panics
/// It ends otherwise: with what it said.
pub fn succeed(command: &mut Command, input: &[u8]) -> String {
    let output = run(command, input);
    let text = said(&output);
    assert!(output.status.success(), "{command:?} ended with {}:\n{text}", output.status);
    text
}

/// What a command printed, errors last.
#[must_use]
pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A free port of 127.0.0.1 that nobody is given by chance: outside the range from which the system
/// takes ports for outgoing connections, so that it is still free after a restart.
///
/// # Panics
/// None is free.
#[must_use]
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(97);
    for _ in 0..5000 {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(12_000 + start.wrapping_add(step) % 20_000).expect("it is below 32768");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no port of 127.0.0.1 between 12000 and 32000 is free");
}

/// Writes a file and returns its path.
///
/// # Panics
/// It cannot be written.
pub fn write(path: PathBuf, content: impl AsRef<[u8]>) -> PathBuf {
    std::fs::write(&path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    path
}

/// The last lines of a file, for the text of a failure.
#[must_use]
pub fn tail(path: &Path, lines: usize) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
