//! An update: the deployed version goes on with new rows.
//!
//! Trees, the encoder and the encoding of numbers stay as they are. The network's members learn on,
//! from the new rows and a sample of old ones ([`crate::replay`]), each without a fold of the new rows,
//! so that the weights of the branches and the calibration rest on scores of rows that were not learnt.
//! So do the terms of texts and the weights of n-grams.
//!
//! * `origin.rs`  the version that it goes on from, opened
//! * `rows.rs`    the new rows: labels, parts, labels of categories that are new
//! * `network.rs` the members, continued
//! * `text.rs`    the terms of texts and the weights of n-grams, continued
//! * `judge.rs`   the new version: quantized, gated, and beside the old one
//! * `files.rs`   its training file, for the next update

mod files;
mod judge;
mod network;
mod origin;
mod rows;
mod text;

use std::io::Read;

use riskft_core::blend;
use riskft_core::calibrate::Platt;
use riskft_core::metrics;
use riskft_core::model::BranchKind;
use riskft_core::options::Options;
use riskft_core::protocol::{Ledger, UpdateHeader};
use riskft_core::refusal::Result;

use crate::device::Compute;
use crate::events::Reporter;
use crate::job;
use crate::ledger::{timed, Meter};
use crate::rows::Reader;
use crate::run::Outcome;
use crate::scoring;
use judge::{Judge, Weights};
use origin::Origin;
use rows::NewRows;
use text::Lessons;

/// Reads the job's rows, goes on from its version, and returns what is to be published.
///
/// # Errors
/// Every refusal of the steps.
pub fn run(header: UpdateHeader, input: &mut impl Read, reporter: &Reporter) -> Result<Outcome> {
    let mut meter = Meter::default();
    meter.phase("load");
    let body = job::body(&header.columns, input, reporter)?;
    meter.phase("prepare");
    let origin = Origin::open(&body)?;
    let new = NewRows::read(&body.dataset, &header, &origin, reporter)?;
    let options = Options {
        head_epochs: header.options.epochs,
        head_learning_rate: header.options.learning_rate,
        patience: header.options.patience,
        gate: header.options.gate,
        seed: header.options.seed,
        threads: header.options.threads,
        ..origin.options.clone()
    };
    let compute = Compute::choose(&options)?;
    reporter.notice(compute.in_words());
    meter.phase("evaluate");
    let reader = Reader::new(&body.dataset, &origin.specification().encoding)?;
    let scored = || scoring::logits(&origin.model, &reader, &new.source, compute.threads, reporter);
    let (before, seconds) = timed(scored);
    let before = before?;
    meter.score_cpu_seconds = Some(seconds / before.len() as f64);
    meter.phase("network");
    let mut ledger = ledger(&new, &origin, &compute, body.dataset.rows);
    let network = network::fit(&origin, &new, &options, &compute, &mut ledger, reporter)?;
    meter.phase("evaluate");
    let mut honest = before.clone();
    if let (Some(place), Some(logits)) =
        (origin.network(), network.as_ref().and_then(|n| n.out_of_fold.as_ref()))
    {
        for (row, logit) in honest.iter_mut().zip(logits) {
            row[place] = *logit;
        }
    }
    let weights = |honest: &[Vec<f64>]| match header.options.recalibrate {
        true => fitted(&origin, &new, honest),
        false => Weights::of(&origin),
    };
    meter.phase("text");
    let so_far = weights(&honest);
    let text = Lessons {
        origin: &origin,
        new: &new,
        reader: &reader,
        honest: &honest,
        weights: &so_far,
        options: &options,
        compute: &compute,
        reporter,
    }
    .learn()?;
    ledger.parameters_trainable += text.size() as u64;
    ledger.parameters += text.size() as u64;
    for (kind, change) in text.changes() {
        let Some(branch) = origin.branch(kind) else { continue };
        let rows = honest.iter_mut().zip(&change.out_of_fold);
        rows.for_each(|(row, more)| row[branch] += more);
    }
    meter.phase("evaluate");
    let weights = weights(&honest);
    let judge = Judge {
        origin: &origin,
        new: &new,
        header: &header,
        options: &options,
        compute: &compute,
        reporter,
        dataset: &body.dataset,
        before: &before,
        honest: &honest,
        text: &text,
        weights,
    };
    judge.publish(network, meter, ledger)
}

/// Weights, calibration and threshold by the new rows that are not set aside. The weights start from
/// the old ones, so that few rows leave them nearly as they are.
fn fitted(origin: &Origin, new: &NewRows, honest: &[Vec<f64>]) -> Weights {
    let labels = new.inputs_labels(&new.fitted);
    let of = |branch: usize| -> Vec<f64> {
        new.fitted.iter().map(|row| honest[*row as usize][branch]).collect()
    };
    let old = &origin.specification().branches;
    let logits: Vec<Vec<f64>> = (0..old.len()).map(of).collect();
    let slices: Vec<&[f64]> = logits.iter().map(Vec::as_slice).collect();
    let start: Vec<f64> = old.iter().map(|branch| branch.weight).collect();
    let mut weights = blend::fit(&slices, &labels, &start);
    if weights.iter().all(|weight| *weight == 0.0) {
        weights = start;
    }
    let mut weights = Weights { branches: weights, ..Weights::of(origin) };
    let blended: Vec<f64> =
        new.fitted.iter().map(|row| weights.blend(&honest[*row as usize])).collect();
    weights.platt = Platt::fit(&blended, &labels);
    let scores: Vec<f64> = blended.iter().map(|logit| weights.platt.apply(*logit)).collect();
    if let Some((threshold, _)) = metrics::best_f1_threshold(&scores, &labels) {
        weights.threshold = threshold;
    }
    weights
}

fn ledger(new: &NewRows, origin: &Origin, compute: &Compute, rows: usize) -> Ledger {
    let fitted = new.fitted.len() as u64;
    Ledger {
        rows: rows as u64,
        rows_unlabelled: (rows - new.source.len()) as u64,
        rows_train: fitted + origin.replay.fitted.labels.len() as u64,
        rows_validation: fitted,
        rows_calibration: fitted,
        rows_test: new.test.len() as u64,
        device: compute.name.clone(),
        precision: "f32".to_owned(),
        threads: compute.threads as u32,
        text_kept: origin.specification().branch(BranchKind::Text).is_some(),
        ..Ledger::default()
    }
}
