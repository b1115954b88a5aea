//! Known buckets as a trainer gives them -> arrays.

use super::score::Grams;
use super::stored::{BIAS, INDEX, VALUES};
use super::View;
use crate::artifact::{Tensor, TensorSet};

/// 64 buckets: which are known, and how many are known before them.
pub(super) type Word = [u64; 2];
/// Inverse document frequency and weight of a bucket.
pub(super) type Value = [f32; 2];

/// The known buckets of a view, in arrays of their own.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    view: View,
    index: Vec<Word>,
    values: Vec<Value>,
    bias: f32,
}

impl Table {
    /// Known buckets, ascending, each with its inverse document frequency; weights and bias are 0.
    ///
    /// Refused with the reason: settings out of range, buckets that do not rise or lie beyond the
    /// view's, frequencies that are not finite.
    pub fn new(view: View, known: &[(u32, f32)]) -> Result<Self, String> {
        view.check()?;
        let mut index: Vec<Word> = vec![[0, 0]; view.buckets() / 64];
        if !known.windows(2).all(|pair| pair[0].0 < pair[1].0) {
            return Err("its buckets do not rise".into());
        }
        for (bucket, frequency) in known {
            let Some(word) = index.get_mut(*bucket as usize / 64) else {
                return Err(format!("bucket {bucket} is beyond its {}", view.buckets()));
            };
            word[0] |= 1 << (bucket % 64);
            if !frequency.is_finite() {
                return Err(format!("the frequency of bucket {bucket} is {frequency}"));
            }
        }
        let mut before = 0;
        for word in &mut index {
            word[1] = before;
            before += u64::from(word[0].count_ones());
        }
        let values = known.iter().map(|(_, frequency)| [*frequency, 0.0]).collect();
        Ok(Table { view, index, values, bias: 0.0 })
    }

    pub(super) fn of(grams: Grams<'_>) -> Self {
        let Grams { view, index, values, bias } = grams;
        Table { view, index: index.to_vec(), values: values.to_vec(), bias }
    }

    /// The table with more known buckets, each with its inverse document frequency and the weight 0. What
    /// is known already stays as it is.
    ///
    /// Refused as by [`Table::new`].
    pub fn with(&self, more: &[(u32, f32)]) -> Result<Self, String> {
        let mut known: Vec<(u32, Value)> = self.known().collect();
        let new = more.iter().filter(|(bucket, _)| self.slot(*bucket).is_none());
        known.extend(new.map(|(bucket, frequency)| (*bucket, [*frequency, 0.0])));
        known.sort_unstable_by_key(|(bucket, _)| *bucket);
        let frequencies: Vec<(u32, f32)> =
            known.iter().map(|(bucket, v)| (*bucket, v[0])).collect();
        let mut table = Table::new(self.view, &frequencies)?;
        table.values = known.into_iter().map(|(_, value)| value).collect();
        table.bias = self.bias;
        Ok(table)
    }

    /// Known buckets, ascending, with their inverse document frequencies.
    pub fn frequencies(&self) -> impl Iterator<Item = (u32, f32)> + '_ {
        self.known().map(|(bucket, [frequency, _])| (bucket, frequency))
    }

    /// The weights, by slot.
    pub fn weights(&self) -> impl Iterator<Item = f64> + '_ {
        self.values.iter().map(|[_, weight]| f64::from(*weight))
    }

    fn known(&self) -> impl Iterator<Item = (u32, Value)> + '_ {
        let bits = (0u32..).zip(&self.index).flat_map(|(word, [bits, _])| {
            (0..64).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| 64 * word + bit)
        });
        bits.zip(self.values.iter().copied())
    }

    /// Sets the weights, by slot, and the bias; rounded to float4. Refused unless there is one
    /// weight for each known bucket, and all are finite as float4.
    pub fn set_weights(&mut self, weights: &[f64], bias: f64) -> Result<(), String> {
        if weights.len() != self.values.len() {
            return Err(format!("{} weights for {} buckets", weights.len(), self.values.len()));
        }
        if !weights.iter().chain([&bias]).all(|weight| (*weight as f32).is_finite()) {
            return Err("a weight is not finite".into());
        }
        for (value, weight) in self.values.iter_mut().zip(weights) {
            value[1] = *weight as f32;
        }
        self.bias = bias as f32;
        Ok(())
    }

    pub fn view(&self) -> &View {
        &self.view
    }
    /// Number of known buckets.
    pub fn len(&self) -> usize {
        self.values.len()
    }
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
    /// The slot of a known bucket, below [`Table::len`], and its inverse document frequency.
    #[inline]
    pub fn slot(&self, bucket: u32) -> Option<(usize, f64)> {
        let slot = self.grams().slot(bucket)?;
        Some((slot, f64::from(self.values.get(slot)?[0])))
    }

    /// The arrays, borrowed.
    pub fn grams(&self) -> Grams<'_> {
        Grams { view: self.view, index: &self.index, values: &self.values, bias: self.bias }
    }

    /// Adds the tensors that [`super::Stored::open`] finds under a prefix.
    pub fn store(&self, prefix: &str, tensors: &mut TensorSet) {
        let mut add = |part: &str, tensor| tensors.insert(format!("{prefix}.{part}"), tensor);
        add(INDEX, Tensor::new(&[self.index.len(), 2], self.index.as_flattened()));
        add(VALUES, Tensor::new(&[self.values.len(), 2], self.values.as_flattened()));
        add(BIAS, Tensor::new(&[1], &[self.bias]));
    }
}
