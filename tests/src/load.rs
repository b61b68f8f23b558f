//! Submitting connections that go on until told to stop, whatever happens to the gateway.

use crate::message;
use crate::next_hop::{NextHop, Taken};
use crate::submitter::Submitter;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Error, ErrorKind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Bytes of a message.
const SIZE: usize = 4096;
/// So many messages may wait in the gateway before no more are submitted.
const MOST_WAITING: u64 = 400;

/// A load of messages, each with a name of its own.
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    numbers: AtomicU64,
    tally: Mutex<Tally>,
    changed: Condvar,
}

/// What the submitting side knows.
#[derive(Clone, Debug, Default)]
struct Tally {
    acknowledged: BTreeSet<String>,
    unknown: BTreeSet<String>,
    refused: Vec<String>,
}

/// The comparison of both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Messages that were answered with 250.
    pub acknowledged: usize,
    /// Messages whose connection broke before an answer.
    pub unknown: usize,
    /// Acknowledged messages that never arrived.
    pub lost: Vec<String>,
    /// Arrivals beyond the first of a message.
    pub doubles: usize,
    /// Arrivals with other bytes than were submitted.
    pub altered: Vec<String>,
    /// Arrivals that nobody submitted.
    pub strangers: usize,
}

impl Load {
    /// Begins to submit to this port over so many connections, in step with what the next hop takes.
    #[must_use]
    pub fn start(connections: usize, port: u16, hop: &Arc<NextHop>) -> Self {
        let shared = Arc::new(Shared::default());
        let threads = (0..connections)
            .map(|_| {
                let (shared, hop) = (Arc::clone(&shared), Arc::clone(hop));
                thread::spawn(move || shared.submit_until_stopped(port, &hop))
            })
            .collect();
        Self { shared, threads }
    }

    /// How many messages were acknowledged so far.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        self.shared.tally().acknowledged.len()
    }

    /// Waits until `more` messages than now are acknowledged, or `patience` is over.
    pub fn wait_for_more(&self, more: usize, patience: Duration) {
        let until = Instant::now() + patience;
        let mut tally = self.shared.tally();
        let wanted = tally.acknowledged.len() + more;
        while tally.acknowledged.len() < wanted {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            tally = self.shared.changed.wait_timeout(tally, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Ends the submitting side.
    ///
    /// # Panics
    /// A message was refused, or not answered.
    pub fn stop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("a submitting thread does not panic");
        }
        let refused = self.shared.tally().refused.clone();
        assert!(refused.is_empty(), "refused: {:?}", refused.first());
    }

    /// Waits until everything acknowledged has arrived, as far as it does within `patience`.
    #[must_use]
    pub fn arrived(&self, hop: &NextHop, patience: Duration) -> bool {
        let mut missing = self.shared.tally().acknowledged.clone();
        let mut seen = 0;
        hop.wait(patience, |taken| {
            for message in &taken[seen..] {
                missing.remove(&name_of(message));
            }
            seen = taken.len();
            missing.is_empty()
        })
    }

    /// Compares what was submitted with what arrived.
    #[must_use]
    pub fn verdict(&self, hop: &NextHop) -> Verdict {
        let tally = self.shared.tally().clone();
        hop.look(|taken| tally.compare(taken))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, note: impl FnOnce(&mut Tally)) {
        note(&mut self.tally());
        self.changed.notify_all();
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn submit_until_stopped(&self, port: u16, hop: &NextHop) {
        while !self.is_stopped() {
            match Submitter::connect(port) {
                Ok(client) => self.submit_all(client, hop),
                // The gateway is down: somebody is about to start it again. Or it was killed in the middle
                // of the handshake, of which the kernel does not always tell this side.
                Err(_) => thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// One connection to its end.
    fn submit_all(&self, mut client: Submitter, hop: &NextHop) {
        while !self.is_stopped() {
            let acknowledged = self.tally().acknowledged.len() as u64;
            let room = |taken: &[Taken]| acknowledged < taken.len() as u64 + MOST_WAITING;
            if !hop.wait(Duration::from_millis(100), room) {
                continue;
            }
            let name = format!("load-{}", self.numbers.fetch_add(1, Ordering::Relaxed));
            let message = message::numbered(&name, SIZE);
            match client.submit("ana@example.com", &["luis@example.org"], &message) {
                Ok(answer) if answer.is_positive() => self.note(|tally| tally.acknowledged.extend([name])),
                Ok(answer) if answer.code == 421 => return,
                Ok(answer) => self.note(|tally| tally.refused.push(format!("{name}: {answer:?}"))),
                Err(error) => {
                    let silence = is_silence(&error).then(|| format!("{name}: no answer"));
                    self.note(|tally| {
                        tally.unknown.insert(name);
                        tally.refused.extend(silence);
                    });
                    return;
                }
            }
        }
    }
}

impl Tally {
    fn compare(&self, taken: &[Taken]) -> Verdict {
        let mut copies: BTreeMap<String, usize> = BTreeMap::new();
        let mut altered = Vec::new();
        for message in taken {
            let name = name_of(message);
            let wanted = message::numbered(&name, SIZE);
            if let Err(problem) = message::only_added_in_front(&message.bytes, &wanted, &["Received"]) {
                altered.push(problem);
            }
            *copies.entry(name).or_default() += 1;
        }
        let known = |name: &String| self.acknowledged.contains(name) || self.unknown.contains(name);
        Verdict {
            acknowledged: self.acknowledged.len(),
            unknown: self.unknown.len(),
            lost: self.acknowledged.iter().filter(|name| !copies.contains_key(*name)).cloned().collect(),
            doubles: copies.values().map(|count| count - 1).sum(),
            altered,
            strangers: copies.keys().filter(|name| !known(name)).count(),
        }
    }
}

/// The connection is there and nobody answers: a killed gateway breaks it, so this one lives and forgot us.
fn is_silence(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn name_of(message: &Taken) -> String {
    message::field(&message.bytes, "Subject").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(name: &str) -> Taken {
        let bytes = [b"Received: from x\r\n".to_vec(), message::numbered(name, SIZE)].concat();
        Taken { reverse_path: String::new(), parameters: String::new(), recipients: Vec::new(), bytes }
    }

    #[test]
    fn a_lost_a_double_an_altered_and_a_strange_message_are_seen() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let tally = Tally { acknowledged: names(&["a", "b"]), unknown: names(&["c", "d"]), refused: Vec::new() };
        let mut spoiled = taken("c");
        spoiled.bytes.extend_from_slice(b"more");
        let verdict = tally.compare(&[taken("a"), taken("a"), spoiled, taken("e")]);
        assert_eq!(verdict.lost, ["b"]);
        assert_eq!((verdict.doubles, verdict.altered.len(), verdict.strangers), (1, 1, 1));
    }
}
