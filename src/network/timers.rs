//! Times at which something is due.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::Hash;
use std::time::Instant;

/// At most one time for each key.
#[derive(Debug)]
pub struct DueTimes<K> {
    heap: BinaryHeap<Reverse<(Instant, K)>>,
    earliest: HashMap<K, Instant>,
}

impl<K> Default for DueTimes<K> {
    fn default() -> DueTimes<K> {
        DueTimes { heap: BinaryHeap::new(), earliest: HashMap::new() }
    }
}

impl<K: Copy + Eq + Ord + Hash> DueTimes<K> {
    /// Makes a key due at this time, unless it is due earlier already.
    pub fn set(&mut self, key: K, at: Instant) {
        if self.earliest.get(&key).is_none_or(|earlier| at < *earlier) {
            self.earliest.insert(key, at);
            self.heap.push(Reverse((at, key)));
        }
    }

    pub fn forget(&mut self, key: K) {
        self.earliest.remove(&key);
    }

    /// Takes a key that is due.
    pub fn next_due(&mut self, now: Instant) -> Option<K> {
        while let Some(&Reverse((at, key))) = self.heap.peek() {
            if self.earliest.get(&key) != Some(&at) {
                // It was forgotten, or was due earlier.
                self.heap.pop();
                continue;
            }
            if at > now {
                return None;
            }
            self.heap.pop();
            self.earliest.remove(&key);
            return Some(key);
        }
        None
    }

    /// When the next key is due.
    pub fn next_time(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn keys_are_due_once_in_order_of_time() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut times = DueTimes::default();
        for (key, seconds) in [('a', 3), ('b', 2), ('a', 1), ('a', 5), ('c', 4)] {
            times.set(key, at(seconds));
        }
        times.forget('c');
        assert_eq!(times.next_due(begin), None);
        assert_eq!(times.next_time(), Some(at(1)));
        assert_eq!(times.next_due(at(9)), Some('a'));
        assert_eq!(times.next_due(at(9)), Some('b'));
        assert_eq!(times.next_due(at(9)), None);
        assert_eq!(times.next_time(), None);
    }
}
