//! Two scorings of the same rows side by side, with what chance makes of the difference.
//!
//! | metric | interval and p value of the difference |
//! |---|---|
//! | auc | DeLong et al. 1988 for paired curves; normal |
//! | f1 | paired bootstrap of the rows (Efron & Tibshirani 1993) |
//! | brier, log_loss, mean_score | the rows' paired differences; normal |
//!
//! A bootstrap's interval has the resamples' percentiles for ends, and its p value is twice the
//! smaller share of resamples on one side of 0.
//!
//! The others have none. All p values are of two sides.

use super::{
    auc, auc_difference, brier, ece, f1, f1_of, ks, log_loss, mean_score, squared_error, surprise,
    Counts, Z975,
};
use crate::random::Random;

/// Resamples of the bootstrap.
pub const RESAMPLES: usize = 1000;
/// Draws between two looks for an interrupt.
const DRAWS: usize = 1 << 16;
/// Kinds of rows that F1 tells apart: the label, and what each scoring decides.
const KINDS: usize = 8;

/// What one model says of the rows.
#[derive(Debug, Clone, Copy)]
pub struct Scoring<'a> {
    /// Probabilities, one for each row.
    pub scores: &'a [f64],
    /// A row counts as positive from this probability on.
    pub threshold: f64,
}

/// One figure of both, and the second's less the first's. None where it does not exist.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// rows | positives | auc | ks | f1 | threshold | brier | log_loss | ece | mean_score
    pub metric: String,
    /// The first scoring's.
    pub a: Option<f64>,
    /// The second scoring's.
    pub b: Option<f64>,
    /// `b - a`
    pub difference: Option<f64>,
    /// 95% interval of the difference.
    pub ci_low: Option<f64>,
    pub ci_high: Option<f64>,
    /// Chance of a difference this large, if there were none.
    pub p_value: Option<f64>,
}

impl Comparison {
    /// A figure without an interval.
    pub fn of(metric: &str, a: Option<f64>, b: Option<f64>) -> Self {
        Comparison {
            metric: metric.to_owned(),
            a,
            b,
            difference: a.zip(b).map(|(a, b)| b - a),
            ci_low: None,
            ci_high: None,
            p_value: None,
        }
    }

    fn judged(self, chance: Option<Chance>) -> Self {
        let Some(Chance { low, high, p_value }) = chance else { return self };
        Comparison { ci_low: Some(low), ci_high: Some(high), p_value: Some(p_value), ..self }
    }
}

/// What chance makes of a difference.
pub(super) struct Chance {
    pub low: f64,
    pub high: f64,
    pub p_value: f64,
}

impl Chance {
    /// Of a normal estimate. One without error is either none or beyond chance.
    pub fn normal(difference: f64, error: f64) -> Self {
        let half = Z975 * error;
        let p_value = match difference {
            0.0 => 1.0,
            _ => libm::erfc(difference.abs() / error / std::f64::consts::SQRT_2),
        };
        Chance { low: difference - half, high: difference + half, p_value }
    }
}

/// The figures of two scorings of the same rows. `listen` is called now and then while rows are
/// drawn; the draws follow from the counts of rows alone.
pub fn compare(
    a: Scoring<'_>,
    b: Scoring<'_>,
    labels: &[bool],
    listen: &mut dyn FnMut(),
) -> Vec<Comparison> {
    let plain = |metric: &str, of: fn(&[f64], &[bool]) -> Option<f64>| {
        Comparison::of(metric, of(a.scores, labels), of(b.scores, labels))
    };
    let paired = |term: fn(f64, bool) -> f64| mean_difference(a.scores, b.scores, labels, term);
    let count =
        |metric: &str, rows: usize| Comparison::of(metric, Some(rows as f64), Some(rows as f64));
    let threshold = |scoring: Scoring<'_>| Some(scoring.threshold).filter(|t| t.is_finite());
    let area = auc_difference(b.scores, a.scores, labels);
    vec![
        count("rows", labels.len()),
        count("positives", labels.iter().filter(|label| **label).count()),
        plain("auc", auc).judged(area.map(|(d, error)| Chance::normal(d, error))),
        plain("ks", ks),
        Comparison::of("f1", f1(a.scores, labels, a.threshold), f1(b.scores, labels, b.threshold))
            .judged(resampled(a, b, labels, listen)),
        Comparison::of("threshold", threshold(a), threshold(b)),
        plain("brier", brier).judged(paired(squared_error)),
        plain("log_loss", log_loss).judged(paired(surprise)),
        plain("ece", ece),
        plain("mean_score", mean_score).judged(paired(|score, _| score)),
    ]
}

/// Microseconds of each of so many rows; None of none.
pub fn microseconds_each(seconds: f64, rows: usize) -> Option<f64> {
    (rows > 0).then(|| seconds * 1e6 / rows as f64)
}

/// Of the mean of a term; None with fewer than two rows.
fn mean_difference(
    a: &[f64],
    b: &[f64],
    labels: &[bool],
    term: fn(f64, bool) -> f64,
) -> Option<Chance> {
    Counts::of(a, labels)?;
    Counts::of(b, labels)?;
    let rows = a.iter().zip(b).zip(labels);
    let mut terms: Vec<f64> = rows.map(|((a, b), l)| term(*b, *l) - term(*a, *l)).collect();
    if terms.len() < 2 {
        return None;
    }
    // Summed in one order, so that the bits do not depend on the rows' order.
    terms.sort_unstable_by(f64::total_cmp);
    let n = terms.len() as f64;
    let mean = terms.iter().sum::<f64>() / n;
    let variance = terms.iter().map(|t| (t - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let error = (variance / n).sqrt();
    error.is_finite().then(|| Chance::normal(mean, error))
}

/// Of F1, by drawing as many rows as there are, with replacement. F1 depends on how many rows of
/// each kind are drawn, so kinds are drawn, with the rows' shares.
fn resampled(
    a: Scoring<'_>,
    b: Scoring<'_>,
    labels: &[bool],
    listen: &mut dyn FnMut(),
) -> Option<Chance> {
    Counts::of(a.scores, labels)?.both()?;
    Counts::of(b.scores, labels)?;
    let kinds = Kinds::of(a, b, labels);
    let below = kinds.running_sums();
    let mut random = Random::new(0);
    let mut differences: Vec<f64> = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        let mut drawn = Kinds([0; KINDS]);
        for draw in 0..labels.len() {
            if draw % DRAWS == 0 {
                listen();
            }
            let row = random.below(labels.len());
            let kind = below.iter().filter(|end| **end <= row).count();
            drawn.0[kind.min(KINDS - 1)] += 1;
        }
        differences.push(drawn.f1_difference());
    }
    differences.sort_unstable_by(f64::total_cmp);
    let share = |on: &dyn Fn(&f64) -> bool| {
        let count = differences.iter().filter(|d| on(d)).count();
        (count + 1) as f64 / (RESAMPLES + 1) as f64
    };
    let side = share(&|d| *d <= 0.0).min(share(&|d| *d >= 0.0));
    Some(Chance {
        low: quantile(&differences, 0.025),
        high: quantile(&differences, 0.975),
        p_value: (2.0 * side).min(1.0),
    })
}

/// Rows by kind: 4 where the label is positive, 2 where the first scoring decides so, 1 where the
/// second does.
struct Kinds([usize; KINDS]);

impl Kinds {
    fn of(a: Scoring<'_>, b: Scoring<'_>, labels: &[bool]) -> Self {
        let mut counts = [0; KINDS];
        for ((a_score, b_score), label) in a.scores.iter().zip(b.scores).zip(labels) {
            let by_a = usize::from(*a_score >= a.threshold);
            let by_b = usize::from(*b_score >= b.threshold);
            counts[4 * usize::from(*label) + 2 * by_a + by_b] += 1;
        }
        Kinds(counts)
    }

    fn running_sums(&self) -> [usize; KINDS] {
        let mut sum = 0;
        self.0.map(|count| {
            sum += count;
            sum
        })
    }

    fn sum(&self, bits: usize) -> usize {
        self.0.iter().enumerate().filter(|(kind, _)| kind & bits == bits).map(|(_, n)| n).sum()
    }

    /// The second's F1 less the first's; one without a hit is 0.
    fn f1_difference(&self) -> f64 {
        let of = |decision: usize| match self.sum(4 | decision) {
            0 => 0.0,
            hits => f1_of(hits, self.sum(decision), self.sum(4)),
        };
        of(1) - of(2)
    }
}

/// Quantile of ascending values, linear between them (Hyndman & Fan 1996, type 7).
fn quantile(values: &[f64], share: f64) -> f64 {
    let at = share * (values.len() - 1) as f64;
    let (low, part) = (at.floor() as usize, at.fract());
    let next = values[(low + 1).min(values.len() - 1)];
    values[low] + part * (next - values[low])
}
