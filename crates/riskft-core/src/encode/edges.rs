//! The edges of a number, and whether it is an amount of money.

use crate::dataset::ColumnPlan;
use crate::options::Role;

/// Median from which numbers that are never negative are taken for amounts of money.
const MONEY_MEDIAN: f64 = 100.0;
/// Share of the rows beyond the first and the last edge, at least one row: outliers do not stretch the
/// outer bins.
const TAIL: f64 = 0.001;

/// The median of the positive values, if they look like amounts of money: declared or written so,
/// or hardly ever negative and in the hundreds, and no year.
pub(super) fn money_median(plan: &ColumnPlan, values: &[f64]) -> Option<f64> {
    if plan.role() != Role::Number || plan.decision.category {
        return None;
    }
    let filled = values.iter().filter(|v| !v.is_nan()).count();
    let mut positive: Vec<f64> = values.iter().copied().filter(|v| *v > 0.0).collect();
    let negative = values.iter().filter(|v| **v < 0.0).count();
    if positive.is_empty() || negative * 20 > filled {
        return None;
    }
    let middle = positive.len() / 2;
    let median = *positive.select_nth_unstable_by(middle, f64::total_cmp).1;
    let years = values.iter().filter(|v| v.fract() == 0.0 && (1900.0..2100.0).contains(*v)).count();
    let money = plan.decision.money || (median >= MONEY_MEDIAN && years * 20 < filled * 19);
    money.then_some(median)
}

/// The thresholds between a first and a last edge that leave [`TAIL`] of the rows outside each;
/// None if the number is constant and never missing.
pub(super) fn edges(values: &[f64], thresholds: &[f64]) -> Option<Vec<f64>> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|v| !v.is_nan()).collect();
    if sorted.is_empty() {
        return None;
    }
    sorted.sort_unstable_by(f64::total_cmp);
    let (min, max) = (sorted[0], sorted[sorted.len() - 1]);
    if min == max {
        // Present or missing is all there is to tell.
        let next = if min + 1.0 > min { min + 1.0 } else { f64::MAX };
        return (sorted.len() < values.len()).then(|| vec![min, next]);
    }
    let tail = (sorted.len() as f64 * TAIL).ceil() as usize;
    let (low, high) = (sorted[tail], sorted[sorted.len() - 1 - tail]);
    let (first, last) = match (thresholds.first(), thresholds.last()) {
        (Some(first), Some(last)) => (*first, *last),
        _ => (high, low),
    };
    let start = if low < first { low } else { min };
    let mut edges = vec![start];
    edges.extend(thresholds.iter().filter(|t| **t > start && **t < max));
    edges.push(if high > last { high } else { max });
    Some(edges)
}

/// Thresholds that cut the present values into bins of equal count, as far as their ties allow; a
/// threshold lies halfway between two values.
///
/// They serve small samples, for they read no labels: thresholds of a tree know those of the rows
/// that a fold leaves out, and with 1,000 rows that made a scorecard look 0.01 AUC better than it is
/// out of fold, and the blend worse by its weight.
pub(crate) fn quantiles(values: &[f64], bins: usize) -> Vec<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|v| !v.is_nan()).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let mut thresholds = Vec::new();
    for bin in 1..bins {
        let at = sorted.len() * bin / bins;
        let Some((below, value)) =
            at.checked_sub(1).and_then(|b| sorted.get(b)).zip(sorted.get(at))
        else {
            continue;
        };
        // Of ties, the border at their upper end.
        let above = sorted[at..].iter().find(|v| *v > below).filter(|_| value >= below);
        let Some(above) = above else { continue };
        let middle = below + (above - below) / 2.0;
        let threshold = if middle < *above && middle.is_finite() { middle } else { *below };
        if thresholds.last().is_none_or(|last| threshold > *last) {
            thresholds.push(threshold);
        }
    }
    thresholds
}
