//! A text -> the buckets of its n-grams.

use super::{Norm, View, MAX_TEXT};
use crate::protocol::cut;
use crate::tokenize::Normaliser;

/// FNV-1a, 64 bits (<http://www.isthe.com/chongo/tech/comp/fnv/>).
const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0100_0000_01b3;

/// What a run is made of.
#[derive(Clone, Copy)]
enum Kind {
    Words = 1,
    Characters = 2,
}

/// Buffers of reading, kept between texts.
#[derive(Debug, Default)]
pub struct Reader {
    /// The normalised text, or nothing.
    characters: Vec<char>,
    /// Symbols of its words.
    words: Vec<u64>,
    buckets: Vec<u32>,
}

impl Reader {
    /// Gives the buckets of a text's n-grams to `part`, ascending, each as often as it occurs: once
    /// for each kind that has its own length, words first. Nothing for a text of blanks.
    ///
    /// The work is bounded by [`MAX_TEXT`], at most 12 buckets for each of its characters.
    pub fn read(&mut self, view: &View, column: u32, text: &str, mut part: impl FnMut(&[u32])) {
        self.normalise(text);
        self.buckets.clear();
        if view.words > 0 {
            self.words(view, column);
            if view.norm == Norm::Kind {
                self.give(&mut part);
            }
        }
        if let Some((least, most)) = view.characters {
            self.runs_of_characters(view, column, least.into(), most.into());
        }
        self.give(&mut part);
    }

    /// Bytes of the buffers.
    pub fn bytes(&self) -> usize {
        4 * self.characters.capacity() + 8 * self.words.capacity() + 4 * self.buckets.capacity()
    }

    fn give(&mut self, part: &mut impl FnMut(&[u32])) {
        if self.buckets.is_empty() {
            return;
        }
        self.buckets.sort_unstable();
        part(&self.buckets);
        self.buckets.clear();
    }

    fn normalise(&mut self, text: &str) {
        let out = &mut self.characters;
        out.clear();
        out.push(' ');
        for c in Normaliser::UNCASED.characters(cut(text, MAX_TEXT)) {
            if out.len() > MAX_TEXT {
                break;
            }
            let c = if c.is_whitespace() { ' ' } else { c };
            if c != ' ' || out.last() != Some(&' ') {
                out.push(c);
            }
        }
        match out.last() {
            Some(' ') if out.len() == 1 => out.clear(),
            Some(' ') => {}
            _ => out.push(' '),
        }
    }

    /// Appends the buckets of runs of words.
    fn words(&mut self, view: &View, column: u32) {
        let letters = self.characters.split(|c| !c.is_alphanumeric()).filter(|w| !w.is_empty());
        self.words.clear();
        self.words.extend(letters.map(|word| {
            finish(word.iter().fold(OFFSET, |state, c| step(state, u64::from(u32::from(*c)))))
        }));
        let start = start(column, Kind::Words);
        for first in 0..self.words.len() {
            let run = self.words[first..].iter().take(view.words.into());
            let mut state = start;
            for word in run {
                state = step(state, *word);
                self.buckets.push(bucket(state, view.bits));
            }
        }
    }

    /// Appends the buckets of runs of characters.
    fn runs_of_characters(&mut self, view: &View, column: u32, least: usize, most: usize) {
        let start = start(column, Kind::Characters);
        for first in 0..self.characters.len() {
            let mut state = start;
            for (before, c) in self.characters[first..].iter().take(most).enumerate() {
                state = step(state, u64::from(u32::from(*c)));
                if before + 1 >= least {
                    self.buckets.push(bucket(state, view.bits));
                }
            }
        }
    }
}

/// Ascending buckets with their counts.
pub fn counted(buckets: &[u32]) -> impl Iterator<Item = (u32, usize)> + '_ {
    buckets.chunk_by(|a, b| a == b).filter_map(|same| Some((*same.first()?, same.len())))
}

fn start(column: u32, kind: Kind) -> u64 {
    finish(OFFSET ^ (u64::from(column) << 8 | kind as u64))
}

#[inline]
fn step(state: u64, symbol: u64) -> u64 {
    (state ^ symbol).wrapping_mul(PRIME)
}

/// MurmurHash3's finaliser, 64 bits (Appleby, public domain).
#[inline]
fn finish(mut h: u64) -> u64 {
    h = (h ^ (h >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    h = (h ^ (h >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^ (h >> 33)
}

/// `bits` is 1 to 32.
#[inline]
fn bucket(state: u64, bits: u8) -> u32 {
    (finish(state) >> (64 - u32::from(bits))) as u32
}
