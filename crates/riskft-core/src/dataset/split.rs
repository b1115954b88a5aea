//! Train, validation, calibration and test: by the rows' hashes, or by time.
//!
//! By hash: within each class the rows are ordered by their seeded hash and cut at the shares, so
//! the shares are exact and every part holds both classes. Identical rows stay together, with
//! whatever labels they have, unless one row's copies are more than [`COMMON`] of the table: then
//! the table has few distinct rows, and the copies are spread over the parts like all others.
//!
//! By time: oldest to newest in that order, equal times never apart, rows without a time train.

use super::hash::mix;
use super::Part;
use crate::options::SplitShares;
use crate::refusal::{code, Refusal, Result};

/// Share of the labelled rows above which a row's copies count as common; up to five never do.
pub const COMMON: f64 = 0.02;
const COMMON_ROWS: usize = 5;

/// Rows that go to one part together.
struct Unit {
    key: u64,
    rows: Vec<u32>,
}

/// Assigns every labelled row; the others are `Unlabelled`.
pub fn by_hash(hashes: &[u64], labels: &[Option<bool>], shares: SplitShares) -> Vec<Part> {
    let mut parts = vec![Part::Unlabelled; labels.len()];
    let [mut negative, mut positive] = units(hashes, labels);
    for class in [&mut negative, &mut positive] {
        class.sort_by_key(|unit| unit.key);
        let sizes: Vec<usize> = class.iter().map(|unit| unit.rows.len()).collect();
        let cuts = cuts(&sizes, shares);
        for (part, window) in Part::LABELLED.iter().zip(cuts.windows(2)) {
            for unit in &class[window[0]..window[1]] {
                unit.rows.iter().for_each(|row| parts[*row as usize] = *part);
            }
        }
    }
    parts
}

/// The fold of each of `rows`, 0..`folds`: stratified by class, identical rows in one fold unless
/// they are common, in no relation to the order of the rows. Other seeds give other folds.
pub fn folds(hashes: &[u64], labels: &[bool], rows: &[u32], folds: usize, seed: u64) -> Vec<u8> {
    let hashes: Vec<u64> =
        rows.iter().map(|row| mix(hashes[*row as usize] ^ mix(seed ^ 0x666f_6c64))).collect();
    let labels: Vec<Option<bool>> = rows.iter().map(|row| Some(labels[*row as usize])).collect();
    let mut of = vec![0; rows.len()];
    let mut next = 0;
    for class in &mut units(&hashes, &labels) {
        class.sort_by_key(|unit| unit.key);
        // The class goes on with the fold after the last one, so that small folds are even.
        for unit in class {
            unit.rows.iter().for_each(|row| of[*row as usize] = (next % folds.max(1)) as u8);
            next += 1;
        }
    }
    of
}

/// Units of the negative and of the positive class; a unit with a positive row is positive.
fn units(hashes: &[u64], labels: &[Option<bool>]) -> [Vec<Unit>; 2] {
    let mut order: Vec<u32> =
        (0..labels.len() as u32).filter(|r| labels[*r as usize].is_some()).collect();
    order.sort_by_key(|row| (hashes[*row as usize], labels[*row as usize], *row));
    let common = COMMON_ROWS.max((order.len() as f64 * COMMON) as usize);
    let mut units = [Vec::new(), Vec::new()];
    for group in order.chunk_by(|a, b| hashes[*a as usize] == hashes[*b as usize]) {
        let positive = |row: u32| usize::from(labels[row as usize] == Some(true));
        let key = hashes[group[0] as usize];
        if group.len() <= common {
            // Sorted by label: the last one is positive if any is.
            let class = positive(group[group.len() - 1]);
            units[class].push(Unit { key: mix(key), rows: group.to_vec() });
            continue;
        }
        for (ordinal, row) in group.iter().enumerate() {
            let key = mix(key ^ mix(ordinal as u64));
            units[positive(*row)].push(Unit { key, rows: vec![*row] });
        }
    }
    units
}

/// Five cut points of a sequence of units: a unit belongs where its middle falls, and each part
/// with a share above 0 has at least one unit if there are enough.
fn cuts(sizes: &[usize], shares: SplitShares) -> [usize; 5] {
    let total: usize = sizes.iter().sum();
    let shares = [shares.train, shares.validation, shares.calibration, shares.test];
    let mut cuts = [0, 0, 0, 0, sizes.len()];
    let (mut unit, mut before, mut bound) = (0, 0, 0.0);
    for part in 0..3 {
        bound += shares[part];
        while unit < sizes.len()
            && before as f64 + sizes[unit] as f64 / 2.0 < bound * total as f64 - 1e-9
        {
            before += sizes[unit];
            unit += 1;
        }
        cuts[part + 1] = unit;
    }
    let wanted = shares.map(|share| usize::from(share > 0.0));
    if wanted.iter().sum::<usize>() <= sizes.len() {
        for part in 0..3 {
            cuts[part + 1] = cuts[part + 1].max(cuts[part] + wanted[part]);
        }
        for part in (1..4).rev() {
            cuts[part] = cuts[part].min(cuts[part + 1] - wanted[part]);
        }
    }
    cuts
}

/// Assigns every labelled row by its time. Refused if train or validation lacks a class.
pub fn by_time(
    times: &[Option<i64>],
    labels: &[Option<bool>],
    shares: SplitShares,
    column: &str,
) -> Result<Vec<Part>> {
    let mut parts: Vec<Part> = labels
        .iter()
        .map(|label| if label.is_some() { Part::Train } else { Part::Unlabelled })
        .collect();
    let mut order: Vec<(i64, u32)> = (0..labels.len())
        .filter(|row| labels[*row].is_some())
        .filter_map(|row| Some((times[row]?, row as u32)))
        .collect();
    order.sort_unstable();
    let groups: Vec<&[(i64, u32)]> = order.chunk_by(|a, b| a.0 == b.0).collect();
    let sizes: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    let cuts = cuts(&sizes, shares);
    for (part, window) in Part::LABELLED.iter().zip(cuts.windows(2)) {
        for (_, row) in groups[window[0]..window[1]].iter().flat_map(|group| group.iter()) {
            parts[*row as usize] = *part;
        }
    }
    for part in [Part::Train, Part::Validation] {
        let of = |class: bool| {
            parts.iter().zip(labels).filter(|(p, l)| **p == part && **l == Some(class)).count()
        };
        if of(true) == 0 || of(false) == 0 {
            return Err(Refusal::new(
                code::INVALID_PARAMETER,
                format!("the split by \"{column}\" leaves one class in the {} part", part.name()),
            )
            .detail(format!(
                "The part has {} positive and {} negative rows; \"{column}\" has {} distinct times.",
                of(true),
                of(false),
                sizes.len()
            ))
            .hint("Change options.split, or leave time_column out to split by hash."));
        }
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARES: SplitShares =
        SplitShares { train: 0.55, validation: 0.15, calibration: 0.10, test: 0.20 };

    fn count(parts: &[Part], part: Part) -> usize {
        parts.iter().filter(|p| **p == part).count()
    }

    #[test]
    fn shares_are_exact_in_each_class() {
        let hashes: Vec<u64> = (0..1000).map(mix).collect();
        let labels: Vec<Option<bool>> = (0..1000).map(|i| Some(i < 100)).collect();
        let parts = by_hash(&hashes, &labels, SHARES);
        for (part, rows) in
            [(Part::Train, 55), (Part::Validation, 15), (Part::Calibration, 10), (Part::Test, 20)]
        {
            assert_eq!(count(&parts[..100], part), rows);
            assert_eq!(count(&parts[100..], part), rows * 9);
        }
    }

    #[test]
    fn folds_are_even_in_each_class_and_keep_copies_together() {
        let hashes: Vec<u64> = (0..1000).map(|i| mix(i / 2)).collect();
        let labels: Vec<bool> = (0..1000).map(|i| i / 2 % 10 == 0).collect();
        let rows: Vec<u32> = (100..1000).collect();
        let of = folds(&hashes, &labels, &rows, 5, 3);
        assert!(of.chunks(2).all(|pair| pair[0] == pair[1]));
        for fold in 0..5 {
            let mine = |class: bool| {
                let of_class =
                    |(row, f): &(&u32, &u8)| **f == fold && labels[**row as usize] == class;
                rows.iter().zip(&of).filter(of_class).count()
            };
            assert_eq!((mine(true), mine(false)), (18, 162));
        }
        assert_ne!(of, folds(&hashes, &labels, &rows, 5, 4));
        let mut turned = rows.clone();
        turned.reverse();
        let mut again = folds(&hashes, &labels, &turned, 5, 3);
        again.reverse();
        assert_eq!(of, again, "the order of the rows does not matter");
    }

    #[test]
    fn ten_rows_reach_every_part() {
        let cuts = cuts(&[1; 10], SHARES);
        assert!(cuts.windows(2).all(|w| w[1] > w[0]), "{cuts:?}");
        let tiny = SplitShares { train: 0.97, validation: 0.01, calibration: 0.01, test: 0.01 };
        let cuts = super::cuts(&[1; 4], tiny);
        assert_eq!(cuts, [0, 1, 2, 3, 4]);
        let none = SplitShares { train: 0.5, validation: 0.5, calibration: 0.0, test: 0.0 };
        assert_eq!(super::cuts(&[1; 10], none), [0, 5, 10, 10, 10]);
    }

    #[test]
    fn identical_rows_stay_together_unless_common() {
        // 400 rows, each twice, with contradictory labels in every fourth pair.
        let hashes: Vec<u64> = (0..400).map(|i| mix(i / 2)).collect();
        let labels: Vec<Option<bool>> = (0..400).map(|i| Some(i % 8 == 0 || i % 5 == 0)).collect();
        let parts = by_hash(&hashes, &labels, SHARES);
        assert!(parts.chunks(2).all(|pair| pair[0] == pair[1]));
        // Two distinct rows only: all parts hold both.
        let hashes: Vec<u64> = (0..400).map(|i| mix(i % 2)).collect();
        let labels: Vec<Option<bool>> = (0..400).map(|i| Some(i % 2 == 0)).collect();
        let parts = by_hash(&hashes, &labels, SHARES);
        assert_eq!(count(&parts, Part::Train), 220);
        assert_eq!(count(&parts, Part::Calibration), 40);
    }

    #[test]
    fn time_order_and_ties() {
        let times: Vec<Option<i64>> = (0..200).map(|i| (i >= 20).then_some(i / 9)).collect();
        let labels: Vec<Option<bool>> = (0..200).map(|i| Some(i % 3 == 0)).collect();
        let parts = by_time(&times, &labels, SHARES, "t").expect("both classes everywhere");
        assert!(parts[..20].iter().all(|p| *p == Part::Train));
        for (a, b) in (20..199).map(|i| (i, i + 1)) {
            let place = |i: usize| Part::LABELLED.iter().position(|p| *p == parts[i]);
            assert!(place(a) <= place(b));
            assert!(times[a] != times[b] || parts[a] == parts[b]);
        }
        let sorted: Vec<Option<bool>> = (0..200).map(|i| Some(i < 100)).collect();
        let refusal = by_time(&times, &sorted, SHARES, "t").unwrap_err();
        assert_eq!(refusal.code, "22023");
        assert!(refusal.message.contains("validation"));
    }
}
