//! What later updates go on from: the new version's training file.

use std::sync::Arc;

use riskft_core::artifact::{write, Tensor, TensorSet};
use riskft_core::model::Model;
use riskft_core::protocol::BlobKind;
use riskft_core::refusal::Result;

use super::judge::{Aside, Judge};
use super::network::Network;
use crate::replay::{Replay, TextReplay, MOST_FITTED};
use crate::rows::{sample, Reader};
use crate::scoring::Crew;
use crate::tensors::to_float_tensor;

impl Judge<'_> {
    /// The training file of the version before, with the network, the fitted rows and the sample of
    /// this one.
    pub(super) fn training_file(
        &self,
        model: &Arc<Model>,
        network: Option<&Network>,
        [new, old]: [&Aside; 2],
    ) -> Result<Vec<u8>> {
        let mut tensors: TensorSet = self.origin.training.tensors();
        tensors.retain(|name, _| !name.starts_with("network."));
        for (name, tensor) in network.iter().flat_map(|network| network.head.named()) {
            let tensor = to_float_tensor(tensor);
            let tensor = Tensor::new(&tensor.shape, &tensor.data);
            tensors.insert(format!("network.{name}"), tensor);
        }
        let own = self.new.fitted.iter().map(|place| self.new.seen_as[*place as usize]);
        let mut hashes: Vec<u64> = self.origin.fitted_rows.iter().copied().chain(own).collect();
        hashes.sort_unstable();
        hashes.dedup();
        tensors.insert("fitted_rows".into(), Tensor::new(&[hashes.len()], &hashes));
        let fitted = sample(self.new.fitted.clone(), MOST_FITTED, self.header.options.seed);
        let replay = Replay {
            texts: self.texts(model, &fitted)?,
            fitted: self.new.inputs.select(&fitted),
            test: new.inputs.clone(),
            logits: new.after.clone(),
        };
        // What the branches say of the old rows is what this version's say.
        let kept = Replay { logits: old.after.clone(), ..self.origin.replay.clone() };
        kept.with(&replay, self.header.options.seed).store(&mut tensors);
        Ok(write(BlobKind::Training, self.origin.training.specification(), &tensors))
    }

    /// What the sample keeps of the new rows' texts.
    fn texts(&self, model: &Arc<Model>, fitted: &[u32]) -> Result<Option<TextReplay>> {
        if self.origin.replay.texts.is_none() {
            return Ok(None);
        }
        let reader = Reader::new(self.dataset, &model.specification().encoding)?;
        let honest: Vec<Vec<f64>> =
            fitted.iter().map(|place| self.honest[*place as usize].clone()).collect();
        let scores = self.weights.scores(&honest);
        let crew =
            Crew { phase: "evaluate", threads: self.compute.threads, reporter: self.reporter };
        let fitted = (&self.source(fitted)[..], &scores[..]);
        TextReplay::of(model, &reader, fitted, &self.source(&self.new.test), crew)
    }
}
