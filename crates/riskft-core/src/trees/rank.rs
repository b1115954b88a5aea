//! Trees -> the arrays that are stored.

use std::collections::{BTreeMap, HashMap};

use super::stored::{BITS, CATEGORIES, LEAVES, NODES, NUMBERS, ROOTS, THRESHOLDS};
use super::walk::has;
use super::{Ensemble, Node, Packed, Side, MAX_PLACES, MAX_THRESHOLDS, MAX_TREE, MAX_WORDS, SIDES};
use crate::artifact::{Tensor, TensorSet};

/// Thresholds of a feature, and its first place.
#[derive(Default)]
struct Number {
    /// Strictly ascending once all are known.
    thresholds: Vec<f64>,
    place: usize,
}

/// Sets of codes of a feature, and its first place.
#[derive(Default)]
struct Category<'a> {
    /// Without zero words at the end.
    sets: Vec<&'a [u32]>,
    index: HashMap<&'a [u32], usize>,
    place: usize,
}

/// What the splits of an ensemble compare with, by feature.
#[derive(Default)]
struct Ranking<'a> {
    numbers: BTreeMap<u32, Number>,
    categories: BTreeMap<u32, Category<'a>>,
}

impl Ensemble {
    /// Adds the tensors that [`super::Stored::open`] finds under a prefix.
    ///
    /// # Errors
    /// The reason, where a tree has more than [`MAX_TREE`] nodes, a feature more than
    /// [`MAX_THRESHOLDS`] thresholds or a row more than [`MAX_PLACES`] places, or the codes of all
    /// category splits take more than [`MAX_WORDS`] words as they are stored.
    pub fn store(&self, prefix: &str, tensors: &mut TensorSet) -> Result<(), String> {
        let ranking = Ranking::of(self.all())?;
        let (mut nodes, mut leaves) = (Vec::with_capacity(self.nodes()), Vec::new());
        for (k, root) in self.roots().iter().enumerate() {
            let end = self.roots().get(k + 1).map_or(self.nodes(), |end| *end as usize);
            ranking.tree(
                *root as usize,
                &self.all()[*root as usize..end],
                &mut nodes,
                &mut leaves,
            )?;
        }
        let (numbers, thresholds) = ranking.thresholds();
        let (categories, bits) = ranking.bits()?;
        let mut add = |part: &str, tensor| tensors.insert(format!("{prefix}.{part}"), tensor);
        add(NODES, Tensor::new::<u64>(&[nodes.len()], &nodes));
        add(ROOTS, Tensor::new(&[self.len()], self.roots()));
        add(LEAVES, Tensor::new(&[leaves.len()], &leaves));
        add(NUMBERS, Tensor::new(&[numbers.len(), 2], numbers.as_flattened()));
        add(THRESHOLDS, Tensor::new(&[thresholds.len()], &thresholds));
        add(CATEGORIES, Tensor::new(&[categories.len(), 3], categories.as_flattened()));
        add(BITS, Tensor::new(&[bits.len()], &bits));
        Ok(())
    }
}

impl<'a> Ranking<'a> {
    fn of(nodes: &'a [Node]) -> Result<Self, String> {
        let mut ranking = Ranking::default();
        for node in nodes {
            match node {
                Node::Leaf(_) => {}
                // Without the sign of zero, which no comparison tells.
                Node::Number { feature, threshold, .. } => {
                    let number = ranking.numbers.entry(*feature).or_default();
                    number.thresholds.push(threshold + 0.0);
                }
                Node::Category { feature, codes, .. } => {
                    let category = ranking.categories.entry(*feature).or_default();
                    let (next, codes) = (category.sets.len(), trimmed(codes));
                    if *category.index.entry(codes).or_insert(next) == next {
                        category.sets.push(codes);
                    }
                }
            }
        }
        let mut next = 1;
        for number in ranking.numbers.values_mut() {
            number.thresholds.sort_unstable_by(f64::total_cmp);
            number.thresholds.dedup();
            let count = number.thresholds.len();
            if count > MAX_THRESHOLDS {
                return Err(format!("a feature has {count} thresholds, not {MAX_THRESHOLDS}"));
            }
            number.place = next;
            next += SIDES;
        }
        for category in ranking.categories.values_mut() {
            category.place = next;
            next += 32 * category.width();
        }
        match next <= MAX_PLACES {
            true => Ok(ranking),
            false => Err(format!("its splits take {next} places of a row, not {MAX_PLACES}")),
        }
    }

    /// Appends a tree's nodes, and its leaves' values in their order.
    fn tree(
        &self,
        root: usize,
        tree: &[Node],
        nodes: &mut Vec<u64>,
        leaves: &mut Vec<f64>,
    ) -> Result<(), String> {
        if tree.len() > MAX_TREE {
            return Err(format!("a tree has {} nodes, more than {MAX_TREE}", tree.len()));
        }
        let before = leaves.len();
        for (at, node) in (root..).zip(tree) {
            let (place, rank, left) = match node {
                Node::Leaf(value) => {
                    leaves.push(*value);
                    (0, leaves.len() - 1 - before, at)
                }
                Node::Number { feature, threshold, missing, zero_missing, children } => {
                    let number = &self.numbers[feature];
                    let rank = number.thresholds.partition_point(|other| other < threshold);
                    let right = usize::from(*missing == Side::Right);
                    let place = number.place + right + 2 * usize::from(*zero_missing);
                    (place, rank, children[0] as usize)
                }
                Node::Category { feature, codes, children } => {
                    let category = &self.categories[feature];
                    (category.place + category.index[trimmed(codes)], 0, children[0] as usize)
                }
            };
            let (place, rank, step) = (place as u32, rank as u16, (left - at) as u16);
            nodes.push(bytemuck::cast(Packed { place, rank, step }));
        }
        Ok(())
    }

    /// Features with the ends of their thresholds, and all thresholds.
    fn thresholds(&self) -> (Vec<[u32; 2]>, Vec<f64>) {
        let mut all = Vec::new();
        let number = |(feature, number): (&u32, &Number)| {
            all.extend_from_slice(&number.thresholds);
            [*feature, all.len() as u32]
        };
        let numbers = self.numbers.iter().map(number).collect();
        (numbers, all)
    }

    /// Features with the words of a code and their codes, and all words: for each code the bits of
    /// the sets that it is not in.
    fn bits(&self) -> Result<(Vec<[u32; 3]>, Vec<u32>), String> {
        let mut all: Vec<u32> = Vec::new();
        let mut categories = Vec::new();
        for (feature, category) in &self.categories {
            let (width, codes) = (category.width(), category.codes());
            let start = all.len();
            if width * codes > MAX_WORDS - start {
                return Err(format!("the codes of its splits take more than {MAX_WORDS} words"));
            }
            all.resize(start + width * codes, 0);
            for (code, words) in (0..).zip(all[start..].chunks_exact_mut(width)) {
                for (s, set) in category.sets.iter().enumerate() {
                    words[s / 32] |= u32::from(!has(set, code)) << (s % 32);
                }
            }
            categories.push([*feature, width as u32, codes as u32]);
        }
        Ok((categories, all))
    }
}

impl Category<'_> {
    /// Words of the bits of all sets.
    fn width(&self) -> usize {
        self.sets.len().div_ceil(32)
    }
    /// Codes up to the highest one in a set; 1 of sets without any.
    fn codes(&self) -> usize {
        let codes = |set: &&[u32]| {
            set.last().map_or(1, |word| 32 * set.len() - word.leading_zeros() as usize)
        };
        self.sets.iter().map(codes).max().unwrap_or(1)
    }
}

/// Codes without zero words at the end.
fn trimmed(codes: &[u32]) -> &[u32] {
    let end = codes.iter().rposition(|word| *word != 0).map_or(0, |last| last + 1);
    &codes[..end]
}
