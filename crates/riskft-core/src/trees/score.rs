//! The sum of the leaves that a row reaches.
//!
//! What a row costs, of a version of the loans (900 trees of 31 leaves over 99 features, 70 of them
//! of target statistics, two thirds of the trees with splits by category): 87 searches among 16,476
//! thresholds, the outcomes of 12 codes, and 5.9 steps a tree, which walking in step makes 10. Nodes
//! and leaves take 650 KiB, more than a first-level cache and less than a second-level one, so that
//! a step waits for its lines and not for its arithmetic. The example `branch_speed`, statistics
//! included: 115,000 to 121,000 rows a second on a core alone, 57,000 as the median of 201 runs on one
//! shared by half. Splits that compared numbers in nodes of 16 bytes and looked codes up in bitsets
//! gave 27,000 to 32,000 and 15,000 in the same minutes.

use super::{code, value, Packed, ZERO};

/// Trees walked in step. Their steps do not wait for each other, which hides the latency of the
/// loads: 864 of these trees took 9.9 us a row by eight, 9.0 by twelve, 8.8 by sixteen.
const ABREAST: usize = 16;

/// Steps between two looks whether all have arrived: 8.8 us a row with a look at each step, 7.3 at
/// every other, 7.6 at every third, 7.4 at every fourth.
const STEPS: usize = 2;

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
        // None of bytes that changed since the check.
        self.fill(features, &mut places.0).and_then(|()| self.sum(&places.0)).unwrap_or(0.0)
    }

    fn fill(&self, features: &[f64], places: &mut Vec<u16>) -> Option<()> {
        places.clear();
        places.reserve(self.places);
        places.push(0);
        let mut start = 0;
        for [feature, end] in self.numbers {
            let thresholds = self.thresholds.get(start..*end as usize)?;
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
            let (bits, others) = rest.split_at_checked(width.checked_mul(codes)?)?;
            rest = others;
            if places.len() + 32 * width > self.places {
                return None;
            }
            let code = code(value(features, *feature)).map(|code| code as usize * width);
            match code.and_then(|at| bits.get(at..)?.get(..width)) {
                Some(words) => {
                    words.iter().for_each(|word| places.extend_from_slice(&spread(*word)));
                }
                // What no split has seen goes right.
                None => places.resize(places.len() + 32 * width, 1),
            }
        }
        Some(())
    }

    fn sum(&self, places: &[u16]) -> Option<f64> {
        let mut sum = 0.0;
        let mut tree = 0;
        for group in self.roots.chunks(ABREAST) {
            // Fewer at the end: their places are taken by a root that counts no more.
            let mut roots = [group[0]; ABREAST];
            roots[..group.len()].copy_from_slice(group);
            for (root, at) in group.iter().zip(self.reached(roots, places)?) {
                // Each tree before it has a leaf more than splits.
                let before = (*root as usize + tree) / 2;
                let number = self.nodes.get(at as usize)?.rank;
                sum += self.leaves.get(before + usize::from(number))?;
                tree += 1;
            }
        }
        Some(sum)
    }

    /// The leaves under some roots.
    #[inline]
    fn reached(&self, roots: [u32; ABREAST], places: &[u16]) -> Option<[u32; ABREAST]> {
        let mut at = roots;
        // Each step in a checked tree leads to a later node; the bound is for bytes that changed since.
        for _ in 0..self.nodes.len() {
            for _ in 1..STEPS {
                for at in &mut at {
                    *at = at.wrapping_add(self.step(*at, places)?);
                }
            }
            let mut moved = 0;
            for at in &mut at {
                let step = self.step(*at, places)?;
                moved |= step;
                *at = at.wrapping_add(step);
            }
            if moved == 0 {
                break;
            }
        }
        Some(at)
    }

    /// How far the node after this one lies; 0 from a leaf. Without branches that depend on the row or
    /// on the kind of node: half of them would be predicted wrongly, at 15 to 20 cycles each.
    #[inline(always)]
    fn step(&self, at: u32, places: &[u16]) -> Option<u32> {
        let node = self.nodes.get(at as usize)?;
        let place = *places.get(node.place as usize)?;
        Some(u32::from(node.step) + u32::from(place > node.rank))
    }
}

/// The bits of a word, the lowest first.
fn spread(word: u32) -> [u16; 32] {
    std::array::from_fn(|bit| u16::from(word & (1 << bit) != 0))
}
