//! A table in a model file.

use super::score::Grams;
use super::table::{Value, Word};
use super::View as Settings;
use crate::artifact::{Artifact, View};
use crate::model::damaged;
use crate::refusal::Result;

/// Names of the tensors under a prefix.
pub(super) const INDEX: &str = "index";
pub(super) const VALUES: &str = "values";
pub(super) const BIAS: &str = "bias";

/// Where a table lies in a model file; checked once, turned into [`Grams`] at each use.
#[derive(Debug, Clone, Copy)]
pub struct Stored {
    settings: Settings,
    index: View<u64>,
    values: View<f32>,
    bias: View<f32>,
}

impl Stored {
    /// Finds and checks the tensors `PREFIX.index`, `PREFIX.values` and `PREFIX.bias`.
    ///
    /// Settings out of range and arrays that are no table are XX001: counts that do not fit the
    /// known buckets, values that are not finite. The arrays are read once; nothing is copied.
    pub fn open(file: &Artifact, prefix: &str, settings: Settings) -> Result<Self> {
        settings.check().map_err(|what| damaged(format!("its n-grams cannot be read: {what}")))?;
        let name = |part: &str| format!("{prefix}.{part}");
        let known = match file.shape(&name(VALUES)) {
            Some([known, _]) => *known,
            _ => 0,
        };
        let stored = Stored {
            settings,
            index: file.view(&name(INDEX), &[settings.buckets() / 64, 2])?,
            values: file.finite(&name(VALUES), &[known, 2])?,
            bias: file.finite(&name(BIAS), &[1])?,
        };
        check(stored.of((**file.storage()).as_ref()).index, known).map_err(damaged)?;
        Ok(stored)
    }

    /// The table, out of the bytes of the file that was opened. Of other bytes it gives a wrong
    /// term, or none, and never reads beyond them.
    #[inline]
    pub fn of(self, file: &[u8]) -> Grams<'_> {
        let index: &[Word] = self.index.of(file).as_chunks().0;
        let values: &[Value] = self.values.of(file).as_chunks().0;
        let bias = self.bias.of(file).first().copied().unwrap_or(0.0);
        Grams { view: self.settings, index, values, bias }
    }
}

fn check(index: &[Word], known: usize) -> std::result::Result<(), String> {
    let mut before = 0;
    for [bits, count] in index {
        if *count != before {
            return Err("the counts of its n-grams do not fit their buckets".into());
        }
        before += u64::from(bits.count_ones());
    }
    if before == known as u64 {
        return Ok(());
    }
    Err(format!("it has values for {known} of {before} buckets of n-grams"))
}
