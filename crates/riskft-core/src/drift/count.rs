//! Counts of other rows in a version's bins, and what they tell beside its reference.

use super::bins::{Bins, Kind, Reference};
use super::index::{by_chance, psi, rises, LARGE, MODERATE};
use crate::cell::Cell;
use crate::encode::value::{label, number, Scratch};
use crate::encode::{EncodedColumn, Encoding};

/// Counts the rows of a relation, column by column and by their scores.
pub struct Counter<'a> {
    encoding: &'a Encoding,
    /// Places in the encoding's columns.
    columns: Vec<(usize, Count<'a>)>,
    score: Option<Count<'a>>,
    scratch: Scratch,
    rows: u64,
}

/// The rows that fell into one column's bins.
struct Count<'a> {
    reference: &'a Reference,
    counts: Vec<u64>,
    /// Places of the bins of `values`, in the order of their bytes.
    by_label: Vec<usize>,
}

/// What has become of a column, or of the score: a row of riskft_drift.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    pub column_name: String,
    pub kind: Kind,
    /// None without rows.
    pub psi: Option<f64>,
    /// `no rows`, `few rows`, `moderate` or `large`; `new values`; `missing`: what holds of these,
    /// with commas between.
    pub alarm: Option<String>,
    /// Now and in the reference, 0..1; None of the score, which never is missing.
    pub missing_share: Option<f64>,
    pub missing_share_reference: Option<f64>,
    /// Of labels: share of rows whose value the reference does not tell by name.
    pub unseen_share: Option<f64>,
    pub rows: u64,
}

impl<'a> Counter<'a> {
    /// Of the columns that both the reference and the encoding have.
    pub fn new(reference: &'a [Reference], encoding: &'a Encoding) -> Self {
        let place = |name: &str| encoding.columns.iter().position(|column| column.name == name);
        let columns = reference.iter().filter(|reference| reference.kind != Kind::Score);
        let mut columns: Vec<(usize, Count<'a>)> = columns
            .filter_map(|reference| Some((place(&reference.column_name)?, Count::new(reference))))
            .collect();
        columns.sort_by_key(|(place, _)| *place);
        let score = reference.iter().find(|reference| reference.kind == Kind::Score);
        Counter {
            encoding,
            columns,
            score: score.map(Count::new),
            scratch: Scratch::default(),
            rows: 0,
        }
    }

    /// Counts a row: the cells of the encoding's columns, in their order.
    pub fn row(&mut self, cells: &[Cell<'_>]) {
        self.rows += 1;
        for (place, count) in &mut self.columns {
            let cell = cells.get(*place).copied().unwrap_or(Cell::Null);
            let column = &self.encoding.columns[*place];
            let bin = count.bin(cell, column, self.encoding.reference_date, &mut self.scratch);
            count.counts[bin] += 1;
        }
    }

    /// Counts a score; those of a sample stand for all.
    pub fn score(&mut self, score: f64) {
        if let Some(count) = &mut self.score {
            let bin = count.reference.bins.of_number(score);
            count.counts[bin] += 1;
        }
    }

    /// Rows counted.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The score's line, then one for each column in the encoding's order.
    pub fn lines(&self) -> Vec<Line> {
        let columns = self.columns.iter().map(|(_, count)| count);
        self.score.iter().chain(columns).map(Count::line).collect()
    }
}

impl<'a> Count<'a> {
    fn new(reference: &'a Reference) -> Self {
        let values = &reference.bins.values;
        let mut by_label: Vec<usize> = (0..values.len()).collect();
        by_label.sort_by_key(|place| &values[*place]);
        Count { reference, counts: vec![0; reference.bins.counts.len()], by_label }
    }

    fn bin(
        &self,
        cell: Cell<'_>,
        column: &EncodedColumn,
        reference_date: i32,
        scratch: &mut Scratch,
    ) -> usize {
        let Bins { values, .. } = &self.reference.bins;
        let bins = &self.reference.bins;
        match self.reference.kind {
            Kind::Number | Kind::Score => bins.of_number(number(cell, column, reference_date)),
            Kind::Length => bins.of_number(words(cell, scratch)),
            Kind::Label => {
                let Some(label) = label(cell, scratch) else { return bins.missing() };
                let found =
                    self.by_label.binary_search_by(|place| values[*place].as_str().cmp(label));
                found.map_or(bins.rest(), |found| self.by_label[found])
            }
        }
    }

    fn line(&self) -> Line {
        let (bins, kind) = (&self.reference.bins, self.reference.kind);
        let (before, now) = (bins.rows(), self.counts.iter().sum::<u64>());
        let psi = psi(&bins.counts, &self.counts);
        let of = |place: usize| ((bins.counts[place], before), (self.counts[place], now));
        let mut alarms = Vec::new();
        alarms.extend(match psi {
            None => Some("no rows"),
            Some(psi) if psi <= MODERATE => None,
            Some(psi) if by_chance(&bins.counts, &self.counts).is_some_and(|most| psi <= most) => {
                Some("few rows")
            }
            Some(psi) if psi <= LARGE => Some("moderate"),
            Some(_) => Some("large"),
        });
        let rest = (kind == Kind::Label).then(|| bins.rest());
        if rest.is_some_and(|rest| rises(of(rest).0, of(rest).1)) {
            alarms.push("new values");
        }
        let missing = (kind != Kind::Score).then(|| bins.missing());
        if missing.is_some_and(|missing| rises(of(missing).0, of(missing).1)) {
            alarms.push("missing");
        }
        let share = |(count, rows): (u64, u64)| (rows > 0).then(|| count as f64 / rows as f64);
        Line {
            column_name: self.reference.column_name.clone(),
            kind,
            psi,
            alarm: (!alarms.is_empty()).then(|| alarms.join(", ")),
            missing_share: missing.and_then(|missing| share(of(missing).1)),
            missing_share_reference: missing.and_then(|missing| share(of(missing).0)),
            unseen_share: rest.and_then(|rest| share(of(rest).1)),
            rows: now,
        }
    }
}

/// How many words a text has; NaN = missing.
pub(super) fn words(cell: Cell<'_>, scratch: &mut Scratch) -> f64 {
    label(cell, scratch).map_or(f64::NAN, |text| text.split_whitespace().count() as f64)
}
