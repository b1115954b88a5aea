//! LightGBM's text, as the trainer reads it.

use riskft_core::refusal::code;
use riskft_core::trees::lightgbm;

use super::sound;

/// A model of two trees: one with a split of each kind, one of a single leaf.
pub const MODEL: &str = "tree
version=v4
num_class=1
num_tree_per_iteration=1
label_index=0
max_feature_idx=1
objective=binary sigmoid:1
feature_names=amount state
feature_infos=[0:1] 0:3:32
tree_sizes=1 1

Tree=0
num_leaves=3
num_cat=1
split_feature=1 0
split_gain=1 1
threshold=0 0.5
decision_type=1 10
left_child=1 -1
right_child=-3 -2
leaf_value=0.1 0.2 -0.3
cat_boundaries=0 2
cat_threshold=9 1
is_linear=0
shrinkage=1


Tree=1
num_leaves=1
num_cat=0
split_feature=
threshold=
decision_type=
left_child=
right_child=
leaf_value=-0.05
is_linear=0
shrinkage=0.1


end of trees
";

/// Bytes as a text; what is read is scored.
pub fn lightgbm(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let ensemble = match lightgbm::read(text) {
        Ok(ensemble) => ensemble,
        Err(refusal) => return sound(&refusal, &[code::DATA_EXCEPTION, code::NOT_SUPPORTED]),
    };
    for row in [&[0.5, 3.0][..], &[f64::NAN, f64::NAN], &[-1e300, 1e300], &[]] {
        assert!(ensemble.score(row).is_finite());
    }
}

pub fn texts() -> Vec<Vec<u8>> {
    vec![MODEL.into()]
}
