//! Scores of test rows beside their outcomes, in few bins: what the pictures of a report are drawn
//! from. A version keeps the bins, never the scores of rows.
//!
//! Bins are of equal count, at most [`MOST_BINS`], with [`LEAST_ROWS`] rows or more in each, so
//! that none is about one person. Rows of one score are in one bin.

use serde::{Deserialize, Serialize};

/// Most bins of a version.
pub const MOST_BINS: usize = 50;
/// Fewest rows of a bin.
pub const LEAST_ROWS: usize = 10;

/// Test rows of neighbouring scores: a row of riskft.curve.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CurveBin {
    /// Upper edge, 0..=1: halfway to the next bin's lowest calibrated score; of the last bin where
    /// its scores would end if they were spread evenly. So it is no row's own.
    pub upper: f64,
    pub mean_score: f64,
    pub rows: u64,
    pub positives: u64,
}

/// Bins by rising score, which `scores` and `labels` of the same rows fall into; none of fewer than
/// [`LEAST_ROWS`] rows, and none where a score is NaN.
pub fn bins(scores: &[f64], labels: &[bool]) -> Vec<CurveBin> {
    let n = scores.len();
    let most = (n / LEAST_ROWS).min(MOST_BINS);
    if most == 0 || labels.len() != n || scores.iter().any(|score| score.is_nan()) {
        return Vec::new();
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_unstable_by(|a, b| scores[*a].total_cmp(&scores[*b]));
    let mut ends = Vec::new();
    let mut start = 0;
    for bin in 1..=most {
        let mut end = n * bin / most;
        while end > 0 && end < n && scores[order[end]] == scores[order[end - 1]] {
            end += 1;
        }
        // Few rows are left where many have one score: they go to the next bin, the last ones to
        // the bin before.
        if end >= start + LEAST_ROWS {
            ends.push(end);
            start = end;
        }
    }
    if let Some(last) = ends.last_mut() {
        *last = n;
    }
    let mut start = 0;
    let mut below = None;
    let bin = |end: usize| {
        let rows = &order[start..end];
        start = end;
        let sum: f64 = rows.iter().map(|row| scores[*row]).sum();
        let (lower, upper) = (scores[rows[0]], scores[rows[rows.len() - 1]]);
        // Rounding may carry a mean of equal scores beyond them.
        let mean_score = (sum / rows.len() as f64).max(lower).min(upper);
        let upper = match order.get(end) {
            Some(next) => halfway(upper, scores[*next]),
            None => below.map_or(1.0, |below: f64| (2.0 * mean_score - below).min(1.0)),
        };
        below = Some(upper);
        let positives = rows.iter().filter(|row| labels[**row]).count() as u64;
        CurveBin { upper, mean_score, rows: rows.len() as u64, positives }
    };
    ends.into_iter().map(bin).collect()
}

/// Between two scores, but not the higher one.
fn halfway(low: f64, high: f64) -> f64 {
    let middle = low + (high - low) / 2.0;
    if middle < high {
        middle
    } else {
        low
    }
}

/// Whether they are what [`bins`] gives; what is wrong, as a clause.
pub fn check(bins: &[CurveBin]) -> Result<(), String> {
    if bins.len() > MOST_BINS {
        return Err("the curve has too many bins".into());
    }
    let mut below = f64::NEG_INFINITY;
    for bin in bins {
        let within = |score: f64| (0.0..=1.0).contains(&score);
        if !within(bin.upper) || !within(bin.mean_score) || bin.mean_score > bin.upper {
            return Err("the curve has scores that are no probabilities".into());
        }
        if bin.upper <= below || bin.mean_score < below {
            return Err("the curve has bins that do not rise".into());
        }
        // The sum of all bins is a count, too.
        let most = i64::MAX as u64 / MOST_BINS as u64;
        if bin.rows < LEAST_ROWS as u64 || bin.rows > most || bin.positives > bin.rows {
            return Err("the curve has bins of too few or too many rows".into());
        }
        below = bin.upper;
    }
    Ok(())
}

/// The bins of both classes, with their sums.
#[derive(Debug, Clone, Copy)]
pub struct Curve<'a> {
    bins: &'a [CurveBin],
    positives: f64,
    negatives: f64,
}

impl<'a> Curve<'a> {
    /// None where the rows are of one class, or there are none.
    pub fn of(bins: &'a [CurveBin]) -> Option<Self> {
        let sum = |of: fn(&CurveBin) -> u64| bins.iter().map(|bin| of(bin) as f64).sum::<f64>();
        let (positives, rows) = (sum(|bin| bin.positives), sum(|bin| bin.rows));
        let negatives = rows - positives;
        (positives > 0.0 && negatives > 0.0).then_some(Curve { bins, positives, negatives })
    }

    /// Rows of all bins.
    pub fn rows(&self) -> f64 {
        self.positives + self.negatives
    }

    /// Share of positive rows.
    pub fn base_rate(&self) -> f64 {
        self.positives / self.rows()
    }

    /// Rows, and positives among them, above each bin's lower edge, from the highest score down.
    fn above(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        self.bins.iter().rev().scan((0.0, 0.0), |sum, bin| {
            *sum = (sum.0 + bin.rows as f64, sum.1 + bin.positives as f64);
            Some(*sum)
        })
    }

    /// (false positive rate, true positive rate) of deciding by each bin's lower edge, from (0, 0).
    pub fn roc(&self) -> Vec<(f64, f64)> {
        let rates =
            |(rows, hits): (f64, f64)| ((rows - hits) / self.negatives, hits / self.positives);
        std::iter::once((0.0, 0.0)).chain(self.above().map(rates)).collect()
    }

    /// (recall, precision) of the same decisions.
    pub fn precision_recall(&self) -> Vec<(f64, f64)> {
        self.above().map(|(rows, hits)| (hits / self.positives, hits / rows)).collect()
    }

    /// (score, share of the negative rows at or below it, share of the positive ones), from 0.
    pub fn cumulative(&self) -> Vec<(f64, f64, f64)> {
        let mut sum = (0.0, 0.0);
        let upto = |bin: &CurveBin| {
            sum.0 += (bin.rows - bin.positives.min(bin.rows)) as f64;
            sum.1 += bin.positives as f64;
            (bin.upper, sum.0 / self.negatives, sum.1 / self.positives)
        };
        std::iter::once((0.0, 0.0, 0.0)).chain(self.bins.iter().map(upto)).collect()
    }

    /// Neighbouring bins put together into at most `most` groups of about equal count.
    pub fn groups(&self, most: usize) -> Vec<CurveBin> {
        let mut groups: Vec<(usize, CurveBin)> = Vec::new();
        let mut before = 0.0;
        for bin in self.bins {
            let middle = (before + bin.rows as f64 / 2.0) / self.rows();
            before += bin.rows as f64;
            let place = (middle * most as f64) as usize;
            match groups.last_mut() {
                Some((last, group)) if *last == place => {
                    let rows = (group.rows + bin.rows) as f64;
                    group.mean_score = (group.mean_score * group.rows as f64
                        + bin.mean_score * bin.rows as f64)
                        / rows;
                    group.upper = bin.upper;
                    group.rows += bin.rows;
                    group.positives += bin.positives;
                }
                _ => groups.push((place, bin.clone())),
            }
        }
        groups.into_iter().map(|(_, group)| group).collect()
    }

    /// Shares of the negative and of the positive rows in `cells` stretches of equal width from 0
    /// to 1. A bin's rows are spread evenly over the scores that it covers.
    pub fn spread(&self, cells: usize) -> Vec<(f64, f64)> {
        let mut shares = vec![(0.0, 0.0); cells];
        let mut lower: Option<f64> = None;
        for bin in self.bins {
            // Of the first bin no lower edge is kept; rows spread evenly have it as far below the
            // mean as the upper edge is above.
            let from = lower.unwrap_or((2.0 * bin.mean_score - bin.upper).max(0.0));
            lower = Some(bin.upper);
            let negatives = (bin.rows as f64 - bin.positives as f64) / self.negatives;
            let positives = bin.positives as f64 / self.positives;
            let (from, to) = (from * cells as f64, bin.upper * cells as f64);
            let width = to - from;
            for (cell, share) in shares.iter_mut().enumerate() {
                let (left, right) = (cell as f64, cell as f64 + 1.0);
                let part = match width > 0.0 {
                    true => (to.min(right) - from.max(left)).max(0.0) / width,
                    false => f64::from(u8::from((to as usize).min(cells - 1) == cell)),
                };
                share.0 += negatives * part;
                share.1 += positives * part;
            }
        }
        shares
    }
}

/// Wilson's 95% interval of a share (Wilson 1927): `(low, high)`; None without rows.
pub fn wilson(hits: u64, rows: u64) -> Option<(f64, f64)> {
    const Z: f64 = 1.959_963_984_540_054;
    if rows == 0 {
        return None;
    }
    let (n, p) = (rows as f64, hits as f64 / rows as f64);
    let middle = p + Z * Z / (2.0 * n);
    let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    Some((((middle - half) / scale).max(0.0), ((middle + half) / scale).min(1.0)))
}
