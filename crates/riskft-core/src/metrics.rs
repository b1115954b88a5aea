//! Figures of a binary classifier, computed once and used everywhere.
//!
//! All functions take `scores` (higher = more likely positive) and `labels` (true = positive) of
//! the same rows and are independent of the order of the rows, ties included. A figure that does
//! not exist is `None`, never NaN: no rows, slices of different lengths, a NaN among the scores,
//! or a single class where two are needed (AUC, average precision, KS, F1).
//!
//! | metric | definition |
//! |---|---|
//! | auc | P(positive above negative) + P(tie) / 2 (Mann-Whitney) |
//! | its interval | DeLong et al. 1988, by mid-ranks in O(n log n) (Sun & Xu 2014); normal, cut to [0, 1] |
//! | average_precision | sum of precision times gain of recall over the distinct scores (scikit-learn's) |
//! | ks | largest distance of the two classes' distribution functions |
//! | f1 | of `score >= threshold` |
//! | brier, log_loss | of probabilities; the latter holds them within [1e-15, 1 - 1e-15] |
//! | ece | 15 bins of equal mass, see [`ece`] |
//!
//! [`compare`] sets two scorings of the same rows side by side, [`unpaired`] those of different rows.

mod compare;
mod unpaired;

pub use compare::{compare, microseconds_each, Comparison, Scoring, RESAMPLES};
pub use unpaired::{unpaired, Estimate, Side, Unpaired};

use serde::{Deserialize, Serialize};

/// One figure. `value` is None where the figure does not exist (one class, no rows).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// auc | average_precision | ks | f1 | threshold | brier | log_loss | ece | base_rate | mean_score | rows
    pub metric: String,
    pub value: Option<f64>,
    /// 95% interval, where one is computed.
    pub ci_low: Option<f64>,
    pub ci_high: Option<f64>,
}

/// Bins of the expected calibration error.
pub const ECE_BINS: usize = 15;
/// Probabilities are held this far from 0 and 1 in the log-loss.
pub const LOG_LOSS_FLOOR: f64 = 1e-15;
/// 97.5% quantile of the normal distribution.
const Z975: f64 = 1.959_963_984_540_054;

/// An area under the ROC curve and its precision.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Auc {
    pub value: f64,
    /// DeLong's standard error; None with fewer than two rows of a class.
    pub standard_error: Option<f64>,
}

impl Auc {
    /// The normal 95% interval, cut to [0, 1]. A perfect ranking has standard error 0.
    pub fn interval(&self) -> Option<(f64, f64)> {
        let half = Z975 * self.standard_error?;
        Some(((self.value - half).max(0.0), (self.value + half).min(1.0)))
    }
}

/// Area under the ROC curve.
pub fn auc(scores: &[f64], labels: &[bool]) -> Option<f64> {
    let counts = Counts::of(scores, labels)?.both()?;
    let order = ascending(scores);
    let mut rank_sum = 0.0;
    for run in runs(scores, &order) {
        let mid_rank = (run.start + run.end + 1) as f64 / 2.0;
        rank_sum += mid_rank * positives(&order[run], labels) as f64;
    }
    let (p, n) = (counts.positive as f64, counts.negative as f64);
    Some((rank_sum - p * (p + 1.0) / 2.0) / (p * n))
}

/// AUC with DeLong's standard error.
pub fn auc_with_error(scores: &[f64], labels: &[bool]) -> Option<Auc> {
    let counts = Counts::of(scores, labels)?.both()?;
    let parts = Placements::of(scores, labels, counts);
    let variance = parts.covariance(&parts);
    Some(Auc { value: auc(scores, labels)?, standard_error: variance.map(f64::sqrt) })
}

/// `(auc(a) - auc(b), its paired standard error)` of two scorings of the same rows (DeLong).
/// None also with fewer than two rows of a class.
pub fn auc_difference(a: &[f64], b: &[f64], labels: &[bool]) -> Option<(f64, f64)> {
    let counts = Counts::of(a, labels)?.both()?;
    let difference = auc(a, labels)? - auc(b, labels)?;
    let a = Placements::of(a, labels, counts);
    let b = Placements::of(b, labels, counts);
    let variance = a.covariance(&a)? + b.covariance(&b)? - 2.0 * a.covariance(&b)?;
    Some((difference, variance.max(0.0).sqrt()))
}

/// Average precision, as scikit-learn defines it (no interpolation).
pub fn average_precision(scores: &[f64], labels: &[bool]) -> Option<f64> {
    let counts = Counts::of(scores, labels)?.both()?;
    let order = descending(scores);
    let (mut hits, mut sum) = (0, 0.0);
    for run in runs(scores, &order) {
        let end = run.end;
        let gain = positives(&order[run], labels);
        hits += gain;
        sum += hits as f64 / end as f64 * gain as f64;
    }
    Some(sum / counts.positive as f64)
}

/// Kolmogorov-Smirnov distance between the scores of the two classes.
pub fn ks(scores: &[f64], labels: &[bool]) -> Option<f64> {
    let counts = Counts::of(scores, labels)?.both()?;
    let order = ascending(scores);
    let (mut below, mut hits, mut largest) = (0, 0, 0.0f64);
    for run in runs(scores, &order) {
        below += run.len();
        hits += positives(&order[run], labels);
        let positive = hits as f64 / counts.positive as f64;
        let negative = (below - hits) as f64 / counts.negative as f64;
        largest = largest.max((positive - negative).abs());
    }
    Some(largest)
}

/// F1 of the decision `score >= threshold`; 0 when no positive is found.
pub fn f1(scores: &[f64], labels: &[bool], threshold: f64) -> Option<f64> {
    let counts = Counts::of(scores, labels)?.both()?;
    let (mut chosen, mut hits) = (0, 0);
    for (score, label) in scores.iter().zip(labels) {
        if *score >= threshold {
            chosen += 1;
            hits += usize::from(*label);
        }
    }
    Some(f1_of(hits, chosen, counts.positive))
}

/// `(threshold, F1)` of the best decision `score >= threshold`. The threshold lies halfway to the
/// next lower score, so that a small change of the scores flips no decision; of equally good
/// thresholds the highest.
pub fn best_f1_threshold(scores: &[f64], labels: &[bool]) -> Option<(f64, f64)> {
    let counts = Counts::of(scores, labels)?.both()?;
    let order = descending(scores);
    let (mut hits, mut best) = (0, (f64::INFINITY, -1.0));
    for run in runs(scores, &order) {
        let end = run.end;
        let lowest = scores[order[end - 1]];
        hits += positives(&order[run], labels);
        let value = f1_of(hits, end, counts.positive);
        if value > best.1 {
            let next = order.get(end).map_or(lowest, |row| scores[*row]);
            let middle = lowest / 2.0 + next / 2.0;
            best = (if middle > next { middle } else { lowest }, value);
        }
    }
    Some(best)
}

/// Mean squared error of probabilities.
pub fn brier(scores: &[f64], labels: &[bool]) -> Option<f64> {
    mean(scores, labels, squared_error)
}

fn squared_error(score: f64, label: bool) -> f64 {
    (score - f64::from(u8::from(label))).powi(2)
}

/// Mean negative log-likelihood of probabilities, natural logarithm.
pub fn log_loss(scores: &[f64], labels: &[bool]) -> Option<f64> {
    mean(scores, labels, surprise)
}

fn surprise(score: f64, label: bool) -> f64 {
    let p = score.clamp(LOG_LOSS_FLOOR, 1.0 - LOG_LOSS_FLOOR);
    if label {
        -libm::log(p)
    } else {
        -libm::log1p(-p)
    }
}

/// Expected calibration error: rows sorted by score are cut at n k / 15 (k = 1..14), a cut within
/// equal scores moves to their end, and the bins' |mean score - share of positives| are averaged
/// with their row counts as weights.
pub fn ece(scores: &[f64], labels: &[bool]) -> Option<f64> {
    Counts::of(scores, labels)?;
    let order = ascending(scores);
    let n = order.len();
    let (mut sum, mut start) = (0.0, 0);
    for bin in 1..=ECE_BINS {
        let mut end = (n * bin / ECE_BINS).max(start);
        while end > start && end < n && scores[order[end]] == scores[order[end - 1]] {
            end += 1;
        }
        let rows = &order[start..end];
        let score: f64 = rows.iter().map(|row| scores[*row]).sum();
        sum += (score - positives(rows, labels) as f64).abs();
        start = end;
    }
    Some(sum / n as f64).filter(|value| value.is_finite())
}

/// Share of positives.
pub fn base_rate(labels: &[bool]) -> Option<f64> {
    let positive = labels.iter().filter(|label| **label).count();
    (!labels.is_empty()).then(|| positive as f64 / labels.len() as f64)
}

/// Mean of the scores.
pub fn mean_score(scores: &[f64], labels: &[bool]) -> Option<f64> {
    mean(scores, labels, |score, _| score)
}

/// All figures of probabilities, in the order of [`Metric::metric`]'s list; `threshold` is the
/// one of F1.
pub fn evaluate(scores: &[f64], labels: &[bool], threshold: f64) -> Vec<Metric> {
    let area = auc_with_error(scores, labels);
    let interval = area.and_then(|area| area.interval());
    let plain = |metric: &str, value: Option<f64>| Metric {
        metric: metric.to_owned(),
        value,
        ci_low: None,
        ci_high: None,
    };
    vec![
        Metric {
            ci_low: interval.map(|i| i.0),
            ci_high: interval.map(|i| i.1),
            ..plain("auc", area.map(|area| area.value))
        },
        plain("average_precision", average_precision(scores, labels)),
        plain("ks", ks(scores, labels)),
        plain("f1", f1(scores, labels, threshold)),
        plain("threshold", Some(threshold).filter(|t| t.is_finite())),
        plain("brier", brier(scores, labels)),
        plain("log_loss", log_loss(scores, labels)),
        plain("ece", ece(scores, labels)),
        plain("base_rate", base_rate(labels)),
        plain("mean_score", mean_score(scores, labels)),
        plain("rows", Some(labels.len() as f64)),
    ]
}

#[derive(Clone, Copy)]
struct Counts {
    positive: usize,
    negative: usize,
}

impl Counts {
    /// None unless there are rows, as many scores as labels, and no NaN.
    fn of(scores: &[f64], labels: &[bool]) -> Option<Self> {
        if labels.is_empty() || scores.len() != labels.len() || scores.iter().any(|s| s.is_nan()) {
            return None;
        }
        let positive = labels.iter().filter(|label| **label).count();
        Some(Counts { positive, negative: labels.len() - positive })
    }
    fn both(self) -> Option<Self> {
        (self.positive > 0 && self.negative > 0).then_some(self)
    }
}

/// DeLong's structural components: each positive's share of negatives below it (ties half), each
/// negative's share of positives above it.
struct Placements {
    positive: Vec<f64>,
    negative: Vec<f64>,
}

impl Placements {
    fn of(scores: &[f64], labels: &[bool], counts: Counts) -> Self {
        let order = ascending(scores);
        let mut by_row = vec![0.0; scores.len()];
        let (mut below_positive, mut below_negative) = (0, 0);
        for run in runs(scores, &order) {
            let rows = &order[run];
            let p = positives(rows, labels);
            let n = rows.len() - p;
            let negatives_below = below_negative as f64 + n as f64 / 2.0;
            let positives_above = (counts.positive - below_positive - p) as f64 + p as f64 / 2.0;
            for row in rows {
                by_row[*row] = if labels[*row] {
                    negatives_below / counts.negative as f64
                } else {
                    positives_above / counts.positive as f64
                };
            }
            below_positive += p;
            below_negative += n;
        }
        let of = |class: bool| {
            by_row.iter().zip(labels).filter(|(_, l)| **l == class).map(|(v, _)| *v).collect()
        };
        Placements { positive: of(true), negative: of(false) }
    }
    /// Covariance of the two AUCs; None with fewer than two rows of a class.
    fn covariance(&self, other: &Placements) -> Option<f64> {
        let positive = covariance(&self.positive, &other.positive)? / self.positive.len() as f64;
        let negative = covariance(&self.negative, &other.negative)? / self.negative.len() as f64;
        Some(positive + negative)
    }
}

fn covariance(a: &[f64], b: &[f64]) -> Option<f64> {
    if a.len() < 2 {
        return None;
    }
    let n = a.len() as f64;
    let (mean_a, mean_b) = (a.iter().sum::<f64>() / n, b.iter().sum::<f64>() / n);
    let sum: f64 = a.iter().zip(b).map(|(x, y)| (x - mean_a) * (y - mean_b)).sum();
    Some(sum / (n - 1.0))
}

/// Of counts that are not both 0.
fn f1_of(hits: usize, chosen: usize, positive: usize) -> f64 {
    2.0 * hits as f64 / (chosen + positive) as f64
}

fn mean(scores: &[f64], labels: &[bool], term: impl Fn(f64, bool) -> f64) -> Option<f64> {
    Counts::of(scores, labels)?;
    // Summed in the order of (score, label), so that the bits do not depend on the rows' order.
    let mut terms: Vec<f64> = scores.iter().zip(labels).map(|(s, l)| term(*s, *l)).collect();
    terms.sort_unstable_by(f64::total_cmp);
    let mean = terms.iter().sum::<f64>() / terms.len() as f64;
    mean.is_finite().then_some(mean)
}

fn ascending(scores: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_unstable_by(|a, b| scores[*a].total_cmp(&scores[*b]));
    order
}

fn descending(scores: &[f64]) -> Vec<usize> {
    let mut order = ascending(scores);
    order.reverse();
    order
}

fn positives(rows: &[usize], labels: &[bool]) -> usize {
    rows.iter().filter(|row| labels[**row]).count()
}

/// Ranges of `order` whose rows have the same score.
fn runs<'a>(
    scores: &'a [f64],
    order: &'a [usize],
) -> impl Iterator<Item = std::ops::Range<usize>> + 'a {
    let mut start = 0;
    std::iter::from_fn(move || {
        let first = scores[*order.get(start)?];
        let length = order[start..].iter().take_while(|row| scores[**row] == first).count();
        let run = start..start + length;
        start = run.end;
        Some(run)
    })
}
