//! What happened in a history: a digest of all of it, and the last lines in words.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hasher};

/// Lines kept for a failure's report.
const TAIL: usize = 120;

/// The trace of a history.
pub struct Trace {
    hasher: DefaultHasher,
    tail: VecDeque<String>,
    print: bool,
}

impl Trace {
    /// An empty one; `print` shows every line at once.
    #[must_use]
    pub fn new(print: bool) -> Self {
        // DefaultHasher::new has fixed keys: the digest is the same in every process.
        Self { hasher: DefaultHasher::new(), tail: VecDeque::new(), print }
    }

    /// Something happened `at` milliseconds after the beginning.
    pub fn note(&mut self, at: u64, what: &str) {
        let line = format!("{:>6}.{:03} {what}", at / 1000, at % 1000);
        self.hasher.write(line.as_bytes());
        if self.print {
            println!("{line}");
        }
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }

    /// Stands for every line so far and their order.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.hasher.finish()
    }

    /// The last lines.
    #[must_use]
    pub fn tail(&self) -> Vec<String> {
        self.tail.iter().cloned().collect()
    }
}
