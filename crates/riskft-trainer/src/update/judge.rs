//! The new version: quantized, calibrated, gated, and beside the old one on rows that neither has
//! learnt from.

use std::sync::Arc;

use riskft_core::calibrate::Platt;
use riskft_core::cell::Cell;
use riskft_core::curve;
use riskft_core::dataset::Dataset;
use riskft_core::drift;
use riskft_core::explain::Background;
use riskft_core::metrics;
use riskft_core::model::{Branch, BranchKind, Model, Specification};
use riskft_core::options::Options;
use riskft_core::protocol::{
    BlobKind, BranchReport, Figures, GateReport, Ledger, PartMetric, TrainingResult, UpdateHeader,
    UpdateReport,
};
use riskft_core::quantize::{self, Changed};
use riskft_core::refusal::{code, Refusal, Result};
use riskft_core::update::Contest;

use super::network::Network;
use super::origin::Origin;
use super::rows::NewRows;
use super::text::TextChanges;
use crate::device::Compute;
use crate::evaluate::{member_logits, network_logits};
use crate::events::Reporter;
use crate::explain::Shown;
use crate::files::blob;
use crate::fold;
use crate::gate;
use crate::inputs::Inputs;
use crate::ledger::Meter;
use crate::rows::{Reader, Rows};
use crate::run::Outcome;
use crate::scoring::{self, scorer, Crew};

/// Rows whose scores by the finished file are compared with those it was judged by.
const CHECKED_ROWS: usize = 64;

/// What makes a score of the branches' logits.
#[derive(Debug, Clone)]
pub struct Weights {
    pub branches: Vec<f64>,
    pub platt: Platt,
    pub threshold: f64,
}

impl Weights {
    pub fn of(origin: &Origin) -> Self {
        let s = origin.specification();
        Weights {
            branches: s.branches.iter().map(|branch| branch.weight).collect(),
            platt: s.calibration,
            threshold: s.threshold,
        }
    }

    pub fn blend(&self, logits: &[f64]) -> f64 {
        self.branches.iter().zip(logits).map(|(weight, logit)| weight * logit).sum()
    }

    pub fn scores(&self, rows: &[Vec<f64>]) -> Vec<f64> {
        rows.iter().map(|row| self.platt.apply(self.blend(row))).collect()
    }
}

/// All that the new version is made of and judged by.
pub struct Judge<'a> {
    pub origin: &'a Origin,
    pub new: &'a NewRows,
    pub header: &'a UpdateHeader,
    pub options: &'a Options,
    pub compute: &'a Compute,
    pub reporter: &'a Reporter,
    pub dataset: &'a Dataset,
    /// Logits of the branches by the old version: [new rows][branches].
    pub before: &'a [Vec<f64>],
    /// The same where nothing learnt from the row that it is of.
    pub honest: &'a [Vec<f64>],
    pub text: &'a TextChanges,
    pub weights: Weights,
}

/// Rows that neither version has learnt from: [rows][branches] by each of them.
pub(super) struct Aside {
    pub inputs: Inputs,
    pub before: Vec<Vec<f64>>,
    pub after: Vec<Vec<f64>>,
}

impl Judge<'_> {
    /// # Errors
    /// 22000 when the int8 version misses the gate.
    pub fn publish(
        &self,
        network: Option<Network>,
        mut meter: Meter,
        mut ledger: Ledger,
    ) -> Result<Outcome> {
        let (bytes, model) = self.version(network.as_ref())?;
        let (new, old) = (self.new_aside(&model)?, self.old_aside(&model)?);
        self.check(&model, &new)?;
        let gate = self.gate(network.as_ref(), [&new, &old])?;
        let before = Weights::of(self.origin);
        let contest = |aside: &Aside| {
            let (labels, before) = (&aside.inputs.labels, before.scores(&aside.before));
            Contest::of(&before, &self.weights.scores(&aside.after), labels)
        };
        let update = UpdateReport {
            old: contest(&old),
            new: contest(&new).unwrap_or_default(),
            added: self.added(),
        };
        let training = self.training_file(&model, network.as_ref(), [&new, &old])?;
        // The same encoder: its digest tells the server that it has the file.
        let encoder = self.origin.encoder.iter().map(|file| blob(BlobKind::Encoder, file.clone()));
        let own = [blob(BlobKind::Version, bytes), blob(BlobKind::Training, training)];
        let blobs: Vec<_> = encoder.chain(own).collect();
        let specification = model.specification();
        let mut figures = self.figures(&new, &old);
        meter.phase("explain");
        let shown = Shown {
            model: &model,
            dataset: self.dataset,
            rows: self.source(&self.new.test),
            options: self.options,
            threads: self.compute.threads,
            reporter: self.reporter,
        };
        (figures.importances, figures.effects) = shown.figures()?;
        meter.close(&mut ledger);
        let result = TrainingResult {
            positive_label: specification.positive_label.clone(),
            negative_label: specification.negative_label.clone(),
            threshold: specification.threshold,
            figures,
            gate,
            ledger,
            incumbent: None,
            update: Some(update),
            blobs: blobs.iter().map(|(header, _)| header.clone()).collect(),
        };
        Ok(Outcome { result, blobs })
    }

    /// The version's file, and the version as it was read out of it.
    fn version(&self, network: Option<&Network>) -> Result<(Vec<u8>, Arc<Model>)> {
        let members = fold::network(network.map(|network| &network.head), None).members;
        let texts = self.text.texts(self.origin)?;
        let grams = self.text.grams.as_ref().map(|(_, table)| table);
        let changed = Changed { members: &members, texts: &texts, grams };
        let mut specification = self.specification();
        let make = |s: &Specification| -> Result<(Vec<u8>, Arc<Model>)> {
            let bytes = quantize::updated(s, &changed, &self.origin.version)?;
            let model = scoring::open(bytes.clone(), self.origin.encoder.clone())?;
            Ok((bytes, model))
        };
        // What texts add is weighed by the new version's weights.
        let (_, model) = make(&specification)?;
        specification.background = self.background(&model)?;
        make(&specification)
    }

    fn specification(&self) -> Specification {
        let mut specification = self.origin.specification().clone();
        let weights = specification.branches.iter().zip(&self.weights.branches);
        let branches = weights
            .map(|(branch, weight)| Branch { weight: weight.min(Branch::MOST), ..*branch })
            .collect();
        specification.branches = branches;
        specification.encoding = self.new.encoding.clone();
        specification.calibration = self.weights.platt;
        specification.threshold = self.weights.threshold;
        specification.background = Background::default();
        specification
    }

    /// Usual rows of now: the middle ones of strata of the new rows' logits.
    fn background(&self, model: &Arc<Model>) -> Result<Background> {
        let logit = |place: &u32| self.weights.blend(&self.honest[*place as usize]);
        let mut places = self.new.fitted.clone();
        let hashes = &self.new.hashes;
        places.sort_by(|a, b| {
            let by_logit = logit(a).total_cmp(&logit(b));
            by_logit.then_with(|| hashes[*a as usize].cmp(&hashes[*b as usize]))
        });
        let count = self.options.explain.background.min(places.len());
        let middle = |stratum: usize| places[(2 * stratum + 1) * places.len() / (2 * count)];
        let reader = Reader::new(self.dataset, &model.specification().encoding)?;
        let row = |place: u32| reader.cells(self.new.source[place as usize] as usize);
        let cells: Vec<Vec<Cell<'_>>> = (0..count).map(middle).map(row).collect();
        Ok(Background::of(&mut scorer(model), &cells))
    }

    fn new_aside(&self, model: &Arc<Model>) -> Result<Aside> {
        let test = &self.new.test;
        let before: Vec<Vec<f64>> =
            test.iter().map(|place| self.before[*place as usize].clone()).collect();
        let mut aside = self.aside(model, self.new.inputs.select(test), before)?;
        if self.text.changes().next().is_some() {
            let reader = Reader::new(self.dataset, &model.specification().encoding)?;
            let rows = self.source(test);
            let logits =
                scoring::logits(model, &reader, &rows, self.compute.threads, self.reporter)?;
            for (kind, _) in self.text.changes() {
                let Some(branch) = self.origin.branch(kind) else { continue };
                aside
                    .after
                    .iter_mut()
                    .zip(&logits)
                    .for_each(|(row, own)| row[branch] = own[branch]);
            }
        }
        Ok(aside)
    }

    /// Old rows have no texts: what a change adds is known of their vectors and n-grams.
    fn old_aside(&self, model: &Arc<Model>) -> Result<Aside> {
        let replay = &self.origin.replay;
        let mut aside = self.aside(model, replay.test.clone(), replay.logits.clone())?;
        let Some(texts) = &replay.texts else { return Ok(aside) };
        let places = [BranchKind::Text, BranchKind::Grams].map(|kind| self.origin.branch(kind));
        for (place, row) in aside.after.iter_mut().enumerate() {
            let added = self.text.added(&texts.test, place);
            for (branch, more) in places.iter().zip(added) {
                branch.iter().for_each(|branch| row[*branch] += more);
            }
        }
        Ok(aside)
    }

    pub(super) fn source(&self, places: &[u32]) -> Vec<u32> {
        places.iter().map(|place| self.new.source[*place as usize]).collect()
    }

    /// The network's logits by the new version, the other branches' as before.
    fn aside(&self, model: &Arc<Model>, inputs: Inputs, before: Vec<Vec<f64>>) -> Result<Aside> {
        let mut after = before.clone();
        if let Some(branch) = self.origin.network() {
            let threads = self.compute.threads;
            let crew = Crew { phase: "evaluate", threads, reporter: self.reporter };
            let logits = crew.each(inputs.labels.len(), || {
                let mut scorer = scorer(model);
                let inputs = &inputs;
                move |row| scorer.branch_logit(BranchKind::Network, &inputs.row(row))
            })?;
            after.iter_mut().zip(logits).for_each(|(row, logit)| row[branch] = logit);
        }
        Ok(Aside { inputs, before, after })
    }

    /// The finished file must give the very scores that it is judged by.
    fn check(&self, model: &Arc<Model>, new: &Aside) -> Result<()> {
        let specification = model.specification();
        let reader = Reader::new(self.dataset, &specification.encoding)?;
        let rows = self.source(&self.new.test[..self.new.test.len().min(CHECKED_ROWS)]);
        let logits = scoring::logits(model, &reader, &rows, 1, self.reporter)?;
        for (row, judged) in logits.into_iter().zip(self.weights.scores(&new.after)) {
            let again = specification.calibration.apply(specification.blend(row.into_iter()));
            if again.to_bits() != judged.to_bits() {
                return Err(Refusal::new(
                    code::EXTERNAL_ROUTINE,
                    "the finished model scores differently",
                )
                .detail(format!("A new row has {again} and had {judged}."))
                .hint("Nothing was stored; report this."));
            }
        }
        Ok(())
    }

    /// Compares the version with its float network on the rows that were set aside.
    fn gate(&self, network: Option<&Network>, asides: [&Aside; 2]) -> Result<GateReport> {
        let (mut float, mut int8, mut labels) = (Vec::new(), Vec::new(), Vec::new());
        for aside in asides {
            let mut rows = aside.after.clone();
            if let (Some(network), Some(branch)) = (network, self.origin.network()) {
                let inputs = Rows::of_network(&aside.inputs, self.compute.device);
                let places: Vec<u32> = (0..rows.len() as u32).collect();
                let logits = network_logits(&member_logits(&network.head, &inputs, &places));
                rows.iter_mut().zip(logits).for_each(|(row, logit)| row[branch] = logit);
            }
            float.extend(self.weights.scores(&rows));
            int8.extend(self.weights.scores(&aside.after));
            labels.extend_from_slice(&aside.inputs.labels);
        }
        let threshold = self.weights.threshold;
        let (report, limits) = gate::compare(&float, &int8, &labels, threshold, &self.options.gate);
        match report.passed {
            true => Ok(report),
            false => Err(gate::refusal(&report, &limits)),
        }
    }

    fn figures(&self, new: &Aside, old: &Aside) -> Figures {
        let fitted: Vec<Vec<f64>> =
            self.new.fitted.iter().map(|place| self.honest[*place as usize].clone()).collect();
        let labels = self.new.inputs_labels(&self.new.fitted);
        let (test, replay) = (self.weights.scores(&new.after), self.weights.scores(&old.after));
        let threshold = self.weights.threshold;
        let part = |part: &'static str, scores: &[f64], labels: &[bool]| {
            let metrics = metrics::evaluate(scores, labels, threshold).into_iter();
            metrics.map(move |metric| PartMetric { part: part.to_owned(), metric })
        };
        let metrics = part("validation", &self.weights.scores(&fitted), &labels)
            .chain(part("test", &test, &new.inputs.labels))
            .chain(part("replay", &replay, &old.inputs.labels).filter(|_| !replay.is_empty()))
            .collect();
        let all: Vec<f64> = test.iter().chain(&replay).copied().collect();
        Figures {
            metrics,
            branches: self.branches(&fitted, &labels, new),
            reference: vec![drift::score(&all)],
            curve: curve::bins(&test, &new.inputs.labels),
            ..Figures::default()
        }
    }

    fn branches(&self, fitted: &[Vec<f64>], labels: &[bool], new: &Aside) -> Vec<BranchReport> {
        let of = |rows: &[Vec<f64>], branch: usize| -> Vec<f64> {
            rows.iter().map(|row| row[branch]).collect()
        };
        let specification = self.origin.specification();
        let report = |(place, branch): (usize, &Branch)| BranchReport {
            branch: branch.kind.name().to_owned(),
            weight: self.weights.branches[place],
            auc: metrics::auc(&of(fitted, place), labels),
            test_auc: metrics::auc(&of(&new.after, place), &new.inputs.labels),
            why: match branch.kind {
                BranchKind::Network => "members of the version before, trained on".to_owned(),
                kind if self.text.changes().any(|(changed, _)| changed == kind) => {
                    "weights of the version before, continued".to_owned()
                }
                _ => "as in the version before".to_owned(),
            },
            ..BranchReport::default()
        };
        specification.branches.iter().enumerate().map(report).collect()
    }

    fn added(&self) -> Vec<(String, u64)> {
        let categories = self.new.encoding.categories.iter().zip(&self.new.added);
        let new = categories.filter(|(_, added)| **added > 0);
        new.map(|(input, added)| (input.name.clone(), *added as u64)).collect()
    }
}
