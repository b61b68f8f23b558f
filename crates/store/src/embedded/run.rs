//! Mail in order: most of it comes in the order in which it leaves.

use super::lines::Key;
use std::collections::{BTreeMap, VecDeque};

/// The slot of what was taken out of the middle.
const GONE: u32 = u32::MAX;

/// Messages by key. What comes behind all others takes 24 bytes; what comes before some stands apart.
#[derive(Default)]
pub(crate) struct Run {
    /// Ascending; neither the first nor the last is gone.
    ordered: VecDeque<(Key, u32)>,
    gone: usize,
    late: BTreeMap<Key, u32>,
}

impl Run {
    /// Adds a message under a key that is not there yet.
    pub(crate) fn insert(&mut self, key: Key, slot: u32) {
        if self.ordered.back().is_none_or(|(last, _)| *last < key) {
            self.ordered.push_back((key, slot));
        } else {
            self.late.insert(key, slot);
        }
    }

    /// Takes a message out; false when it is not there.
    pub(crate) fn remove(&mut self, key: Key) -> bool {
        if self.late.remove(&key).is_some() {
            return true;
        }
        let Ok(at) = self.ordered.binary_search_by_key(&key, |(known, _)| *known) else { return false };
        let Some((_, slot)) = self.ordered.get_mut(at).filter(|(_, slot)| *slot != GONE) else { return false };
        *slot = GONE;
        self.gone += 1;
        self.tidy();
        true
    }

    /// The first of all.
    pub(crate) fn first(&self) -> Option<(Key, u32)> {
        let ordered = self.ordered.front().copied();
        let late = self.late.first_key_value().map(|(key, slot)| (*key, *slot));
        ordered.into_iter().chain(late).min()
    }

    /// All, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, u32)> {
        let ordered = self.ordered.iter().copied().filter(|(_, slot)| *slot != GONE);
        ordered.chain(self.late.iter().map(|(key, slot)| (*key, *slot)))
    }

    fn tidy(&mut self) {
        while self.ordered.pop_front_if(|(_, slot)| *slot == GONE).is_some()
            || self.ordered.pop_back_if(|(_, slot)| *slot == GONE).is_some()
        {
            self.gone -= 1;
        }
        if self.gone > self.ordered.len() / 2 {
            self.ordered.retain(|(_, slot)| *slot != GONE);
            self.gone = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail::Timestamp;
    use proptest::prelude::*;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Insert(i64),
        Remove(i64),
        First,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![(0i64..40).prop_map(Step::Insert), (0i64..40).prop_map(Step::Remove), Just(Step::First)]
    }

    proptest! {
        #[test]
        fn a_run_has_what_a_sorted_map_has(steps in prop::collection::vec(step(), 0..200)) {
            let (mut run, mut map) = (Run::default(), BTreeMap::new());
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Insert(at) => {
                        let key = (Timestamp(at), number as u64);
                        run.insert(key, number as u32);
                        map.insert(key, number as u32);
                    }
                    Step::Remove(at) => {
                        let key = map.keys().find(|key| key.0.0 >= at).copied().unwrap_or((Timestamp(at), 0));
                        prop_assert_eq!(run.remove(key), map.remove(&key).is_some());
                    }
                    Step::First => {
                        if let Some((key, _)) = run.first() {
                            prop_assert!(run.remove(key));
                            map.remove(&key);
                        }
                    }
                }
                prop_assert_eq!(run.first(), map.first_key_value().map(|(key, slot)| (*key, *slot)));
                let mut all: Vec<_> = run.iter().collect();
                all.sort_unstable();
                prop_assert_eq!(all, map.iter().map(|(key, slot)| (*key, *slot)).collect::<Vec<_>>());
                prop_assert!(run.gone <= run.ordered.len() / 2);
            }
        }
    }
}
