//! The kinds of options: what a word among them means.

use serde::{Deserialize, Serialize};

use crate::reduce::Wanted;
use crate::refusal::{code, Refusal, Result};

/// How the pretrained encoder is fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Low-rank adapters on query and value (Hu et al. 2021), merged before int8.
    Lora,
    /// Bottleneck adapters after attention and feed-forward (Houlsby et al. 2019).
    Adapter,
    /// All encoder weights: the traditional arm.
    Full,
    /// No text encoder: numbers, dates and categories only.
    None,
}

impl Method {
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "lora" => Ok(Method::Lora),
            "adapter" => Ok(Method::Adapter),
            "full" => Ok(Method::Full),
            "none" => Ok(Method::None),
            other => Err(Refusal::new(code::INVALID_PARAMETER, "unknown training method")
                .detail(format!("The method is \"{other}\"."))
                .hint("Use lora, adapter, full or none.")),
        }
    }
    pub fn name(self) -> &'static str {
        match self {
            Method::Lora => "lora",
            Method::Adapter => "adapter",
            Method::Full => "full",
            Method::None => "none",
        }
    }
}

/// How text columns reach the encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TextMode {
    /// Each text column on its own, each distinct value once.
    Fields,
    /// The whole row as one serialised text and no tabular network: the traditional arm.
    Row,
}

/// When text is part of the version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeepText {
    /// When it improves the validation AUC by more than the paired standard error.
    Better,
    Always,
}

/// When a tuned encoder takes the frozen one's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeepTuned {
    /// When it improves the AUC of rows left out by more than the paired standard error.
    Better,
    Always,
}

/// When n-grams of texts are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grams {
    /// When they improve the out-of-fold AUC by more than the paired standard error.
    Better,
    Never,
}

/// What happens to the new version once it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Deploy {
    /// Deploy the first version, and any that is not worse on the same test rows.
    Auto,
    Always,
    Never,
}

/// A column's part in the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Number,
    Category,
    Text,
    Date,
    Flag,
    /// Left out: names a row, does not describe it.
    Identifier,
    /// Left out: constant, empty, excluded, or of a type that is not read.
    Ignored,
    Target,
}

/// Arithmetic of the encoder while training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// bf16 where the processor or GPU multiplies it fast, else f32.
    Auto,
    Bf16,
    F32,
}

/// Where the trainer computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceChoice {
    /// The GPU if there is one, else the CPU.
    Auto,
    Cpu,
    Gpu,
}

/// Shares of the four parts; they sum to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SplitShares {
    pub train: f64,
    pub validation: f64,
    pub calibration: f64,
    pub test: f64,
}

/// The publish gate between the float and the int8 model, on the test rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    pub auc_loss: f64,
    /// 99.9% quantile of the absolute change of the probability.
    pub change_q999: f64,
    pub change_max: f64,
    /// Share of rows whose decision at the threshold changes.
    pub flips: f64,
}

/// How a rare class is treated while fitting; probabilities are those of the table either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Balance {
    None,
    /// Both classes weigh the same.
    Weights,
    /// Rows between rare rows and their neighbours (SMOTE-NC, Chawla et al. 2002).
    Smote,
}

/// What rows without a label are good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unlabelled {
    Ignore,
    /// Those that the model is sure of train a second model, kept if it is better.
    SelfTrain,
}

/// The rows that the calibration is fitted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Calibrate {
    /// All out-of-fold rows.
    All,
    /// With a time column, the level of the newest ones before the test part (`split.calibration`),
    /// as models that have seen older rows alone score them.
    Recent,
}

/// How the boosted trees read categories.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Categories {
    /// By LightGBM's own means beside their target statistics, but by these alone in one model of
    /// three.
    Mixed,
    /// Both in every model.
    Native,
    /// By target statistics alone.
    Statistics,
}

/// The boosted trees (LightGBM's names in brackets).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Trees {
    /// Most rounds of each fold (num_iterations). 0..=5000; 0 = no trees.
    pub rounds: usize,
    /// 0 = 31, fewer in small samples (num_leaves). 0, 2..=1024.
    pub leaves: usize,
    /// 0.001..=1
    pub learning_rate: f64,
    /// Share of the columns that a tree sees (feature_fraction). 0.01..=1
    pub columns: f64,
    /// Fewest rows of a leaf (min_data_in_leaf). 0..=100000; 0 = 20, 10 in small samples.
    pub min_rows: usize,
    pub categories: Categories,
}

/// A search over options by successive halving (Jamieson & Talwalkar 2016).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Search {
    /// Settings tried. 0..=1000; 0 = no search.
    pub trials: usize,
    /// Most minutes of the search. 0 = no bound.
    pub minutes: f64,
    /// Whether a cancel during the search ends the search alone: its best so far is trained, and
    /// stored without being deployed.
    pub keep_on_cancel: bool,
}

/// What explanations rest on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Explain {
    /// Rows of the background that scores are told against. 1..=64.
    pub background: usize,
    /// Test rows that importances and effects are computed on, at most. 0..=4096; 0 = none.
    pub rows: usize,
}

/// Which columns enter the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Select {
    /// Columns that a quick model's SHAP values choose ([`crate::select`]). 0..=100000; 0 = all.
    pub shap: usize,
}

/// Which columns are condensed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Reduce {
    /// Principal components of the number columns ([`crate::reduce`]): a whole number from 1 on, or the
    /// share of the variance that they keep, below 1. 0 = none.
    pub pca: f64,
}

impl Reduce {
    /// How many components; None where no column is condensed.
    ///
    /// # Errors
    /// 22023 for a number that is neither a count nor a share.
    pub fn wanted(&self) -> Result<Option<Wanted>> {
        match self.pca == 0.0 {
            true => Ok(None),
            false => Wanted::of("Option \"reduce.pca\"", self.pca).map(Some),
        }
    }
}
