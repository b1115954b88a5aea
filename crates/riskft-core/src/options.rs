//! The named options of a training, parsed from jsonb and bounded.
//!
//! An unknown key is refused with the nearest known one; a value outside its range is refused
//! with the range. Every run stores its options as they were resolved.

mod kinds;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::explain::MOST_ROWS;
use crate::refusal::{code, Refusal, Result};
pub use kinds::*;

/// All options of a training, resolved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Options {
    /// Rank of LoRA, or width of the bottleneck adapter. 1..=256.
    pub rank: usize,
    /// LoRA scale is alpha / rank.
    pub alpha: f64,
    /// Dropout before LoRA's first matrix. 0..1.
    pub dropout: f64,
    /// How many encoder layers, from the top, are tuned. 0 = all.
    pub layers: usize,
    /// Peak learning rate of the encoder stage.
    pub learning_rate: f64,
    /// Most epochs of the encoder stage. 0..=1000; 0 keeps the pretrained encoder as it is.
    pub epochs: usize,
    /// Learning rate of the head.
    pub head_learning_rate: f64,
    /// Most epochs of the network, and of the text branch. 0..=1000; 0 = no network.
    pub head_epochs: usize,
    /// Epochs without a better validation AUC before a stage stops.
    pub patience: usize,
    /// Rows of one step.
    pub batch_size: usize,
    /// Folds that the rows outside the test part are crossed over. 2..=20.
    pub folds: usize,
    /// Different divisions into folds. 0..=10; 0 = 3 under 5,000 rows, else 1.
    pub repeats: usize,
    /// Networks of one fold, whose probabilities are averaged. 1..=16.
    pub members: usize,
    /// Width of the head's two hidden layers. 8..=1024.
    pub hidden: usize,
    /// Most tokens of one text value, special ones included. 0 = 32 for short fields, 1,024 for long
    /// ones; beyond the 256 of a window a text is read in several.
    pub max_tokens: usize,
    pub trees: Trees,
    pub balance: Balance,
    pub unlabelled: Unlabelled,
    pub calibrate: Calibrate,
    pub search: Search,
    pub explain: Explain,
    pub select: Select,
    pub reduce: Reduce,
    pub text: TextMode,
    pub keep_text: KeepText,
    pub keep_tuned: KeepTuned,
    pub grams: Grams,
    pub seed: u64,
    pub split: SplitShares,
    pub gate: Gate,
    pub deploy: Deploy,
    pub device: DeviceChoice,
    pub precision: Precision,
    /// Threads of the trainer. 0 = as many as the machine has.
    pub threads: usize,
    /// Stop each stage after this many steps; 0 = no bound. For trials of large tables.
    pub max_steps: usize,
    /// Roles by column name, instead of the ones decided from the data.
    pub roles: BTreeMap<String, Role>,
}

/// Networks of a version, at most.
pub const MOST_NETWORKS: usize = 64;

impl Options {
    /// Divisions into folds of a training with this many rows outside the test part.
    pub fn repeats_of(&self, rows: usize) -> usize {
        let auto = if rows < SMALL { 3 } else { 1 };
        let most = MOST_NETWORKS / (self.folds * self.members).max(1);
        if self.repeats == 0 { auto } else { self.repeats }.min(most.max(1))
    }
}

/// Rows outside the test part under which a sample is small.
pub const SMALL: usize = 5000;

impl Default for Options {
    fn default() -> Self {
        Options {
            rank: 16,
            alpha: 32.0,
            dropout: 0.1,
            layers: 3,
            learning_rate: 5e-4,
            epochs: 4,
            head_learning_rate: 1e-3,
            head_epochs: 40,
            patience: 6,
            batch_size: 256,
            folds: 5,
            repeats: 0,
            members: 1,
            hidden: 256,
            max_tokens: 0,
            trees: Trees {
                rounds: 400,
                leaves: 0,
                learning_rate: 0.05,
                columns: 0.4,
                min_rows: 0,
                categories: Categories::Mixed,
            },
            balance: Balance::None,
            unlabelled: Unlabelled::Ignore,
            calibrate: Calibrate::All,
            search: Search { trials: 0, minutes: 0.0, keep_on_cancel: false },
            explain: Explain { background: 16, rows: 256 },
            select: Select { shap: 0 },
            reduce: Reduce { pca: 0.0 },
            text: TextMode::Fields,
            keep_text: KeepText::Better,
            keep_tuned: KeepTuned::Better,
            grams: Grams::Better,
            seed: 0,
            split: SplitShares { train: 0.55, validation: 0.15, calibration: 0.10, test: 0.20 },
            gate: Gate { auc_loss: 0.001, change_q999: 0.03, change_max: 0.05, flips: 0.005 },
            deploy: Deploy::Auto,
            device: DeviceChoice::Auto,
            precision: Precision::Auto,
            threads: 0,
            max_steps: 0,
            roles: BTreeMap::new(),
        }
    }
}

impl Options {
    /// Parses the jsonb object that the caller gave.
    pub fn parse(value: &Value) -> Result<Self> {
        match given(value, "{\"rank\": 8, \"seed\": 7}")? {
            Some(given) => Options::default().with(given),
            None => Ok(Options::default()),
        }
    }

    /// These options with some of them changed, as [`Options::parse`] reads them.
    ///
    /// # Errors
    /// 22023 for what is no option, or out of its range.
    pub fn with(&self, given: &Map<String, Value>) -> Result<Self> {
        let mut whole = as_map(self);
        merge(&mut whole, given, "")?;
        let options: Options = serde_json::from_value(Value::Object(whole))
            .map_err(|error| misfit(given).unwrap_or_else(|| no_options(&error)))?;
        options.check()?;
        Ok(options)
    }

    /// The value of an option as JSON; `name` may be that of a part, as `trees.leaves`.
    pub fn value(&self, name: &str) -> Option<Value> {
        let mut whole = Value::Object(as_map(self));
        name.split('.').try_for_each(|part| {
            whole = whole.get_mut(part)?.take();
            Some(())
        })?;
        Some(whole)
    }

    fn check(&self) -> Result<()> {
        range("rank", self.rank as f64, 1.0, 256.0)?;
        range("alpha", self.alpha, 1e-3, 4096.0)?;
        range("dropout", self.dropout, 0.0, 0.9)?;
        range("layers", self.layers as f64, 0.0, 96.0)?;
        range("learning_rate", self.learning_rate, 1e-8, 1.0)?;
        range("epochs", self.epochs as f64, 0.0, 1000.0)?;
        range("head_learning_rate", self.head_learning_rate, 1e-8, 1.0)?;
        range("head_epochs", self.head_epochs as f64, 0.0, 1000.0)?;
        range("patience", self.patience as f64, 1.0, 1000.0)?;
        range("batch_size", self.batch_size as f64, 1.0, 65536.0)?;
        range("folds", self.folds as f64, 2.0, 20.0)?;
        range("repeats", self.repeats as f64, 0.0, 10.0)?;
        range("members", self.members as f64, 1.0, 16.0)?;
        let networks = self.folds * self.repeats.max(1) * self.members;
        if networks > MOST_NETWORKS {
            return Err(invalid(
                "too many networks",
                format!("Options \"folds\", \"repeats\" and \"members\" make {networks}."),
            )
            .hint(format!("Their product must be at most {MOST_NETWORKS}.")));
        }
        range("trees.rounds", self.trees.rounds as f64, 0.0, 5000.0)?;
        let least = if self.trees.leaves == 0 { 0.0 } else { 2.0 };
        range("trees.leaves", self.trees.leaves as f64, least, 1024.0)?;
        range("trees.learning_rate", self.trees.learning_rate, 1e-3, 1.0)?;
        range("trees.columns", self.trees.columns, 0.01, 1.0)?;
        range("trees.min_rows", self.trees.min_rows as f64, 0.0, 100_000.0)?;
        range("search.trials", self.search.trials as f64, 0.0, 1000.0)?;
        range("search.minutes", self.search.minutes, 0.0, 10_000.0)?;
        range("explain.background", self.explain.background as f64, 1.0, MOST_ROWS as f64)?;
        range("explain.rows", self.explain.rows as f64, 0.0, 4096.0)?;
        range("select.shap", self.select.shap as f64, 0.0, 100_000.0)?;
        if self.reduce.wanted()?.is_some() && self.text == TextMode::Row {
            return Err(invalid(
                "columns of a row's text cannot be reduced",
                format!(
                    "Option \"reduce.pca\" is {}, and \"text\" is \"row\": the encoder reads the columns.",
                    self.reduce.pca
                ),
            )
            .hint("Give one of the two options alone."));
        }
        range("hidden", self.hidden as f64, 8.0, 1024.0)?;
        range("max_tokens", self.max_tokens as f64, 0.0, 4096.0)?;
        range("threads", self.threads as f64, 0.0, 1024.0)?;
        let s = self.split;
        for (name, share) in [
            ("split.train", s.train),
            ("split.validation", s.validation),
            ("split.calibration", s.calibration),
            ("split.test", s.test),
        ] {
            range(name, share, 0.0, 1.0)?;
        }
        let sum = s.train + s.validation + s.calibration + s.test;
        if (sum - 1.0).abs() > 1e-9 || s.train <= 0.0 || s.validation <= 0.0 {
            return Err(invalid(
                "invalid split",
                format!(
                    "The shares in \"split\" sum to {sum}, train is {}, validation is {}.",
                    s.train, s.validation
                ),
            )
            .hint("The four shares sum to 1; train and validation are above 0."));
        }
        check_gate(&self.gate)
    }
}

pub(crate) fn check_gate(gate: &Gate) -> Result<()> {
    range("gate.auc_loss", gate.auc_loss, 0.0, 1.0)?;
    range("gate.change_q999", gate.change_q999, 0.0, 1.0)?;
    range("gate.change_max", gate.change_max, 0.0, 1.0)?;
    range("gate.flips", gate.flips, 0.0, 1.0)
}

/// The object that the caller gave, None for NULL; `example` is one.
pub(crate) fn given<'a>(value: &'a Value, example: &str) -> Result<Option<&'a Map<String, Value>>> {
    match value {
        Value::Null => Ok(None),
        Value::Object(map) => Ok(Some(map)),
        other => Err(invalid("options must be a JSON object", format!("The value is {other}."))
            .hint(format!("Write for example options => '{example}'."))),
    }
}

fn invalid(message: &str, detail: String) -> Refusal {
    Refusal::new(code::INVALID_PARAMETER, message).detail(detail)
}

pub(crate) fn range(name: &str, value: f64, low: f64, high: f64) -> Result<()> {
    if value >= low && value <= high {
        return Ok(());
    }
    Err(invalid("option value out of range", format!("Option \"{name}\" is {value}."))
        .hint(format!("It must be between {low} and {high}.")))
}

/// Lays `given` over the defaults; an unknown key is refused, and a value of another kind than the
/// default's. `roles` takes any key.
pub(crate) fn merge(
    whole: &mut Map<String, Value>,
    given: &Map<String, Value>,
    prefix: &str,
) -> Result<()> {
    for (key, value) in given {
        let Some(slot) = whole.get_mut(key) else {
            return Err(unknown_key(prefix, key, whole.keys()));
        };
        let name = format!("{prefix}{key}");
        match (slot, value) {
            (Value::Object(inner), Value::Object(more)) if name != "roles" => {
                merge(inner, more, &format!("{name}."))?;
            }
            (slot, value) => {
                demand_kind(&name, slot, value)?;
                *slot = value.clone();
            }
        }
    }
    Ok(())
}

/// Refuses a value of another kind than the default's.
fn demand_kind(name: &str, default: &Value, value: &Value) -> Result<()> {
    let (fits, wanted) = match default {
        Value::Number(n) if n.is_u64() => {
            (value.is_u64(), "It must be a whole number, not negative.")
        }
        Value::Number(_) => (value.is_number(), "It must be a number."),
        Value::Bool(_) => (value.is_boolean(), "It must be true or false."),
        Value::Object(_) => (value.is_object(), "It must be a JSON object."),
        _ => (value.is_string(), "It must be a string."),
    };
    if !fits {
        return Err(
            invalid("invalid option value", format!("Option \"{name}\" is {value}.")).hint(wanted)
        );
    }
    let members = value.as_object().into_iter().flatten();
    match members.into_iter().find(|(_, role)| !role.is_string()) {
        None => Ok(()),
        Some((column, role)) => Err(invalid(
            "invalid option value",
            format!("Option \"{name}\" gives column \"{column}\" the role {role}."),
        )
        .hint("A role is a string, such as \"category\".")),
    }
}

/// The refusal of the first option whose value is none of its words, though of the right kind.
fn misfit(given: &Map<String, Value>) -> Option<Refusal> {
    given.iter().find_map(|(key, value)| {
        let mut whole = as_map(&Options::default());
        merge(&mut whole, &Map::from_iter([(key.clone(), value.clone())]), "").ok()?;
        let error = serde_json::from_value::<Options>(Value::Object(whole)).err()?;
        let detail = format!("Option \"{key}\" is {value}: {error}.");
        Some(invalid("invalid option value", detail).hint(LISTED))
    })
}

pub(crate) fn no_options(error: &serde_json::Error) -> Refusal {
    invalid("invalid option value", format!("In the options, {error}.")).hint(LISTED)
}

const LISTED: &str = "The README lists each option with its kind and default.";

pub(crate) fn as_map(options: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(options) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

/// The refusal of an unknown key, with the nearest of the known ones as its hint.
pub fn unknown_key<'a>(
    prefix: &str,
    key: &str,
    known: impl Iterator<Item = &'a String>,
) -> Refusal {
    let nearest =
        known.max_by(|a, b| strsim::jaro_winkler(a, key).total_cmp(&strsim::jaro_winkler(b, key)));
    let refusal = invalid("unknown option", format!("There is no option \"{prefix}{key}\"."));
    match nearest {
        Some(nearest) => refusal.hint(format!("Perhaps you meant \"{prefix}{nearest}\".")),
        None => refusal,
    }
}

#[cfg(test)]
mod tests;
