//! Boosted trees: the sum of one leaf of each tree.
//!
//! The trainer grows the trees with LightGBM (Ke et al. 2017, "LightGBM: a highly efficient
//! gradient boosting decision tree") and [`lightgbm::read`] takes its text model apart; scoring
//! reads the flat arrays of an [`Ensemble`] out of the version's file, without that library.
//!
//! # Layout
//! A node is two 64-bit words, so that a step of a walk touches one cache line of nodes:
//!
//! | bits | leaf | split by number | split by category |
//! |---|---|---|---|
//! | first word | value, float8 | threshold, float8 | start (low 32) and count (high 32) of its bitset, in words |
//! | second, 0..24 | 0 | feature | feature |
//! | second, 24..32 | 0 | `NUMBER`, `MISSING_RIGHT`, `ZERO_MISSING` | `CATEGORY` |
//! | second, 32..64 | its own index | index of the left child | index of the left child |
//!
//! The right child follows the left one. A tree's nodes stand in breadth-first order, which has one
//! consequence: the children of its splits, taken in order, are its nodes from the second on, in
//! order. That is checked in one pass and leaves no room for a loop, a shared child or a stray
//! node; and the upper levels, which every row passes, lie together.
//!
//! A leaf points to itself: several trees are walked in step until none of them moves.

mod build;
mod check;
pub mod lightgbm;
mod score;
mod stored;

pub use build::{Ensemble, Node, Side};
pub use score::Trees;
pub use stored::Stored;

/// Most trees of an ensemble.
pub const MAX_TREES: usize = 10_000;
/// Most nodes of all trees, 64 MiB.
pub const MAX_NODES: usize = 1 << 22;
/// Most words of all bitsets, 64 MiB.
pub const MAX_WORDS: usize = 1 << 24;
/// Most features of a row.
pub const MAX_FEATURES: usize = 1 << 24;
/// Largest magnitude of a leaf: no sum of leaves overflows.
pub const MAX_LEAF: f64 = 1e100;

/// Values within this bound of zero count as zero: LightGBM's `kZeroThreshold`, a float4.
pub const ZERO: f64 = 1e-35_f32 as f64;

/// A node as it is stored.
type Packed = [u64; 2];

/// A value above the threshold goes right.
const NUMBER: u32 = 1;
/// A missing value goes right.
const MISSING_RIGHT: u32 = 2;
/// Zero is missing too.
const ZERO_MISSING: u32 = 4;
/// A code whose bit is set goes left, every other value right.
const CATEGORY: u32 = 8;

/// A threshold is a number, or infinity, which LightGBM writes to set missing values apart.
fn is_threshold(value: f64) -> bool {
    value > f64::NEG_INFINITY
}

/// The second word of a node.
fn word(feature: u32, flags: u32, link: u32) -> u64 {
    u64::from(link) << 32 | u64::from(flags << 24 | feature)
}
fn feature(node: Packed) -> u32 {
    node[1] as u32 & 0x00ff_ffff
}
fn flags(node: Packed) -> u32 {
    node[1] as u32 >> 24
}
/// A leaf's own index, or the index of the left child.
fn link(node: Packed) -> u32 {
    (node[1] >> 32) as u32
}
/// Start and count of the words of a bitset.
fn span(node: Packed) -> (u32, u32) {
    (node[0] as u32, (node[0] >> 32) as u32)
}
