//! The branch `trees`: LightGBM on numbers, categories and target statistics, one model a fold.
//!
//! Extremely randomised splits (Geurts et al. 2006) and few native categories a split: on the loans
//! LightGBM's own defaults for categories overfitted (0.778 out of fold), these and statistics of
//! pairs of labels gave 0.794. Models differ in kind from fold to fold, which costs nothing and
//! gave 0.001 more when measured.

mod kind;
mod shap;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use riskft_core::artifact::TensorSet;
use riskft_core::dataset::hash::mix;
use riskft_core::encode::statistic::Estimates;
use riskft_core::encode::{tables, Encoding};
use riskft_core::math::{logistic, logit};
use riskft_core::options::Options;
use riskft_core::protocol::Progress;
use riskft_core::refusal::{code, Refusal, Result};
use riskft_core::trees::{lightgbm, Ensemble};

use self::kind::Kind;
use crate::events::Reporter;
use crate::folds::{Folds, Share};
use crate::lightgbm::{silence, Booster, Table};
use crate::rows::Features;
use crate::run::Run;

/// Rounds between two looks at the rows that were left out.
const STEP: usize = 5;
/// Rounds without a lower log-loss before a model stops.
const PATIENCE: usize = 60;
const LOOK: Duration = Duration::from_millis(50);

/// The branch as grown.
pub struct Forest {
    /// The mean of the folds' models.
    pub trees: Ensemble,
    /// Estimates of the statistics from all fitted rows, as the version stores them.
    pub statistics: TensorSet,
    /// By model: logits of the rows that were asked for.
    pub unlabelled: Vec<Vec<f64>>,
    /// Out-of-fold logits by place.
    pub out_of_fold: Vec<f64>,
    /// Rounds of each model.
    pub rounds: usize,
    pub seconds: f64,
}

/// What the models grow on.
pub struct Ground<'a> {
    pub features: &'a Features,
    /// By place.
    pub labels: &'a [bool],
    /// Places before this one have a label of their own; the others' labels do not speak in
    /// statistics.
    pub labelled: usize,
    /// Places of rows without a label that each model is to score.
    pub asked: &'a [u32],
    pub folds: &'a Folds,
    pub encoding: &'a Encoding,
    pub options: &'a Options,
    /// By place; tells in which part of the statistics a row lies.
    pub hashes: &'a [u64],
    pub threads: usize,
}

/// A model as it grew.
struct Growth {
    booster: Booster,
    kind: Kind,
    /// Logits of the rows left out, every [`STEP`] rounds.
    looks: Vec<Vec<f32>>,
    /// How far its logits lie above those of natural shares.
    shift: f64,
    /// The round of the lowest log-loss of the rows left out; 0 before the first look.
    best: usize,
}

/// One model's way.
struct Grown {
    model: usize,
    trees: Ensemble,
    /// Logits of the rows left out, every [`STEP`] rounds.
    held: Vec<Vec<f32>>,
}

/// Grows the branch; None where there is nothing to grow it from.
///
/// # Errors
/// 38000 when LightGBM fails.
pub fn fit(ground: &Ground<'_>, reporter: &Reporter) -> Result<Option<Forest>> {
    let width = ground.encoding.features();
    if ground.options.trees.rounds == 0 || width == 0 || !ground.both_classes() {
        return Ok(None);
    }
    let start = Instant::now();
    let grown = ground.each_model("trees", reporter, |model, done| ground.grow(model, done))?;
    let looks = grown.iter().map(|one| one.held.len()).min().unwrap_or(0);
    let Some((best, out_of_fold)) = ground.best_look(&grown, looks) else { return Ok(None) };
    let rounds = (best + 1) * STEP;
    let mut models: Vec<Ensemble> = grown.into_iter().map(|one| one.trees).collect();
    models.iter_mut().for_each(|trees| trees.truncate(rounds));
    let of = |(model, trees): (usize, &Ensemble)| ground.score(model, trees);
    let unlabelled = models.iter().enumerate().map(of).collect();
    let trees = Ensemble::mean(&models).map_err(misfit)?;
    let statistics = match ground.encoding.statistics.is_empty() {
        true => TensorSet::new(),
        false => tables::tensors(&ground.features.keys, &ground.all_estimates()),
    };
    let seconds = start.elapsed().as_secs_f64();
    Ok(Some(Forest { trees, statistics, unlabelled, out_of_fold, rounds, seconds }))
}

fn misfit(what: String) -> Refusal {
    Refusal::new(code::LIMIT_EXCEEDED, "boosted trees are too many")
        .detail(format!("The forest cannot be stored: {what}."))
        .hint("Set options.trees.rounds, options.repeats or options.folds lower.")
}

impl<'a> Ground<'a> {
    pub fn of(run: &Run<'a>, asked: &'a [u32]) -> Self {
        Ground {
            features: &run.rows.features,
            labels: &run.rows.labels,
            labelled: run.rows.labelled,
            asked,
            folds: run.folds,
            encoding: run.encoding,
            options: &run.header.options,
            hashes: &run.rows.hashes,
            threads: run.compute.threads,
        }
    }
}

impl Ground<'_> {
    /// Whether each model has rows of both classes on either side.
    fn both_classes(&self) -> bool {
        let label = |place: &u32| self.labels[*place as usize];
        (0..self.folds.models()).all(|model| {
            [Share::Train, Share::Held].into_iter().all(|share| {
                let places = self.folds.places(model, share);
                places.iter().any(label) && !places.iter().all(label)
            })
        })
    }

    /// What `work` makes of each model, side by side; it is given a count of rounds to add to.
    fn each_model<T: Send>(
        &self,
        phase: &str,
        reporter: &Reporter,
        work: impl Fn(usize, &AtomicUsize) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        let models = self.folds.models();
        let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let total = models * self.options.trees.rounds;
        let work = || -> Result<Vec<(usize, T)>> {
            silence();
            let mut made = Vec::new();
            loop {
                let model = next.fetch_add(1, Ordering::Relaxed);
                if model >= models {
                    return Ok(made);
                }
                made.push((model, work(model, &done)?));
                done.fetch_max((model + 1) * self.options.trees.rounds, Ordering::Relaxed);
            }
        };
        let mut all = std::thread::scope(|scope| {
            let workers: Vec<_> =
                (0..self.threads.clamp(1, models)).map(|_| scope.spawn(work)).collect();
            while workers.iter().any(|worker| !worker.is_finished()) {
                std::thread::sleep(LOOK);
                reporter.progress(Progress {
                    phase: phase.into(),
                    done: done.load(Ordering::Relaxed).min(total) as u64,
                    total: total as u64,
                    ..Progress::default()
                });
            }
            let mut all = Vec::new();
            for worker in workers {
                let made = worker.join().map_err(|_| {
                    Refusal::new(code::EXTERNAL_ROUTINE, "growing the boosted trees failed")
                })?;
                all.extend(made?);
            }
            Ok::<_, Refusal>(all)
        })?;
        all.sort_by_key(|(model, _)| *model);
        Ok(all.into_iter().map(|(_, made)| made).collect())
    }

    fn grow(&self, model: usize, done: &AtomicUsize) -> Result<Grown> {
        let Growth { booster, looks, shift, .. } = self.growth(model, done)?;
        let mut trees = lightgbm::read(&booster.text(looks.len() * STEP)?)?;
        if shift != 0.0 {
            trees.shift(-shift).map_err(misfit)?;
        }
        Ok(Grown { model, trees, held: looks })
    }

    fn growth(&self, model: usize, done: &AtomicUsize) -> Result<Growth> {
        let (train, held) =
            (self.folds.places(model, Share::Train), self.folds.places(model, Share::Held));
        let kind = Kind::of(model, self.options.trees.categories);
        let (features, other) = self.both(model, kind, &train, &held);
        let (labels, held_labels) = (self.targets(&train), self.targets(&held));
        let weights: Vec<f32> =
            train.iter().map(|place| self.folds.weights[*place as usize]).collect();
        let width = self.encoding.features();
        let table = Table { features: &features, width, labels: &labels, weights: &weights };
        let watched = Table { features: &other, width, labels: &held_labels, weights: &[] };
        let shift = self.folds.shift(&train, self.labels);
        let mut booster = Booster::new(&table, &watched, &self.parameters(model, kind))?;
        drop((features, other));
        let mut looks: Vec<Vec<f32>> = Vec::new();
        let (mut best, mut scores) = ((f64::INFINITY, 0), Vec::new());
        for round in 1..=self.options.trees.rounds.next_multiple_of(STEP) {
            let grew = booster.grow()?;
            done.fetch_add(1, Ordering::Relaxed);
            if round % STEP == 0 {
                booster.held_scores(&mut scores)?;
                looks.push(scores.iter().map(|p| (logit(*p) - shift) as f32).collect());
                if shift != 0.0 {
                    scores.iter_mut().for_each(|p| *p = logistic(logit(*p) - shift));
                }
                let loss = self.loss(&held, &scores);
                if loss < best.0 {
                    best = (loss, round);
                }
            }
            if !grew || round >= best.1 + PATIENCE {
                break;
            }
        }
        if looks.is_empty() {
            booster.held_scores(&mut scores)?;
            looks.push(scores.iter().map(|p| (logit(*p) - shift) as f32).collect());
        }
        Ok(Growth { booster, kind, looks, shift, best: best.1 })
    }

    /// Estimates of all fitted rows, to the number of rows that the models know them of.
    fn all_estimates(&self) -> Estimates {
        let models = self.folds.models();
        let own: usize = (0..models)
            .map(|model| {
                let train = self.folds.places(model, Share::Train);
                train.partition_point(|place| (*place as usize) < self.labelled)
            })
            .sum();
        let whole = own as f64 / (models * self.folds.fitted.len()).max(1) as f64;
        let label = |place: u32| self.labels[place as usize];
        self.features.keys.estimate(&self.folds.fitted, label, whole)
    }

    fn targets(&self, places: &[u32]) -> Vec<f32> {
        let label = |place: &u32| f32::from(u8::from(self.labels[*place as usize]));
        places.iter().map(label).collect()
    }

    /// Features of a model's own rows and of those that it leaves out, row-major.
    fn both(&self, model: usize, kind: Kind, train: &[u32], held: &[u32]) -> (Vec<f64>, Vec<f64>) {
        let keys = &self.features.keys;
        let label = |place: u32| self.labels[place as usize];
        let part = |place: u32| mix(self.hashes[place as usize] ^ mix(model as u64));
        let told = train.partition_point(|place| (*place as usize) < self.labelled);
        let crossed = keys.cross_fitted(train, told, label, part);
        let estimates = keys.estimate(&train[..told], label, 1.0);
        (self.joined(kind, train, &crossed), self.unseen(kind, held, &estimates))
    }

    /// Features of rows that the estimates do not hold.
    fn unseen(&self, kind: Kind, places: &[u32], estimates: &Estimates) -> Vec<f64> {
        let keys = &self.features.keys;
        let mut statistics = vec![0.0; places.len() * 2 * keys.len()];
        for (place, out) in places.iter().zip(statistics.chunks_exact_mut(2 * keys.len().max(1))) {
            keys.fill(estimates, *place, out);
        }
        self.joined(kind, places, &statistics)
    }

    /// Estimates of the rows that a model learns from.
    fn own_estimates(&self, model: usize) -> Estimates {
        let label = |place: u32| self.labels[place as usize];
        let train = self.folds.places(model, Share::Train);
        let told = train.partition_point(|place| (*place as usize) < self.labelled);
        self.features.keys.estimate(&train[..told], label, 1.0)
    }

    /// A model's logits of the rows that were asked for.
    fn score(&self, model: usize, trees: &Ensemble) -> Vec<f64> {
        if self.asked.is_empty() {
            return Vec::new();
        }
        let estimates = self.own_estimates(model);
        let mut logits = Vec::with_capacity(self.asked.len());
        for some in self.asked.chunks(4096) {
            let features =
                self.unseen(Kind::of(model, self.options.trees.categories), some, &estimates);
            logits.extend(features.chunks_exact(self.encoding.features()).map(|r| trees.score(r)));
        }
        logits
    }

    /// Logits of rows that no model has seen, as the version scores them.
    pub fn score_by(&self, forest: &Forest, places: &[u32]) -> Vec<f64> {
        let estimates = self.all_estimates();
        // Models without native categories do not split on them.
        let kind = Kind { native: true, extra: false };
        let width = self.encoding.features();
        let score = |features: &[f64]| forest.trees.score(features);
        let of = |some: &[u32]| {
            let features = self.unseen(kind, some, &estimates);
            features.chunks_exact(width).map(score).collect::<Vec<f64>>()
        };
        places.chunks(4096).flat_map(of).collect()
    }

    fn joined(&self, kind: Kind, places: &[u32], statistics: &[f64]) -> Vec<f64> {
        let (numbers, width) = (self.encoding.numbers.len(), 2 * self.features.keys.len());
        let mut all = Vec::with_capacity(places.len() * self.encoding.features());
        for (index, place) in places.iter().enumerate() {
            let own = self.features.of(*place);
            all.extend_from_slice(&own[..numbers]);
            // A column that does not vary is left out by LightGBM.
            all.extend(own[numbers..].iter().map(|code| if kind.native { *code } else { 0.0 }));
            all.extend_from_slice(&statistics[index * width..(index + 1) * width]);
        }
        all
    }

    /// Log-loss of rows left out. Weights are for fitting: scores are judged as the table has rows.
    fn loss(&self, held: &[u32], scores: &[f64]) -> f64 {
        let of = |(place, score): (&u32, &f64)| {
            let p = if self.labels[*place as usize] { *score } else { 1.0 - score };
            -p.max(1e-12).ln()
        };
        held.iter().zip(scores).map(of).sum::<f64>() / held.len() as f64
    }

    /// The look at which the out-of-fold log-loss is lowest, and the logits there.
    fn best_look(&self, grown: &[Grown], looks: usize) -> Option<(usize, Vec<f64>)> {
        let mut best: Option<(f64, usize, Vec<f64>)> = None;
        for look in 0..looks {
            let held: Vec<(usize, Vec<f64>)> = grown
                .iter()
                .map(|one| (one.model, one.held[look].iter().map(|z| f64::from(*z)).collect()))
                .collect();
            let logits = self.folds.out_of_fold(&held);
            let scores: Vec<f64> = self
                .folds
                .fitted
                .iter()
                .map(|place| riskft_core::math::logistic(logits[*place as usize]))
                .collect();
            let loss = self.loss(&self.folds.fitted, &scores);
            if best.as_ref().is_none_or(|(lowest, ..)| loss < *lowest) {
                best = Some((loss, look, logits));
            }
        }
        best.map(|(_, look, logits)| (look, logits))
    }
}
