//! Where settings come from: a file, the environment, flags.

use super::read::{Entry, Reader};
use super::{Settings, SettingsError};
use std::path::{Path, PathBuf};
use toml::Value;

/// Files that are tried when none is named.
const USUAL: &[&str] = &["sendero.toml", "/etc/sendero/sendero.toml"];
/// Variables of ours, and of test tools, that set nothing here.
const OTHER_VARIABLES: &[&str] = &["SENDERO_CONFIG", "SENDERO_BIN", "SENDERO_TRY_PAUSE"];
/// The environment may set these; tables of arrays are for the file.
const PREFIX: &str = "SENDERO_";
/// Settings without a section, as the environment spells them.
const TOP: &[&str] = &["data_dir", "hostname", "public_url"];

/// What the command line sets.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// The file; it must exist.
    pub config: Option<PathBuf>,
    /// `data_dir`.
    pub data_dir: Option<PathBuf>,
}

/// Settings with where they came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// The file that was read.
    pub file: Option<PathBuf>,
    /// Environment variables that look like settings and are none.
    pub ignored: Vec<String>,
}

/// Reads the settings. `environment` are the variables of the process.
///
/// # Errors
/// A file that cannot be read, and everything in it that is wrong, at once.
pub fn load(flags: &Flags, environment: impl Iterator<Item = (String, String)>) -> Result<Loaded, SettingsError> {
    let file = file(flags)?;
    let mut entries = match &file {
        Some(path) => from_file(path)?,
        None => Vec::new(),
    };
    let mut ignored = Vec::new();
    for (name, value) in environment {
        match from_variable(&name, value) {
            Some(entry) => entries.push(entry),
            None if name.starts_with(PREFIX) && !OTHER_VARIABLES.contains(&name.as_str()) => ignored.push(name),
            None => {}
        }
    }
    if let Some(folder) = &flags.data_dir {
        entries.push(entry("data_dir", Value::String(folder.to_string_lossy().into_owned()), "--data-dir", PathBuf::new()));
    }
    let mut reader = Reader::new(entries);
    let settings = Settings::read(&mut reader);
    reader.finish()?;
    Ok(Loaded { settings, file, ignored })
}

fn file(flags: &Flags) -> Result<Option<PathBuf>, SettingsError> {
    match &flags.config {
        Some(path) if path.is_file() => Ok(Some(path.clone())),
        Some(path) => Err(one(format!("there is no settings file {}; name another with --config", path.display()))),
        None => {
            let found = USUAL.iter().map(PathBuf::from).find(|path| path.is_file());
            found.map(|path| trusted(&path).map(|()| path)).transpose()
        }
    }
}

/// A file that nobody named is obeyed only if nobody else can have put it there: a stranger's folder
/// must not decide where secrets go.
fn trusted(path: &Path) -> Result<(), SettingsError> {
    use std::os::unix::fs::MetadataExt;
    let about = std::fs::metadata(path).map_err(|problem| one(format!("{} cannot be read: {problem}", path.display())))?;
    let ours = about.uid() == rustix::process::geteuid().as_raw() || about.uid() == 0;
    if ours && about.mode() & 0o002 == 0 {
        return Ok(());
    }
    Err(one(format!("{} is another user's, or everybody may write to it; name it with --config if you mean it", path.display())))
}

fn one(problem: String) -> SettingsError {
    SettingsError(vec![problem])
}

fn from_file(path: &Path) -> Result<Vec<Entry>, SettingsError> {
    let text = std::fs::read_to_string(path).map_err(|problem| one(format!("{} cannot be read: {problem}", path.display())))?;
    let base = path.parent().map(Path::to_path_buf).unwrap_or_default();
    from_text(&text, &path.display().to_string(), &base)
}

/// The settings of a file's text.
pub(super) fn from_text(text: &str, origin: &str, base: &Path) -> Result<Vec<Entry>, SettingsError> {
    let table: toml::Table =
        toml::from_str(text).map_err(|problem| one(format!("{origin}: {}", problem.to_string().trim_end())))?;
    let mut entries = Vec::new();
    flatten("", table, &mut |key, value| entries.push(entry(&key, value, origin, base.to_path_buf())));
    Ok(entries)
}

fn flatten(prefix: &str, table: toml::Table, found: &mut impl FnMut(String, Value)) {
    for (name, value) in table {
        let key = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
        match value {
            Value::Table(table) => flatten(&key, table, found),
            Value::Array(values) if !values.is_empty() && values.iter().all(Value::is_table) => {
                for (number, value) in values.into_iter().enumerate() {
                    let Value::Table(table) = value else { continue };
                    let key = format!("{key}[{number}]");
                    if table.is_empty() {
                        found(key, Value::Table(table));
                    } else {
                        flatten(&key, table, found);
                    }
                }
            }
            other => found(key, other),
        }
    }
}

/// `SENDERO_QUEUE__MIN_FREE=1GiB`. Lists are separated by commas.
fn from_variable(name: &str, value: String) -> Option<Entry> {
    let key = name.strip_prefix(PREFIX)?.to_ascii_lowercase();
    let key = match key.split_once("__") {
        Some((section, setting)) => format!("{}.{}", section, setting.replace("__", ".")),
        // Systems that run containers set names such as SENDERO_PORT by themselves.
        None if TOP.contains(&key.as_str()) => key,
        None => return None,
    };
    let is_list = matches!(key.as_str(), "http.listen" | "network.allow" | "network.trust" | "queue.retry");
    let value = if is_list { list(&value) } else { Value::String(value) };
    Some(entry(&key, value, name, PathBuf::new()))
}

fn list(text: &str) -> Value {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    Value::Array(parts.map(|part| Value::String(part.to_owned())).collect())
}

fn entry(key: &str, value: Value, origin: &str, base: PathBuf) -> Entry {
    Entry { key: key.to_owned(), value, origin: origin.to_owned(), base }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_settings_file_that_others_may_write_to_is_not_obeyed_unless_it_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sendero.toml");
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(trusted(&path).is_ok());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(trusted(&path).unwrap_err().to_string().contains("--config"));
        let flags = Flags { config: Some(path), data_dir: None };
        assert!(load(&flags, std::iter::empty()).is_ok());
    }
}
