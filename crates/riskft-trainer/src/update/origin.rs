//! The version that an update goes on from.

use std::sync::Arc;

use riskft_core::artifact::Artifact;
use riskft_core::model::{BranchKind, Model, Specification};
use riskft_core::network::FloatTensor;
use riskft_core::options::Options;
use riskft_core::refusal::{code, Refusal, Result};
use serde::Deserialize;

use crate::job::Body;
use crate::replay::{Replay, Shape};
use crate::scoring;

pub struct Origin {
    pub model: Arc<Model>,
    /// Its base encoder's file.
    pub encoder: Option<Vec<u8>>,
    /// The version's file, whose tensors the new one takes over.
    pub version: Artifact,
    pub training: Artifact,
    /// Those that the version was trained with.
    pub options: Options,
    pub replay: Replay,
    /// Sorted hashes of the rows that it was fitted on.
    pub fitted_rows: Vec<u64>,
}

/// What an update needs of a training file's specification.
#[derive(Deserialize)]
struct Trained {
    options: Options,
}

impl Origin {
    /// # Errors
    /// 55000 for a version that has no sample of old rows; XX001 for a damaged file.
    pub fn open(body: &Body) -> Result<Self> {
        let encoder = Some(body.incumbent_encoder.clone()).filter(|bytes| !bytes.is_empty());
        let model = scoring::open(body.incumbent_version.clone(), encoder.clone())?;
        let version = Artifact::open(Arc::new(body.incumbent_version.clone()))?;
        let training = Artifact::open(Arc::new(body.incumbent_training.clone()))?;
        let trained: Trained = serde_json::from_str(training.specification()).map_err(|e| {
            Refusal::new(code::DATA_CORRUPTED, "training file is damaged")
                .detail(format!("Its specification cannot be read: {e}."))
                .hint("Train the model again.")
        })?;
        if !training.contains("replay.test.logits") {
            return Err(Refusal::new(code::NOT_IN_STATE, "the version cannot be updated")
                .detail("It was trained before updates existed, and keeps no old rows.")
                .hint("Train the model again."));
        }
        let encoding = &model.specification().encoding;
        let codes: Vec<usize> = encoding.categories.iter().map(|c| c.codes()).collect();
        let widths = [encoding.numbers.len(), encoding.categories.len()];
        let width = model.encoder().map_or(0, |encoder| encoder.shape().width);
        let shape = Shape {
            widths,
            codes: &codes,
            branches: model.specification().branches.len(),
            texts: [model.terms().len(), width],
        };
        Ok(Origin {
            replay: Replay::read(&training, shape)?,
            fitted_rows: training.slice::<u64>("fitted_rows")?.to_vec(),
            options: trained.options,
            model,
            encoder,
            version,
            training,
        })
    }

    pub fn specification(&self) -> &Specification {
        self.model.specification()
    }

    /// Place of a kind among the branches.
    pub fn branch(&self, kind: BranchKind) -> Option<usize> {
        self.specification().branches.iter().position(|branch| branch.kind == kind)
    }

    /// Place of the network.
    pub fn network(&self) -> Option<usize> {
        self.branch(BranchKind::Network)
    }

    /// A tensor of the network as it was trained.
    pub fn tensor(&self, name: &str) -> Option<FloatTensor> {
        let name = format!("network.{name}");
        let data = self.training.slice::<f32>(&name).ok()?.to_vec();
        Some(FloatTensor { shape: self.training.shape(&name)?.to_vec(), data })
    }
}
