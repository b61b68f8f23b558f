//! Who may search, and when: a few at a time, and one search of each person.

use crate::problem::Problem;
use crate::viewer::Viewer;
use mail::PersonId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Searches at once, of everybody.
const AT_ONCE: usize = 4;
/// Of one person, searches that run or wait.
const OF_A_PERSON: usize = 8;
/// Of everybody, searches that run or wait.
const OF_ALL: usize = 64;

/// Hands out turns. Whoever goes away while waiting for one leaves the line.
pub(crate) struct Turns {
    running: Arc<Semaphore>,
    places: Arc<Semaphore>,
    people: Mutex<HashMap<PersonId, Weak<Line>>>,
}

/// One person's searches.
struct Line {
    running: Arc<Semaphore>,
    places: Arc<Semaphore>,
}

/// A search may run for as long as this is kept.
pub(crate) struct Turn {
    _permits: Vec<OwnedSemaphorePermit>,
    _line: Option<Arc<Line>>,
}

impl Default for Turns {
    fn default() -> Self {
        let permits = |count| Arc::new(Semaphore::new(count));
        Self { running: permits(AT_ONCE), places: permits(OF_ALL), people: Mutex::default() }
    }
}

impl Turns {
    /// Waits for a turn, behind who came before.
    ///
    /// # Errors
    /// Too many wait already: 429, `too_many_searches`. The operator is never told so.
    pub(crate) async fn next(&self, viewer: Viewer) -> Result<Turn, Problem> {
        let line = match viewer {
            Viewer::Operator => None,
            Viewer::Person(id) => Some(self.line(id)),
        };
        let mut permits = Vec::new();
        if let Some(line) = &line {
            permits.push(place(&line.places, "of yours")?);
            permits.push(place(&self.places, "of everybody")?);
            permits.push(turn(&line.running).await?);
        }
        permits.push(turn(&self.running).await?);
        Ok(Turn { _permits: permits, _line: line })
    }

    fn line(&self, person: PersonId) -> Arc<Line> {
        let mut people = self.people.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = people.get(&person).and_then(Weak::upgrade) {
            return line;
        }
        people.retain(|_, line| line.strong_count() > 0);
        let line = Arc::new(Line { running: Arc::new(Semaphore::new(1)), places: Arc::new(Semaphore::new(OF_A_PERSON)) });
        people.insert(person, Arc::downgrade(&line));
        line
    }
}

fn place(places: &Arc<Semaphore>, whose: &str) -> Result<OwnedSemaphorePermit, Problem> {
    Arc::clone(places).try_acquire_owned().map_err(|_| {
        let detail = format!("too many lists {whose} are asked for at once; ask again in a second");
        Problem::new(429, "too_many_searches", detail).retry_after(1)
    })
}

async fn turn(running: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Problem> {
    let closed = |_| Problem::new(503, "dependency_unavailable", "the gateway is stopping").retry_after(30);
    Arc::clone(running).acquire_owned().await.map_err(closed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use futures_util::FutureExt;

    const ANA: Viewer = Viewer::Person(PersonId(1));

    /// A turn that is there at once.
    fn at_once(turns: &Turns, viewer: Viewer) -> Option<Turn> {
        turns.next(viewer).now_or_never().map(Result::unwrap)
    }

    #[test]
    fn who_hangs_up_leaves_the_line_and_takes_no_place() {
        let turns = Turns::default();
        let first = at_once(&turns, ANA).unwrap();
        for _ in 0..1000 {
            assert!(at_once(&turns, ANA).is_none(), "one search of each person at a time");
        }
        assert!(at_once(&turns, Viewer::Person(PersonId(2))).is_some(), "others do not wait for them");
        drop(first);
        assert!(at_once(&turns, ANA).is_some());
        assert_eq!((turns.places.available_permits(), turns.running.available_permits()), (OF_ALL, AT_ONCE));
    }

    #[test]
    fn a_few_search_at_once_and_who_finds_too_many_waiting_is_told_when_to_come_again() {
        let turns = Turns::default();
        let running: Vec<_> = (0..4).map(|_| at_once(&turns, Viewer::Operator).unwrap()).collect();
        let mut waiting: Vec<_> = (0..OF_A_PERSON).map(|_| Box::pin(turns.next(ANA))).collect();
        assert!(waiting.iter_mut().all(|one| one.as_mut().now_or_never().is_none()));
        let refused = turns.next(ANA).now_or_never().unwrap().err().unwrap();
        assert_eq!((refused.status, refused.code, refused.retry_after), (429, "too_many_searches", Some(1)));
        drop((running, waiting));
        assert!(at_once(&turns, ANA).is_some());
    }
}
