//! What the fuzz target calls; the same function runs in the tests over a kept corpus.

use super::read::Reader;
use super::sources::from_text;
use super::{Settings, SettingsError, unsafe_listener};
use crate::directory_file;
use std::path::Path;

/// A secret that somebody wrote into the file itself, as text and as a number.
const PLANTED: [&str; 2] = ["\"planted-7305\"", "7305"];

/// Settings and directory files are read, or refused with reasons: no listener is open to strangers,
/// and no reason shows a secret.
pub fn settings(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match read(text) {
        Ok(settings) => accepted(&settings),
        Err(SettingsError(problems)) => {
            assert!(!problems.is_empty());
            let has_place = |problem: &String| problem.starts_with("a.toml: ") || problem.starts_with("settings: ");
            assert!(problems.iter().all(has_place), "{problems:?}");
        }
    }
    // What is not planted may be shown.
    if !text.contains("7305") {
        PLANTED.iter().for_each(|secret| keeps_secret(text, secret));
    }
}

fn read(text: &str) -> Result<Settings, SettingsError> {
    let mut reader = Reader::new(from_text(text, "a.toml", Path::new("/etc/sendero"))?);
    let settings = Settings::read(&mut reader);
    reader.finish().map(|()| settings)
}

fn accepted(settings: &Settings) {
    assert!(settings.submission.iter().all(|listener| unsafe_listener(listener).is_none()));
    assert!((1024..=256 << 20).contains(&settings.limits.message_size));
    assert!(settings.limits.connections > 0 && settings.limits.recipients > 0);
    assert!(
        settings.data_dir.starts_with("/etc/sendero")
            || settings.data_dir.is_absolute()
            || settings.data_dir == Path::new("sendero-data")
    );
}

fn keeps_secret(text: &str, secret: &str) {
    let channel = "[[channel]]\nname = \"c\"\nowner = \"instance\"\nhost = \"mx.example\"\nusername = \"ana\"\npassword = ";
    let shown = match directory_file::parse(&format!("{text}\n{channel}{secret}\n")) {
        Ok(desired) => format!("{desired:?}"),
        Err(problem) => format!("{problem:#} {problem:?}"),
    };
    assert!(!shown.contains("7305"), "{shown}");
}
