//! Text -> token ids over a memory-mapped vocabulary.
//!
//! Two kinds of tokenizers, as the `tokenizers` crate defines them (its ids are the tests' oracle):
//!
//! * WordPiece (BERT, DistilBERT): clean the text, set CJK characters apart, NFD and strip
//!   nonspacing marks, lower case, split at blanks and punctuation, then greedy longest match.
//! * Byte-level BPE (RoBERTa; Sennrich et al. 2016, GPT-2's form): split into words by GPT-2's
//!   pattern, then join the pairs of tokens that are highest in the list of merges.
//!
//! `[CLS]`, `<s>` and other names of special tokens within a text are plain text.

mod bytes;
mod compile;
mod normalise;
mod special;
mod vocabulary;
mod windows;
mod wordpiece;

pub use compile::{compile, compile_tokenizer_json, tokenizer_json};
pub use normalise::Normaliser;
pub use vocabulary::Special;
pub use windows::{windows, WINDOW};

use crate::protocol::{cut, MAX_TEXT};

/// The checked header of a vocabulary, of either kind.
#[derive(Debug, Clone, Copy)]
pub enum Layout {
    WordPiece(vocabulary::Layout),
    Bytes(bytes::Layout),
}

/// A vocabulary in some bytes.
#[derive(Clone, Copy)]
pub enum Vocabulary<'a> {
    WordPiece(vocabulary::Vocabulary<'a>),
    Bytes(bytes::Vocabulary<'a>),
}

impl Layout {
    /// Checks a vocabulary once; [`Layout::vocabulary`] then costs nothing. None if it is damaged.
    pub fn check(bytes: &[u8]) -> Option<Self> {
        if bytes.starts_with(&bytes::MAGIC) {
            return bytes::Layout::check(bytes).map(Layout::Bytes);
        }
        vocabulary::Layout::check(bytes).map(Layout::WordPiece)
    }

    /// Tokens of the vocabulary; every id is below it.
    pub fn tokens(&self) -> usize {
        match self {
            Layout::WordPiece(layout) => layout.tokens(),
            Layout::Bytes(layout) => layout.tokens(),
        }
    }

    /// The vocabulary in the bytes that the layout was checked on.
    pub fn vocabulary(self, bytes: &[u8]) -> Vocabulary<'_> {
        match self {
            Layout::WordPiece(layout) => Vocabulary::WordPiece(layout.vocabulary(bytes)),
            Layout::Bytes(layout) => Vocabulary::Bytes(layout.vocabulary(bytes)),
        }
    }
}

/// Splits texts; its buffers are kept between texts.
#[derive(Default)]
pub struct Tokenizer {
    word: wordpiece::Word,
    merger: bytes::Merger,
}

impl Tokenizer {
    /// Replaces `ids` by the tokens of a text: the first special token, at most `max_tokens - 2`
    /// pieces, the last special token.
    ///
    /// Only the first [`MAX_TEXT`] bytes are read (cut at a character). A blank text, and one
    /// without any piece (control characters only, in WordPiece), has no tokens at all.
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
        let text = cut(text, MAX_TEXT);
        let (cls, sep) = match vocabulary {
            Vocabulary::WordPiece(v) => (v.special().cls, v.special().sep),
            Vocabulary::Bytes(v) => v.special(),
        };
        ids.push(cls);
        match vocabulary {
            Vocabulary::WordPiece(v) => self.word.encode(v, text, most, ids),
            Vocabulary::Bytes(v) => self.merger.encode(v, text, most, ids),
        }
        if ids.len() == 1 {
            return ids.clear();
        }
        ids.truncate(most);
        ids.push(sep);
    }
}
