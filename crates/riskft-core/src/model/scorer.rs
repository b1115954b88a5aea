//! Scores rows one after the other; holds the buffers and the cache of one user of a model.

use std::sync::Arc;

use super::cache::Cache;
use super::head::Buffers;
use super::text::Texts;
use super::{BranchKind, Model};
use crate::cell::Cell;
use crate::encode::EncodedRow;
use crate::gemm::Kernel;
use crate::grams::Reader;
use crate::math::{logistic, logit};
use crate::trees::Places;

/// Scores rows of one model. A row's score depends on the row and the version alone.
pub struct Scorer {
    model: Arc<Model>,
    kernel: Kernel,
    cache: Cache,
    /// Of n-grams.
    reader: Reader,
    buffers: Buffers,
    texts: Texts,
    logits: Vec<f64>,
    /// Of the trees.
    features: Vec<f64>,
    places: Places,
    row: EncodedRow,
}

impl Scorer {
    /// `cache_bytes` bounds the cache of text values. A kernel that the processor lacks computes
    /// as the portable one: the bits are the same.
    pub fn new(model: Arc<Model>, kernel: Kernel, cache_bytes: usize) -> Self {
        Scorer {
            logits: vec![0.0; model.head.members()],
            model,
            kernel,
            cache: Cache::new(cache_bytes),
            reader: Reader::default(),
            buffers: Buffers::default(),
            texts: Texts::default(),
            features: Vec::new(),
            places: Places::default(),
            row: EncodedRow::default(),
        }
    }

    pub fn model(&self) -> &Model {
        &self.model
    }
    pub fn model_arc(&self) -> Arc<Model> {
        Arc::clone(&self.model)
    }
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }
    /// Private memory held beside the model: buffers and cache, bytes.
    pub fn bytes(&self) -> usize {
        self.cache.bytes()
            + self.texts.bytes()
            + self.buffers.bytes()
            + self.reader.bytes()
            + self.places.bytes()
    }

    /// Calibrated probability of the positive class, from the cells of the encoding's columns in
    /// their order; cells that lack count as NULL.
    pub fn score(&mut self, cells: &[Cell<'_>]) -> f64 {
        let mut row = std::mem::take(&mut self.row);
        self.model.specification.encoding.encode_row(cells, &mut row);
        let score = self.score_row(&row);
        self.row = row;
        score
    }

    /// Calibrated probability of the positive class.
    pub fn score_row(&mut self, row: &EncodedRow) -> f64 {
        let logit = self.logit_row(row);
        let platt = self.model.specification.calibration;
        logistic(platt.slope * logit + platt.intercept)
    }

    /// The branches' weighted sum, before calibration.
    pub fn logit_row(&mut self, row: &EncodedRow) -> f64 {
        let model = Arc::clone(&self.model);
        let kinds = model.specification.branches.iter().map(|branch| branch.kind);
        model.specification.blend(kinds.map(|kind| self.branch_logit(kind, row)))
    }

    /// The logit of one branch; 0 of one that the version lacks.
    pub fn branch_logit(&mut self, kind: BranchKind, row: &EncodedRow) -> f64 {
        let model = Arc::clone(&self.model);
        let file = (*model.version).as_ref();
        match kind {
            BranchKind::Network if self.logits.is_empty() => 0.0,
            BranchKind::Network => {
                model.head.tabular(self.kernel, file, row, &mut self.buffers, &mut self.logits);
                let sum: f64 = self.logits.iter().map(|l| logistic(*l)).sum();
                logit(sum / self.logits.len() as f64)
            }
            BranchKind::Trees => {
                model.tables.fill(file, row, &mut self.features);
                let Some(trees) = model.trees else { return 0.0 };
                trees.of(file).score(&self.features, &mut self.places)
            }
            BranchKind::Grams => self.gram_terms(&model, file, row),
            BranchKind::Text => self.texts.sum(&model, self.kernel, &mut self.cache, row),
        }
    }

    /// The sum of the terms of the row's n-grams, in the texts' order.
    fn gram_terms(&mut self, model: &Model, file: &[u8], row: &EncodedRow) -> f64 {
        let Some((stored, input)) = model.grams.zip(model.specification.grams.as_ref()) else {
            return 0.0;
        };
        let grams = stored.of(file);
        // Entries of the cache beside those of the encoder's terms.
        let beside = model.specification.encoding.texts.len();
        let mut sum = grams.bias();
        for text in &input.texts {
            let Some(value) = row.texts.get(*text).filter(|value| !value.is_empty()) else {
                continue;
            };
            let term = self.cache.find(beside + text, value).unwrap_or_else(|| {
                let term = grams.term(*text as u32, value, &mut self.reader) as f32;
                self.cache.insert(beside + text, value, term);
                term
            });
            sum += f64::from(term);
        }
        sum
    }
}
