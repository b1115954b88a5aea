//! Two scorings of different rows side by side: the arms of an A/B test.
//!
//! | metric | interval | interval and p value of the difference |
//! |---|---|---|
//! | positive_rate | Wilson 1927 | Newcombe 1998 (his method 10); two-proportion z, pooled |
//! | mean_score, brier | normal | Welch 1947, variances added; normal |
//! | auc | DeLong et al. 1988 | variances added; normal |
//!
//! The others have none. All p values are of two sides; intervals are of 95%.

use super::compare::{Chance, Scoring};
use super::{auc_with_error, brier, f1, ks, mean_score, squared_error, Counts, Z975};

/// A figure of one side, or of the difference. What does not exist is None.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Estimate {
    pub value: Option<f64>,
    pub ci_low: Option<f64>,
    pub ci_high: Option<f64>,
    /// Of the difference: the chance of one this large, if there were none.
    pub p_value: Option<f64>,
}

impl Estimate {
    fn plain(value: Option<f64>) -> Self {
        Estimate { value, ..Estimate::default() }
    }

    fn within(self, interval: Option<(f64, f64)>) -> Self {
        Estimate { ci_low: interval.map(|i| i.0), ci_high: interval.map(|i| i.1), ..self }
    }

    fn judged(self, chance: Option<Chance>) -> Self {
        let p_value = chance.as_ref().map(|chance| chance.p_value);
        Estimate { p_value, ..self.within(chance.map(|chance| (chance.low, chance.high))) }
    }
}

/// One figure of both, and the second's less the first's.
#[derive(Debug, Clone, PartialEq)]
pub struct Unpaired {
    /// rows | positive_rate | mean_score | auc | ks | brier | f1 | threshold
    pub metric: &'static str,
    pub a: Estimate,
    pub b: Estimate,
    pub difference: Estimate,
}

impl Unpaired {
    fn of(metric: &'static str, a: Estimate, b: Estimate) -> Self {
        let difference = Estimate::plain(a.value.zip(b.value).map(|(a, b)| b - a));
        Unpaired { metric, a, b, difference }
    }

    fn judged(self, chance: Option<Chance>) -> Self {
        Unpaired { difference: self.difference.judged(chance), ..self }
    }
}

/// A scoring of rows that have labels.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    pub scoring: Scoring<'a>,
    pub labels: &'a [bool],
}

impl Side<'_> {
    fn figure(&self, of: fn(&[f64], &[bool]) -> Option<f64>) -> Estimate {
        Estimate::plain(of(self.scoring.scores, self.labels))
    }

    /// A mean of the rows, with its standard error; the latter None with fewer than two rows.
    fn mean(
        &self,
        mean: fn(&[f64], &[bool]) -> Option<f64>,
        term: fn(f64, bool) -> f64,
    ) -> (Estimate, Option<f64>) {
        let estimate = self.figure(mean);
        let error = estimate.value.and_then(|mean| self.error(mean, term));
        let interval = estimate
            .value
            .zip(error)
            .map(|(mean, error)| ((mean - Z975 * error).max(0.0), (mean + Z975 * error).min(1.0)));
        (estimate.within(interval), error)
    }

    fn error(&self, mean: f64, term: fn(f64, bool) -> f64) -> Option<f64> {
        let rows = self.scoring.scores.iter().zip(self.labels);
        let mut squares: Vec<f64> = rows.map(|(s, l)| (term(*s, *l) - mean).powi(2)).collect();
        if squares.len() < 2 {
            return None;
        }
        // Summed in one order, so that the bits do not depend on the rows' order.
        squares.sort_unstable_by(f64::total_cmp);
        let n = squares.len() as f64;
        let error = (squares.iter().sum::<f64>() / (n - 1.0) / n).sqrt();
        error.is_finite().then_some(error)
    }

    fn area(&self) -> (Estimate, Option<f64>) {
        let area = auc_with_error(self.scoring.scores, self.labels);
        let estimate = Estimate::plain(area.map(|area| area.value));
        (estimate.within(area.and_then(|a| a.interval())), area.and_then(|a| a.standard_error))
    }

    fn rate(&self) -> Option<Rate> {
        let counts = Counts::of(self.scoring.scores, self.labels)?;
        Some(Rate { positives: counts.positive as f64, rows: self.labels.len() as f64 })
    }
}

/// Positives among at least one row.
#[derive(Clone, Copy)]
struct Rate {
    positives: f64,
    rows: f64,
}

impl Rate {
    fn value(self) -> f64 {
        self.positives / self.rows
    }

    /// Wilson's score interval, which keeps within 0 and 1.
    fn interval(self) -> (f64, f64) {
        let (p, n, z) = (self.value(), self.rows, Z975);
        let middle = (p + z * z / (2.0 * n)) / (1.0 + z * z / n);
        let half = z / (1.0 + z * z / n) * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
        ((middle - half).clamp(0.0, p), (middle + half).clamp(p, 1.0))
    }

    fn estimate(of: Option<Rate>) -> Estimate {
        Estimate::plain(of.map(Rate::value)).within(of.map(Rate::interval))
    }

    fn difference(self, b: Rate) -> Chance {
        let (p, q) = (self.value(), b.value());
        let ((p_low, p_high), (q_low, q_high)) = (self.interval(), b.interval());
        let difference = q - p;
        let pooled = (self.positives + b.positives) / (self.rows + b.rows);
        let error = (pooled * (1.0 - pooled) * (1.0 / self.rows + 1.0 / b.rows)).sqrt();
        Chance {
            low: difference - ((q - q_low).powi(2) + (p_high - p).powi(2)).sqrt(),
            high: difference + ((q_high - q).powi(2) + (p - p_low).powi(2)).sqrt(),
            p_value: Chance::normal(difference, error).p_value,
        }
    }
}

/// The figures of two sides.
pub fn unpaired(a: Side<'_>, b: Side<'_>) -> Vec<Unpaired> {
    let plain = |metric, of: &dyn Fn(Side<'_>) -> Option<f64>| {
        Unpaired::of(metric, Estimate::plain(of(a)), Estimate::plain(of(b)))
    };
    let erring = |metric, (a, a_error): Erring, (b, b_error): Erring| {
        let line = Unpaired::of(metric, a, b);
        let error = a_error.zip(b_error).map(|(a, b)| a.hypot(b));
        let chance = line.difference.value.zip(error).map(|(d, error)| Chance::normal(d, error));
        line.judged(chance)
    };
    let (of_a, of_b) = (a.rate(), b.rate());
    let rates = Unpaired::of("positive_rate", Rate::estimate(of_a), Rate::estimate(of_b));
    let mean = |side: Side<'_>| side.mean(mean_score, |score, _| score);
    let squares = |side: Side<'_>| side.mean(brier, squared_error);
    vec![
        plain("rows", &|side| Some(side.labels.len() as f64)),
        rates.judged(of_a.zip(of_b).map(|(a, b)| a.difference(b))),
        erring("mean_score", mean(a), mean(b)),
        erring("auc", a.area(), b.area()),
        Unpaired::of("ks", a.figure(ks), b.figure(ks)),
        erring("brier", squares(a), squares(b)),
        plain("f1", &|side| f1(side.scoring.scores, side.labels, side.scoring.threshold)),
        plain("threshold", &|side| Some(side.scoring.threshold).filter(|t| t.is_finite())),
    ]
}

/// A figure and its standard error.
type Erring = (Estimate, Option<f64>);
