//! Texts as counted n-grams: a linear term of each text of a row.
//!
//! Words counted are hard to beat where the text itself carries the risk, and cheap. Runs of words
//! and runs of characters are hashed into buckets (Weinberger et al. 2009, "Feature hashing for
//! large scale multitask learning", without signs), counted, weighted by TF-IDF (Salton and Buckley
//! 1988, in scikit-learn's smoothed form `ln((1 + rows) / (1 + rows with it)) + 1`) and brought to
//! length 1; a logistic regression, fitted by the trainer, gives each bucket a weight. Columns are
//! told apart by the hash: one model reads them all.
//!
//! # From a text to buckets
//! 1. The first [`MAX_TEXT`] bytes, normalised as for BERT uncased: control characters dropped,
//!    ideographs set apart, accents stripped after NFD, lower case. Composed and decomposed
//!    spellings are one; blanks are one space, with one before and one after the text. A text of
//!    blanks has no n-grams. At most [`MAX_TEXT`] characters are read.
//! 2. A word is a run of letters and digits. Its symbol is the hash of its characters; a
//!    character's symbol is its code point.
//! 3. The hash of a run of symbols is FNV-1a's over 64-bit symbols, then the finaliser of
//!    MurmurHash3, whose upper bits are the bucket. It begins with the column and the kind of run.
//!
//! # Layout
//! | tensor | holds |
//! |---|---|
//! | `index` U64 [buckets / 64, 2] | a bit for each bucket that is known, and how many are known before these 64 |
//! | `values` F32 [known, 2] | inverse document frequency and weight of each known bucket, ascending |
//! | `bias` F32 [1] | the logit of a row without texts |
//!
//! Buckets that no two training rows have are unknown: they cost one bit, and no text has them.

mod read;
mod score;
mod stored;
mod table;

use serde::{Deserialize, Serialize};

pub use crate::protocol::MAX_TEXT;
pub use read::{counted, Reader};
pub use score::Grams;
pub use stored::Stored;
pub use table::Table;

/// Most words of a run.
pub const MAX_WORDS: u8 = 4;
/// Most characters of a run.
pub const MAX_CHARACTERS: u8 = 8;
/// Least and most [`View::bits`].
pub const BITS: std::ops::RangeInclusive<u8> = 6..=22;

/// How texts are read, at training as at scoring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct View {
    /// Runs of 1 up to so many words; 0 for none, at most [`MAX_WORDS`].
    pub words: u8,
    /// Runs of so many characters, least and most, 1 to [`MAX_CHARACTERS`]; None for none.
    pub characters: Option<(u8, u8)>,
    /// Buckets, as a power of two within [`BITS`].
    pub bits: u8,
    /// `1 + ln(count)` in place of the count.
    pub sublinear: bool,
    pub norm: Norm,
}

/// What has length 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Norm {
    /// The words of a text, and its characters: each kind counts as much, whatever its number.
    Kind,
    /// A text as a whole.
    Text,
}

impl Default for View {
    fn default() -> Self {
        View { words: 2, characters: Some((3, 5)), bits: 18, sublinear: true, norm: Norm::Text }
    }
}

impl View {
    /// Whether the settings can be read by, or what is wrong with them.
    pub fn check(&self) -> Result<(), String> {
        let (least, most) = self.characters.unwrap_or((1, 1));
        if self.words > MAX_WORDS {
            return Err(format!("runs of {} words are longer than {MAX_WORDS}", self.words));
        }
        if least < 1 || most < least || most > MAX_CHARACTERS {
            return Err(format!(
                "runs of {least} to {most} characters are not within 1 to {MAX_CHARACTERS}"
            ));
        }
        if self.words == 0 && self.characters.is_none() {
            return Err("neither words nor characters are counted".into());
        }
        if !BITS.contains(&self.bits) {
            return Err(format!(
                "{} bits of buckets are not within {} to {}",
                self.bits,
                BITS.start(),
                BITS.end()
            ));
        }
        Ok(())
    }

    /// Number of buckets.
    pub fn buckets(&self) -> usize {
        1 << self.bits.min(*BITS.end())
    }

    /// The weight of an n-gram that a text has `count` times, at least once.
    #[inline]
    pub fn weight(&self, count: usize) -> f64 {
        match (count, self.sublinear) {
            (1, _) => 1.0,
            (_, true) => 1.0 + libm::log(count as f64),
            (_, false) => count as f64,
        }
    }
}
