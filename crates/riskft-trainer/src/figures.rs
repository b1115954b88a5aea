//! The figures of a version: parts, branches, periods, calibration.

use riskft_core::calibrate::Platt;
use riskft_core::dataset::Part;
use riskft_core::drift::period::{Calendar, Period, LEAST_ROWS};
use riskft_core::metrics;
use riskft_core::options::Calibrate;
use riskft_core::protocol::{PartMetric, PeriodReport};

use crate::run::Run;

/// Rows with their scores, under the name of a part.
pub struct Judgement {
    pub part: Part,
    /// Places among the labelled rows.
    pub places: Vec<u32>,
    pub labels: Vec<bool>,
    /// [rows][branches]; empty for out-of-fold rows.
    pub branches: Vec<Vec<f64>>,
    pub logits: Vec<f64>,
    /// Calibrated probabilities.
    pub scores: Vec<f64>,
}

impl Judgement {
    /// The fitted rows that have one of these logits, which are by place.
    pub fn known(run: &Run<'_>, part: Part, logits: &[f64]) -> Self {
        let has = |place: &&u32| !logits[**place as usize].is_nan();
        let places: Vec<u32> = run.folds.fitted.iter().filter(has).copied().collect();
        Judgement {
            part,
            labels: run.rows.labels_of(&places),
            branches: Vec::new(),
            logits: places.iter().map(|place| logits[*place as usize]).collect(),
            scores: Vec::new(),
            places,
        }
    }

    pub fn metrics(&self, threshold: f64) -> Vec<PartMetric> {
        metrics::evaluate(&self.scores, &self.labels, threshold)
            .into_iter()
            .map(|metric| PartMetric { part: self.part.name().to_owned(), metric })
            .collect()
    }

    pub fn calibrate(&mut self, platt: Platt) {
        self.scores = self.logits.iter().map(|logit| platt.apply(*logit)).collect();
    }
}

/// Log-loss of logits of the test rows, calibrated on `fitted` logits and labels out of fold.
pub fn log_loss_alone(
    fitted: (Vec<f64>, Vec<bool>),
    logits: &[f64],
    labels: &[bool],
) -> Option<f64> {
    let platt = Platt::fit(&fitted.0, &fitted.1);
    let scores: Vec<f64> = logits.iter().map(|logit| platt.apply(*logit)).collect();
    metrics::log_loss(&scores, labels)
}

/// Figures by stretches of the time column, oldest first.
pub fn periods(run: &Run<'_>, parts: &[&Judgement]) -> Vec<PeriodReport> {
    let Some(days) = &run.prepared.days else { return Vec::new() };
    let day = |place: &u32| days[run.rows.source[*place as usize] as usize];
    let known = parts.iter().flat_map(|part| &part.places).filter_map(day);
    let Some(calendar) = Calendar::of(known) else { return Vec::new() };
    let of = |part: &&Judgement| {
        let periods = calendar.periods(part.places.iter().map(day));
        periods.into_iter().map(|period| report(part, period)).collect::<Vec<_>>()
    };
    parts.iter().flat_map(of).collect()
}

fn report(part: &Judgement, period: Period) -> PeriodReport {
    let scores: Vec<f64> = period.rows.iter().map(|row| part.scores[*row]).collect();
    let labels: Vec<bool> = period.rows.iter().map(|row| part.labels[*row]).collect();
    PeriodReport {
        part: part.part.name().to_owned(),
        begins: period.begins,
        period: period.name,
        rows: period.rows.len() as u64,
        auc: metrics::auc(&scores, &labels),
        mean_score: metrics::mean_score(&scores, &labels).unwrap_or(f64::NAN),
        mean_outcome: metrics::base_rate(&labels).unwrap_or(f64::NAN),
    }
}

/// A WARNING when scores and outcomes of the test part fall apart: (message, detail).
pub fn drift(periods: &[PeriodReport], calibrate: Calibrate) -> Option<(String, String)> {
    let of = |part: &str| {
        let mut sums = (0.0, 0.0, 0.0);
        for period in periods.iter().filter(|period| period.part == part) {
            let rows = period.rows as f64;
            sums = (
                sums.0 + rows,
                sums.1 + rows * period.mean_score,
                sums.2 + rows * period.mean_outcome,
            );
        }
        sums
    };
    let (rows, score, outcome) = of(Part::Test.name());
    if rows < LEAST_ROWS as f64 {
        return None;
    }
    let (score, outcome) = (score / rows, outcome / rows);
    // What chance alone would do to the mean of as many outcomes, twice.
    let noise = 2.0 * (outcome * (1.0 - outcome) / rows).sqrt();
    let apart = (score - outcome).abs();
    (apart > noise && apart > 0.1 * outcome).then(|| {
        (
            "scores and outcomes fall apart on the newest rows".to_owned(),
            format!(
                "On the test part, which is the newest, the mean score is {score:.4} and the share \
                 of positive rows {outcome:.4}. riskft.metrics_by_period has both by period; {}.",
                match calibrate {
                    Calibrate::All =>
                        "options.calibrate = 'recent' fits the calibration to the level of the \
                         newest rows before it",
                    Calibrate::Recent =>
                        "the calibration is at the level of the newest rows before it already",
                }
            ),
        )
    })
}
