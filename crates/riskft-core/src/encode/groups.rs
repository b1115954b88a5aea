//! Which labels, and which pairs of them, statistics are kept of.
//!
//! Candidates are categories with their prefixes, flags, years, numbers that repeat, and shares of
//! one amount in another. Each is judged on training rows alone, by the log-loss of its cross-fitted estimates;
//! a pair has to add to the better one of its two labels.

use super::statistic::{KeyPart, Keys, StatisticInput};
use super::{CategorySource, EncodedRow, Encoding, NumberSource};
use crate::cell::Cell;
use crate::dataset::hash::mix;
use crate::dataset::Dataset;
use crate::options::Role;

/// Labels that pairs are tried of: 300 pairs.
const PAIRED: usize = 25;
/// Pairs kept, at most.
const PAIRS: usize = 16;
/// Log-loss that a statistic has to take off its parent's, in nats a row.
const LEAST_GAIN: f64 = 2e-4;
/// Most distinct labels in a share of the rows: more would tell rows apart, not groups.
const MOST_DISTINCT: f64 = 0.6;
/// Fewest rows of the training part: with fewer, every label is rare.
const LEAST_ROWS: usize = 200;

/// Fits [`Encoding::statistics`] on some rows of the data.
pub(super) struct Groups<'a> {
    pub data: &'a Dataset,
    /// Columns of the data by the encoding's.
    pub columns: &'a [usize],
    pub rows: &'a [u32],
    pub labels: &'a [bool],
}

struct Candidate {
    input: StatisticInput,
    loss: f64,
}

impl Groups<'_> {
    pub(super) fn fit(&self, encoding: &Encoding) -> Vec<StatisticInput> {
        if self.rows.len() < LEAST_ROWS {
            return Vec::new();
        }
        let hashes = self.hashes(encoding);
        let singles = self.judged(encoding, singles(encoding), &hashes);
        let pairs = self.pairs(encoding, &singles, &hashes);
        let mut kept: Vec<StatisticInput> = singles.into_iter().map(|c| c.input).collect();
        kept.extend(pairs);
        kept
    }

    /// Candidates with their losses, without those that tell rows apart or nothing.
    fn judged(
        &self,
        encoding: &Encoding,
        inputs: Vec<StatisticInput>,
        hashes: &[u64],
    ) -> Vec<Candidate> {
        let keys = self.keys(encoding, &inputs);
        let losses = self.losses(&keys, hashes);
        let most = (self.rows.len() as f64 * MOST_DISTINCT) as usize;
        let positive = self.labels.iter().filter(|label| **label).count();
        let rate = positive as f64 / self.labels.len().max(1) as f64;
        let base = -(rate * rate.ln() + (1.0 - rate) * (1.0 - rate).ln());
        // Where a candidate went: itself, or the parent that stands for it.
        let mut places: Vec<Option<usize>> = Vec::new();
        let mut kept: Vec<Candidate> = Vec::new();
        for (s, mut input) in inputs.into_iter().enumerate() {
            input.parent = input.parent.and_then(|parent| places[parent]);
            let before = input.parent.map_or(base, |parent| kept[parent].loss);
            let tells = losses[s] < before - LEAST_GAIN;
            if !tells || !(2..=most).contains(&keys.hashes(s).len()) {
                places.push(input.parent);
                continue;
            }
            places.push(Some(kept.len()));
            kept.push(Candidate { input, loss: losses[s] });
        }
        kept
    }

    fn pairs(
        &self,
        encoding: &Encoding,
        singles: &[Candidate],
        hashes: &[u64],
    ) -> Vec<StatisticInput> {
        let mut order: Vec<usize> = (0..singles.len()).collect();
        order.sort_by(|a, b| singles[*a].loss.total_cmp(&singles[*b].loss));
        order.truncate(PAIRED);
        let mut inputs: Vec<StatisticInput> =
            singles.iter().map(|single| single.input.clone()).collect();
        let first = inputs.len();
        for (place, better) in order.iter().enumerate() {
            for other in &order[place + 1..] {
                let (a, b) = (&singles[*better].input, &singles[*other].input);
                if same_column(a.key[0], b.key[0]) {
                    continue;
                }
                inputs.push(StatisticInput {
                    name: format!("{}, {}", a.name, b.name),
                    key: vec![a.key[0], b.key[0]],
                    parent: Some(*better),
                });
            }
        }
        let keys = self.keys(encoding, &inputs);
        let losses = self.losses(&keys, hashes);
        let gain = |s: usize| inputs[s].parent.map_or(0.0, |parent| losses[parent]) - losses[s];
        let mut pairs: Vec<usize> =
            (first..inputs.len()).filter(|s| gain(*s) > LEAST_GAIN).collect();
        pairs.sort_by(|a, b| gain(*b).total_cmp(&gain(*a)));
        pairs.truncate(PAIRS);
        pairs.into_iter().map(|s| inputs[s].clone()).collect()
    }

    /// Hashes of the rows as they are encoded, so that equal rows lie in one part.
    fn hashes(&self, encoding: &Encoding) -> Vec<u64> {
        let (mut cells, mut encoded) = (Vec::new(), EncodedRow::default());
        let hash = |row: &u32| {
            cells.clear();
            cells.extend(self.columns.iter().map(|c| self.data.columns[*c].cell(*row as usize)));
            encoding.encode_row(&cells, &mut encoded);
            encoding.row_hash(&encoded)
        };
        self.rows.iter().map(hash).collect()
    }

    fn keys(&self, encoding: &Encoding, inputs: &[StatisticInput]) -> Keys {
        let encoding = Encoding { statistics: inputs.to_vec(), ..encoding.clone() };
        let mut cells: Vec<Cell<'_>> = Vec::new();
        let rows = self.rows.iter().map(|row| {
            cells.clear();
            cells.extend(self.columns.iter().map(|c| self.data.columns[*c].cell(*row as usize)));
            encoding.keys(&cells)
        });
        Keys::collect(inputs, rows)
    }

    /// Log-loss of each statistic's cross-fitted estimates.
    fn losses(&self, keys: &Keys, hashes: &[u64]) -> Vec<f64> {
        let rows: Vec<u32> = (0..self.rows.len() as u32).collect();
        let label = |row: u32| self.labels[row as usize];
        let part = |row: u32| mix(hashes[row as usize] ^ 0x6772_6f75_7073);
        let features = keys.cross_fitted(&rows, rows.len(), label, part);
        let mut losses = vec![0.0; keys.len()];
        for (row, features) in features.chunks_exact(2 * keys.len().max(1)).enumerate() {
            for (loss, pair) in losses.iter_mut().zip(features.as_chunks::<2>().0) {
                let p = pair[0].clamp(1e-4, 1.0 - 1e-4);
                *loss -= if self.labels[row] { p } else { 1.0 - p }.ln();
            }
        }
        losses.iter().map(|loss| loss / self.rows.len() as f64).collect()
    }
}

fn same_column(a: KeyPart, b: KeyPart) -> bool {
    let columns = |mut part: KeyPart| part.columns().map(|c| *c).collect::<Vec<_>>();
    let (a, b) = (columns(a), columns(b));
    a.iter().any(|column| b.contains(column))
}

/// One statistic for each label; a longer prefix refines the shorter one.
fn singles(encoding: &Encoding) -> Vec<StatisticInput> {
    let mut inputs: Vec<StatisticInput> = Vec::new();
    let mut add = |name: String, part: KeyPart, parent: Option<usize>| {
        inputs.push(StatisticInput { name, key: vec![part], parent });
        Some(inputs.len() - 1)
    };
    let own = |(index, _): &(usize, _)| !encoding.is_condensed(*index);
    for (index, column) in encoding.columns.iter().enumerate().filter(own) {
        let mut prefixes: Vec<usize> = Vec::new();
        let mut whole = matches!(column.role, Role::Flag | Role::Number);
        for category in &encoding.categories {
            match category.source {
                CategorySource::Value(c) => whole |= c == index,
                CategorySource::Prefix(c, length) if c == index => prefixes.push(length),
                _ => {}
            }
        }
        prefixes.sort_unstable();
        let mut parent = None;
        for length in prefixes {
            let name = format!("{} (first {length})", column.name);
            parent = add(name, KeyPart::Prefix(index, length), parent);
        }
        if whole {
            add(column.name.clone(), KeyPart::Value(index), parent);
        }
    }
    for number in &encoding.numbers {
        match number.source {
            NumberSource::Year(c) => drop(add(number.name.clone(), KeyPart::Year(c), None)),
            NumberSource::Ratio(a, b) => drop(add(number.name.clone(), KeyPart::Share(a, b), None)),
            _ => {}
        }
    }
    inputs
}
