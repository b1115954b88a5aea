//! The reference of a version: the bins of its source columns on the rows that it was fitted on,
//! and those of its scores on rows that it was not.

use std::collections::HashMap;

use super::bins::{Bins, Kind, Reference, LEAST_NAMED, MOST_EDGES, MOST_LABEL_BYTES, MOST_VALUES};
use super::count::words;
use crate::cell::Cell;
use crate::dataset::{Column, ColumnData, Dataset};
use crate::encode::edges::quantiles;
use crate::encode::value::{label, numbers, Scratch};
use crate::encode::{EncodedColumn, Encoding};
use crate::options::Role;

/// The reference of each of the encoding's columns, on some rows of the data they were fitted on.
pub fn columns(data: &Dataset, encoding: &Encoding, rows: &[u32]) -> Vec<Reference> {
    let of = |encoded: &EncodedColumn| {
        let column = data.column(&encoded.name)?;
        let (kind, bins) = match encoded.role {
            Role::Number | Role::Date | Role::Flag => {
                let numbers = numbers(column, encoded, encoding.reference_date, rows);
                (Kind::Number, of_numbers(&numbers))
            }
            role => of_labels(column, rows, role == Role::Text),
        };
        Some(Reference { column_name: encoded.name.clone(), kind, bins })
    };
    encoding.columns.iter().filter_map(of).collect()
}

/// The reference of the scores of rows that the version was not fitted on.
pub fn score(scores: &[f64]) -> Reference {
    let kind = Kind::Score;
    Reference { column_name: kind.name().to_owned(), kind, bins: of_numbers(scores) }
}

/// Deciles, as far as ties allow. What never varies has a bin of its own, below and above which
/// other values are told.
fn of_numbers(numbers: &[f64]) -> Bins {
    let mut edges = quantiles(numbers, MOST_EDGES + 1);
    if edges.is_empty() {
        if let Some(only) = numbers.iter().copied().find(|number| !number.is_nan()) {
            edges = vec![only.next_down(), only];
        }
    }
    let mut bins = Bins::new(edges, Vec::new());
    for number in numbers {
        let place = bins.of_number(*number);
        bins.counts[place] += 1;
    }
    bins
}

/// The frequent values; of texts, if these are of half the rows that have one, else how many words.
fn of_labels(column: &Column, rows: &[u32], is_text: bool) -> (Kind, Bins) {
    let found = Found::of(column, rows);
    let mut named: Vec<(&String, u64)> = found
        .labels
        .iter()
        .filter(|(label, count)| **count >= LEAST_NAMED && label.len() <= MOST_LABEL_BYTES)
        .map(|(label, count)| (label, *count))
        .collect();
    named.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    named.truncate(MOST_VALUES);
    let (known, by_name) = (found.known, named.iter().map(|(_, count)| count).sum::<u64>());
    if is_text && 2 * by_name < known {
        let mut scratch = Scratch::default();
        let lengths: Vec<f64> =
            rows.iter().map(|row| words(column.cell(*row as usize), &mut scratch)).collect();
        return (Kind::Length, of_numbers(&lengths));
    }
    let mut bins = Bins::new(Vec::new(), named.iter().map(|(label, _)| (*label).clone()).collect());
    let (rest, missing) = (bins.rest(), bins.missing());
    bins.counts.iter_mut().zip(&named).for_each(|(count, (_, rows))| *count = *rows);
    bins.counts[rest] = known - by_name;
    bins.counts[missing] = rows.len() as u64 - known;
    (Kind::Label, bins)
}

/// How many rows have each label, and how many have any.
struct Found {
    labels: HashMap<String, u64>,
    known: u64,
}

impl Found {
    fn of(column: &Column, rows: &[u32]) -> Self {
        let mut found = Found { labels: HashMap::new(), known: 0 };
        let mut scratch = Scratch::default();
        let ColumnData::Text { codes, values, .. } = &column.data else {
            for row in rows {
                found.add(label(column.cell(*row as usize), &mut scratch), 1);
            }
            return found;
        };
        // Distinct texts are few beside the rows, or long: each is looked at once.
        let mut of_code = vec![0u64; values.len()];
        for row in rows.iter().filter(|row| column.present[**row as usize]) {
            of_code[codes[*row as usize] as usize] += 1;
        }
        for (value, count) in values.iter().zip(of_code).filter(|(_, count)| *count > 0) {
            let label = label(Cell::Text(value), &mut scratch);
            match label.filter(|label| label.len() > MOST_LABEL_BYTES) {
                Some(_) => found.known += count,
                None => found.add(label, count),
            }
        }
        found
    }

    fn add(&mut self, label: Option<&str>, count: u64) {
        let Some(label) = label else { return };
        self.known += count;
        match self.labels.get_mut(label) {
            Some(rows) => *rows += count,
            None => drop(self.labels.insert(label.to_owned(), count)),
        }
    }
}
