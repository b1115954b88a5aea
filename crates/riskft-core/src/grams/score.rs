//! The sum of the weights of a text's n-grams.

use super::table::{Table, Value, Word};
use super::{counted, Reader, View};

/// A table's arrays, checked: owned by a [`super::Table`], or lying in a model file.
#[derive(Debug, Clone, Copy)]
pub struct Grams<'a> {
    pub(super) view: View,
    pub(super) index: &'a [Word],
    pub(super) values: &'a [Value],
    pub(super) bias: f32,
}

impl Grams<'_> {
    /// The logit of a row by the texts of its columns, each with its column's number; an empty text
    /// stands for a missing one. Never NaN or infinite.
    pub fn score<'t>(
        &self,
        texts: impl IntoIterator<Item = (u32, &'t str)>,
        reader: &mut Reader,
    ) -> f64 {
        let terms = texts.into_iter().map(|(column, text)| self.term(column, text, reader));
        terms.fold(self.bias(), |sum, term| sum + term)
    }

    /// The arrays as a table of their own, to go on from.
    pub fn table(&self) -> Table {
        Table::of(*self)
    }

    /// The logit of a row without texts.
    pub fn bias(&self) -> f64 {
        f64::from(self.bias)
    }

    /// What a column's text adds to the logit; 0 if none of its n-grams is known. `column` is the
    /// number that the trainer knew the column by.
    ///
    /// Each kind's sum runs over ascending buckets in f64, each operation rounded by itself, with
    /// core's own logarithm: the bits depend on the text and the table alone.
    pub fn term(&self, column: u32, text: &str, reader: &mut Reader) -> f64 {
        let mut term = 0.0;
        reader.read(&self.view, column, text, |buckets| term += self.part(buckets));
        term
    }

    /// The known n-grams of a column's text as `each(bucket, slot, value)`: the values times the slots'
    /// weights add up to [`Grams::term`], but for the order of rounding.
    pub fn values(
        &self,
        column: u32,
        text: &str,
        reader: &mut Reader,
        mut each: impl FnMut(u32, usize, f64),
    ) {
        reader.read(&self.view, column, text, |buckets| {
            let known = || {
                counted(buckets).filter_map(|(bucket, count)| {
                    let slot = self.slot(bucket)?;
                    let [frequency, _] = self.values.get(slot)?;
                    Some((bucket, slot, self.view.weight(count) * f64::from(*frequency)))
                })
            };
            let length = known().map(|(_, _, x)| x * x).sum::<f64>().sqrt();
            if length > 0.0 {
                known().for_each(|(bucket, slot, x)| each(bucket, slot, x / length));
            }
        });
    }

    fn part(&self, buckets: &[u32]) -> f64 {
        let (mut product, mut square) = (0.0, 0.0);
        for (bucket, count) in counted(buckets) {
            let value = self.slot(bucket).and_then(|slot| self.values.get(slot));
            let Some([frequency, weight]) = value else { continue };
            let x = self.view.weight(count) * f64::from(*frequency);
            product += x * f64::from(*weight);
            square += x * x;
        }
        if square > 0.0 {
            product / square.sqrt()
        } else {
            0.0
        }
    }

    /// Where a bucket's values are, if it is known.
    #[inline]
    pub(super) fn slot(&self, bucket: u32) -> Option<usize> {
        let [known, before] = *self.index.get(bucket as usize / 64)?;
        let bit = 1u64 << (bucket % 64);
        let below = u64::from((known & (bit - 1)).count_ones());
        (known & bit != 0).then(|| before.wrapping_add(below) as usize)
    }
}
