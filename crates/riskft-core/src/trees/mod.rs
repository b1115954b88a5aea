//! Boosted trees: the sum of one leaf of each tree.
//!
//! The trainer grows the trees with LightGBM (Ke et al. 2017, "LightGBM: a highly efficient
//! gradient boosting decision tree") and [`lightgbm::read`] takes its text model apart into an
//! [`Ensemble`]; scoring reads flat arrays out of the version's file, without that library.
//!
//! # Layout
//! A split compares no numbers, but ranks. Before the trees are walked, a row becomes its places:
//!
//! | places | hold |
//! |---|---|
//! | the first | 0 |
//! | four of each feature that is split by number | how many of all its thresholds are below the value, so that `value > thresholds[rank]` is `place > rank`, exactly; a missing value has no threshold below it, or all, as the missing go left or right: left, right, and the same two with zero as missing |
//! | one of each set of codes that some split of a feature by category sends left, 32 to a word | 1 if the row's code goes right |
//!
//! So every split is one and the same comparison of integers, whatever it splits by and wherever
//! it sends missing values, and fits 64 bits:
//!
//! | bits | leaf | split by number | split by category |
//! |---|---|---|---|
//! | 0..32 | 0 | place | place |
//! | 32..48 | number of the leaf in its tree | rank of the threshold | 0 |
//! | 48..64 | 0 | nodes from it to its left child | nodes from it to its left child |
//!
//! The right child follows the left one. A tree's nodes stand in breadth-first order, which has one
//! consequence: the children of its splits, taken in order, are its nodes from the second on, in
//! order. That is checked in one pass and leaves no room for a loop, a shared child or a stray
//! node; and the upper levels, which every row passes, lie together. A tree of `n` leaves has
//! `2 n - 1` nodes, which tells where its leaves' values begin.
//!
//! A leaf leads to itself, as 0 is above no rank: several trees are walked in step until none of
//! them moves.

use bytemuck::{Pod, Zeroable};

mod build;
mod check;
pub mod lightgbm;
mod rank;
mod score;
mod stored;
mod walk;

pub use build::{Ensemble, Node, Side};
pub use score::{Places, Trees};
pub use stored::Stored;

/// Most trees of an ensemble.
pub const MAX_TREES: usize = 10_000;
/// Most nodes of all trees, 32 MiB.
pub const MAX_NODES: usize = 1 << 22;
/// Most words of the codes of all category splits, 64 MiB; as stored and as they are given.
pub const MAX_WORDS: usize = 1 << 24;
/// Most features of a row.
pub const MAX_FEATURES: usize = 1 << 24;
/// Most places of a row, 2 MiB.
pub const MAX_PLACES: usize = 1 << 20;
/// Most different thresholds of a feature, in trees that are stored.
pub const MAX_THRESHOLDS: usize = u16::MAX as usize;
/// Most nodes of a tree that is stored.
pub const MAX_TREE: usize = 1 << 16;
/// Largest magnitude of a leaf: no sum of leaves overflows.
pub const MAX_LEAF: f64 = 1e100;

/// Values within this bound of zero count as zero: LightGBM's `kZeroThreshold`, a float4.
pub const ZERO: f64 = 1e-35_f32 as f64;

/// Places of a feature that is split by number.
const SIDES: usize = 4;

/// A threshold is a number, or infinity, which LightGBM writes to set missing values apart.
fn is_threshold(value: f64) -> bool {
    value > f64::NEG_INFINITY
}

/// A feature's value; NaN of one that the row lacks.
#[inline]
fn value(features: &[f64], feature: u32) -> f64 {
    features.get(feature as usize).copied().unwrap_or(f64::NAN)
}

/// The code that a value is, rounded towards zero. As an integer NaN would be 0, and -0.5 is.
#[inline]
fn code(x: f64) -> Option<u32> {
    (x > -1.0).then_some(x as u32)
}

/// A node as it is stored.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Packed {
    /// 0 of a leaf.
    place: u32,
    /// Of a split's threshold; the number of a leaf.
    rank: u16,
    /// To the left child.
    step: u16,
}
