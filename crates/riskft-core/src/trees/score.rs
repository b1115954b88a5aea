//! The sum of the leaves that a row reaches.

use super::{
    feature, flags, link, span, Packed, CATEGORY, MISSING_RIGHT, NUMBER, ZERO, ZERO_MISSING,
};

/// Trees walked in step. Their steps do not wait for each other, which hides the latency of the
/// loads: on a shared core 300 trees of 31 leaves gave about 79,000 rows a second one by one,
/// 210,000 by four, 300,000 by eight, 230,000 by sixteen; with splits by category 39,000, 95,000,
/// 118,000 and 90,000.
const ABREAST: usize = 8;

/// An ensemble's arrays, checked: owned by an [`super::Ensemble`], or lying in a model file.
#[derive(Debug, Clone, Copy)]
pub struct Trees<'a> {
    pub(super) nodes: &'a [Packed],
    /// The first node of each tree.
    pub(super) roots: &'a [u32],
    pub(super) bits: &'a [u32],
    /// Whether any split is by category or takes zero as missing.
    pub(super) special: bool,
}

impl Trees<'_> {
    /// The sum of the trees' leaves, in the order of the trees, starting with the first: a logit,
    /// for trees of a binary objective. 0 without trees; never NaN or infinite.
    ///
    /// NaN is missing, as is a feature that `features` lacks. Comparisons and one chain of
    /// additions, each rounded by itself: the bits depend on the row and the trees alone.
    pub fn score(&self, features: &[f64]) -> f64 {
        match self.special {
            true => self.sum::<true>(features),
            false => self.sum::<false>(features),
        }
    }

    fn sum<const SPECIAL: bool>(&self, features: &[f64]) -> f64 {
        let (groups, rest) = self.roots.as_chunks::<ABREAST>();
        let mut sum = 0.0;
        for group in groups {
            for leaf in self.leaves::<SPECIAL>(*group, features) {
                sum += leaf;
            }
        }
        if let Some(first) = rest.first() {
            let mut group = [*first; ABREAST];
            group[..rest.len()].copy_from_slice(rest);
            for leaf in &self.leaves::<SPECIAL>(group, features)[..rest.len()] {
                sum += leaf;
            }
        }
        sum
    }

    /// The values of the leaves under some roots.
    #[inline]
    fn leaves<const SPECIAL: bool>(
        &self,
        mut at: [u32; ABREAST],
        features: &[f64],
    ) -> [f64; ABREAST] {
        // Each step in a checked tree leads to a later node; the bound is for bytes that changed since.
        for _ in 0..self.nodes.len() {
            let mut moved = 0;
            for at in &mut at {
                let next = self.step::<SPECIAL>(*at, features);
                moved |= next ^ *at;
                *at = next;
            }
            if moved == 0 {
                break;
            }
        }
        at.map(|at| self.nodes.get(at as usize).map_or(0.0, |node| f64::from_bits(node[0])))
    }

    /// The node after this one; a leaf's is the leaf. Without branches that depend on the row or on
    /// the kind of node: half of them would be predicted wrongly, at 15 to 20 cycles each.
    #[inline(always)]
    fn step<const SPECIAL: bool>(&self, at: u32, features: &[f64]) -> u32 {
        let Some(&node) = self.nodes.get(at as usize) else { return at };
        let flags = flags(node);
        let x = features.get(feature(node) as usize).copied().unwrap_or(f64::NAN);
        let above = u32::from(x > f64::from_bits(node[0])) * (flags & NUMBER);
        let default = (flags & MISSING_RIGHT) / MISSING_RIGHT;
        let mut right = above | (u32::from(x.is_nan()) * default);
        if SPECIAL {
            let zero = flags & ZERO_MISSING != 0 && x.abs() <= ZERO;
            right = select(zero, default, right);
            let category = flags & CATEGORY != 0;
            right = select(category, 1 - self.bit(node, category, x), right);
        }
        link(node).wrapping_add(right)
    }

    /// The bit of a code, rounded towards zero; 0 for values that are no code of the bitset.
    #[inline(always)]
    fn bit(&self, node: Packed, category: bool, x: f64) -> u32 {
        let (start, count) = span(node);
        // As integers, NaN would be 0, and -0.5 is.
        let code = select(x > -1.0, x as u32, u32::MAX);
        let within = category & (code / 32 < count);
        // Another node's words are no place to look: the first word is, and does not count.
        let at = select(within, start.wrapping_add(code / 32), 0);
        let word = self.bits.get(at as usize).copied().unwrap_or(0);
        (word >> (code % 32)) & u32::from(within)
    }
}

/// `one` if `choice`, else `other`, both computed.
#[inline(always)]
fn select(choice: bool, one: u32, other: u32) -> u32 {
    std::hint::select_unpredictable(choice, one, other)
}
