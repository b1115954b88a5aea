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
            logits: Vec::new(),
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
        logistic(self.log_odds(cells))
    }

    /// The logarithm of the odds of the positive class: the logit of [`Scorer::score`], also where
    /// that probability is rounded to 0 or 1.
    pub fn log_odds(&mut self, cells: &[Cell<'_>]) -> f64 {
        let mut row = std::mem::take(&mut self.row);
        self.model.specification.encoding.encode_row(cells, &mut row);
        let log_odds = self.log_odds_row(&row);
        self.row = row;
        log_odds
    }

    /// Calibrated probability of the positive class.
    pub fn score_row(&mut self, row: &EncodedRow) -> f64 {
        logistic(self.log_odds_row(row))
    }

    fn log_odds_row(&mut self, row: &EncodedRow) -> f64 {
        let logit = self.logit_row(row);
        let platt = self.model.specification.calibration;
        platt.slope * logit + platt.intercept
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
            BranchKind::Network => self.network_logits(std::slice::from_ref(row))[0],
            BranchKind::Trees => {
                model.tables.fill(file, row, &mut self.features);
                let Some(trees) = model.trees else { return 0.0 };
                trees.of(file).score(&self.features, &mut self.places)
            }
            BranchKind::Grams => {
                let Some(stored) = model.grams else { return 0.0 };
                let bias = stored.of(file).bias();
                self.gram_terms(row).into_iter().fold(bias, |sum, (_, term)| sum + term)
            }
            BranchKind::Text => {
                let terms = self.texts.terms(&model, self.kernel, &mut self.cache, row);
                terms.iter().map(|term| f64::from(*term)).sum()
            }
        }
    }

    /// The network's logit of each row; zeros without one.
    fn network_logits(&mut self, rows: &[EncodedRow]) -> Vec<f64> {
        let model = Arc::clone(&self.model);
        let members = model.head.members();
        if members == 0 {
            return vec![0.0; rows.len()];
        }
        let file = (*model.version).as_ref();
        model.head.tabular(self.kernel, file, rows, &mut self.buffers, &mut self.logits);
        let mean = |row: usize| {
            let members = self.logits.iter().skip(row).step_by(rows.len());
            members.map(|l| logistic(*l)).sum::<f64>() / model.head.members() as f64
        };
        (0..rows.len()).map(|row| logit(mean(row))).collect()
    }

    /// What the branches without text give to the logit of each row, by the arithmetic of
    /// [`Scorer::logit_row`]: appended to `out`. Many rows at once cost less than one by one.
    pub fn tabular_logits(&mut self, rows: &[EncodedRow], out: &mut Vec<f64>) {
        let model = Arc::clone(&self.model);
        let first = out.len();
        out.resize(first + rows.len(), 0.0);
        for branch in &model.specification.branches {
            match branch.kind {
                BranchKind::Network => {
                    let logits = self.network_logits(rows);
                    let sums = out[first..].iter_mut().zip(logits);
                    sums.for_each(|(sum, logit)| *sum += branch.weight * logit);
                }
                BranchKind::Trees => {
                    for (sum, row) in out[first..].iter_mut().zip(rows) {
                        *sum += branch.weight * self.branch_logit(branch.kind, row);
                    }
                }
                BranchKind::Grams | BranchKind::Text => {}
            }
        }
    }

    /// What the branches of texts give to the logit of a row: for each text its part, and what does
    /// not depend on the texts. The branches are sums over texts, so the parts are exact.
    pub fn text_terms(&mut self, row: &EncodedRow) -> (Vec<f64>, f64) {
        let model = Arc::clone(&self.model);
        let mut terms = vec![0.0; model.specification.encoding.texts.len()];
        let mut rest = 0.0;
        for branch in &model.specification.branches {
            match branch.kind {
                BranchKind::Text => {
                    let own = self.texts.terms(&model, self.kernel, &mut self.cache, row);
                    let sums = terms.iter_mut().zip(own);
                    sums.for_each(|(sum, term)| *sum += branch.weight * f64::from(*term));
                }
                BranchKind::Grams => {
                    let file = (*model.version).as_ref();
                    rest += branch.weight * model.grams.map_or(0.0, |g| g.of(file).bias());
                    for (text, term) in self.gram_terms(row) {
                        terms[text] += branch.weight * term;
                    }
                }
                BranchKind::Network | BranchKind::Trees => {}
            }
        }
        (terms, rest)
    }

    /// The vectors that the branch `text` reads of a row, each normalised: [texts, encoder width]; zeros
    /// where there is no text or it has no term, nothing without an encoder.
    pub fn text_vectors(&mut self, row: &EncodedRow) -> Vec<f32> {
        let model = Arc::clone(&self.model);
        self.texts.vectors(&model, self.kernel, row)
    }

    /// The terms of the n-grams of the row's texts that are counted, in the texts' order.
    fn gram_terms(&mut self, row: &EncodedRow) -> Vec<(usize, f64)> {
        let model = Arc::clone(&self.model);
        let Some((stored, input)) = model.grams.zip(model.specification.grams.as_ref()) else {
            return Vec::new();
        };
        let grams = stored.of((*model.version).as_ref());
        // Entries of the cache beside those of the encoder's terms.
        let beside = model.specification.encoding.texts.len();
        let mut terms = Vec::with_capacity(input.texts.len());
        for text in &input.texts {
            let Some(value) = row.texts.get(*text).filter(|value| !value.is_empty()) else {
                continue;
            };
            let term = self.cache.find(beside + text, value).unwrap_or_else(|| {
                let term = grams.term(*text as u32, value, &mut self.reader) as f32;
                self.cache.insert(beside + text, value, term);
                term
            });
            terms.push((*text, f64::from(term)));
        }
        terms
    }
}
