//! Rules of the operator's own for what replies mean.

use super::SettingsError;
use mail::classify::Rules;
use std::path::PathBuf;

/// What replies mean.
#[derive(Clone, Debug, Default)]
pub struct Replies {
    /// A file of rules that go before the built-in ones.
    pub rules: Option<PathBuf>,
}

impl Replies {
    /// Reads the operator's rules, where there are any; the built-in ones stand behind them.
    ///
    /// # Errors
    /// The file cannot be read, or which row of it is wrong, and why.
    pub fn load(&self) -> Result<Rules, SettingsError> {
        let Some(path) = &self.rules else { return Ok(Rules::default()) };
        let about = |problem: String| SettingsError(vec![format!("[replies] rules: {}: {problem}", path.display())]);
        let text = std::fs::read_to_string(path).map_err(|problem| about(format!("cannot be read: {problem}")))?;
        Rules::with_operator(&text).map_err(|problem| about(problem.to_string()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn rules_that_cannot_be_used_are_refused_with_their_file_and_row() {
        assert!(Replies::default().load().unwrap().knows("gmail"));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("own.toml");
        let load = || Replies { rules: Some(path.clone()) }.load();
        assert!(load().unwrap_err().to_string().contains("own.toml: cannot be read"));
        let row = "provider = \"ours\"\nphase = \"rcpt\"\ncode = 550\nclass = \"other\"\nscope = \"recipient\"\n\
                   permanence = \"permanent\"\naction = \"bounce_recipient\"\n";
        std::fs::write(&path, format!("[[reply]]\n{row}")).unwrap();
        assert!(load().unwrap().knows("ours"));
        std::fs::write(&path, format!("[[reply]]\n{}", row.replace("\"recipient\"", "\"channel\""))).unwrap();
        let problem = load().unwrap_err().to_string();
        assert!(problem.contains("[replies] rules") && problem.contains("reply 1 (provider \"ours\")"), "{problem}");
    }
}
