//! Whether arrays are trees. One pass, no memory.

use super::{
    feature, flags, is_threshold, link, span, Packed, CATEGORY, MISSING_RIGHT, NUMBER, ZERO_MISSING,
};
use super::{MAX_FEATURES, MAX_LEAF, MAX_NODES, MAX_TREES, MAX_WORDS};

/// Tells whether any split is special (see [`super::Trees`]), or what is wrong with the arrays.
pub(super) fn check(
    nodes: &[Packed],
    roots: &[u32],
    bits: &[u32],
    features: usize,
) -> Result<bool, String> {
    within("features", features, MAX_FEATURES)?;
    within("trees", roots.len(), MAX_TREES)?;
    within("nodes of its trees", nodes.len(), MAX_NODES)?;
    within("words of its category splits", bits.len(), MAX_WORDS)?;
    let mut special = false;
    let ends = roots.iter().skip(1).map(|root| *root as usize).chain([nodes.len()]);
    let mut start = 0;
    for (k, (root, end)) in roots.iter().zip(ends).enumerate() {
        if *root as usize != start || end <= start || end > nodes.len() {
            return Err(format!("tree {k} does not begin where the one before it ends"));
        }
        special |= tree(nodes, start..end, bits.len(), features)
            .map_err(|what| format!("tree {k} {what}"))?;
        start = end;
    }
    if start != nodes.len() {
        return Err("its trees have nodes beyond the last tree".into());
    }
    Ok(special)
}

fn tree(
    nodes: &[Packed],
    range: std::ops::Range<usize>,
    words: usize,
    features: usize,
) -> Result<bool, &'static str> {
    let mut special = false;
    let mut next = range.start + 1;
    for at in range.clone() {
        let Some(node) = nodes.get(at).copied() else { return Err("lacks a node") };
        if at >= next {
            return Err("has a node without a parent");
        }
        if flags(node) == 0 {
            leaf(node, at)?;
            continue;
        }
        if link(node) as usize != next || next + 2 > range.end {
            return Err("has a child out of place");
        }
        next += 2;
        if feature(node) as usize >= features {
            return Err("reads a feature that a row lacks");
        }
        split(node, words)?;
        special |= flags(node) & (CATEGORY | ZERO_MISSING) != 0;
    }
    match next == range.end {
        true => Ok(special),
        false => Err("lacks a child"),
    }
}

fn leaf(node: Packed, at: usize) -> Result<(), &'static str> {
    if link(node) as usize != at || feature(node) != 0 {
        return Err("has a leaf that points elsewhere");
    }
    match f64::from_bits(node[0]).abs() <= MAX_LEAF {
        true => Ok(()),
        false => Err("has a leaf that is not finite or too large"),
    }
}

fn split(node: Packed, words: usize) -> Result<(), &'static str> {
    let flags = flags(node);
    if flags == CATEGORY {
        let (start, count) = span(node);
        return match start as usize + count as usize <= words {
            true => Ok(()),
            false => Err("has a category split beyond its bits"),
        };
    }
    if flags & NUMBER == 0 || flags & !(NUMBER | MISSING_RIGHT | ZERO_MISSING) != 0 {
        return Err("has a node of an unknown kind");
    }
    match is_threshold(f64::from_bits(node[0])) {
        true => Ok(()),
        false => Err("has a threshold that is no number"),
    }
}

fn within(what: &str, value: usize, most: usize) -> Result<(), String> {
    if value <= most {
        return Ok(());
    }
    Err(format!("its {what} are {value}, more than {most}"))
}
