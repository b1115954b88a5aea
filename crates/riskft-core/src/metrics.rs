//! Figures of a binary classifier, computed once and used everywhere.

use serde::{Deserialize, Serialize};

/// One figure. `value` is None where the figure does not exist (one class, no rows).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// auc | average_precision | ks | f1 | threshold | brier | log_loss | ece | base_rate | mean_score | rows
    pub metric: String,
    pub value: Option<f64>,
    /// 95% interval, where one is computed.
    pub ci_low: Option<f64>,
    pub ci_high: Option<f64>,
}
