//! WordPiece: words, and the longest pieces that they are made of.

use super::normalise;
use super::vocabulary::{self, Vocabulary};

#[derive(Default)]
pub(super) struct Word {
    text: String,
    /// End of each character, bytes.
    ends: Vec<usize>,
    /// Hash of the text from the current start to each character's end.
    hashes: Vec<u64>,
    /// The word is longer than a word may be.
    overlong: bool,
}

impl Word {
    /// Appends the pieces of a text; stops after a word with which `ids` has `most` tokens.
    pub(super) fn encode(
        &mut self,
        vocabulary: &Vocabulary<'_>,
        text: &str,
        most: usize,
        ids: &mut Vec<u32>,
    ) {
        self.clear();
        for c in vocabulary.normaliser().characters(text) {
            if c.is_whitespace() {
                self.finish(vocabulary, ids);
            } else if normalise::is_punctuation(c) {
                self.finish(vocabulary, ids);
                self.push(c, vocabulary.max_characters());
                self.finish(vocabulary, ids);
            } else {
                self.push(c, vocabulary.max_characters());
            }
            if ids.len() >= most {
                break;
            }
        }
        self.finish(vocabulary, ids);
    }

    fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
        self.overlong = false;
    }

    fn push(&mut self, c: char, max_characters: usize) {
        if self.ends.len() >= max_characters {
            self.overlong = true;
            return;
        }
        self.text.push(c);
        self.ends.push(self.text.len());
    }

    /// Appends the pieces of the word, or the unknown token if some part has none.
    fn finish(&mut self, vocabulary: &Vocabulary<'_>, ids: &mut Vec<u32>) {
        if self.ends.is_empty() {
            return;
        }
        let before = ids.len();
        if self.overlong || !self.split(vocabulary, ids) {
            ids.truncate(before);
            ids.push(vocabulary.special().unknown);
        }
        self.clear();
    }

    fn split(&mut self, vocabulary: &Vocabulary<'_>, ids: &mut Vec<u32>) -> bool {
        let mut start = 0;
        let mut first = 0;
        while first < self.ends.len() {
            let Some((id, count)) = self.longest(vocabulary, start, first) else { return false };
            ids.push(id);
            first += count;
            start = self.ends[first - 1];
        }
        true
    }

    /// The longest piece that begins at byte `start`, character `first`: (id, characters).
    fn longest(
        &mut self,
        vocabulary: &Vocabulary<'_>,
        start: usize,
        first: usize,
    ) -> Option<(u32, usize)> {
        let continuing = start > 0;
        let text = self.text.as_bytes();
        let mut hash = vocabulary::seed(continuing);
        let mut at = start;
        self.hashes.clear();
        for end in &self.ends[first..] {
            if end - start > vocabulary.max_piece() {
                break;
            }
            hash = vocabulary::extend(hash, &text[at..*end]);
            at = *end;
            self.hashes.push(hash);
        }
        (0..self.hashes.len()).rev().find_map(|i| {
            let piece = &text[start..self.ends[first + i]];
            vocabulary.find(self.hashes[i], piece, continuing).map(|id| (id, i + 1))
        })
    }
}
