//! A tree's section -> its nodes: splits first, then leaves.

use super::section::Section;
use super::{Fault, Read};
use crate::trees::{Node, Side, MAX_WORDS, ZERO};

/// Most leaves of a tree, as LightGBM's documentation has it.
const MAX_LEAVES: usize = 131_072;

/// Bits of `decision_type`: by category, default side left, and two for the missing type.
const CATEGORY: u8 = 1;
const DEFAULT_LEFT: u8 = 2;
const MISSING_SHIFT: u8 = 2;

/// The missing types.
const NONE: u8 = 0;
const AS_ZERO: u8 = 1;
const AS_NAN: u8 = 2;

/// The nodes of a tree, split `i` at `i`, leaf `j` behind the splits; the root is the first.
pub(super) fn nodes(section: &Section<'_>) -> Read<Vec<Node>> {
    match section.find("is_linear") {
        None | Some("0") => {}
        Some("1") => return Err(Fault::Foreign("linear models in its leaves".into())),
        Some(other) => return Err(Fault::Broken(format!("is_linear is \"{other}\""))),
    }
    let leaves: usize = section.number("num_leaves")?;
    if leaves == 0 || leaves > MAX_LEAVES {
        return Err(Fault::Broken(format!("num_leaves is {leaves}")));
    }
    let values = section.numbers("leaf_value", leaves)?;
    let mut nodes = splits(section, leaves - 1)?;
    nodes.extend(values.into_iter().map(Node::Leaf));
    Ok(nodes)
}

fn splits(section: &Section<'_>, count: usize) -> Read<Vec<Node>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let features: Vec<u32> = section.numbers("split_feature", count)?;
    let thresholds: Vec<f64> = section.numbers("threshold", count)?;
    let decisions: Vec<u8> = section.numbers("decision_type", count)?;
    let left: Vec<i32> = section.numbers("left_child", count)?;
    let right: Vec<i32> = section.numbers("right_child", count)?;
    let mut bitsets = Bitsets::read(section)?;
    let mut split = |i: usize| {
        let children = [child(left[i], count)?, child(right[i], count)?];
        if decisions[i] & CATEGORY == 0 {
            return number(features[i], thresholds[i], decisions[i], children);
        }
        let codes = bitsets.next(thresholds[i])?;
        Ok(Node::Category { feature: features[i], codes, children })
    };
    (0..count).map(&mut split).collect()
}

/// A negative child `c` is the leaf `-c - 1`. Children that do not exist are left to
/// [`crate::trees::Ensemble::push`].
fn child(index: i32, splits: usize) -> Read<u32> {
    let leaf = splits as u32;
    match index {
        0.. if index as u32 >= leaf => Err(Fault::Broken(format!("split {index} does not exist"))),
        0.. => Ok(index as u32),
        _ => Ok(leaf + !index as u32),
    }
}

fn number(feature: u32, threshold: f64, decision: u8, children: [u32; 2]) -> Read<Node> {
    let default = if decision & DEFAULT_LEFT != 0 { Side::Left } else { Side::Right };
    let (missing, zero_missing) = match decision >> MISSING_SHIFT {
        NONE if threshold >= 0.0 => (Side::Left, false),
        NONE => (Side::Right, false),
        AS_ZERO => (default, true),
        AS_NAN => (default, false),
        _ => return Err(Fault::Broken(format!("decision_type is {decision}"))),
    };
    Ok(Node::Number { feature, threshold: outside(threshold), missing, zero_missing, children })
}

/// The threshold that tells values apart as this one does when all values within [`ZERO`] of zero
/// are zero: it lies at the end of that range.
fn outside(threshold: f64) -> f64 {
    if threshold.abs() > ZERO {
        threshold
    } else if threshold >= 0.0 {
        ZERO
    } else {
        (-ZERO).next_down()
    }
}

/// The bitsets of a tree's category splits, in the order of the splits: each is used once, so that
/// a short text cannot ask for the same words over and over.
struct Bitsets {
    boundaries: Vec<u32>,
    words: Vec<u32>,
    used: usize,
}

impl Bitsets {
    fn read(section: &Section<'_>) -> Read<Self> {
        let count: usize = section.number("num_cat")?;
        if count == 0 {
            return Ok(Bitsets { boundaries: Vec::new(), words: Vec::new(), used: 0 });
        }
        let boundaries: Vec<u32> = section.numbers("cat_boundaries", count.saturating_add(1))?;
        let last = boundaries.last().map_or(0, |last| *last as usize);
        if boundaries.first() != Some(&0) || !boundaries.is_sorted() || last > MAX_WORDS {
            return Err(Fault::Broken("cat_boundaries do not rise from 0".into()));
        }
        let words = section.numbers("cat_threshold", last)?;
        Ok(Bitsets { boundaries, words, used: 0 })
    }

    /// The words of the next bitset, which a split names in place of its threshold.
    fn next(&mut self, name: f64) -> Read<Vec<u32>> {
        let [start, end, ..] = self.boundaries.get(self.used..).unwrap_or_default() else {
            return Err(Fault::Broken(format!("there is no bitset {name}")));
        };
        if name != self.used as f64 {
            return Err(Fault::Broken(format!("bitset {name} is not used in its turn")));
        }
        self.used += 1;
        Ok(self.words.get(*start as usize..*end as usize).unwrap_or_default().to_vec())
    }
}
