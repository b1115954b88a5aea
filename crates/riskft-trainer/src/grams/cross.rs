//! The penalty, chosen on rows that a fit has not seen.

use std::time::Instant;

use super::logistic::{fit, Linear, Sample, TOLERANCE};
use crate::calibrated;

/// Values of C that are tried, from the strongest penalty on. On a thousand narratives 0.3 or 1 was
/// best each time.
pub const GRID: &[f64] = &[0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0];
/// Values after the best one that are tried before the search ends.
const PATIENCE: usize = 1;

/// Models of all folds at the best penalty.
#[derive(Debug, Clone)]
pub struct CrossFit {
    pub c: f64,
    /// Places of the columns that are read.
    pub columns: Vec<usize>,
    /// Log-loss of each row of the sample by `out_of_fold`, calibrated.
    pub losses: Vec<f64>,
    /// Logit of each row of the sample by the model that has not seen it, without its offset.
    pub out_of_fold: Vec<f64>,
    /// The model of all rows: what rows outside the sample are scored by.
    pub model: Linear,
}

impl CrossFit {
    pub fn loss(&self) -> f64 {
        calibrated::mean(&self.losses).0
    }
}

/// Fits each fold's complement for each C of a rising grid, and keeps the C of the smallest
/// out-of-fold log-loss, calibrated, at which all rows are then fitted. `folds` are the folds of the
/// sample's rows, 0 and up, in their order.
///
/// A fold's fits run one after the other, each from the one before; the folds run side by side.
///
/// # Errors
/// An empty sample or grid, and what [`fit`] gives.
pub fn cross_fit(sample: Sample<'_>, folds: &[u8], grid: &[f64]) -> Result<CrossFit, String> {
    let count = folds.iter().max().map_or(0, |last| usize::from(*last) + 1);
    let rest: Vec<Vec<u32>> = (0..count).map(|fold| others(sample.rows, folds, fold)).collect();
    let labels: Vec<bool> = sample.rows.iter().map(|row| sample.labels[*row as usize]).collect();
    let mut models: Vec<Option<Linear>> = vec![None; count];
    let (mut best, mut since): (Option<CrossFit>, usize) = (None, 0);
    for c in grid {
        let fitted = side_by_side(&rest, |fold, rows| {
            fit(Sample { rows, ..sample }, *c, TOLERANCE, models[fold].as_ref())
        })?;
        let out_of_fold: Vec<f64> = sample
            .rows
            .iter()
            .zip(folds)
            .map(|(row, fold)| {
                fitted[usize::from(*fold)].score(sample.matrix, sample.columns, *row)
            })
            .collect();
        let whole =
            sample.rows.iter().zip(&out_of_fold).map(|(row, own)| own + sample.offset(*row));
        let losses = calibrated::losses(&whole.collect::<Vec<f64>>(), &labels);
        if best.as_ref().is_none_or(|best| calibrated::mean(&losses).0 < best.loss()) {
            let model = Linear::mean(&fitted).ok_or("there are no rows to fit on")?;
            let columns = sample.columns.to_vec();
            best = Some(CrossFit { c: *c, columns, losses, out_of_fold, model });
            since = 0;
        } else {
            since += 1;
        }
        if since == PATIENCE {
            break;
        }
        models = fitted.into_iter().map(Some).collect();
    }
    let mut best = best.ok_or("no penalty was tried")?;
    best.model = fit(sample, best.c, TOLERANCE, Some(&best.model))?;
    Ok(best)
}

fn others(rows: &[u32], folds: &[u8], fold: usize) -> Vec<u32> {
    let apart = rows.iter().zip(folds).filter(|(_, own)| usize::from(**own) != fold);
    apart.map(|(row, _)| *row).collect()
}

/// One result for each fold, in a thread each.
fn side_by_side<T: Send>(
    parts: &[Vec<u32>],
    one: impl Fn(usize, &[u32]) -> Result<T, String> + Sync,
) -> Result<Vec<T>, String> {
    std::thread::scope(|scope| {
        let one = &one;
        let parts = parts.iter().enumerate();
        let threads: Vec<_> =
            parts.map(|(fold, rows)| scope.spawn(move || one(fold, rows))).collect();
        let ended = |thread: std::thread::ScopedJoinHandle<'_, Result<T, String>>| {
            thread.join().unwrap_or_else(|_| Err("a fold's thread has ended".to_owned()))
        };
        threads.into_iter().map(ended).collect()
    })
}

/// Fits by the columns that earn their place: each column alone first, then the better ones
/// together, one after the other. A column stays if it lowers the out-of-fold log-loss by more than
/// that difference's standard error. None if no column tells more than the base rate.
///
/// Columns are no small matter: the company's name beside the narrative took the AUC of `relief` from
/// 0.695 to 0.820 on the complaints, and that of `fee_issue` from 0.817 to 0.809.
///
/// # Errors
/// As [`cross_fit`].
pub fn choose(sample: Sample<'_>, folds: &[u8], grid: &[f64]) -> Result<Option<CrossFit>, String> {
    let by = |columns: &[usize]| cross_fit(Sample { columns, ..sample }, folds, grid);
    let mut best = by(&[])?;
    let mut alone: Vec<CrossFit> =
        sample.columns.iter().map(|column| by(&[*column])).collect::<Result<_, _>>()?;
    alone.sort_by(|a, b| a.loss().total_cmp(&b.loss()));
    for one in alone {
        let with = match best.columns.is_empty() {
            true => one,
            false => by(&[&best.columns[..], &one.columns].concat())?,
        };
        if calibrated::is_lower(&with.losses, &best.losses) {
            best = with;
        }
    }
    Ok(Some(best).filter(|best| !best.columns.is_empty()))
}

/// Penalties that [`cross_fit`] typically tries, and one of which a fit takes as long as their mean.
const TRIED: f64 = 6.0;
const TYPICAL: f64 = 0.3;

/// Wall seconds that [`choose`] takes among so many columns, from one fit of each on one fold's rows.
///
/// # Errors
/// As [`cross_fit`].
pub fn choice_seconds(
    sample: Sample<'_>,
    folds: &[u8],
    columns: usize,
    threads: usize,
) -> Result<f64, String> {
    let rows = others(sample.rows, folds, 0);
    let mut alone = Vec::with_capacity(columns);
    for column in 0..columns {
        let start = Instant::now();
        fit(Sample { rows: &rows, columns: &[column], ..sample }, TYPICAL, TOLERANCE, None)?;
        alone.push(start.elapsed().as_secs_f64());
    }
    // Each alone, and each but the first beside what was taken before, at least one column.
    let sum: f64 = alone.iter().sum();
    let longest = alone.iter().copied().fold(0.0, f64::max);
    let fits = 2.0 * sum + longest * (columns as f64 - 2.0).max(-1.0);
    let count = folds.iter().max().map_or(1, |last| usize::from(*last) + 1);
    Ok(fits * TRIED * count.div_ceil(threads.clamp(1, count)) as f64)
}
