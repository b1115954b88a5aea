//! Trees as a trainer gives them -> arrays.

use std::collections::VecDeque;

use super::stored::{BITS, NODES, ROOTS};
use super::{is_threshold, word, Packed, Trees, CATEGORY, MISSING_RIGHT, NUMBER, ZERO_MISSING};
use super::{MAX_FEATURES, MAX_LEAF, MAX_NODES, MAX_TREES, MAX_WORDS};
use crate::artifact::{Tensor, TensorSet};

/// A child of a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Left,
    Right,
}

/// A node of a tree on its way into an [`Ensemble`]. `children` are the indexes of the left and the
/// right one among the tree's nodes, in any order.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// A magnitude of at most [`MAX_LEAF`].
    Leaf(f64),
    /// Values up to the threshold go left; infinity sets missing values apart from all others. NaN goes to the side of `missing`, and
    /// so do values within [`super::ZERO`] of zero if `zero_missing`.
    Number { feature: u32, threshold: f64, missing: Side, zero_missing: bool, children: [u32; 2] },
    /// Code `c` goes left if bit `c % 32` of word `c / 32` is set. Values are rounded towards zero;
    /// NaN, values of -1 and less, and codes beyond the words go right.
    Category { feature: u32, codes: Vec<u32>, children: [u32; 2] },
}

/// Boosted trees in arrays of their own.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ensemble {
    features: usize,
    nodes: Vec<Packed>,
    roots: Vec<u32>,
    bits: Vec<u32>,
    special: bool,
}

impl Ensemble {
    /// No trees yet, over rows of `features` values, at most [`MAX_FEATURES`].
    pub fn new(features: usize) -> Result<Self, String> {
        if features > MAX_FEATURES {
            return Err(format!("rows of {features} features are longer than {MAX_FEATURES}"));
        }
        Ok(Ensemble { features, ..Ensemble::default() })
    }

    /// Adds a tree whose root is its first node. Refused with the reason, and then left out, unless
    /// every other node is the child of exactly one split and every value within its range.
    pub fn push(&mut self, tree: &[Node]) -> Result<(), String> {
        let room = MAX_NODES - self.nodes.len();
        if self.roots.len() >= MAX_TREES || tree.len() > room {
            return Err(format!("it has more than {MAX_TREES} trees or {MAX_NODES} nodes"));
        }
        let before = (self.nodes.len(), self.bits.len());
        let packed = self.pack(tree);
        if packed.is_err() {
            self.nodes.truncate(before.0);
            self.bits.truncate(before.1);
            return packed;
        }
        self.roots.push(before.0 as u32);
        let one = &self.nodes[before.0..];
        self.special |= one.iter().any(|n| super::flags(*n) & (CATEGORY | ZERO_MISSING) != 0);
        Ok(())
    }

    /// Adds a constant to every row's sum, in the leaves of the first tree.
    ///
    /// # Errors
    /// A constant that no leaf can hold, where there is no tree yet.
    pub fn shift(&mut self, by: f64) -> Result<(), String> {
        let Some(first) = self.roots.first() else { return self.push(&[Node::Leaf(by)]) };
        let end = self.roots.get(1).map_or(self.nodes.len(), |root| *root as usize);
        for node in &mut self.nodes[*first as usize..end] {
            if super::flags(*node) == 0 {
                let moved = f64::from_bits(node[0]) + by;
                node[0] = moved.clamp(-MAX_LEAF, MAX_LEAF).to_bits();
            }
        }
        Ok(())
    }

    /// Keeps the first `trees` trees.
    pub fn truncate(&mut self, trees: usize) {
        if let Some(root) = self.roots.get(trees) {
            self.nodes.truncate(*root as usize);
            self.roots.truncate(trees);
        }
    }

    /// The mean of several ensembles over the same features: all of their trees, each leaf divided
    /// by the number of ensembles.
    pub fn mean(ensembles: &[Ensemble]) -> Result<Self, String> {
        let mut mean = Ensemble::new(ensembles.first().map_or(0, Ensemble::features))?;
        let share = 1.0 / ensembles.len().max(1) as f64;
        for one in ensembles {
            if one.features != mean.features {
                return Err("its ensembles read different features".into());
            }
            let (nodes, words) = (mean.nodes.len(), mean.bits.len());
            if one.nodes.len() > MAX_NODES - nodes
                || one.bits.len() > MAX_WORDS - words
                || one.roots.len() > MAX_TREES - mean.roots.len()
            {
                return Err(format!("it has more than {MAX_TREES} trees or {MAX_NODES} nodes"));
            }
            mean.roots.extend(one.roots.iter().map(|root| root + nodes as u32));
            mean.bits.extend_from_slice(&one.bits);
            mean.special |= one.special;
            mean.nodes.extend(one.nodes.iter().map(|node| {
                let first = match super::flags(*node) {
                    0 => (f64::from_bits(node[0]) * share).to_bits(),
                    CATEGORY => node[0] + words as u64,
                    _ => node[0],
                };
                [first, node[1] + ((nodes as u64) << 32)]
            }));
        }
        Ok(mean)
    }

    /// Appends the nodes in breadth-first order.
    fn pack(&mut self, tree: &[Node]) -> Result<(), String> {
        let start = self.nodes.len();
        let mut seen = vec![false; tree.len()];
        let mut waiting = VecDeque::from([0u32]);
        let mut next = start as u32 + 1;
        while let Some(index) = waiting.pop_front() {
            let node = tree.get(index as usize).ok_or("it has no such child")?;
            if std::mem::replace(&mut seen[index as usize], true) {
                return Err(format!("node {index} has two parents"));
            }
            let own = self.nodes.len() as u32;
            let (packed, children) = self.pack_node(node, own, next)?;
            self.nodes.push(packed);
            if let Some(children) = children {
                waiting.extend(children);
                next += 2;
            }
        }
        match self.nodes.len() - start == tree.len() {
            true => Ok(()),
            false => Err("a node has no parent".into()),
        }
    }

    /// A node's words, and its children.
    fn pack_node(
        &mut self,
        node: &Node,
        own: u32,
        next: u32,
    ) -> Result<(Packed, Option<[u32; 2]>), String> {
        let known = |feature: u32| match (feature as usize) < self.features {
            true => Ok(feature),
            false => Err(format!("feature {feature} is not among its {}", self.features)),
        };
        match node {
            Node::Leaf(value) if value.abs() <= MAX_LEAF => {
                Ok(([value.to_bits(), word(0, 0, own)], None))
            }
            Node::Leaf(value) => Err(format!("a leaf of {value} is not within {MAX_LEAF:e}")),
            Node::Number { threshold, .. } if !is_threshold(*threshold) => {
                Err(format!("a threshold is {threshold}"))
            }
            Node::Number { feature, threshold, missing, zero_missing, children } => {
                let right = if *missing == Side::Right { MISSING_RIGHT } else { 0 };
                let zero = if *zero_missing { ZERO_MISSING } else { 0 };
                let what = word(known(*feature)?, NUMBER | right | zero, next);
                Ok(([threshold.to_bits(), what], Some(*children)))
            }
            Node::Category { feature, codes, children } => {
                let what = word(known(*feature)?, CATEGORY, next);
                let start = self.bits.len();
                if codes.len() > MAX_WORDS - start {
                    return Err(format!("its category splits take more than {MAX_WORDS} words"));
                }
                self.bits.extend_from_slice(codes);
                Ok(([(codes.len() as u64) << 32 | start as u64, what], Some(*children)))
            }
        }
    }

    /// Values of a row.
    pub fn features(&self) -> usize {
        self.features
    }
    /// Number of trees.
    pub fn len(&self) -> usize {
        self.roots.len()
    }
    pub fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }
    /// Number of nodes, leaves included.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// As [`Trees::score`].
    pub fn score(&self, features: &[f64]) -> f64 {
        self.trees().score(features)
    }

    /// The arrays, borrowed.
    pub fn trees(&self) -> Trees<'_> {
        Trees { nodes: &self.nodes, roots: &self.roots, bits: &self.bits, special: self.special }
    }

    /// Adds the tensors that [`super::Stored::open`] finds under a prefix.
    pub fn store(&self, prefix: &str, tensors: &mut TensorSet) {
        let mut add = |part: &str, tensor| tensors.insert(format!("{prefix}.{part}"), tensor);
        add(NODES, Tensor::new(&[self.nodes.len(), 2], self.nodes.as_flattened()));
        add(ROOTS, Tensor::new(&[self.roots.len()], &self.roots));
        add(BITS, Tensor::new(&[self.bits.len()], &self.bits));
    }
}
