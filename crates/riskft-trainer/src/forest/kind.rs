//! How the models of a forest differ, and what LightGBM is told.

use riskft_core::dataset::hash::mix;
use riskft_core::options::Categories;

use super::Ground;

/// Inputs that a tree sees at least: two or three of six say little. On 6,000 card customers of four columns
/// out-of-fold AUC rose from 0.6285 and 0.6287 to 0.6364 and 0.6326 (two seeds).
const LEAST_INPUTS: f64 = 8.0;

/// How models differ.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    /// Categories as LightGBM's own, beside their statistics.
    pub native: bool,
    pub extra: bool,
}

impl Kind {
    pub fn of(model: usize, categories: Categories) -> Self {
        let native = match categories {
            Categories::Mixed => model % 3 != 1,
            Categories::Native => true,
            Categories::Statistics => false,
        };
        Kind { native, extra: model % 3 != 2 }
    }
}

impl Ground<'_> {
    /// What LightGBM is told for a model.
    pub(super) fn parameters(&self, model: usize, kind: Kind) -> String {
        let options = self.options;
        let small = self.folds.is_small();
        let leaves = match (options.trees.leaves, small) {
            (0, true) => 12,
            (0, false) => 31,
            (given, _) => given,
        };
        let least = match (options.trees.min_rows, small) {
            (0, true) => 10,
            (0, false) => 20,
            (given, _) => given,
        };
        let first = self.encoding.numbers.len();
        let native: Vec<String> =
            (first..first + self.encoding.categories.len()).map(|c| c.to_string()).collect();
        let native = match native.is_empty() {
            true => String::new(),
            false => format!("categorical_feature={}", native.join(",")),
        };
        format!(
            "objective=binary verbosity=-1 num_threads=1 deterministic=true force_row_wise=true \
             seed={seed} learning_rate={rate} num_leaves={leaves} min_data_in_leaf={least} \
             feature_fraction={columns} bagging_fraction=0.8 bagging_freq=1 lambda_l2=1 \
             extra_trees={extra} cat_smooth=50 cat_l2=10 max_cat_threshold=8 {native}",
            seed = (mix(options.seed ^ model as u64) >> 34),
            rate = options.trees.learning_rate * if small { 0.6 } else { 1.0 },
            columns = (LEAST_INPUTS / self.encoding.features().max(1) as f64)
                .max(options.trees.columns)
                .min(1.0),
            extra = kind.extra,
        )
    }
}
