//! Random trees and rows, and a plain reference that walks them.
#![allow(dead_code)]

use riskft_core::dataset::hash::mix;
use riskft_core::trees::{Ensemble, Node, Side, ZERO};

/// A stream of numbers.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mix(self.0)
    }
    /// 0..bound
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
    /// [0, 1)
    pub fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// What trees are made of.
#[derive(Clone, Copy)]
pub struct Kind {
    pub features: usize,
    pub leaves: usize,
    /// Share of splits by category.
    pub category: f64,
    /// Share of number splits that take zero as missing.
    pub zero_missing: f64,
}

/// Splits a leaf drawn at random until there are enough of them. Numbers lie in [-1, 1), codes in
/// 0..100; a number's threshold lies where rows of the leaf are.
pub fn tree(kind: Kind, random: &mut Random) -> Vec<Node> {
    let leaf = |random: &mut Random| Node::Leaf(random.uniform() - 0.5);
    let mut nodes = vec![leaf(random)];
    let mut open = vec![(0, vec![(-1.0, 1.0); kind.features])];
    while open.len() < kind.leaves {
        let (at, ranges) = open.swap_remove(random.below(open.len()));
        let f = random.below(kind.features);
        let (low, high): (f64, f64) = ranges[f];
        let threshold = low + (high - low) * (0.2 + 0.6 * random.uniform());
        let children = [nodes.len() as u32, nodes.len() as u32 + 1];
        let (mut left, mut right) = (ranges.clone(), ranges);
        nodes[at] = if random.uniform() < kind.category {
            let codes = (0..random.below(5)).map(|_| random.next() as u32).collect();
            Node::Category { feature: f as u32, codes, children }
        } else {
            (left[f].1, right[f].0) = (threshold, threshold);
            let missing = if random.below(2) == 0 { Side::Left } else { Side::Right };
            let zero_missing = random.uniform() < kind.zero_missing;
            Node::Number { feature: f as u32, threshold, missing, zero_missing, children }
        };
        nodes.extend([leaf(random), leaf(random)]);
        open.extend([(children[0] as usize, left), (children[1] as usize, right)]);
    }
    nodes
}

pub fn ensemble(kind: Kind, trees: &[Vec<Node>]) -> Ensemble {
    let mut ensemble = Ensemble::new(kind.features).unwrap();
    trees.iter().for_each(|tree| ensemble.push(tree).unwrap());
    ensemble
}

pub fn trees(kind: Kind, count: usize, random: &mut Random) -> Vec<Vec<Node>> {
    (0..count).map(|_| tree(kind, random)).collect()
}

/// A row of numbers in [-1, 1) and codes, `wild` of them anything.
pub fn row(kind: Kind, wild: f64, random: &mut Random) -> Vec<f64> {
    const WILD: &[f64] = &[
        f64::NAN,
        -f64::NAN,
        0.0,
        -0.0,
        ZERO,
        -ZERO,
        1e-36,
        2e-35,
        -0.5,
        -1.0,
        31.9,
        1e9,
        4294967296.0,
        1e300,
        f64::INFINITY,
        f64::NEG_INFINITY,
    ];
    let one = |_| {
        if random.uniform() < wild {
            WILD[random.below(WILD.len())]
        } else if random.uniform() < kind.category {
            random.below(100) as f64
        } else {
            2.0 * random.uniform() - 1.0
        }
    };
    (0..kind.features).map(one).collect()
}

/// The same sum, one node after the other.
pub fn reference(trees: &[Vec<Node>], row: &[f64]) -> f64 {
    trees.iter().fold(0.0, |sum, tree| match way(tree, row).last().map(|at| &tree[*at]) {
        Some(Node::Leaf(value)) => sum + value,
        other => panic!("a way ends in {other:?}"),
    })
}

/// The nodes from the root to the leaf.
pub fn way(tree: &[Node], row: &[f64]) -> Vec<usize> {
    let mut way = vec![0];
    while let Some(next) = child(&tree[way[way.len() - 1]], row) {
        way.push(next);
    }
    way
}

fn child(node: &Node, row: &[f64]) -> Option<usize> {
    let value = |feature: &u32| row.get(*feature as usize).copied().unwrap_or(f64::NAN);
    let (left, children) = match node {
        Node::Leaf(_) => return None,
        Node::Number { feature, threshold, missing, zero_missing, children } => {
            let x = value(feature);
            let lacks = x.is_nan() || *zero_missing && (-ZERO..=ZERO).contains(&x);
            (if lacks { *missing == Side::Left } else { x <= *threshold }, children)
        }
        Node::Category { feature, codes, children } => {
            let x = value(feature).trunc();
            let known = (0..32 * codes.len()).find(|code| *code as f64 == x);
            (known.is_some_and(|code| codes[code / 32] >> (code % 32) & 1 == 1), children)
        }
    };
    Some(children[usize::from(!left)] as usize)
}
