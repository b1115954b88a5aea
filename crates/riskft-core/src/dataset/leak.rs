//! Columns that tell the target almost surely: a value known only after the outcome.
//!
//! A column alone (a tree on its numbers, or the rates of its labels) is fitted on training rows
//! and judged on validation and calibration rows. It is suspicious if it ranks them with an AUC
//! of at least [`AUC`], or if one of its groups (a leaf, a label, the missing cells) holds at
//! least [`GROUP_SHARE`] of the rows of both sets and at least [`PURE`] of one class in both,
//! though the base rate is far from that and chance would hardly do it. Identifiers are looked at
//! too: ids given in the order of the outcome tell it.

use std::collections::HashMap;

use super::Part;
use crate::encode::tree;
use crate::metrics;

pub const AUC: f64 = 0.98;
pub const GROUP_SHARE: f64 = 0.05;
pub const PURE: f64 = 0.99;
/// Distance of a group's rate from the base rate.
const FAR: f64 = 0.2;
/// log of the probability that chance makes a group so pure.
const CHANCE: f64 = -13.8;
/// Fewest held-out rows of each class for an AUC.
const MIN_CLASS: usize = 10;
const LEAVES: usize = 24;
const MIN_LEAF: usize = 20;

/// What one column says about the target.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Alone {
    /// On validation and calibration rows; at least 0.5.
    pub auc: Option<f64>,
    /// The reason for a warning, with its figure, as a sentence.
    pub leak: Option<String>,
}

/// The groups of a column: one small number for each row, [`MISSING`] for a missing cell.
pub struct Groups<'a> {
    pub of_row: Vec<u32>,
    /// `amount > 5000` and the like.
    pub name: Box<dyn Fn(u32) -> String + 'a>,
}

pub const MISSING: u32 = u32::MAX;

/// Groups of a number: the leaves of its tree on the training rows. `values`, `labels` and
/// `parts` are of the same labelled rows.
pub fn number_groups(values: &[f64], labels: &[bool], parts: &[Part]) -> Groups<'static> {
    let (mut train, mut train_labels) = (Vec::new(), Vec::new());
    for (row, value) in values.iter().enumerate() {
        if parts[row] == Part::Train {
            train.push(*value);
            train_labels.push(labels[row]);
        }
    }
    let edges = tree::grow(&train, &train_labels, LEAVES, MIN_LEAF).thresholds;
    let of_row = values
        .iter()
        .map(|v| if v.is_nan() { MISSING } else { edges.partition_point(|e| v > e) as u32 })
        .collect();
    let name = move |group: u32| {
        let group = group as usize;
        match (group.checked_sub(1).and_then(|g| edges.get(g)), edges.get(group)) {
            (Some(low), Some(high)) => format!("between {low} and {high}"),
            (Some(low), None) => format!("above {low}"),
            (None, Some(high)) => format!("up to {high}"),
            (None, None) => "any value".to_owned(),
        }
    };
    Groups { of_row, name: Box::new(name) }
}

#[derive(Default, Clone, Copy)]
struct Tally {
    rows: usize,
    positives: usize,
}

impl Tally {
    fn add(&mut self, label: bool) {
        self.rows += 1;
        self.positives += usize::from(label);
    }
    fn rate(self) -> f64 {
        self.positives as f64 / self.rows.max(1) as f64
    }
}

/// Judges a column's groups; `labels` and `parts` are of the same rows.
pub fn judge(groups: &Groups<'_>, labels: &[bool], parts: &[Part]) -> Alone {
    let mut tallies: HashMap<u32, [Tally; 2]> = HashMap::new();
    let mut totals = [Tally::default(); 2];
    let mut held = Vec::new();
    for (row, group) in groups.of_row.iter().enumerate() {
        let label = labels[row];
        let set = match parts[row] {
            Part::Train => 0,
            Part::Validation | Part::Calibration => 1,
            _ => continue,
        };
        tallies.entry(*group).or_default()[set].add(label);
        totals[set].add(label);
        if set == 1 {
            held.push((*group, label));
        }
    }
    let base = totals[0].rate();
    let score = |group: &u32| {
        let tally = tallies.get(group).map_or(Tally::default(), |t| t[0]);
        // One row of the base rate keeps rare groups near it.
        (tally.positives as f64 + base) / (tally.rows as f64 + 1.0)
    };
    let scores: Vec<f64> = held.iter().map(|(group, _)| score(group)).collect();
    let held_labels: Vec<bool> = held.iter().map(|(_, label)| *label).collect();
    let enough = totals[1].positives.min(totals[1].rows - totals[1].positives) >= MIN_CLASS;
    let auc = metrics::auc(&scores, &held_labels).map(|auc| auc.max(1.0 - auc));
    let leak = match auc {
        Some(auc) if auc >= AUC && enough => {
            Some(format!("Alone it ranks held-out rows with an AUC of {auc:.3}."))
        }
        _ => pure_group(&tallies, &totals, base)
            .map(|(group, tally)| describe(group, tally, &totals, base, groups)),
    };
    Alone { auc, leak }
}

/// The largest group that is pure in both sets, ties by number.
fn pure_group(
    tallies: &HashMap<u32, [Tally; 2]>,
    totals: &[Tally; 2],
    base: f64,
) -> Option<(u32, [Tally; 2])> {
    let is_pure = |tally: Tally, total: Tally| {
        let large = tally.rows as f64 >= GROUP_SHARE * total.rows as f64 && tally.rows > 0;
        large && (tally.rate() >= PURE || tally.rate() <= 1.0 - PURE)
    };
    let all = |t: &[Tally; 2]| Tally {
        rows: t[0].rows + t[1].rows,
        positives: t[0].positives + t[1].positives,
    };
    tallies
        .iter()
        .filter(|(_, t)| {
            let both = all(t);
            let rate = both.rate();
            let by_chance = if rate > 0.5 { base } else { 1.0 - base };
            is_pure(t[0], totals[0])
                && is_pure(t[1], totals[1])
                && (rate - base).abs() >= FAR
                && both.rows as f64 * libm::log(by_chance.max(1e-300)) <= CHANCE
        })
        .max_by_key(|(group, t)| (all(t).rows, std::cmp::Reverse(**group)))
        .map(|(group, t)| (*group, *t))
}

fn describe(
    group: u32,
    t: [Tally; 2],
    totals: &[Tally; 2],
    base: f64,
    groups: &Groups<'_>,
) -> String {
    let rows = t[0].rows + t[1].rows;
    let rate = (t[0].positives + t[1].positives) as f64 / rows as f64;
    let share = rows as f64 / (totals[0].rows + totals[1].rows) as f64;
    let what = if group == MISSING {
        "Where it is missing".to_owned()
    } else {
        format!("Where its value is {}", (groups.name)(group))
    };
    format!(
        "{what} ({:.1}% of the rows), {:.1}% are positive; of all rows {:.1}% are.",
        share * 100.0,
        rate * 100.0,
        base * 100.0
    )
}
