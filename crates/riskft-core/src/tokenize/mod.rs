//! Text -> WordPiece ids over a memory-mapped vocabulary.
//!
//! The steps are BERT's, as the `tokenizers` crate defines them (its ids are the tests' oracle):
//! clean the text, set CJK characters apart, NFD and strip nonspacing marks, lower case, split at
//! blanks and punctuation, then greedy longest match. `[CLS]` and other names of special tokens
//! within a text are plain text.

mod compile;
mod normalise;
mod vocabulary;

pub use compile::{compile, compile_tokenizer_json};
pub use normalise::Normaliser;
pub use vocabulary::{Layout, Vocabulary};

use crate::protocol::{cut, MAX_TEXT};

/// Splits texts; its buffers are kept between texts.
#[derive(Default)]
pub struct Tokenizer {
    word: Word,
}

#[derive(Default)]
struct Word {
    text: String,
    /// End of each character, bytes.
    ends: Vec<usize>,
    /// Hash of the text from the current start to each character's end.
    hashes: Vec<u64>,
    /// The word is longer than a word may be.
    overlong: bool,
}

impl Tokenizer {
    /// Replaces `ids` by the tokens of a text: `[CLS]`, at most `max_tokens - 2` pieces, `[SEP]`.
    ///
    /// Only the first [`MAX_TEXT`] bytes are read (cut at a character). A text without any piece
    /// (empty, blank, control characters only) has no tokens at all.
    pub fn encode(
        &mut self,
        vocabulary: &Vocabulary<'_>,
        text: &str,
        max_tokens: usize,
        ids: &mut Vec<u32>,
    ) {
        ids.clear();
        let most = max_tokens.saturating_sub(1);
        if most < 2 {
            return;
        }
        let special = vocabulary.special();
        ids.push(special.cls);
        self.word.clear();
        for c in vocabulary.normaliser().characters(cut(text, MAX_TEXT)) {
            if c.is_whitespace() {
                self.word.finish(vocabulary, ids);
            } else if normalise::is_punctuation(c) {
                self.word.finish(vocabulary, ids);
                self.word.push(c, vocabulary.max_characters());
                self.word.finish(vocabulary, ids);
            } else {
                self.word.push(c, vocabulary.max_characters());
            }
            if ids.len() >= most {
                break;
            }
        }
        self.word.finish(vocabulary, ids);
        if ids.len() == 1 {
            return ids.clear();
        }
        ids.truncate(most);
        ids.push(special.sep);
    }
}

impl Word {
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
