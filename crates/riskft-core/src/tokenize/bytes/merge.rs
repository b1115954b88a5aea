//! Bytes of a word -> tokens, by merging pairs.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::split::first_word;
use super::Vocabulary;

const NONE: u32 = u32::MAX;

/// A token of the word, linked to its neighbours.
#[derive(Clone, Copy)]
struct Symbol {
    id: u32,
    before: u32,
    after: u32,
    merged: bool,
}

/// Splits texts; its buffers are kept between texts.
#[derive(Default)]
pub struct Merger {
    symbols: Vec<Symbol>,
    /// Merges that may be made: (place in the list, left symbol), the lowest first.
    queue: BinaryHeap<Reverse<(u32, u32)>>,
    text: String,
}

impl Merger {
    /// Appends the tokens of a text, none if it is blank; stops after a word with which `ids` has
    /// `most` tokens.
    pub(in crate::tokenize) fn encode(
        &mut self,
        vocabulary: &Vocabulary<'_>,
        text: &str,
        most: usize,
        ids: &mut Vec<u32>,
    ) {
        if text.chars().all(char::is_whitespace) {
            return;
        }
        let mut spaced = std::mem::take(&mut self.text);
        let mut rest = text;
        if vocabulary.space() && !text.starts_with(' ') {
            spaced.clear();
            spaced.push(' ');
            spaced.push_str(text);
            rest = &spaced;
        }
        while ids.len() < most && !rest.is_empty() {
            let (word, after) = rest.split_at(first_word(rest));
            self.word(vocabulary, word.as_bytes(), ids);
            rest = after;
        }
        self.text = spaced;
    }

    fn word(&mut self, vocabulary: &Vocabulary<'_>, word: &[u8], ids: &mut Vec<u32>) {
        let last = word.len().saturating_sub(1);
        self.symbols.clear();
        self.symbols.extend(word.iter().enumerate().map(|(at, byte)| Symbol {
            id: vocabulary.byte(*byte),
            before: if at == 0 { NONE } else { at as u32 - 1 },
            after: if at == last { NONE } else { at as u32 + 1 },
            merged: false,
        }));
        self.queue.clear();
        for left in 0..last {
            self.offer(vocabulary, left as u32);
        }
        while let Some(Reverse((place, left))) = self.queue.pop() {
            self.merge(vocabulary, place, left);
        }
        ids.extend(self.symbols.iter().filter(|symbol| !symbol.merged).map(|symbol| symbol.id));
    }

    /// The symbol, its right neighbour's number and id.
    fn pair(&self, left: u32) -> Option<(Symbol, u32, Symbol)> {
        let symbol = self.symbols.get(left as usize).filter(|symbol| !symbol.merged)?;
        let right = self.symbols.get(symbol.after as usize)?;
        Some((*symbol, symbol.after, *right))
    }

    /// Queues the merge of a symbol with the one after it, if there is one.
    fn offer(&mut self, vocabulary: &Vocabulary<'_>, left: u32) {
        let Some((symbol, _, right)) = self.pair(left) else { return };
        if let Some(place) = vocabulary.find(symbol.id, right.id) {
            self.queue.push(Reverse((place, left)));
        }
    }

    /// Makes a queued merge, unless its symbols have become others meanwhile.
    fn merge(&mut self, vocabulary: &Vocabulary<'_>, place: u32, left: u32) {
        let Some((symbol, right_at, right)) = self.pair(left) else { return };
        let result = |place| vocabulary.merge(place).map(|merge| merge.result);
        let Some(id) = vocabulary.find(symbol.id, right.id).and_then(result) else { return };
        if result(place) != Some(id) {
            return;
        }
        self.symbols[left as usize] = Symbol { id, after: right.after, ..symbol };
        self.symbols[right_at as usize].merged = true;
        if let Some(next) = self.symbols.get_mut(right.after as usize) {
            next.before = left;
        }
        self.offer(vocabulary, symbol.before);
        self.offer(vocabulary, left);
    }
}
