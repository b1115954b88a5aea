//! The int8 text encoder: BERT (Devlin et al. 2018), post-norm, exact GELU. RoBERTa (Liu et al. 2019)
//! and DistilBERT (Sanh et al. 2019) are the same network under other names.
//!
//! Linear layers are int8 with one activation scale for each token; attention, norms and sums are
//! f32 in one fixed order. Nothing that is computed for a token reads another text, so texts that
//! are encoded together get the bits that they get alone.

mod attention;
mod forward;
mod weights;

use serde::{Deserialize, Serialize};

use crate::artifact::{Artifact, ArtifactError, Storage};
use crate::gemm::Kernel;
use crate::math::{blocks, Block};
use crate::network::EncoderShape;
use crate::protocol::BlobKind;

pub(crate) use forward::Rows;
pub use forward::Scratch;
use weights::Plan;
pub(crate) use weights::{Files, Linear};

/// The specification in a base encoder's artifact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BaseSpecification {
    /// 1
    pub format: u32,
    pub shape: EncoderShape,
}

impl BaseSpecification {
    pub fn new(shape: EncoderShape) -> Self {
        BaseSpecification { format: 1, shape }
    }
    /// Of a file of kind `encoder`.
    pub fn of(base: &Artifact) -> Result<Self, ArtifactError> {
        if base.kind() != BlobKind::Encoder {
            return Err(ArtifactError::Metadata("kind"));
        }
        let wrong = ArtifactError::Metadata("specification");
        let specification: BaseSpecification =
            serde_json::from_str(base.specification()).map_err(|_| wrong.clone())?;
        let sound = specification.format == 1
            && specification.shape.adapter == 0
            && specification.shape.check().is_ok();
        sound.then_some(specification).ok_or(wrong)
    }
}

/// An encoder over the tensors of a base, some of them replaced by a version's own.
pub struct Encoder {
    shape: EncoderShape,
    plan: Plan,
    base: Storage,
    version: Option<Storage>,
}

impl Encoder {
    /// Finds and checks every tensor. `shape` is the base's, but for the adapters, which are in
    /// the version.
    pub fn open(
        base: &Artifact,
        version: Option<&Artifact>,
        shape: &EncoderShape,
    ) -> Result<Self, ArtifactError> {
        let expected =
            EncoderShape { adapter: shape.adapter, ..BaseSpecification::of(base)?.shape };
        if *shape != expected || shape.check().is_err() {
            return Err(ArtifactError::Metadata("specification"));
        }
        Ok(Encoder {
            shape: shape.clone(),
            plan: Plan::find(base, version, shape)?,
            base: base.storage().clone(),
            version: version.map(|version| version.storage().clone()),
        })
    }

    pub fn shape(&self) -> &EncoderShape {
        &self.shape
    }

    /// Pooled vectors (mean over all tokens of the last layer) of some texts, one after the other,
    /// each filled up with zeros to whole blocks. `ids` are the texts' tokens in a row, `ends`
    /// the end of each text in it. Unknown ids and tokens beyond the positions count as token 0
    /// and the last position; the tokenizer makes neither.
    pub fn pooled<'a>(
        &self,
        kernel: Kernel,
        ids: &[u32],
        ends: &[usize],
        scratch: &'a mut Scratch,
    ) -> &'a [Block] {
        forward::pooled(self, kernel, ids, ends, scratch)
    }

    /// States of one text after `layers` layers (0 = after the embeddings), [tokens, width].
    pub fn states_after(&self, kernel: Kernel, layers: usize, ids: &[u32]) -> Vec<f32> {
        let mut scratch = Scratch::default();
        let states = forward::states(self, kernel, layers, ids, &[ids.len()], &mut scratch);
        let row = blocks(self.shape.width);
        states
            .chunks_exact(row)
            .flat_map(|state| state.as_flattened()[..self.shape.width].to_vec())
            .collect()
    }

    fn files(&self) -> weights::Files<'_> {
        let base = (*self.base).as_ref();
        weights::Files { base, version: self.version.as_ref().map_or(base, |v| (**v).as_ref()) }
    }
}
