//! The baseline beside each version: a scorecard, logistic regression on weights of evidence.
//!
//! It is what a risk team would have without riskft, in seconds, and never part of the version. Its
//! bins are the encoding's, coarsened, and its weights of evidence are each model's own (core
//! `scorecard`). The penalty is L2 with C = 1. linfa-logistic takes no weights of rows: those of
//! `options.balance` would move little but the intercept, which is the calibration's affair. Made-up
//! rows have no part in it either.

use std::time::Instant;

use linfa::traits::Fit;
use linfa::Dataset;
use linfa_logistic::LogisticRegression;
use ndarray::{Array1, Array2, ShapeBuilder};
use riskft_core::dataset::Part;
use riskft_core::metrics;
use riskft_core::protocol::{BranchReport, Progress};
use riskft_core::scorecard::{Column, Count, Evidence};

use crate::blend::{self, Blend};
use crate::figures;
use crate::folds::Share;
use crate::rows::{sample, Features};
use crate::run::Run;

/// Most rows that the models are fitted on.
const MOST_ROWS: usize = 100_000;
/// Most cells that are binned: 20,000 rows of 1,600 columns.
const MOST_CELLS: usize = 32_000_000;
/// Columns of a model, those of the highest information value.
pub const MOST_COLUMNS: usize = 100;
/// Information value from which a column tells something (Siddiqi 2006); on many rows less will do.
const LEAST_INFORMATION: f64 = 0.02;
/// Times what chance alone gives.
const BEYOND_CHANCE: f64 = 2.0;
/// Gradient of the mean loss that ends the search.
const GRADIENT: f64 = 1e-6;

/// The baseline of a version.
pub struct Baseline {
    /// Out-of-fold logits by place; NaN where no model left the row out.
    pub out_of_fold: Vec<f64>,
    /// Logits of the test rows, in the order of their part: the mean of the models'.
    pub test: Vec<f64>,
    pub seconds: f64,
    /// What it is, in words.
    pub what: String,
}

/// Fits a scorecard for each model of the folds; None where there is nothing to fit, or the solver
/// gives up, which a NOTICE then says.
pub fn fit(run: &Run<'_>) -> Option<Baseline> {
    let start = Instant::now();
    let columns = Column::all(run.encoding);
    let fitted = run.labels();
    if columns.is_empty() || fitted.iter().all(|label| *label) || !fitted.contains(&true) {
        return None;
    }
    let most = MOST_ROWS.min(MOST_CELLS / columns.len()).max(1);
    let places = sample(run.folds.fitted.clone(), most, run.header.options.seed);
    let (features, labels) = (&run.rows.features, &run.rows.labels);
    let table = Table::new(&columns, features, &places, labels);
    let cards = match cards(run, &table, &places) {
        Ok(cards) => cards,
        Err(what) => {
            run.reporter.notice(format!("there is no baseline: its solver reported {what}"));
            return None;
        }
    };
    let logit = |card: &Card, place: &u32| card.logit(&columns, features.of(*place));
    let held = cards.iter().enumerate().map(|(model, card)| {
        let left_out = run.folds.places(model, Share::Held);
        (model, left_out.iter().map(|place| logit(card, place)).collect())
    });
    let mean =
        |place: &u32| cards.iter().map(|card| logit(card, place)).sum::<f64>() / cards.len() as f64;
    Some(Baseline {
        out_of_fold: run.folds.out_of_fold(&held.collect::<Vec<_>>()),
        test: run.rows.part(Part::Test).iter().map(mean).collect(),
        seconds: start.elapsed().as_secs_f64(),
        what: format!(
            "scorecard: logistic regression on the weights of evidence of {} of {} columns, {} \
             models; never part of the version",
            cards.iter().map(|card| card.points.len()).max().unwrap_or(0),
            columns.len(),
            cards.len()
        ),
    })
}

/// A card for each model, fitted on those rows of the table that it trains on.
fn cards(run: &Run<'_>, table: &Table<'_>, places: &[u32]) -> Result<Vec<Card>, String> {
    let models = run.folds.models();
    let fit = |model: usize| {
        run.reporter.progress(Progress {
            phase: "baseline".into(),
            done: model as u64,
            total: models as u64,
            ..Progress::default()
        });
        let trains = |row: &usize| run.folds.share(model, places[*row]) == Share::Train;
        let rows: Vec<usize> = (0..places.len()).filter(trains).collect();
        Card::fit(table, &rows)
    };
    (0..models).map(fit).collect()
}

impl Baseline {
    /// A NOTICE where the version ranks no better.
    pub fn compare(&self, run: &Run<'_>, blend: &Blend) {
        let (fitted, labels) = (&run.folds.fitted, run.labels());
        let auc = |logits: &[f64]| blend::auc(logits, fitted, &labels);
        let aucs = auc(&blend.out_of_fold).zip(auc(&self.out_of_fold));
        let gain = blend::gain(&blend.out_of_fold, &self.out_of_fold, fitted, &labels);
        let Some(((own, its), (gain, error))) = aucs.zip(gain) else { return };
        if gain <= error {
            run.reporter.notice(format!(
                "validation AUC {own:.4}, that of a scorecard {its:.4} (standard error of the \
                 difference {error:.4}): the table does not need more than a scorecard"
            ));
        }
    }

    /// Its line in riskft.branches; `labels` are those of the test rows.
    pub fn report(&self, run: &Run<'_>, labels: &[bool]) -> BranchReport {
        let (fitted, own) = (&run.folds.fitted, run.labels());
        let known = blend::known(&self.out_of_fold, fitted, &own);
        BranchReport {
            branch: "baseline".to_owned(),
            auc: metrics::auc(&known.0, &known.1),
            test_auc: metrics::auc(&self.test, labels),
            test_log_loss: figures::log_loss_alone(known, &self.test, labels),
            seconds: self.seconds,
            why: self.what.clone(),
            ..BranchReport::default()
        }
    }
}

/// Rows by fine bins.
pub struct Table<'a> {
    columns: &'a [Column],
    /// [rows, columns]
    bins: Vec<u16>,
    labels: Vec<bool>,
}

impl<'a> Table<'a> {
    /// The rows of `places`; `labels` are by place.
    pub fn new(
        columns: &'a [Column],
        features: &Features,
        places: &[u32],
        labels: &[bool],
    ) -> Self {
        let rows = places.iter().map(|place| features.of(*place));
        let labels = places.iter().map(|place| labels[*place as usize]).collect();
        Table::of(columns, rows, labels)
    }

    /// Rows of features.
    pub fn of<'r>(
        columns: &'a [Column],
        rows: impl Iterator<Item = &'r [f64]>,
        labels: Vec<bool>,
    ) -> Self {
        let mut bins = Vec::with_capacity(labels.len() * columns.len());
        for row in rows {
            // Codes are fewer than 2^16.
            bins.extend(columns.iter().zip(row).map(|(column, value)| column.bin(*value) as u16));
        }
        Table { columns, bins, labels }
    }

    fn row(&self, row: usize) -> &[u16] {
        &self.bins[row * self.columns.len()..(row + 1) * self.columns.len()]
    }

    /// What each column tells on some rows.
    fn evidence(&self, rows: &[usize]) -> Vec<Evidence> {
        let starts: Vec<usize> = self
            .columns
            .iter()
            .scan(0, |next, column| {
                let start = *next;
                *next += column.bins();
                Some(start)
            })
            .collect();
        let total: usize = self.columns.iter().map(Column::bins).sum();
        let mut counts = vec![Count::default(); total];
        for row in rows {
            for (start, bin) in starts.iter().zip(self.row(*row)) {
                counts[start + usize::from(*bin)].add(self.labels[*row]);
            }
        }
        let of = |(column, start): (&Column, &usize)| {
            column.evidence(&counts[*start..start + column.bins()])
        };
        self.columns.iter().zip(&starts).map(of).collect()
    }
}

/// A fitted scorecard.
#[derive(Debug, Clone, PartialEq)]
pub struct Card {
    /// Logit of a row without points.
    pub base: f64,
    /// Columns by place, and the logit that each fine bin adds.
    pub points: Vec<(usize, Vec<f64>)>,
}

impl Card {
    /// Fits weights of evidence on some rows of a table, and their logistic regression. Rows of one
    /// class give their base rate, half a row of each class added.
    ///
    /// # Errors
    /// What the solver reports, in its words.
    pub fn fit(table: &Table<'_>, rows: &[usize]) -> Result<Card, String> {
        let positive = rows.iter().filter(|row| table.labels[**row]).count() as f64;
        let negative = rows.len() as f64 - positive;
        let mut card =
            Card { base: ((positive + 0.5) / (negative + 0.5)).ln(), points: Vec::new() };
        let evidence = table.evidence(rows);
        let chosen = choose(&evidence);
        if chosen.is_empty() || positive == 0.0 || negative == 0.0 {
            return Ok(card);
        }
        // Column-major: the solver reads it by columns.
        let mut inputs = Array2::zeros((rows.len(), chosen.len()).f());
        for (column, mut out) in chosen.iter().zip(inputs.columns_mut()) {
            let weights = &evidence[*column].weights;
            for (row, value) in rows.iter().zip(&mut out) {
                *value = weights[usize::from(table.row(*row)[*column])];
            }
        }
        let labels: Array1<bool> = rows.iter().map(|row| table.labels[*row]).collect();
        let (weights, bias) = regression(inputs, labels, positive, negative)?;
        card.base = bias;
        card.points = chosen
            .iter()
            .zip(weights)
            .map(|(column, weight)| {
                let points = evidence[*column].weights.iter().map(|woe| weight * woe);
                (*column, points.collect())
            })
            .collect();
        Ok(card)
    }

    /// The logit of a row's features.
    pub fn logit(&self, columns: &[Column], features: &[f64]) -> f64 {
        let points = self.points.iter();
        self.base + points.map(|(at, points)| points[columns[*at].bin(features[*at])]).sum::<f64>()
    }
}

/// Columns that tell something, ascending.
fn choose(evidence: &[Evidence]) -> Vec<usize> {
    let tells = |column: &usize| {
        let Evidence { information, chance, .. } = &evidence[*column];
        *chance > 0.0 && *information >= LEAST_INFORMATION.min(BEYOND_CHANCE * chance)
    };
    let mut chosen: Vec<usize> = (0..evidence.len()).filter(tells).collect();
    chosen.sort_by(|a, b| evidence[*b].information.total_cmp(&evidence[*a].information));
    chosen.truncate(MOST_COLUMNS);
    chosen.sort_unstable();
    chosen
}

/// Weights and intercept for the logit of the positive class.
fn regression(
    inputs: Array2<f64>,
    labels: Array1<bool>,
    positive: f64,
    negative: f64,
) -> Result<(Vec<f64>, f64), String> {
    let (rows, columns) = inputs.dim();
    // linfa gives the logit of the larger class; it starts where that has its share.
    let mut start = Array1::zeros(columns + 1);
    start[columns] = (positive / negative).ln().abs();
    let model = LogisticRegression::default()
        .alpha(1.0)
        .gradient_tolerance(GRADIENT * rows as f64)
        .initial_params(start)
        .fit(&Dataset::new(inputs, labels))
        .map_err(|error| error.to_string())?;
    let sign = if model.labels().pos.class { 1.0 } else { -1.0 };
    Ok((model.params().iter().map(|weight| sign * weight).collect(), sign * model.intercept()))
}
