//! Platt's calibration of a logit.
//!
//! Fitted by Newton's method with backtracking on Platt's smoothed targets, as in Lin, Lin & Weng,
//! "A note on Platt's probabilistic outputs for support vector machines" (2007).

use serde::{Deserialize, Serialize};

use crate::math::logistic;

/// `probability = 1 / (1 + exp(-(slope * logit + intercept)))`
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Platt {
    /// At least [`MIN_SLOPE`] when fitted.
    pub slope: f64,
    pub intercept: f64,
}

/// Fewer rows fit the intercept alone.
pub const MIN_ROWS: usize = 20;
/// Smallest slope of a fit. The slope is never negative, nor zero: calibration moves
/// probabilities and never reverses or merges the model's ranking, even where the calibration
/// rows happen to contradict it.
pub const MIN_SLOPE: f64 = 0.01;
/// Weight, in rows, of the model's own mean probability when only the intercept is fitted.
const PRIOR_ROWS: f64 = 20.0;
/// Logits beyond this are probabilities of 0 and 1 to four parts in 1e18.
const MAX_LOGIT: f64 = 40.0;
const MAX_STEPS: usize = 100;

impl Platt {
    /// Probability is logistic(logit) as it is.
    pub const IDENTITY: Platt = Platt { slope: 1.0, intercept: 0.0 };

    /// Fits slope and intercept to the rows with a logit that is not NaN; logits are held within
    /// ±40.
    ///
    /// With fewer than [`MIN_ROWS`] rows, or one class only, the slope is 1 and the intercept
    /// makes the mean probability equal to `(positives + 20 m) / (rows + 20)`, m being the mean
    /// of the uncalibrated probabilities: the fewer the rows, the nearer to no change at all.
    pub fn fit(logits: &[f64], labels: &[bool]) -> Platt {
        let rows = usable(logits, labels);
        let positive = positive(&rows);
        if is_small(&rows) {
            return Platt::IDENTITY.shifted(&rows, PRIOR_ROWS);
        }
        let low = 1.0 / ((rows.len() - positive) as f64 + 2.0);
        let high = (positive as f64 + 1.0) / (positive as f64 + 2.0);
        let targets: Vec<(f64, f64)> =
            rows.iter().map(|(x, label)| (*x, if *label { high } else { low })).collect();
        let start = (positive as f64 + 1.0) / ((rows.len() - positive) as f64 + 1.0);
        let fitted = newton(&targets, Platt { slope: 0.0, intercept: libm::log(start) }, false);
        if fitted.slope >= MIN_SLOPE {
            return fitted;
        }
        // From the base rate, not from the fitted intercept: that belongs to the fitted slope, and
        // with another one it can lie where every score is 0 and the gradient too.
        newton(&targets, Platt { slope: MIN_SLOPE, intercept: libm::log(start) }, true)
    }

    /// This calibration at the level of other rows: the slope stays, and the intercept makes their
    /// mean probability equal to their share of positive ones; with fewer than [`MIN_ROWS`] rows or
    /// one class only, to `(positives + 20 m) / (rows + 20)`, m being the mean by this calibration.
    /// Rows with a logit of NaN do not count; logits are held within ±40.
    pub fn at_level_of(&self, logits: &[f64], labels: &[bool]) -> Platt {
        let rows = usable(logits, labels);
        self.shifted(&rows, if is_small(&rows) { PRIOR_ROWS } else { 0.0 })
    }

    fn shifted(self, rows: &[(f64, bool)], prior: f64) -> Platt {
        if rows.is_empty() {
            return self;
        }
        let n = rows.len() as f64;
        let mean = rows.iter().map(|row| self.apply(row.0)).sum::<f64>() / n;
        let wanted = (positive(rows) as f64 + prior * mean) / (n + prior);
        let targets: Vec<(f64, f64)> = rows.iter().map(|row| (row.0, wanted)).collect();
        newton(&targets, self, true)
    }

    /// The calibrated probability.
    pub fn apply(&self, logit: f64) -> f64 {
        logistic(self.slope * logit + self.intercept)
    }
}

/// Rows with a logit, held within bounds.
fn usable(logits: &[f64], labels: &[bool]) -> Vec<(f64, bool)> {
    let rows = logits.iter().zip(labels).filter(|(logit, _)| !logit.is_nan());
    rows.map(|(logit, label)| (logit.clamp(-MAX_LOGIT, MAX_LOGIT), *label)).collect()
}

fn positive(rows: &[(f64, bool)]) -> usize {
    rows.iter().filter(|row| row.1).count()
}

/// Too few rows, or of one class only.
fn is_small(rows: &[(f64, bool)]) -> bool {
    rows.len() < MIN_ROWS || [0, rows.len()].contains(&positive(rows))
}

/// Minimises the cross-entropy of `(logit, target)` rows from `start`; with `fixed`, over the
/// intercept alone. The loss is convex, so the minimum is the only one.
fn newton(rows: &[(f64, f64)], start: Platt, fixed: bool) -> Platt {
    let mut platt = start;
    let mut loss = cross_entropy(rows, platt);
    for _ in 0..MAX_STEPS {
        let d = Derivatives::of(rows, platt);
        let (slope_gradient, slope_step, intercept_step) = if fixed {
            (0.0, 0.0, -d.intercept / d.intercept2)
        } else {
            let determinant = d.slope2 * d.intercept2 - d.mixed * d.mixed;
            (
                d.slope,
                -(d.intercept2 * d.slope - d.mixed * d.intercept) / determinant,
                -(d.slope2 * d.intercept - d.mixed * d.slope) / determinant,
            )
        };
        if slope_gradient.abs().max(d.intercept.abs()) < 1e-10 * rows.len() as f64 {
            break;
        }
        let descent = slope_gradient * slope_step + d.intercept * intercept_step;
        let mut step = 1.0;
        let next = loop {
            let candidate = Platt {
                slope: platt.slope + step * slope_step,
                intercept: platt.intercept + step * intercept_step,
            };
            let value = cross_entropy(rows, candidate);
            if value <= loss + 1e-4 * step * descent {
                break Some((candidate, value));
            }
            step /= 2.0;
            if step < 1e-10 {
                break None;
            }
        };
        match next {
            Some((candidate, value)) => (platt, loss) = (candidate, value),
            None => break,
        }
    }
    platt
}

struct Derivatives {
    slope: f64,
    intercept: f64,
    slope2: f64,
    mixed: f64,
    intercept2: f64,
}

impl Derivatives {
    fn of(rows: &[(f64, f64)], platt: Platt) -> Self {
        // The ridge of Lin et al. keeps the Hessian invertible when all logits are equal.
        let ridge = 1e-12;
        let mut d = Derivatives {
            slope: 0.0,
            intercept: 0.0,
            slope2: ridge,
            mixed: 0.0,
            intercept2: ridge,
        };
        for (x, target) in rows {
            let p = platt.apply(*x);
            let (error, weight) = (p - target, p * (1.0 - p));
            d.slope += error * x;
            d.intercept += error;
            d.slope2 += weight * x * x;
            d.mixed += weight * x;
            d.intercept2 += weight;
        }
        d
    }
}

fn cross_entropy(rows: &[(f64, f64)], platt: Platt) -> f64 {
    rows.iter()
        .map(|(x, target)| {
            let z = platt.slope * x + platt.intercept;
            // log(1 + exp(z)) - target z, without overflow.
            z.max(0.0) + libm::log1p(libm::exp(-z.abs())) - target * z
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logits in a narrow band that rank backwards: the unconstrained intercept is in the thousands.
    #[test]
    fn a_reversed_ranking_keeps_the_base_rate() {
        let logits: Vec<f64> = (0..200).map(|i| -1.7 + 0.01 * f64::from(i) / 200.0).collect();
        let labels: Vec<bool> = (0..200).map(|i| i < 60).collect();
        let platt = Platt::fit(&logits, &labels);
        let mean = logits.iter().map(|l| platt.apply(*l)).sum::<f64>() / 200.0;
        assert_eq!(platt.slope, MIN_SLOPE);
        assert!((mean - 0.3).abs() < 0.01, "{mean}");
    }

    #[test]
    fn another_level_moves_the_intercept_alone() {
        let logits: Vec<f64> = (0..400).map(|i| f64::from(i) / 100.0 - 2.0).collect();
        let platt = Platt { slope: 1.5, intercept: -0.4 };
        let mean = |platt: Platt| logits.iter().map(|l| platt.apply(*l)).sum::<f64>() / 400.0;
        let labels: Vec<bool> = (0..400).map(|i| i % 5 != 0).collect();
        let moved = platt.at_level_of(&logits, &labels);
        assert_eq!(moved.slope, 1.5);
        assert!((mean(moved) - 0.8).abs() < 1e-9, "{}", mean(moved));
        let again = platt.at_level_of(&[f64::NAN], &[true]);
        assert_eq!(again, platt);
        // One class only: half the way, as its 20 rows and the prior's weigh the same.
        let all = platt.at_level_of(&logits[..20], &[true; 20]);
        let of = |p: Platt| logits[..20].iter().map(|l| p.apply(*l)).sum::<f64>() / 20.0;
        assert!((of(all) - (1.0 + of(platt)) / 2.0).abs() < 1e-9);
    }
}
