//! The branches of a version: models of their own whose logits are blended.

use serde::{Deserialize, Serialize};

/// What a branch is. Their order is the order of summation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BranchKind {
    /// The tabular network (see [`crate::network`]).
    Network,
    /// Boosted trees (see [`crate::trees`]).
    Trees,
    /// Counted n-grams of texts (see [`crate::grams`]).
    Grams,
    /// The encoder's text vectors; a term that was fitted on top of the others.
    Text,
}

impl BranchKind {
    pub const ALL: [BranchKind; 4] =
        [BranchKind::Network, BranchKind::Trees, BranchKind::Grams, BranchKind::Text];

    pub fn name(self) -> &'static str {
        match self {
            BranchKind::Network => "network",
            BranchKind::Trees => "trees",
            BranchKind::Grams => "grams",
            BranchKind::Text => "text",
        }
    }
}

/// A branch and its part in the version's logit, `sum of weight * logit of the branch`, which the
/// calibration then maps to a probability.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Branch {
    pub kind: BranchKind,
    /// Not negative, at most [`Branch::MOST`].
    pub weight: f64,
}

impl Branch {
    /// Largest weight: a sum of weighted logits stays finite.
    pub const MOST: f64 = 1e6;
}
