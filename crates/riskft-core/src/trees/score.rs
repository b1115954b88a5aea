//! The sum of the leaves that a row reaches.

use super::{code, value, Packed, ZERO};

/// Trees walked in step. Their steps do not wait for each other, which hides the latency of the
/// loads.
const ABREAST: usize = 16;

/// Steps between two looks whether all have arrived.
const STEPS: usize = 3;

/// An ensemble's arrays in a model file, checked. [`super::Stored::open`] tells what they hold.
#[derive(Debug, Clone, Copy)]
pub struct Trees<'a> {
    pub(super) nodes: &'a [Packed],
    pub(super) roots: &'a [u32],
    pub(super) leaves: &'a [f64],
    pub(super) numbers: &'a [[u32; 2]],
    pub(super) thresholds: &'a [f64],
    pub(super) categories: &'a [[u32; 3]],
    pub(super) bits: &'a [u32],
    /// Of a row.
    pub(super) places: usize,
}

/// A row as splits see it (see [the layout](super#layout)); its memory is used again.
#[derive(Debug, Default)]
pub struct Places(Vec<u16>);

impl Places {
    /// Memory held.
    pub fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<u16>()
    }
}

impl Trees<'_> {
    /// The sum of the trees' leaves, in the order of the trees, starting with the first: a logit,
    /// for trees of a binary objective. 0 without trees; never NaN or infinite.
    ///
    /// NaN is missing, as is a feature that `features` lacks. Comparisons and one chain of
    /// additions, each rounded by itself: the bits depend on the row and the trees alone.
    pub fn score(&self, features: &[f64], places: &mut Places) -> f64 {
        self.fill(features, &mut places.0);
        self.sum(&places.0)
    }

    fn fill(&self, features: &[f64], places: &mut Vec<u16>) {
        places.clear();
        places.reserve(self.places);
        places.push(0);
        let mut start = 0;
        for [feature, end] in self.numbers {
            let thresholds = self.thresholds.get(start..*end as usize).unwrap_or_default();
            start = *end as usize;
            let x = value(features, *feature);
            // NaN is above none.
            let below = thresholds.partition_point(|threshold| *threshold < x) as u16;
            let missing = [0, thresholds.len() as u16];
            let or_missing = |lacks: bool| if lacks { missing } else { [below; 2] };
            let [left, right] = or_missing(x.is_nan());
            let [zero_left, zero_right] = or_missing(x.is_nan() | (x.abs() <= ZERO));
            places.extend_from_slice(&[left, right, zero_left, zero_right]);
        }
        let mut rest = self.bits;
        for [feature, width, codes] in self.categories {
            let (width, codes) = (*width as usize, *codes as usize);
            let taken = rest.split_at_checked(width.saturating_mul(codes));
            // The second bound is for bytes that changed since the check.
            let (Some((bits, others)), true) = (taken, places.len() + 32 * width <= self.places)
            else {
                return;
            };
            rest = others;
            let code = code(value(features, *feature)).map(|code| code as usize * width);
            match code.and_then(|at| bits.get(at..)?.get(..width)) {
                Some(words) => {
                    words.iter().for_each(|word| places.extend_from_slice(&spread(*word)))
                }
                // What no split has seen goes right.
                None => places.resize(places.len() + 32 * width, 1),
            }
        }
    }

    fn sum(&self, places: &[u16]) -> f64 {
        let mut sum = 0.0;
        for (k, group) in self.roots.chunks(ABREAST).enumerate() {
            // Fewer at the end: their places are taken by roots that count no more.
            let mut roots = [group[0]; ABREAST];
            roots[..group.len()].copy_from_slice(group);
            for leaf in &self.reached(k * ABREAST, roots, places)[..group.len()] {
                sum += leaf;
            }
        }
        sum
    }

    /// The values of the leaves under some roots, the first of them that of tree `first`.
    #[inline]
    fn reached(&self, first: usize, roots: [u32; ABREAST], places: &[u16]) -> [f64; ABREAST] {
        let mut at = roots;
        // Each step in a checked tree leads to a later node; the bound is for bytes that changed since.
        for _ in 0..self.nodes.len() {
            for _ in 1..STEPS {
                for at in &mut at {
                    *at = at.wrapping_add(self.step(*at, places));
                }
            }
            let mut moved = 0;
            for at in &mut at {
                let step = self.step(*at, places);
                moved |= step;
                *at = at.wrapping_add(step);
            }
            if moved == 0 {
                break;
            }
        }
        let leaf = |k: usize| {
            let node = self.nodes.get(at[k] as usize)?;
            // Each tree before it has a leaf more than splits.
            let before = (roots[k] as usize + first + k) / 2;
            self.leaves.get(before + usize::from(node.rank)).copied()
        };
        std::array::from_fn(|k| leaf(k).unwrap_or(0.0))
    }

    /// How far the node after this one lies; 0 from a leaf. Without branches that depend on the row or
    /// on the kind of node: half of them would be predicted wrongly, at 15 to 20 cycles each.
    #[inline(always)]
    fn step(&self, at: u32, places: &[u16]) -> u32 {
        let Some(node) = self.nodes.get(at as usize) else { return 0 };
        let place = places.get(node.place as usize).copied().unwrap_or(0);
        u32::from(node.step) + u32::from(place > node.rank)
    }
}

/// The bits of a word, the lowest first.
fn spread(word: u32) -> [u16; 32] {
    std::array::from_fn(|bit| u16::from(word & (1 << bit) != 0))
}
