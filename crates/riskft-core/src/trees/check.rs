//! Whether arrays are trees. One pass, and memory for the places of a row.

use std::ops::Range;

use super::{is_threshold, Trees, SIDES};
use super::{MAX_FEATURES, MAX_LEAF, MAX_NODES, MAX_PLACES, MAX_THRESHOLDS, MAX_TREES, MAX_WORDS};

/// Tells the places of a row, or what is wrong with the arrays.
pub(super) fn check(trees: &Trees<'_>, features: usize) -> Result<usize, String> {
    within("features", features, MAX_FEATURES)?;
    within("trees", trees.roots.len(), MAX_TREES)?;
    within("nodes of its trees", trees.nodes.len(), MAX_NODES)?;
    within("words of its category splits", trees.bits.len(), MAX_WORDS)?;
    // One to a place: its ranks, so that a split must be below it.
    let mut ranks = vec![0];
    numbers(trees, features, &mut ranks)?;
    categories(trees, features, &mut ranks)?;
    let ends = trees.roots.iter().skip(1).map(|root| *root as usize).chain([trees.nodes.len()]);
    let mut start = 0;
    for (k, (root, end)) in trees.roots.iter().zip(ends).enumerate() {
        if *root as usize != start || end <= start || end > trees.nodes.len() {
            return Err(format!("tree {k} does not begin where the one before it ends"));
        }
        tree(trees, start..end, &ranks).map_err(|what| format!("tree {k} {what}"))?;
        start = end;
    }
    let leaves = (trees.nodes.len() + trees.roots.len()) / 2;
    if start != trees.nodes.len() || leaves != trees.leaves.len() {
        return Err("its trees have nodes beyond the last tree, or leaves without a value".into());
    }
    match trees.leaves.iter().all(|leaf| leaf.abs() <= MAX_LEAF) {
        true => Ok(ranks.len()),
        false => Err("its trees have a leaf that is not finite or too large".into()),
    }
}

fn numbers(trees: &Trees<'_>, features: usize, ranks: &mut Vec<u32>) -> Result<(), String> {
    let mut start = 0;
    for [feature, end] in trees.numbers {
        known(*feature, features)?;
        let thresholds = trees.thresholds.get(start..*end as usize);
        let Some([first, ..]) = thresholds else {
            return Err("its trees lack the thresholds of a feature".into());
        };
        let thresholds = thresholds.unwrap_or_default();
        // With the first a number, no later one that is greater is NaN.
        if !is_threshold(*first) || !thresholds.is_sorted_by(|a, b| a < b) {
            return Err("its trees have thresholds out of order".into());
        }
        start = *end as usize;
        within("thresholds of a feature", thresholds.len(), MAX_THRESHOLDS)?;
        within("places of its splits", ranks.len() + SIDES, MAX_PLACES)?;
        ranks.extend([thresholds.len() as u32; SIDES]);
    }
    match start == trees.thresholds.len() {
        true => Ok(()),
        false => Err("its trees have thresholds of no feature".into()),
    }
}

fn categories(trees: &Trees<'_>, features: usize, ranks: &mut Vec<u32>) -> Result<(), String> {
    let mut left = trees.bits.len();
    for [feature, width, codes] in trees.categories {
        known(*feature, features)?;
        let words = (*width as usize).checked_mul(*codes as usize).filter(|words| *words > 0);
        let rest = words.and_then(|words| left.checked_sub(words));
        left = rest.ok_or("its trees lack the codes of a feature")?;
        // Neither product overflows: a width is at most the words.
        let places = ranks.len() + 32 * *width as usize;
        within("places of its splits", places, MAX_PLACES)?;
        ranks.resize(places, 1);
    }
    match left {
        0 => Ok(()),
        _ => Err("its trees have codes of no feature".into()),
    }
}

fn known(feature: u32, features: usize) -> Result<(), String> {
    match (feature as usize) < features {
        true => Ok(()),
        false => Err("its trees read a feature that a row lacks".into()),
    }
}

fn tree(trees: &Trees<'_>, range: Range<usize>, ranks: &[u32]) -> Result<(), &'static str> {
    let (mut next, mut leaves) = (range.start + 1, 0);
    for at in range.clone() {
        let Some(node) = trees.nodes.get(at) else { return Err("lacks a node") };
        if at >= next {
            return Err("has a node without a parent");
        }
        if node.place == 0 {
            if node.step != 0 || usize::from(node.rank) != leaves {
                return Err("has a leaf that leads elsewhere");
            }
            leaves += 1;
            continue;
        }
        if at + usize::from(node.step) != next || next + 2 > range.end {
            return Err("has a child out of place");
        }
        next += 2;
        let known = ranks.get(node.place as usize);
        if known.is_none_or(|ranks| u32::from(node.rank) >= *ranks) {
            return Err("has a split that compares with nothing");
        }
    }
    match next == range.end {
        true => Ok(()),
        false => Err("lacks a child"),
    }
}

fn within(what: &str, value: usize, most: usize) -> Result<(), String> {
    if value <= most {
        return Ok(());
    }
    Err(format!("its {what} are {value}, more than {most}"))
}
