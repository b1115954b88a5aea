//! Trees as a trainer gives them, joined.

use std::collections::VecDeque;

use super::{is_threshold, MAX_FEATURES, MAX_LEAF, MAX_NODES, MAX_TREES, MAX_WORDS};

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
    /// Values up to the threshold go left; infinity sets missing values apart from all others. NaN
    /// goes to the side of `missing`, and so do values within [`super::ZERO`] of zero if
    /// `zero_missing`.
    Number { feature: u32, threshold: f64, missing: Side, zero_missing: bool, children: [u32; 2] },
    /// Code `c` goes left if bit `c % 32` of word `c / 32` is set. Values are rounded towards zero;
    /// NaN, values of -1 and less, and codes beyond the words go right.
    Category { feature: u32, codes: Vec<u32>, children: [u32; 2] },
}

/// Boosted trees as the trainer keeps them; [`Ensemble::store`] lays them out for scoring.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ensemble {
    features: usize,
    /// Tree after tree, each in breadth-first order; children are indexes into all of them.
    nodes: Vec<Node>,
    /// The first node of each tree.
    roots: Vec<u32>,
    /// Words of all codes.
    words: usize,
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
        let words = tree.iter().map(words).sum();
        self.has_room(1, tree.len(), words)?;
        tree.iter().try_for_each(|node| self.check(node))?;
        let start = self.nodes.len();
        if let Err(what) = self.append(tree) {
            self.nodes.truncate(start);
            return Err(what);
        }
        self.roots.push(start as u32);
        self.words += words;
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
            if let Node::Leaf(value) = node {
                *value = (*value + by).clamp(-MAX_LEAF, MAX_LEAF);
            }
        }
        Ok(())
    }

    /// Keeps the first `trees` trees.
    pub fn truncate(&mut self, trees: usize) {
        if let Some(root) = self.roots.get(trees) {
            self.nodes.truncate(*root as usize);
            self.roots.truncate(trees);
            self.words = self.nodes.iter().map(words).sum();
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
            mean.has_room(one.roots.len(), one.nodes.len(), one.words)?;
            let start = mean.nodes.len() as u32;
            mean.words += one.words;
            mean.roots.extend(one.roots.iter().map(|root| root + start));
            mean.nodes.extend(one.nodes.iter().map(|node| match node {
                Node::Leaf(value) => Node::Leaf(value * share),
                split => split.with_children(|child| child + start),
            }));
        }
        Ok(mean)
    }

    fn has_room(&self, trees: usize, nodes: usize, words: usize) -> Result<(), String> {
        if trees > MAX_TREES - self.roots.len() || nodes > MAX_NODES - self.nodes.len() {
            return Err(format!("it has more than {MAX_TREES} trees or {MAX_NODES} nodes"));
        }
        if words > MAX_WORDS - self.words {
            return Err(format!("its category splits take more than {MAX_WORDS} words"));
        }
        Ok(())
    }

    /// Whether a node's values are within their ranges.
    fn check(&self, node: &Node) -> Result<(), String> {
        let feature = match node {
            Node::Leaf(value) if value.abs() <= MAX_LEAF => return Ok(()),
            Node::Leaf(value) => {
                return Err(format!("a leaf of {value} is not within {MAX_LEAF:e}"))
            }
            Node::Number { threshold, .. } if !is_threshold(*threshold) => {
                return Err(format!("a threshold is {threshold}"))
            }
            Node::Number { feature, .. } | Node::Category { feature, .. } => *feature,
        };
        match (feature as usize) < self.features {
            true => Ok(()),
            false => Err(format!("feature {feature} is not among its {}", self.features)),
        }
    }

    /// Appends the nodes in breadth-first order.
    fn append(&mut self, tree: &[Node]) -> Result<(), String> {
        let start = self.nodes.len();
        let mut seen = vec![false; tree.len()];
        let mut waiting = VecDeque::from([0u32]);
        let mut next = start as u32 + 1;
        while let Some(index) = waiting.pop_front() {
            let node = tree.get(index as usize).ok_or("it has no such child")?;
            if std::mem::replace(&mut seen[index as usize], true) {
                return Err(format!("node {index} has two parents"));
            }
            self.nodes.push(node.with_children(|child| {
                waiting.push_back(child);
                next += 1;
                next - 1
            }));
        }
        match self.nodes.len() - start == tree.len() {
            true => Ok(()),
            false => Err("a node has no parent".into()),
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

    pub(super) fn all(&self) -> &[Node] {
        &self.nodes
    }
    pub(super) fn roots(&self) -> &[u32] {
        &self.roots
    }
}

impl Node {
    /// The same node with other children, asked for left before right.
    fn with_children(&self, of: impl FnMut(u32) -> u32) -> Node {
        let mut node = self.clone();
        if let Node::Number { children, .. } | Node::Category { children, .. } = &mut node {
            *children = children.map(of);
        }
        node
    }
}

/// Words of a node's codes.
fn words(node: &Node) -> usize {
    match node {
        Node::Category { codes, .. } => codes.len(),
        _ => 0,
    }
}
