//! The files of a version: what scores, and what later updates go on from.

use std::sync::Arc;

use riskft_core::artifact::{digest, write, Tensor, TensorSet};
use riskft_core::metrics;
use riskft_core::model::Model;
use riskft_core::protocol::{BlobHeader, BlobKind};
use riskft_core::quantize;
use riskft_core::refusal::{code, Refusal, Result};
use serde_json::json;

use crate::explain;
use crate::finish::{Judged, Quantized, Trained};
use crate::head::Head;
use crate::replay::{Replay, TextReplay, MOST_FITTED, MOST_TEST};
use crate::rows::{sample, Reader};
use crate::run::Run;
use crate::scoring::{self, Crew};
use crate::tensors::to_float_tensor;
use crate::tuning::Tuning;

/// Rows whose scores by the finished file are compared with those it was judged by.
const CHECKED_ROWS: usize = 64;

/// Files with their headers.
type Blobs = Vec<(BlobHeader, Vec<u8>)>;

impl Trained<'_> {
    /// The files of the version, and the version as it was read out of them.
    pub(crate) fn files(
        &self,
        quantized: Quantized,
        judged: &Judged,
    ) -> Result<(Blobs, Arc<Model>)> {
        let Quantized { encoder, mut specification, parts, overlay, model } = quantized;
        specification.background = explain::background(self, &model)?;
        specification.calibration = judged.platt;
        specification.threshold = judged.threshold;
        let version = quantize::version(&specification, &parts, &overlay)?;
        let model = scoring::open(version.clone(), encoder.clone())?;
        self.check(&model, judged)?;
        let mut blobs = Vec::new();
        blobs.extend(encoder.map(|bytes| blob(BlobKind::Encoder, bytes)));
        blobs.push(blob(BlobKind::Version, version));
        blobs.push(blob(BlobKind::Training, self.training_file(&model, judged)?));
        Ok((blobs, model))
    }

    /// The finished file must give the very scores that its figures were computed from.
    fn check(&self, model: &Arc<Model>, judged: &Judged) -> Result<()> {
        let rows = judged.shown();
        let specification = model.specification();
        let count = rows.places.len().min(CHECKED_ROWS);
        let reader = Reader::new(&self.job.dataset, &specification.encoding)?;
        let source = self.source(&rows.places[..count]);
        let logits = scoring::logits(model, &reader, &source, 1, self.run.reporter)?;
        for (row, score) in logits.into_iter().zip(&rows.scores) {
            let again = specification.calibration.apply(specification.blend(row.into_iter()));
            if again.to_bits() != score.to_bits() {
                return Err(Refusal::new(
                    code::EXTERNAL_ROUTINE,
                    "the finished model scores differently",
                )
                .detail(format!("A test row has {again} and had {score}."))
                .hint("Nothing was stored; report this."));
            }
        }
        Ok(())
    }

    /// Sorted hashes of the rows that the version was fitted on, its calibration included.
    fn fitted_rows(&self) -> Result<Vec<u64>> {
        let reader = Reader::new(&self.job.dataset, self.run.encoding)?;
        let places = self.run.folds.fitted.iter();
        let mut hashes: Vec<u64> = places
            .map(|place| reader.hash(self.run.rows.source[*place as usize] as usize))
            .collect();
        hashes.sort_unstable();
        hashes.dedup();
        Ok(hashes)
    }

    /// A sample of the fitted rows and of the test rows.
    fn replay(&self, model: &Arc<Model>, judged: &Judged) -> Result<Replay> {
        let (rows, seed) = (self.run.rows, self.run.header.options.seed);
        let fitted = sample(self.run.folds.fitted.clone(), MOST_FITTED, seed);
        let test = &judged.test;
        let all: Vec<u32> = (0..test.places.len() as u32).collect();
        let chosen = sample(all, MOST_TEST, seed);
        let places: Vec<u32> = chosen.iter().map(|row| test.places[*row as usize]).collect();
        let replay = Replay {
            texts: self.texts(model, judged, [&fitted, &places])?,
            fitted: rows.inputs(&fitted),
            test: rows.inputs(&places),
            logits: chosen.iter().map(|row| test.branches[*row as usize].clone()).collect(),
        };
        Ok(replay.bounded(seed))
    }

    /// What the sample keeps of its rows' texts; None of a version that reads none.
    fn texts(
        &self,
        model: &Arc<Model>,
        judged: &Judged,
        [fitted, test]: [&[u32]; 2],
    ) -> Result<Option<TextReplay>> {
        let Run { rows, compute, reporter, .. } = self.run;
        // A row that no model left out counts as the base rate does.
        let rate = metrics::base_rate(&self.run.labels()).unwrap_or(0.5);
        let mut scores = vec![rate; rows.source.len()];
        let known = judged.validation();
        let pairs = known.places.iter().zip(&known.scores);
        pairs.for_each(|(place, score)| scores[*place as usize] = *score);
        let scores: Vec<f64> = fitted.iter().map(|place| scores[*place as usize]).collect();
        let reader = Reader::new(&self.job.dataset, &model.specification().encoding)?;
        let crew = Crew { phase: "evaluate", threads: compute.threads, reporter };
        let fitted = (&self.source(fitted)[..], &scores[..]);
        TextReplay::of(model, &reader, fitted, &self.source(test), crew)
    }

    /// The float network and tuning, for later updates, and the rows that they were fitted on. Terms of texts
    /// and n-grams are floats in the version's file.
    fn training_file(&self, model: &Arc<Model>, judged: &Judged) -> Result<Vec<u8>> {
        let tuning = self.text().map(|(text, _)| text.tuning.tensors()).unwrap_or_default();
        let named = self.network().map(Head::named).unwrap_or_default().into_iter();
        let network = named.map(|(name, t)| (format!("network.{name}"), to_float_tensor(t)));
        let mut tensors: TensorSet = tuning
            .into_iter()
            .map(|(name, tensor)| (format!("encoder.{name}"), tensor))
            .chain(network)
            .map(|(name, tensor)| (name, Tensor::new(&tensor.shape, &tensor.data)))
            .collect();
        let fitted = self.fitted_rows()?;
        tensors.insert("fitted_rows".into(), Tensor::new(&[fitted.len()], &fitted));
        self.replay(model, judged)?.store(&mut tensors);
        let tuned = self.text().is_some_and(|(text, _)| !matches!(text.tuning, Tuning::Frozen));
        let header = self.run.header;
        let specification = json!({
            "format": 1,
            "method": header.method,
            "base": self.text().map(|(_, base)| &base.name),
            "tuned": tuned,
            "options": header.options,
            "reference_date": header.reference_date,
        });
        Ok(write(BlobKind::Training, &specification.to_string(), &tensors))
    }
}

pub fn blob(kind: BlobKind, bytes: Vec<u8>) -> (BlobHeader, Vec<u8>) {
    (BlobHeader { kind, digest: digest(&bytes), length: bytes.len() as u64 }, bytes)
}
