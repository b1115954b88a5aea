//! An ensemble in a model file.

use super::check::check;
use super::{Packed, Trees};
use crate::artifact::{Artifact, ArtifactError, View};
use crate::model::damaged;
use crate::refusal::Result;

/// Names of the tensors under a prefix.
pub(super) const NODES: &str = "nodes";
pub(super) const ROOTS: &str = "roots";
pub(super) const BITS: &str = "bits";

/// Where an ensemble lies in a model file; checked once, turned into [`Trees`] at each use.
#[derive(Debug, Clone, Copy)]
pub struct Stored {
    nodes: View<u64>,
    roots: View<u32>,
    bits: View<u32>,
    special: bool,
}

impl Stored {
    /// Finds and checks the tensors `PREFIX.nodes` (U64 [nodes, 2]), `PREFIX.roots` (U32 [trees])
    /// and `PREFIX.bits` (U32 [words]) of trees that read rows of `features` values.
    ///
    /// Arrays that are no trees are XX001: a child that is not after its parent or outside its
    /// tree, a feature out of range, a leaf that is not finite, a threshold that is no number, a bitset beyond the
    /// words. The nodes are read once; nothing is copied.
    pub fn open(file: &Artifact, prefix: &str, features: usize) -> Result<Self> {
        let name = |part: &str| format!("{prefix}.{part}");
        let count = match file.shape(&name(NODES)) {
            Some([count, _]) => *count,
            _ => 0,
        };
        let mut stored = Stored {
            nodes: file.view(&name(NODES), &[count, 2])?,
            roots: flat(file, &name(ROOTS))?,
            bits: flat(file, &name(BITS))?,
            special: true,
        };
        let trees = stored.of((**file.storage()).as_ref());
        stored.special = check(trees.nodes, trees.roots, trees.bits, features).map_err(damaged)?;
        Ok(stored)
    }

    /// The trees, out of the bytes of the file that was opened. Of other bytes they give a wrong
    /// sum, or none, and never read beyond them.
    #[inline]
    pub fn of(self, file: &[u8]) -> Trees<'_> {
        let nodes: &[Packed] = self.nodes.of(file).as_chunks().0;
        Trees { nodes, roots: self.roots.of(file), bits: self.bits.of(file), special: self.special }
    }
}

/// A tensor of one dimension.
fn flat(file: &Artifact, name: &str) -> std::result::Result<View<u32>, ArtifactError> {
    let count = file.shape(name).map_or(0, |shape| shape.iter().product());
    file.view(name, &[count])
}
