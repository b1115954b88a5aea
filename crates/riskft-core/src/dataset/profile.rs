//! What a column's labelled rows hold: the evidence for its role.

use std::collections::HashMap;

use super::{Column, ColumnData};
use crate::encode::value::moment;
use crate::encode::TextFormat;

/// Counts of a column over the labelled rows.
#[derive(Debug)]
pub struct Profile<'a> {
    /// Labelled rows.
    pub rows: usize,
    /// NULL, NaN, infinite, or empty text.
    pub missing: usize,
    pub distinct: usize,
    pub values: Values<'a>,
}

/// The values that are not missing.
#[derive(Debug)]
pub enum Values<'a> {
    Bool,
    /// Ascending.
    Int(Vec<i64>),
    /// Ascending.
    Float(Vec<f64>),
    /// Dates and timestamps.
    Moment,
    /// Distinct texts, blanks cut, with their rows; sorted by text.
    Text(Vec<(&'a str, usize)>),
}

impl<'a> Profile<'a> {
    /// `rows` are the labelled rows.
    pub fn of(column: &'a Column, rows: &[u32]) -> Self {
        let present = || rows.iter().map(|row| *row as usize).filter(|row| column.present[*row]);
        let (count, distinct, values) = match &column.data {
            ColumnData::Bool(v) => {
                let count = present().count();
                let hits = present().filter(|row| v[*row]).count();
                let distinct = usize::from(hits > 0) + usize::from(hits < count);
                (count, distinct, Values::Bool)
            }
            ColumnData::Int(v) => {
                let mut values: Vec<i64> = present().map(|row| v[row]).collect();
                values.sort_unstable();
                (values.len(), distinct(&values), Values::Int(values))
            }
            ColumnData::Float(v) => {
                let mut values: Vec<f64> =
                    present().map(|row| v[row] + 0.0).filter(|v| v.is_finite()).collect();
                values.sort_unstable_by(f64::total_cmp);
                (values.len(), distinct(&values), Values::Float(values))
            }
            ColumnData::Date(_) | ColumnData::Timestamp(_) => {
                let mut values: Vec<i64> = present()
                    .filter_map(|row| moment(column.cell(row), TextFormat::Plain, 0))
                    .collect();
                values.sort_unstable();
                (values.len(), distinct(&values), Values::Moment)
            }
            ColumnData::Text { codes, values, .. } => {
                let mut counts = vec![0usize; values.len()];
                present().for_each(|row| counts[codes[row] as usize] += 1);
                let texts = merged(values, &counts);
                (texts.iter().map(|t| t.1).sum(), texts.len(), Values::Text(texts))
            }
        };
        Profile { rows: rows.len(), missing: rows.len() - count, distinct, values }
    }
    /// Rows that are not missing.
    pub fn filled(&self) -> usize {
        self.rows - self.missing
    }
    pub fn missing_share(&self) -> f64 {
        self.missing as f64 / self.rows.max(1) as f64
    }
}

fn distinct<T: PartialEq>(sorted: &[T]) -> usize {
    sorted.chunk_by(|a, b| a == b).count()
}

/// Values that differ in blanks at their ends only are one; empty ones are missing.
fn merged<'a>(values: &'a [String], counts: &[usize]) -> Vec<(&'a str, usize)> {
    let mut by_text: HashMap<&str, usize> = HashMap::with_capacity(values.len());
    for (value, count) in values.iter().zip(counts) {
        let value = value.trim();
        if *count > 0 && !value.is_empty() {
            *by_text.entry(value).or_default() += count;
        }
    }
    let mut texts: Vec<(&str, usize)> = by_text.into_iter().collect();
    texts.sort_unstable();
    texts
}

/// Rows that make a value frequent enough for a code of its own, among `rows`: 20 from 4,000 rows
/// on, fewer in small tables (one row in 200), never below 5.
pub fn frequent(rows: usize) -> usize {
    (rows / 200).clamp(5, 20)
}

/// Longest text that may be a category's value, bytes.
pub const MAX_LABEL: usize = 200;
