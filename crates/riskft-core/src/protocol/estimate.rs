//! The job of an estimate, and its answer: what a training would take.

use serde::{Deserialize, Serialize};

use super::{JobHeader, Ledger};

/// What would be trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EstimateHeader {
    /// [`super::PROTOCOL`]
    pub protocol: u32,
    /// As of the training; it names no model.
    pub job: JobHeader,
}

/// What a phase of the training would take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseEstimate {
    /// As in [`super::Progress`].
    pub phase: String,
    /// Wall seconds.
    pub seconds: f64,
    /// Of them, those that are spent only where frozen text turns out to add something.
    pub seconds_if_text_adds: f64,
}

/// What a training would take on this machine, from some of its steps taken for real.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EstimateResult {
    /// In the training's order.
    pub phases: Vec<PhaseEstimate>,
    /// Largest resident set of the trainer, bytes.
    pub memory_bytes: u64,
    /// Rows, tokens and device of the training; seconds and memory of the estimate itself.
    pub ledger: Ledger,
}

impl EstimateResult {
    /// Wall seconds of the whole training; where text adds nothing and the encoder is not tuned, and
    /// where it is.
    pub fn seconds(&self) -> (f64, f64) {
        let sum = |of: fn(&PhaseEstimate) -> f64| self.phases.iter().map(of).sum::<f64>();
        let most = sum(|phase| phase.seconds);
        (most - sum(|phase| phase.seconds_if_text_adds), most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tuning_may_fall_away() {
        let phase = |phase: &str, seconds, seconds_if_text_adds| PhaseEstimate {
            phase: phase.into(),
            seconds,
            seconds_if_text_adds,
        };
        let phases =
            vec![phase("trees", 4.0, 0.0), phase("tune", 30.0, 30.0), phase("text", 3.0, 1.0)];
        let result = EstimateResult { phases, memory_bytes: 0, ledger: Ledger::default() };
        assert_eq!(result.seconds(), (6.0, 37.0));
    }
}
