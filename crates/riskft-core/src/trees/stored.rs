//! An ensemble in a model file.

use super::check::check;
use super::Trees;
use crate::artifact::{Artifact, View};
use crate::model::damaged;
use crate::refusal::Result;

/// Names of the tensors under a prefix.
pub(super) const NODES: &str = "nodes";
pub(super) const ROOTS: &str = "roots";
pub(super) const LEAVES: &str = "leaves";
pub(super) const NUMBERS: &str = "numbers";
pub(super) const THRESHOLDS: &str = "thresholds";
pub(super) const CATEGORIES: &str = "categories";
pub(super) const BITS: &str = "bits";

/// Where an ensemble lies in a model file; checked once, turned into [`Trees`] at each use.
#[derive(Debug, Clone, Copy)]
pub struct Stored {
    nodes: View<u64>,
    roots: View<u32>,
    leaves: View<f64>,
    numbers: View<u32>,
    thresholds: View<f64>,
    categories: View<u32>,
    bits: View<u32>,
    places: usize,
}

impl Stored {
    /// Finds and checks the tensors under a prefix, of trees that read rows of `features` values:
    ///
    /// | tensor | type, shape | holds |
    /// |---|---|---|
    /// | `nodes` | U64 \[nodes\] | see [the layout](super#layout) |
    /// | `roots` | U32 \[trees\] | the first node of each tree |
    /// | `leaves` | F64 \[leaves\] | the leaves' values, in the nodes' order |
    /// | `numbers` | U32 \[numbers, 2\] | a feature, and the end of its thresholds, which begin where those before end |
    /// | `thresholds` | F64 \[thresholds\] | strictly ascending for each feature |
    /// | `categories` | U32 \[categories, 3\] | a feature, the words of a code, its codes |
    /// | `bits` | U32 \[words\] | for each of these features, code after code, the places of the code |
    ///
    /// Arrays that are no trees are XX001: a child that is not after its parent or outside its
    /// tree, a feature, place or rank out of range, a leaf that is not finite, a threshold that is
    /// no number, codes beyond the words. They are read once; nothing is copied.
    pub fn open(file: &Artifact, prefix: &str, features: usize) -> Result<Self> {
        let name = |part: &str| format!("{prefix}.{part}");
        let count = |part: &str| file.shape(&name(part)).and_then(|shape| shape.first().copied());
        let rows = |part: &str| count(part).unwrap_or(0);
        let mut stored = Stored {
            nodes: file.view(&name(NODES), &[rows(NODES)])?,
            roots: file.view(&name(ROOTS), &[rows(ROOTS)])?,
            leaves: file.view(&name(LEAVES), &[rows(LEAVES)])?,
            numbers: file.view(&name(NUMBERS), &[rows(NUMBERS), 2])?,
            thresholds: file.view(&name(THRESHOLDS), &[rows(THRESHOLDS)])?,
            categories: file.view(&name(CATEGORIES), &[rows(CATEGORIES), 3])?,
            bits: file.view(&name(BITS), &[rows(BITS)])?,
            places: 0,
        };
        stored.places =
            check(&stored.of((**file.storage()).as_ref()), features).map_err(damaged)?;
        Ok(stored)
    }

    /// The trees, out of the bytes of the file that was opened. Of other bytes they give a wrong
    /// sum, or none, and never read beyond them.
    #[inline]
    pub fn of(self, file: &[u8]) -> Trees<'_> {
        Trees {
            nodes: bytemuck::try_cast_slice(self.nodes.of(file)).unwrap_or(&[]),
            roots: self.roots.of(file),
            leaves: self.leaves.of(file),
            numbers: self.numbers.of(file).as_chunks().0,
            thresholds: self.thresholds.of(file),
            categories: self.categories.of(file).as_chunks().0,
            bits: self.bits.of(file),
            places: self.places,
        }
    }
}
