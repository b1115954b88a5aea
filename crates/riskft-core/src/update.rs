//! What is asked of an update, and whether its version is better than the one it goes on from.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::metrics;
use crate::options::{self, as_map, given, merge, no_options, range, Deploy, Gate};
use crate::refusal::Result;

/// Fewest labelled rows of an update, and fewest of each class.
pub const MIN_ROWS: usize = 50;
pub const MIN_CLASS_ROWS: usize = 10;
/// Share of the new rows that are set aside.
pub const TEST_SHARE: f64 = 0.2;

/// The named options of an update, resolved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Options {
    /// Passes of the network over the new rows and the sample of old ones; 0 = it stays as it is.
    pub epochs: usize,
    pub learning_rate: f64,
    /// Epochs without a better out-of-fold figure after which it ends.
    pub patience: usize,
    /// Whether the weights of the branches, the calibration and the threshold are fitted anew.
    pub recalibrate: bool,
    /// What the AUC of old rows may fall by.
    pub old_loss: f64,
    pub deploy: Deploy,
    pub gate: Gate,
    pub seed: u64,
    /// Threads of the trainer. 0 = as many as the machine has.
    pub threads: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            epochs: 3,
            learning_rate: 1e-3,
            patience: 2,
            recalibrate: true,
            old_loss: 0.005,
            deploy: Deploy::Auto,
            gate: options::Options::default().gate,
            seed: 0,
            threads: 0,
        }
    }
}

impl Options {
    /// Parses the jsonb object that the caller gave.
    ///
    /// # Errors
    /// 22023 for what is no option, or out of its range.
    pub fn parse(value: &Value) -> Result<Self> {
        let mut whole = as_map(&Options::default());
        if let Some(given) = given(value, "{\"epochs\": 5, \"old_loss\": 0.01}")? {
            merge(&mut whole, given, "")?;
        }
        let options: Options =
            serde_json::from_value(Value::Object(whole)).map_err(|e| no_options(&e))?;
        range("epochs", options.epochs as f64, 0.0, 1000.0)?;
        range("learning_rate", options.learning_rate, 1e-8, 1.0)?;
        range("patience", options.patience as f64, 1.0, 1000.0)?;
        range("old_loss", options.old_loss, 0.0, 1.0)?;
        range("threads", options.threads as f64, 0.0, 1024.0)?;
        options::check_gate(&options.gate)?;
        Ok(options)
    }
}

/// Two versions on the same rows: before the update and after it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Contest {
    pub rows: u64,
    /// None where the rows are of one class.
    pub auc_before: Option<f64>,
    pub auc_after: Option<f64>,
    /// Paired standard error of the difference (DeLong).
    pub standard_error: Option<f64>,
    pub log_loss_before: f64,
    pub log_loss_after: f64,
}

impl Contest {
    /// None without rows.
    pub fn of(before: &[f64], after: &[f64], labels: &[bool]) -> Option<Self> {
        Some(Contest {
            rows: labels.len() as u64,
            auc_before: metrics::auc(before, labels),
            auc_after: metrics::auc(after, labels),
            standard_error: metrics::auc_difference(after, before, labels).map(|(_, error)| error),
            log_loss_before: metrics::log_loss(before, labels)?,
            log_loss_after: metrics::log_loss(after, labels)?,
        })
    }

    /// Whether the AUC has fallen by no more than `loss` and one standard error; rows of one class
    /// tell of no loss.
    pub fn holds(&self, loss: f64) -> bool {
        let fall =
            self.auc_before.zip(self.auc_after).map_or(0.0, |(before, after)| before - after);
        fall <= loss + self.standard_error.unwrap_or(0.0)
    }

    /// Whether the probabilities are better.
    pub fn is_better(&self) -> bool {
        self.log_loss_after < self.log_loss_before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn options_are_checked() {
        assert_eq!(Options::parse(&Value::Null), Ok(Options::default()));
        let given = Options::parse(&json!({"epochs": 0, "deploy": "never", "gate": {"flips": 1}}));
        let given = given.expect("known options");
        assert_eq!((given.epochs, given.deploy, given.gate.flips), (0, Deploy::Never, 1.0));
        assert_eq!(given.gate.change_max, Options::default().gate.change_max);
        for wrong in [
            json!({"epoch": 1}),
            json!({"epochs": -1}),
            json!({"old_loss": 2}),
            json!({"gate": {"flips": 2}}),
            json!({"deploy": "perhaps"}),
            json!([]),
        ] {
            let refusal = Options::parse(&wrong).expect_err("no options");
            assert_eq!(refusal.code, "22023", "{wrong}");
            assert!(!refusal.hint.is_empty() && !refusal.detail.is_empty(), "{wrong}");
        }
    }

    #[test]
    fn better_is_a_lower_log_loss_and_held_is_the_auc() {
        let labels = [false, true, false, true, false, true, true, false];
        let good: Vec<f64> = labels.iter().map(|l| if *l { 0.8 } else { 0.3 }).collect();
        let bad: Vec<f64> = labels.iter().map(|l| if *l { 0.2 } else { 0.7 }).collect();
        let gained = Contest::of(&bad, &good, &labels).expect("rows");
        assert_eq!((gained.auc_before, gained.auc_after), (Some(0.0), Some(1.0)));
        assert!(gained.holds(0.0) && gained.is_better());
        let lost = Contest::of(&good, &bad, &labels).expect("rows");
        assert!(!lost.holds(0.5) && !lost.is_better());
        let same = Contest::of(&good, &good, &labels).expect("rows");
        assert!(same.holds(0.0) && !same.is_better());
        let one_class = Contest::of(&good, &bad, &[true; 8]).expect("rows");
        assert!(one_class.holds(0.0) && one_class.auc_after.is_none());
        assert_eq!(Contest::of(&[], &[], &[]), None);
    }
}
