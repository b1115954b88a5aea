//! Moments and eigenvectors -> the fitted reducer.

use super::orient::{end_of_equal, orient};
use super::Wanted;
use crate::dataset::names::{listed, visible};
use crate::refusal::{code, Refusal, Result};

/// A deviation of so many units in the last place of the column's largest value is rounding: sums
/// that differ in the order of their terms alone differ by one or two.
const NOISE: f64 = 4.0 * f64::EPSILON;
/// Deviations below have no inverse that projection could multiply with.
const LEAST: f64 = 1e-280;
/// Eigenvalues below this share of the largest are zero but for rounding.
const ZERO: f64 = 1e-12;
/// What a share of the variance may miss by rounding.
const SLACK: f64 = 1e-12;

/// What the rows tell of a column.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    pub name: String,
    /// Rows that have a value.
    pub present: u64,
    /// Of the present values; their smallest and their largest.
    pub mean: f64,
    pub low: f64,
    pub high: f64,
    /// Standard deviation over all rows (divided by their count), missing ones at the mean.
    pub deviation: f64,
}

impl Column {
    /// Whether its values are equal, or differ by no more than rounding.
    pub fn is_constant(&self) -> bool {
        let largest = self.low.abs().max(self.high.abs());
        self.low == self.high || self.deviation <= (NOISE * largest).max(LEAST)
    }
}

/// The columns that can be standardised, in their order, and what is told of the others.
///
/// # Errors
/// 22023 for fewer than two rows, 22003 for numbers beyond what can be summed, 22023 where no
/// column varies.
pub fn varying(columns: &[Column], rows: u64) -> Result<(Vec<usize>, Vec<String>)> {
    if rows < 2 {
        let only = if rows == 1 { "one row" } else { "no row" };
        return Err(Refusal::new(code::INVALID_PARAMETER, "too few rows to reduce")
            .detail(format!("The relation has {only}."))
            .hint("Components tell how rows differ: give the relation at least two."));
    }
    let (mut kept, mut empty, mut constant) = (Vec::new(), Vec::new(), Vec::new());
    for (index, column) in columns.iter().enumerate() {
        let name = format!("\"{}\"", visible(&column.name));
        if column.present == 0 {
            empty.push(name);
        } else if !column.mean.is_finite() || !column.deviation.is_finite() {
            return Err(too_large(&name));
        } else if column.is_constant() {
            constant.push(name);
        } else {
            kept.push(index);
        }
    }
    if kept.is_empty() {
        return Err(Refusal::new(code::INVALID_PARAMETER, "no column varies")
            .detail(format!("Without a second value are {}.", listed(&[constant, empty].concat())))
            .hint("Give the relation number columns that differ between rows."));
    }
    let mut notices = Vec::new();
    for (what, names) in
        [("left out, as no row has a value", empty), ("left out, as they do not vary", constant)]
    {
        if !names.is_empty() {
            notices.push(format!("{what}: {}", listed(&names)));
        }
    }
    Ok((kept, notices))
}

fn too_large(name: &str) -> Refusal {
    Refusal::new("22003", "numbers are too large to reduce")
        .detail(format!("The sums of column {name} are beyond float8."))
        .hint("Exclude the column, or divide it in a SELECT.")
}

/// Eigenvalues of the correlation matrix of some columns, falling, and unit vectors of the first of
/// them, the rows of `vectors`: at least as many as [`needed`].
#[derive(Debug, Clone, PartialEq)]
pub struct Eigen {
    pub values: Vec<f64>,
    pub vectors: Vec<Vec<f64>>,
}

/// A fitted reducer.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    /// Ascending by bytes.
    pub columns: Vec<String>,
    pub means: Vec<f64>,
    /// Standard deviations, above zero.
    pub scales: Vec<f64>,
    /// Falling, as sample variances of the projected rows (divided by rows - 1).
    pub variances: Vec<f64>,
    /// One unit vector over the columns for each variance.
    pub components: Vec<Vec<f64>>,
    pub rows: u64,
}

/// How many eigenvectors [`fit`] takes: those that are kept, and the others of the last one's
/// eigenvalue. `values` are all eigenvalues of a correlation matrix, falling.
pub fn needed(values: &[f64], rows: u64, wanted: Wanted) -> usize {
    let in_rank = &values[..rank(values, rows).min(values.len())];
    let (count, _) = count(in_rank, values.len() as f64, wanted);
    match count.checked_sub(1) {
        Some(last) if last < in_rank.len() => end_of_equal(in_rank, last),
        _ => count,
    }
}

/// Keeps as many components as are wanted. `columns` are those of the matrix, ascending by name;
/// also says what was kept, in words.
///
/// # Errors
/// 22000 for eigenvalues that are not finite.
pub fn fit(
    columns: Vec<Column>,
    rows: u64,
    eigen: Eigen,
    wanted: Wanted,
) -> Result<(Fit, Vec<String>)> {
    let Eigen { values, mut vectors } = eigen;
    let finite = |vector: &Vec<f64>| vector.iter().all(|v| v.is_finite());
    let enough = values.len() == columns.len() && needed(&values, rows, wanted) <= vectors.len();
    if !enough || !finite(&values) || !vectors.iter().all(finite) {
        return Err(Refusal::new(code::DATA_EXCEPTION, "the components do not converge")
            .detail("The eigenvalues of the correlation matrix are not finite.")
            .hint("Exclude columns of absurd values."));
    }
    let rank = rank(&values, rows);
    vectors.truncate(rank);
    orient(&values, &mut vectors);
    // The trace of a correlation matrix.
    let total = columns.len() as f64;
    let (count, mut notices) = count(&values[..rank], total, wanted);
    vectors.truncate(count);
    let kept: f64 = values[..count].iter().sum();
    notices.push(format!(
        "{count} of {} components keep {:.1}% of the variance of {} columns",
        rank,
        100.0 * (kept / total).min(1.0),
        columns.len()
    ));
    let sample = rows as f64 / (rows - 1) as f64;
    let fit = Fit {
        means: columns.iter().map(|column| column.mean).collect(),
        scales: columns.iter().map(|column| column.deviation).collect(),
        columns: columns.into_iter().map(|column| column.name).collect(),
        variances: values[..count].iter().map(|value| value * sample).collect(),
        components: vectors,
        rows,
    };
    Ok((fit, notices))
}

/// Eigenvalues that are not zero but for rounding, one at least; centred rows span one dimension less
/// than there are rows.
fn rank(values: &[f64], rows: u64) -> usize {
    let least = ZERO * values.first().copied().unwrap_or(0.0);
    let above = values.iter().take_while(|value| **value > least).count();
    above.min(usize::try_from(rows - 1).unwrap_or(usize::MAX)).max(1)
}

/// How many components are kept of those that there are.
fn count(values: &[f64], total: f64, wanted: Wanted) -> (usize, Vec<String>) {
    match wanted {
        Wanted::Count(count) if count > values.len() as u64 => {
            let rank = values.len();
            let text = format!("{count} components were asked for, the columns have {rank}");
            (rank, vec![text])
        }
        Wanted::Count(count) => (count as usize, Vec::new()),
        Wanted::Share(share) => {
            let mut sum = 0.0;
            let reached = values.iter().position(|value| {
                sum += value;
                sum >= (share - SLACK) * total
            });
            (reached.map_or(values.len(), |at| at + 1), Vec::new())
        }
    }
}
