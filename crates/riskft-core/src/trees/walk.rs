//! The plain walk of an ensemble, node by node: what the stored arrays must equal to the bit.

use super::{code, value, Ensemble, Node, Side, ZERO};

impl Ensemble {
    /// The sum of the trees' leaves, as [`super::Trees::score`] gives it.
    pub fn score(&self, features: &[f64]) -> f64 {
        self.roots().iter().fold(0.0, |sum, root| sum + self.leaf(*root, features))
    }

    /// The value of the leaf under a root.
    fn leaf(&self, root: u32, features: &[f64]) -> f64 {
        let mut at = root;
        loop {
            let Some(node) = self.all().get(at as usize) else { return 0.0 };
            let (right, children) = match node {
                Node::Leaf(value) => return *value,
                Node::Number { feature, threshold, missing, zero_missing, children } => {
                    let x = value(features, *feature);
                    let lacks = x.is_nan() || *zero_missing && x.abs() <= ZERO;
                    let right = if lacks { *missing == Side::Right } else { x > *threshold };
                    (right, children)
                }
                Node::Category { feature, codes, children } => {
                    let code = code(value(features, *feature));
                    (!code.is_some_and(|code| has(codes, code)), children)
                }
            };
            at = children[usize::from(right)];
        }
    }
}

/// Whether a code's bit is set.
pub(super) fn has(codes: &[u32], code: u32) -> bool {
    codes.get(code as usize / 32).is_some_and(|word| word >> (code % 32) & 1 == 1)
}
