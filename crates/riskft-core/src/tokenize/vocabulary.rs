//! The flat vocabulary: found in, and read from, a memory map without parsing.
//!
//! Layout, little-endian u32 unless stated:
//!
//! ```text
//! header   "RFV1", flags, tokens, slots, unknown, cls, sep, max_characters, max_piece, text bytes
//! ends     [tokens]  end of each token's text; a token begins where the one before it ends
//! slots    [slots]   open hash table (a power of two): 0, or token id + 1
//! text     bytes of all tokens, "##" before continuing pieces
//! ```
//! The hash is 64-bit FNV-1a of the piece without "##", folded; the basis tells continuing pieces
//! from initial ones; collisions go to the next slot.

use super::Normaliser;

pub(super) const MAGIC: [u8; 4] = *b"RFV1";
pub(super) const HEADER: usize = 40;
pub(super) const CONTINUING: &[u8] = b"##";

/// Longest run of slots that are taken, so that a lookup ends soon whatever the file says. Half full,
/// a table of a million tokens has runs of about 70.
pub(super) const MAX_RUN: usize = 256;

const FLAG_CLEAN: u32 = 1;
const FLAG_IDEOGRAPHS: u32 = 2;
const FLAG_ACCENTS: u32 = 4;
const FLAG_LOWERCASE: u32 = 8;

/// Ids of the special tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Special {
    pub unknown: u32,
    pub cls: u32,
    pub sep: u32,
}

/// The checked header of a vocabulary.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    normaliser: Normaliser,
    special: Special,
    tokens: usize,
    slots: usize,
    max_characters: usize,
    max_piece: usize,
}

/// A vocabulary in some bytes.
#[derive(Clone, Copy)]
pub struct Vocabulary<'a> {
    layout: Layout,
    ends: &'a [[u8; 4]],
    slots: &'a [[u8; 4]],
    text: &'a [u8],
}

impl Layout {
    /// Checks a vocabulary once; [`Layout::vocabulary`] then costs nothing. None if it is damaged.
    pub fn check(bytes: &[u8]) -> Option<Self> {
        let (header, rest) = bytes.split_first_chunk::<HEADER>()?;
        let fields: Vec<u32> =
            header.as_chunks::<4>().0.iter().map(|f| u32::from_le_bytes(*f)).collect();
        let [_, flags, tokens, slots, unknown, cls, sep, max_characters, max_piece, text] =
            fields[..]
        else {
            return None;
        };
        let layout = Layout {
            normaliser: normaliser(flags),
            special: Special { unknown, cls, sep },
            tokens: tokens as usize,
            slots: slots as usize,
            max_characters: max_characters as usize,
            max_piece: max_piece as usize,
        };
        let length = (layout.tokens.checked_add(layout.slots)?).checked_mul(4)?;
        let sized = header[..4] == MAGIC
            && slots.is_power_of_two()
            && slots > tokens
            && [unknown, cls, sep].iter().all(|id| *id < tokens)
            && (1..=1024).contains(&max_characters)
            && rest.len() == length.checked_add(text as usize)?;
        if !sized {
            return None;
        }
        let vocabulary = layout.vocabulary(bytes);
        let ends = vocabulary.ends.iter().map(|end| u32::from_le_bytes(*end));
        let whole = ends.is_sorted() && vocabulary.end(layout.tokens) == text as usize;
        let known = vocabulary.slots.iter().all(|slot| u32::from_le_bytes(*slot) <= tokens);
        (whole && known && is_open(vocabulary.slots)).then_some(layout)
    }

    /// Tokens of the vocabulary; every id is below it.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// The vocabulary in the bytes that the layout was checked on.
    pub fn vocabulary(self, bytes: &[u8]) -> Vocabulary<'_> {
        let rest = bytes.get(HEADER..).unwrap_or(&[]);
        let (ends, rest) = rest.split_at_checked(self.tokens * 4).unwrap_or((&[], &[]));
        let (slots, text) = rest.split_at_checked(self.slots * 4).unwrap_or((&[], &[]));
        Vocabulary { layout: self, ends: ends.as_chunks().0, slots: slots.as_chunks().0, text }
    }
}

impl Vocabulary<'_> {
    pub fn special(&self) -> Special {
        self.layout.special
    }
    pub fn normaliser(&self) -> Normaliser {
        self.layout.normaliser
    }
    /// Longest word that is split, characters; a longer one is unknown.
    pub fn max_characters(&self) -> usize {
        self.layout.max_characters
    }
    /// Longest piece, bytes.
    pub(super) fn max_piece(&self) -> usize {
        self.layout.max_piece
    }

    /// The id of a piece, whose hash is known.
    pub(super) fn find(&self, hash: u64, piece: &[u8], continuing: bool) -> Option<u32> {
        let mask = self.slots.len().checked_sub(1)?;
        let mut at = slot(hash) & mask;
        for _ in 0..=mask {
            let id = u32::from_le_bytes(*self.slots.get(at)?).checked_sub(1)?;
            let token = self.token(id as usize);
            let same = if continuing {
                token.strip_prefix(CONTINUING) == Some(piece)
            } else {
                token == piece
            };
            if same {
                return Some(id);
            }
            at = (at + 1) & mask;
        }
        None
    }

    fn token(&self, id: usize) -> &[u8] {
        self.text.get(self.end(id)..self.end(id + 1)).unwrap_or(&[])
    }

    /// End of token `id - 1`.
    fn end(&self, id: usize) -> usize {
        let before = id.checked_sub(1).and_then(|id| self.ends.get(id));
        before.map_or(0, |end| u32::from_le_bytes(*end) as usize)
    }
}

/// FNV-1a's offset basis; continuing pieces start from another one.
pub(super) const fn seed(continuing: bool) -> u64 {
    if continuing {
        0x8422_2325_cbf2_9ce4
    } else {
        0xcbf2_9ce4_8422_2325
    }
}

/// Hash of some text -> hash of that text with `bytes` after it.
#[inline]
pub(super) fn extend(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, b| (hash ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3))
}

/// Whether no run of taken slots is longer than [`MAX_RUN`].
pub(super) fn is_open(slots: &[[u8; 4]]) -> bool {
    slots.split(|slot| *slot == [0; 4]).all(|run| run.len() <= MAX_RUN)
}

pub(super) fn slot(hash: u64) -> usize {
    (hash ^ (hash >> 32)) as u32 as usize
}

fn normaliser(flags: u32) -> Normaliser {
    Normaliser {
        clean: flags & FLAG_CLEAN != 0,
        ideographs: flags & FLAG_IDEOGRAPHS != 0,
        strip_accents: flags & FLAG_ACCENTS != 0,
        lowercase: flags & FLAG_LOWERCASE != 0,
    }
}

pub(super) fn flags(normaliser: Normaliser) -> u32 {
    u32::from(normaliser.clean) * FLAG_CLEAN
        + u32::from(normaliser.ideographs) * FLAG_IDEOGRAPHS
        + u32::from(normaliser.strip_accents) * FLAG_ACCENTS
        + u32::from(normaliser.lowercase) * FLAG_LOWERCASE
}
