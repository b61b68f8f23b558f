//! The figures that tests print, gathered into one table.
//!
//! A test prints a line `SENDERO-FIGURE name=value name=value ...`; the first name says what was counted.

use std::collections::BTreeMap;

const MARK: &str = "SENDERO-FIGURE ";

/// What the tests counted: for each first name, every name with the sum of its values.
#[derive(Default)]
pub struct Figures {
    rows: BTreeMap<String, Vec<(String, u64)>>,
    passed: u64,
    failed: u64,
}

impl Figures {
    /// Takes what one line of a test run tells.
    pub fn read(&mut self, line: &str) {
        if let Some(at) = line.find(MARK) {
            self.add(&line[at + MARK.len()..]);
        }
        if let Some(result) = line.strip_prefix("test result: ") {
            self.passed += count_before(result, " passed");
            self.failed += count_before(result, " failed");
        }
    }

    fn add(&mut self, pairs: &str) {
        let pairs: Vec<(String, u64)> = pairs
            .split_whitespace()
            .filter_map(|pair| pair.split_once('='))
            .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
            .collect();
        let Some((first, _)) = pairs.first() else {
            return;
        };
        let row = self.rows.entry(first.clone()).or_default();
        for (name, value) in pairs {
            match row.iter_mut().find(|(known, _)| *known == name) {
                Some((_, sum)) => *sum += value,
                None => row.push((name, value)),
            }
        }
    }

    /// How often something was counted that must never happen.
    pub fn lost(&self) -> u64 {
        self.rows.values().flatten().filter(|(name, _)| name == "lost").map(|(_, value)| value).sum()
    }

    /// The table.
    pub fn table(&self) -> String {
        let mut text = String::from("\nwhat was tried                 times  of which\n");
        for row in self.rows.values() {
            let (name, times) = &row[0];
            let rest: Vec<String> = row[1..].iter().map(|(name, value)| format!("{} {value}", name.replace('_', " "))).collect();
            text.push_str(&format!("{:<28} {times:>7}  {}\n", name.replace('_', " "), rest.join(", ")));
        }
        text.push_str(&format!("\n{} passed, {} failed\n", self.passed, self.failed));
        text
    }
}

fn count_before(text: &str, word: &str) -> u64 {
    let before = text.find(word).map_or("", |at| &text[..at]);
    before.rsplit(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_the_same_name_add_up_and_losses_are_seen() {
        let mut figures = Figures::default();
        figures.read("test kills ... SENDERO-FIGURE kills=50 lost=0 doubles=3");
        figures.read("SENDERO-FIGURE kills=10 lost=1 doubles=0");
        figures.read("test result: ok. 12 passed; 1 failed; 0 ignored");
        assert_eq!(figures.lost(), 1);
        let table = figures.table();
        assert!(table.contains("kills                             60  lost 1, doubles 3"), "{table}");
        assert!(table.contains("\n12 passed, 1 failed\n"), "{table}");
    }
}
