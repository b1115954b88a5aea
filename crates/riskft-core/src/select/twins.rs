//! Columns that say the same: equal ranks, or labels one to one.
//!
//! Each column is compared with those that stand for a group already, not with all: first by a hash of
//! its ranks, then at a glance of [`GLANCE`] rows, and only those that agree there on all rows. On 1,000
//! unrelated columns that is 128 million products.

use std::collections::HashMap;

use crate::dataset::hash::{bytes_hash, mix};
use crate::dataset::{Column, ColumnData};
use crate::encode::value::{label, numbers, Scratch};
use crate::encode::EncodedColumn;
use crate::options::Role;

/// Spearman's coefficient from which two columns of numbers say the same.
const SAME: f64 = 0.999;
/// The same at a glance: its sampling error is far below the difference.
const SAME_AT_A_GLANCE: f64 = 0.98;
/// Rows of a glance, and fewest of them that must be known of both.
const GLANCE: usize = 256;
const LEAST_AT_A_GLANCE: usize = 16;
/// Fewest rows that must be known of both columns.
const LEAST: usize = 20;
/// Cells, and rows, that are compared.
const MOST_CELLS: usize = 1 << 22;
const MOST_ROWS: usize = 20_000;
/// A label that is missing.
const MISSING: u64 = 0;

/// Rows that so many columns are compared on, at most.
pub fn rows_of(columns: usize) -> usize {
    (MOST_CELLS / columns.max(1)).min(MOST_ROWS)
}

/// What a column says of some rows.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// NaN = missing
    Numbers(Vec<f64>),
    /// Hashes of labels; 0 = missing.
    Labels(Vec<u64>),
}

impl Said {
    /// What a column says of some rows of the data: numbers, flags and dates a number each, others a
    /// label.
    pub fn of(column: &Column, encoded: &EncodedColumn, reference: i32, rows: &[u32]) -> Self {
        if matches!(encoded.role, Role::Number | Role::Flag | Role::Date) {
            return Said::Numbers(numbers(column, encoded, reference, rows));
        }
        let mut scratch = Scratch::default();
        let mut hash = |cell| {
            label(cell, &mut scratch).map_or(MISSING, |label| bytes_hash(label.as_bytes()).max(1))
        };
        Said::Labels(match &column.data {
            ColumnData::Text { codes, values, .. } => {
                let known: Vec<u64> =
                    values.iter().map(|text| hash(crate::cell::Cell::Text(text))).collect();
                let of = |row: &u32| match column.present[*row as usize] {
                    true => known[codes[*row as usize] as usize],
                    false => MISSING,
                };
                rows.iter().map(of).collect()
            }
            _ => rows.iter().map(|row| hash(column.cell(*row as usize))).collect(),
        })
    }
}

/// For each column the one that stands for what it says: of several that say the same, the one with the
/// fewest missing values, then the first by name. All columns tell of the same rows. The order of the
/// columns has no say.
pub fn leaders(names: &[&str], said: &[Said]) -> Vec<usize> {
    let voices: Vec<Voice> = said.iter().map(Voice::of).collect();
    let mut order: Vec<usize> = (0..names.len()).collect();
    order.sort_by_key(|c| (usize::MAX - voices[*c].whole.known, names[*c]));
    let mut leaders: Vec<usize> = (0..names.len()).collect();
    let mut standing: Vec<usize> = Vec::new();
    let mut prints: HashMap<u64, usize> = HashMap::new();
    for column in order {
        let voice = &voices[column];
        let print = voice.print();
        let exact = print.and_then(|print| prints.get(&print).copied());
        let found = exact.or_else(|| {
            standing.iter().copied().find(|other| voice.says_the_same(&voices[*other]))
        });
        match found {
            Some(leader) => leaders[column] = leader,
            None => {
                standing.push(column);
                prints.extend(print.map(|print| (print, column)));
            }
        }
    }
    leaders
}

/// The rows of a glance, drawn: rows at equal distances would agree with a pattern in the table.
fn glance(rows: usize) -> impl Iterator<Item = usize> {
    (0..rows.min(GLANCE)).map(move |row| match rows > GLANCE {
        true => (mix(row as u64) % rows as u64) as usize,
        false => row,
    })
}

/// A column as it is compared.
struct Voice {
    whole: Ranks,
    glance: Ranks,
    labels: Vec<u64>,
    is_number: bool,
}

impl Voice {
    fn of(said: &Said) -> Self {
        match said {
            Said::Numbers(values) => {
                let some: Vec<f64> = glance(values.len()).map(|row| values[row]).collect();
                let label = |value: &f64| match value.is_nan() {
                    true => MISSING,
                    false => mix((value + 0.0).to_bits()).max(1),
                };
                Voice {
                    whole: Ranks::of(values),
                    glance: Ranks::of(&some),
                    labels: values.iter().map(label).collect(),
                    is_number: true,
                }
            }
            Said::Labels(labels) => Voice {
                whole: Ranks {
                    known: labels.iter().filter(|label| **label != MISSING).count(),
                    ..Ranks::default()
                },
                glance: Ranks::default(),
                labels: labels.clone(),
                is_number: false,
            },
        }
    }

    /// A hash of the ranks, the same of ascending and descending ones. Columns that do not vary on these
    /// rows may do so on others: they have none.
    fn print(&self) -> Option<u64> {
        let tells = self.is_number && self.whole.known >= LEAST && self.whole.vary();
        tells.then(|| self.whole.print())
    }

    fn says_the_same(&self, other: &Voice) -> bool {
        if !(self.is_number && other.is_number) {
            return self.has_the_labels_of(other);
        }
        let agrees = |(common, rho): (usize, f64), least: usize, wanted: f64| {
            common >= least && rho.abs() >= wanted
        };
        agrees(self.glance.spearman(&other.glance), LEAST_AT_A_GLANCE, SAME_AT_A_GLANCE)
            && agrees(self.whole.spearman(&other.whole), self.enough(other), SAME)
    }

    /// Rows that both must be known on: half of those that either is known on.
    fn enough(&self, other: &Voice) -> usize {
        (self.whole.known.min(other.whole.known) / 2).max(LEAST)
    }

    /// Whether each label of one column goes with one of the other. Where labels hardly repeat any two
    /// columns do, so there the labels themselves must be equal.
    fn has_the_labels_of(&self, other: &Voice) -> bool {
        let (mut there, mut back) = (HashMap::new(), HashMap::new());
        let (mut common, mut equal) = (0, true);
        for (a, b) in self.labels.iter().zip(&other.labels) {
            if *a == MISSING || *b == MISSING {
                continue;
            }
            if there.insert(*a, *b).is_some_and(|before| before != *b)
                || back.insert(*b, *a).is_some_and(|before| before != *a)
            {
                return false;
            }
            common += 1;
            equal &= a == b;
        }
        let labels = there.len();
        common >= self.enough(other) && labels > 1 && (equal || 2 * labels <= common)
    }
}

/// Ranks of a column's known values.
#[derive(Debug, Clone, Default)]
struct Ranks {
    /// Ties have their mean; NaN = missing.
    ranks: Vec<f64>,
    /// The rows that are known, by value.
    order: Vec<u32>,
    known: usize,
}

impl Ranks {
    fn of(values: &[f64]) -> Self {
        let mut order: Vec<u32> =
            (0..values.len() as u32).filter(|row| !values[*row as usize].is_nan()).collect();
        // -0 and 0 are one value.
        let value = |row: &u32| values[*row as usize] + 0.0;
        order.sort_by(|a, b| value(a).total_cmp(&value(b)));
        let mut ranks = vec![f64::NAN; values.len()];
        fill(order.iter().map(|row| (*row, value(row))), &mut ranks);
        Ranks { ranks, known: order.len(), order }
    }

    fn vary(&self) -> bool {
        let rank = |row: Option<&u32>| row.map(|row| self.ranks[*row as usize]);
        rank(self.order.first()) != rank(self.order.last())
    }

    fn print(&self) -> u64 {
        let last = self.known as f64 + 1.0;
        let first = self.ranks.iter().find(|rank| !rank.is_nan() && **rank * 2.0 != last);
        let is_falling = first.is_some_and(|rank| rank * 2.0 > last);
        self.ranks.iter().fold(self.known as u64, |hash, rank| {
            let rank = if is_falling { last - rank } else { *rank };
            mix(hash ^ if rank.is_nan() { f64::NAN } else { rank }.to_bits())
        })
    }

    /// Rows that both are known on, and Spearman's coefficient of their ranks among these; 0 where
    /// either does not vary.
    fn spearman(&self, other: &Ranks) -> (usize, f64) {
        if self.known == self.ranks.len() && other.known == other.ranks.len() {
            return (self.known, correlation(&self.ranks, &other.ranks));
        }
        let (a, b) = (self.among(other), other.among(self));
        let common: Vec<usize> = (0..a.len()).filter(|row| !a[*row].is_nan()).collect();
        let of = |ranks: &[f64]| common.iter().map(|row| ranks[*row]).collect::<Vec<f64>>();
        (common.len(), correlation(&of(&a), &of(&b)))
    }

    /// Ranks among the rows that the other is known on; NaN elsewhere.
    fn among(&self, other: &Ranks) -> Vec<f64> {
        let known = |row: &&u32| !other.ranks[**row as usize].is_nan();
        let mut ranks = vec![f64::NAN; self.ranks.len()];
        let rows = self.order.iter().filter(known);
        fill(rows.map(|row| (*row, self.ranks[*row as usize])), &mut ranks);
        ranks
    }
}

/// Writes the ranks of rows that come by ascending value, from 1 on.
fn fill(rows: impl Iterator<Item = (u32, f64)>, ranks: &mut [f64]) {
    let rows: Vec<(u32, f64)> = rows.collect();
    let mut before = 0;
    for ties in rows.chunk_by(|a, b| a.1 == b.1) {
        let mean = before as f64 + (ties.len() + 1) as f64 / 2.0;
        ties.iter().for_each(|(row, _)| ranks[*row as usize] = mean);
        before += ties.len();
    }
}

/// Pearson's coefficient of ranks 1..=n, whose mean is known.
fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let mean = (a.len() as f64 + 1.0) / 2.0;
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (a - mean, b - mean);
        ab += a * b;
        aa += a * a;
        bb += b * b;
    }
    match aa * bb {
        product if product > 0.0 => ab / product.sqrt(),
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests;
