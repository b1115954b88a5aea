//! Text terms of the values seen last, bounded in bytes.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

/// Memory of an entry beside its text: slot, index, allocation.
const OVERHEAD: usize = 100;
const NONE: u32 = u32::MAX;

/// Least recently used entries leave first. A value that is looked up gets the term that was
/// stored for it, or none; so a hit changes the time of a score, never its bits.
pub(super) struct Cache {
    index: HashMap<u64, u32>,
    entries: Vec<Entry>,
    free: Vec<u32>,
    /// Most and least recently used.
    first: u32,
    last: u32,
    bytes: usize,
    most: usize,
    hasher: RandomState,
}

struct Entry {
    hash: u64,
    field: u32,
    text: Box<str>,
    term: f32,
    newer: u32,
    older: u32,
}

impl Entry {
    fn bytes(&self) -> usize {
        OVERHEAD + self.text.len()
    }
}

impl Cache {
    pub(super) fn new(most: usize) -> Self {
        Cache {
            index: HashMap::new(),
            entries: Vec::new(),
            free: Vec::new(),
            first: NONE,
            last: NONE,
            bytes: 0,
            most,
            hasher: RandomState::new(),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn hash(&self, field: usize, text: &str) -> u64 {
        self.hasher.hash_one((field, text))
    }

    pub(super) fn find(&mut self, field: usize, text: &str) -> Option<f32> {
        let at = *self.index.get(&self.hash(field, text))?;
        let entry = &self.entries[at as usize];
        if entry.field as usize != field || *entry.text != *text {
            return None;
        }
        if self.first != at {
            self.unlink(at);
            self.link(at);
        }
        Some(self.entries[at as usize].term)
    }

    /// Stores the term of a value. A value that alone exceeds the bound is not stored; one whose
    /// hash equals another's takes its place.
    pub(super) fn insert(&mut self, field: usize, text: &str, term: f32) {
        let hash = self.hash(field, text);
        let entry =
            Entry { hash, field: field as u32, text: text.into(), term, newer: NONE, older: NONE };
        let size = entry.bytes();
        if size > self.most {
            return;
        }
        if let Some(at) = self.index.get(&hash).copied() {
            self.remove(at);
        }
        while self.bytes + size > self.most && self.last != NONE {
            self.remove(self.last);
        }
        self.bytes += size;
        let at = match self.free.pop() {
            Some(at) => {
                self.entries[at as usize] = entry;
                at
            }
            None => {
                self.entries.push(entry);
                (self.entries.len() - 1) as u32
            }
        };
        self.index.insert(hash, at);
        self.link(at);
    }

    fn remove(&mut self, at: u32) {
        self.unlink(at);
        let entry = &mut self.entries[at as usize];
        self.bytes -= entry.bytes();
        self.index.remove(&entry.hash);
        entry.text = Box::default();
        self.free.push(at);
    }

    fn link(&mut self, at: u32) {
        let first = self.first;
        let entry = &mut self.entries[at as usize];
        entry.newer = NONE;
        entry.older = first;
        match first {
            NONE => self.last = at,
            first => self.entries[first as usize].newer = at,
        }
        self.first = at;
    }

    fn unlink(&mut self, at: u32) {
        let Entry { newer, older, .. } = self.entries[at as usize];
        match newer {
            NONE => self.first = older,
            newer => self.entries[newer as usize].older = older,
        }
        match older {
            NONE => self.last = newer,
            older => self.entries[older as usize].newer = newer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_leaves_first() {
        let mut cache = Cache::new(3 * (OVERHEAD + 1));
        for (text, term) in [("a", 1.0), ("b", 2.0), ("c", 3.0)] {
            cache.insert(0, text, term);
        }
        assert_eq!(cache.find(0, "a"), Some(1.0));
        cache.insert(0, "d", 4.0);
        assert_eq!(cache.find(0, "b"), None);
        assert_eq!(cache.find(0, "a"), Some(1.0));
        assert_eq!(cache.find(0, "c"), Some(3.0));
        assert_eq!(cache.find(0, "d"), Some(4.0));
        assert_eq!(cache.find(1, "d"), None, "another field");
    }

    #[test]
    fn the_bound_holds_and_slots_are_used_again() {
        let mut cache = Cache::new(10_000);
        for i in 0..10_000 {
            cache.insert(i % 3, &format!("value {i}"), i as f32);
            assert!(cache.bytes() <= 10_000);
        }
        assert!(cache.entries.len() <= 10_000 / OVERHEAD);
        assert_eq!(cache.find(9_999 % 3, "value 9999"), Some(9_999.0));
        cache.insert(0, &"x".repeat(20_000), 1.0);
        assert_eq!(cache.find(0, &"x".repeat(20_000)), None, "larger than the cache");
        cache.insert(0, "again", 1.0);
        let before = cache.bytes();
        cache.insert(0, "again", 2.0);
        assert_eq!(cache.bytes(), before);
        assert_eq!(cache.find(0, "again"), Some(2.0));
    }

    #[test]
    fn a_cache_of_no_bytes_stores_nothing() {
        let mut cache = Cache::new(0);
        cache.insert(0, "", 1.0);
        assert_eq!(cache.find(0, ""), None);
        assert_eq!(cache.bytes(), 0);
    }
}
