//! What rows that are not kept say of the weights of texts and n-grams.
//!
//! At the weights that were fitted on them their log-loss is nearly `1/2 d' H d` higher for weights that
//! are changed by `d` (Laplace's approximation). Adding that to the loss of new rows stands for replaying
//! the old ones (Chapelle and Li 2011, "An empirical evaluation of Thompson sampling", algorithm 3;
//! Kirkpatrick et al. 2017), and keeps of them neither texts nor labels. `H` is whole within the vector of one
//! text and diagonal for n-grams, of which there are too many. `d` is a change of the version's log odds, whatever
//! branch it is in: the weights of a branch differ from it by a factor.

use std::collections::BTreeMap;

use riskft_core::artifact::{Artifact, Tensor, TensorSet};
use riskft_core::refusal::Result;

use crate::replay::misfit;
use crate::text_inputs::TextInputs;

/// The curvature of the log-loss of some rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Curvature {
    /// Width of one text's vector.
    pub width: usize,
    /// In the values of vectors: [texts that have a term, width, width].
    pub vectors: Vec<f32>,
    /// Of n-grams' buckets, ascending.
    grams: BTreeMap<u32, f32>,
}

impl Curvature {
    /// Of rows with these scores of the version; `width` is that of one text's vector.
    pub fn of(inputs: &TextInputs, scores: &[f64], width: usize) -> Self {
        let texts = inputs.width / width.max(1);
        let mut vectors = vec![0f64; texts * width * width];
        let mut grams: BTreeMap<u32, f32> = BTreeMap::new();
        for (row, score) in scores.iter().enumerate() {
            let weight = score * (1.0 - score);
            let blocks = vectors.chunks_exact_mut((width * width).max(1));
            for (block, vector) in blocks.zip(inputs.vectors(row).chunks_exact(width.max(1))) {
                if vector.iter().all(|value| *value == 0.0) {
                    continue;
                }
                for (line, a) in block.chunks_exact_mut(width).zip(vector) {
                    let a = weight * f64::from(*a);
                    line.iter_mut().zip(vector).for_each(|(h, b)| *h += a * f64::from(*b));
                }
            }
            for (bucket, value) in inputs.grams(row) {
                *grams.entry(bucket).or_default() += weight as f32 * value * value;
            }
        }
        let vectors = vectors.into_iter().map(|value| value as f32).collect();
        Curvature { width, vectors, grams }
    }

    /// Of an n-gram's bucket; 0 of one that none of the rows has.
    pub fn gram(&self, bucket: u32) -> f64 {
        self.grams.get(&bucket).copied().map_or(0.0, f64::from)
    }

    /// Shares of two curvatures, added up: of rows that are drawn from those of both.
    pub fn mixed(&self, share: f64, other: &Self, of_other: f64) -> Self {
        let mut grams: BTreeMap<u32, f32> =
            self.grams.iter().map(|(bucket, h)| (*bucket, *h * share as f32)).collect();
        for (bucket, h) in &other.grams {
            *grams.entry(*bucket).or_default() += *h * of_other as f32;
        }
        let both = self.vectors.iter().zip(&other.vectors);
        let vectors = both.map(|(a, b)| a * share as f32 + b * of_other as f32).collect();
        Curvature { width: self.width, vectors, grams }
    }

    /// Adds the tensors `curvature.*`.
    pub fn store(&self, out: &mut TensorSet) {
        let texts = self.vectors.len() / (self.width * self.width).max(1);
        let (buckets, values): (Vec<u32>, Vec<f32>) = self.grams.iter().unzip();
        let shape = [texts, self.width, self.width];
        out.insert(VECTORS.into(), Tensor::new(&shape, &self.vectors));
        out.insert(BUCKETS.into(), Tensor::new(&[buckets.len()], &buckets));
        out.insert(GRAMS.into(), Tensor::new(&[values.len()], &values));
    }

    /// Reads what [`Curvature::store`] wrote, of so many texts; None where the file has none.
    ///
    /// # Errors
    /// XX001 where it does not fit.
    pub fn read(file: &Artifact, texts: usize, width: usize) -> Result<Option<Self>> {
        if !file.contains(VECTORS) {
            return Ok(None);
        }
        let vectors: &[f32] = file.slice(VECTORS)?;
        let (buckets, values): (&[u32], &[f32]) = (file.slice(BUCKETS)?, file.slice(GRAMS)?);
        let fits = vectors.len() == texts * width * width
            && buckets.len() == values.len()
            && values.iter().all(|h| *h >= 0.0)
            && vectors.iter().chain(values).all(|h| h.is_finite());
        if !fits {
            return Err(misfit());
        }
        let grams = buckets.iter().copied().zip(values.iter().copied()).collect();
        Ok(Some(Curvature { width, vectors: vectors.to_vec(), grams }))
    }
}

const VECTORS: &str = "curvature.vectors";
const BUCKETS: &str = "curvature.buckets";
const GRAMS: &str = "curvature.grams";

#[cfg(test)]
mod tests {
    use super::*;
    use riskft_core::artifact::write;
    use riskft_core::protocol::BlobKind;
    use std::sync::Arc;

    fn rows() -> TextInputs {
        let mut tensors = TensorSet::new();
        tensors
            .insert("t.vectors".into(), Tensor::new(&[2, 4], &[1f32, 2., 0., 0., 3., -1., 1., 1.]));
        tensors.insert("t.ends".into(), Tensor::new(&[2], &[2u64, 3]));
        tensors.insert("t.buckets".into(), Tensor::new(&[3], &[7u32, 9, 7]));
        tensors.insert("t.values".into(), Tensor::new(&[3], &[0.6f32, 0.8, 1.0]));
        let file = Artifact::open(Arc::new(write(BlobKind::Training, "{}", &tensors)));
        TextInputs::read(&file.expect("a file"), "t", 2, 4).expect("two rows")
    }

    #[test]
    fn it_is_the_second_derivative_of_the_loss() {
        let found = Curvature::of(&rows(), &[0.5, 0.2], 2);
        let (a, b) = (0.25f32, 0.16f32);
        let close = |x: f64, y: f32| (x - f64::from(y)).abs() < 1e-6;
        let first = [a + 9. * b, 2. * a - 3. * b, 2. * a - 3. * b, 4. * a + b];
        let second = [b, b, b, b];
        for (value, wanted) in found.vectors.iter().zip(first.iter().chain(&second)) {
            assert!(close(f64::from(*value), *wanted), "{found:?}");
        }
        assert!(close(found.gram(7), 0.36 * a + b) && close(found.gram(9), 0.64 * a));
        assert_eq!((found.gram(8), found.vectors.len()), (0.0, 8));
        let half = found.mixed(0.5, &found, 0.25);
        assert!(close(half.gram(7), 0.75 * (0.36 * a + b)));
    }

    #[test]
    fn it_is_read_as_it_was_stored() {
        let kept = Curvature::of(&rows(), &[0.5, 0.2], 2);
        let mut tensors = TensorSet::new();
        let file = |tensors: &TensorSet| {
            Artifact::open(Arc::new(write(BlobKind::Training, "{}", tensors))).expect("a file")
        };
        assert_eq!(Curvature::read(&file(&tensors), 2, 2), Ok(None));
        kept.store(&mut tensors);
        assert_eq!(Curvature::read(&file(&tensors), 2, 2), Ok(Some(kept)));
        assert!(Curvature::read(&file(&tensors), 1, 2).is_err(), "of one text");
    }
}
