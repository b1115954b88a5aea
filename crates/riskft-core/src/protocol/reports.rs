//! What the trainer reports of a version: rows of riskft's views.

use serde::{Deserialize, Serialize};

use super::PartMetric;
use crate::curve::CurveBin;
use crate::drift::Reference;
use crate::options::Role;

/// One column of the relation, as the model sees it: a row of riskft.features.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureReport {
    pub column_name: String,
    pub role: Role,
    pub why: String,
    /// Share of rows whose cell is missing, 0..1.
    pub missing_share: f64,
    pub distinct_values: u64,
    /// AUC of the column alone (max of it and its complement), fitted on training rows and
    /// measured on validation and calibration rows, when known.
    pub alone_auc: Option<f64>,
}

/// What a version reached and what it saw: the rows of riskft's views that go where it goes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    pub features: Vec<FeatureReport>,
    pub metrics: Vec<PartMetric>,
    /// In the order of riskft.branches.
    #[serde(default)]
    pub branches: Vec<BranchReport>,
    /// Empty without a time column.
    #[serde(default)]
    pub periods: Vec<PeriodReport>,
    /// Empty without a search.
    #[serde(default)]
    pub trials: Vec<TrialReport>,
    /// Most important column first; empty with option explain.rows = 0.
    #[serde(default)]
    pub importances: Vec<ImportanceReport>,
    /// Column by column; empty likewise.
    #[serde(default)]
    pub effects: Vec<EffectReport>,
    /// What drift is told against; empty of versions that are older than it.
    #[serde(default)]
    pub reference: Vec<Reference>,
    /// Scores of the test rows beside their outcomes, by rising score; empty of fewer than 10 rows,
    /// and of versions that are older than it.
    #[serde(default)]
    pub curve: Vec<CurveBin>,
}

/// How much a source column moves scores: a row of riskft.importances.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ImportanceReport {
    pub column_name: String,
    /// Mean magnitude of its contributions to the log odds, over test rows.
    pub mean_abs_shap: f64,
    /// Of the sum over all columns, 0..1.
    pub share: f64,
}

/// Mean score of test rows that all have one value in a column (partial dependence; Friedman 2001):
/// a row of riskft.effects.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EffectReport {
    pub column_name: String,
    /// 1.. in the order of the values: ascending numbers, most frequent labels first, missing last.
    pub ordinal: u32,
    /// None stands for a missing value.
    pub value: Option<String>,
    pub mean_score: f64,
    /// Rows of those that the value stands for.
    pub rows: u64,
}

/// The float model against the int8 model, on the test rows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct GateReport {
    pub rows: u64,
    /// Float AUC - int8 AUC; None when the test part has one class only or is too small.
    pub auc_loss: Option<f64>,
    pub change_q999: f64,
    pub change_max: f64,
    pub flips: Option<f64>,
    pub passed: bool,
}

/// The deployed version on the new version's test rows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct IncumbentReport {
    pub auc: Option<f64>,
    /// New AUC - incumbent's AUC.
    pub difference: Option<f64>,
    /// Paired standard error of the difference (DeLong).
    pub standard_error: Option<f64>,
    /// Why there is no figure: another positive label, a column that is gone, one class.
    pub why_not: String,
}

/// A branch of the version, or the baseline beside it: a row of riskft.branches.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BranchReport {
    /// network | trees | grams | text | baseline
    pub branch: String,
    /// Its part in the version's logit; 0 for what is not in the version.
    pub weight: f64,
    /// Out-of-fold AUC of the branch alone. The text branches are fitted on top of the others:
    /// alone they rank by what those leave.
    pub auc: Option<f64>,
    /// Out-of-fold AUC of the blend without it.
    pub auc_without: Option<f64>,
    /// Out-of-fold AUC of the blend minus [`Self::auc_without`], and its paired standard error.
    pub gain: Option<f64>,
    pub gain_se: Option<f64>,
    /// On the test rows, alone.
    pub test_auc: Option<f64>,
    /// On the test rows, calibrated alone.
    pub test_log_loss: Option<f64>,
    /// Wall seconds of its training.
    pub seconds: f64,
    /// What it is, and why it is in the version or not.
    pub why: String,
}

/// Figures of a stretch of time: a row of riskft.metrics_by_period.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PeriodReport {
    /// validation (out of fold) | test
    pub part: String,
    /// First day of the period, days since 1970-01-01.
    pub begins: i32,
    /// `2006`, `2006-Q1` or `2006-01`
    pub period: String,
    pub rows: u64,
    pub auc: Option<f64>,
    pub mean_score: f64,
    /// Share of positive rows.
    pub mean_outcome: f64,
}

/// One trial of a search: a row of riskft.trials.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TrialReport {
    /// 1.. in the order they began.
    pub trial: u32,
    /// Rounds of halving that it took part in, 1..
    pub rungs: u32,
    /// What it changed of the options, as a JSON object.
    pub options: serde_json::Value,
    /// Out-of-fold figures at its last rung.
    pub auc: Option<f64>,
    pub log_loss: Option<f64>,
    pub seconds: f64,
    /// best | kept | dropped
    pub state: String,
}

/// What the run used: the ledger behind riskft.costs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    pub rows: u64,
    pub rows_unlabelled: u64,
    pub rows_train: u64,
    pub rows_validation: u64,
    pub rows_calibration: u64,
    pub rows_test: u64,
    /// Encoder tokens if every text cell of every row were encoded.
    pub tokens: u64,
    /// Encoder tokens of the distinct values.
    pub tokens_distinct: u64,
    pub parameters: u64,
    pub parameters_trainable: u64,
    /// `cpu`, or the GPU's name.
    pub device: String,
    pub precision: String,
    pub threads: u32,
    /// Wall seconds during which the device worked for this run.
    pub device_seconds: f64,
    pub cpu_seconds: f64,
    pub wall_seconds: f64,
    pub peak_memory_bytes: u64,
    /// Wall seconds by phase, in order.
    pub phases: Vec<(String, f64)>,
    pub head_epochs: u64,
    pub tune_epochs: u64,
    /// Mean CPU seconds of one epoch of the encoder stage.
    pub tune_epoch_cpu_seconds: Option<f64>,
    /// Validation AUC with the frozen encoder, and after tuning.
    pub auc_frozen: Option<f64>,
    pub auc_tuned: Option<f64>,
    /// Paired standard error of the difference.
    pub auc_gain_se: Option<f64>,
    pub tuned_kept: bool,
    /// Validation AUC of the same table without text, where text had to earn its place.
    #[serde(default)]
    pub auc_without_text: Option<f64>,
    /// Paired standard error of what text adds.
    #[serde(default)]
    pub text_gain_se: Option<f64>,
    #[serde(default)]
    pub text_kept: bool,
    /// Mean CPU seconds of one score by the int8 version, over the test rows, its texts not yet
    /// cached; over fitted rows where there is no test part.
    #[serde(default)]
    pub score_cpu_seconds: Option<f64>,
}
