//! The flat vocabulary of a byte-level BPE: read from a memory map without parsing.
//!
//! Layout, little-endian u32:
//!
//! ```text
//! header   "RFB1", flags, tokens, merges, slots, first, last
//! bytes    [256]        the token of each byte
//! merges   [merges, 3]  left, right, result; the lower its place, the earlier a merge is made
//! slots    [slots]      open hash table of (left, right) (a power of two): 0, or merge + 1
//! ```
//! Collisions go to the next slot. Texts of tokens are not needed: merges know them by id.

mod compile;
mod merge;
mod split;

use super::vocabulary::is_open;

pub(super) use compile::compile;
pub(super) use merge::Merger;

pub(super) const MAGIC: [u8; 4] = *b"RFB1";
const HEADER: usize = 28;

/// A text that does not begin with a space is read as if it did.
const FLAG_SPACE: u32 = 1;

/// The checked header of a vocabulary.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    space: bool,
    tokens: usize,
    merges: usize,
    slots: usize,
    first: u32,
    last: u32,
}

/// A vocabulary in some bytes.
#[derive(Clone, Copy)]
pub struct Vocabulary<'a> {
    layout: Layout,
    bytes: &'a [[u8; 4]],
    merges: &'a [[u8; 12]],
    slots: &'a [[u8; 4]],
}

/// Two tokens that become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Merge {
    left: u32,
    right: u32,
    result: u32,
}

impl Merge {
    fn read(bytes: &[u8; 12]) -> Self {
        let field = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        Merge { left: field(0), right: field(4), result: field(8) }
    }
}

impl Layout {
    /// Checks a vocabulary; None if it is damaged.
    pub fn check(bytes: &[u8]) -> Option<Self> {
        let (header, rest) = bytes.split_first_chunk::<HEADER>()?;
        let fields: Vec<u32> =
            header.as_chunks::<4>().0.iter().map(|f| u32::from_le_bytes(*f)).collect();
        let [_, flags, tokens, merges, slots, first, last] = fields[..] else { return None };
        let layout = Layout {
            space: flags == FLAG_SPACE,
            tokens: tokens as usize,
            merges: merges as usize,
            slots: slots as usize,
            first,
            last,
        };
        let length = layout.merges.checked_mul(3)?.checked_add(layout.slots)?.checked_add(256)?;
        let sized = header[..4] == MAGIC
            && flags <= FLAG_SPACE
            && slots.is_power_of_two()
            && slots > merges
            && [first, last].iter().all(|id| *id < tokens)
            && rest.len() == length.checked_mul(4)?;
        if !sized {
            return None;
        }
        let vocabulary = layout.vocabulary(bytes);
        let known = vocabulary.bytes.iter().all(|id| u32::from_le_bytes(*id) < tokens)
            && vocabulary.merges.iter().all(|merge| Merge::read(merge).result < tokens)
            && vocabulary.slots.iter().all(|slot| u32::from_le_bytes(*slot) <= merges);
        (known && is_open(vocabulary.slots)).then_some(layout)
    }

    pub fn tokens(&self) -> usize {
        self.tokens
    }

    pub fn vocabulary(self, bytes: &[u8]) -> Vocabulary<'_> {
        let rest = bytes.get(HEADER..).unwrap_or(&[]);
        let (table, rest) = rest.split_at_checked(256 * 4).unwrap_or((&[], &[]));
        let (merges, slots) = rest.split_at_checked(self.merges * 12).unwrap_or((&[], &[]));
        Vocabulary {
            layout: self,
            bytes: table.as_chunks().0,
            merges: merges.as_chunks().0,
            slots: slots.as_chunks().0,
        }
    }
}

impl Vocabulary<'_> {
    /// The tokens before and after a text.
    pub fn special(&self) -> (u32, u32) {
        (self.layout.first, self.layout.last)
    }

    /// Whether a text that does not begin with a space is read as if it did.
    fn space(&self) -> bool {
        self.layout.space
    }

    fn byte(&self, byte: u8) -> u32 {
        self.bytes.get(usize::from(byte)).map_or(0, |id| u32::from_le_bytes(*id))
    }

    fn merge(&self, place: u32) -> Option<Merge> {
        self.merges.get(place as usize).map(Merge::read)
    }

    /// Place of the merge of two tokens.
    fn find(&self, left: u32, right: u32) -> Option<u32> {
        let mask = self.slots.len().checked_sub(1)?;
        let mut at = slot(left, right) & mask;
        for _ in 0..=mask {
            let place = u32::from_le_bytes(*self.slots.get(at)?).checked_sub(1)?;
            let merge = self.merge(place)?;
            if (merge.left, merge.right) == (left, right) {
                return Some(place);
            }
            at = (at + 1) & mask;
        }
        None
    }
}

/// Fibonacci hashing of the pair.
fn slot(left: u32, right: u32) -> usize {
    let pair = u64::from(left) << 32 | u64::from(right);
    (pair.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize
}
