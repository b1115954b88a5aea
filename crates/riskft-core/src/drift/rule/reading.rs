//! A point of drift, as rules read it.

use super::{Measure, Quantity};
use crate::drift::{Kind, Line};

/// Scores beside outcomes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// None where the rows have one class.
    pub auc: Option<f64>,
    pub ece: Option<f64>,
    pub mean_score: f64,
    pub mean_outcome: f64,
}

/// What one point tells.
#[derive(Debug, Clone, Copy)]
pub struct Readings<'a> {
    /// Of the score and of each column.
    pub lines: &'a [Line],
    pub rows: u64,
    /// Of all rows whose outcome is known; None without a target.
    pub outcome: Option<Outcome>,
}

impl Readings<'_> {
    /// A measure's value; None where the point does not tell it.
    pub fn of(&self, measure: &Measure) -> Option<f64> {
        let value = match measure.quantity {
            Quantity::Psi => self.lines.iter().find(|line| line.kind == Kind::Score)?.psi,
            Quantity::Csi => self.largest(measure, |line| line.psi),
            Quantity::Missing => self
                .largest(measure, |line| Some(line.missing_share? - line.missing_share_reference?)),
            Quantity::Unseen => self.largest(measure, |line| line.unseen_share),
            Quantity::Alarms => {
                Some(self.lines.iter().filter(|line| line.alarm.is_some()).count() as f64)
            }
            Quantity::Rows => Some(self.rows as f64),
            Quantity::Auc => self.outcome?.auc,
            Quantity::Ece => self.outcome?.ece,
            Quantity::MeanScore => Some(self.outcome?.mean_score),
            Quantity::MeanOutcome => Some(self.outcome?.mean_outcome),
            Quantity::Calibration => {
                let outcome = self.outcome?;
                Some(outcome.mean_score / outcome.mean_outcome)
            }
        };
        value.filter(|value| value.is_finite())
    }

    /// The largest over the measure's column, or over all columns.
    fn largest(&self, measure: &Measure, of: impl Fn(&Line) -> Option<f64>) -> Option<f64> {
        let asked = |line: &&Line| {
            line.kind != Kind::Score
                && measure.column.as_ref().is_none_or(|column| *column == line.column_name)
        };
        self.lines.iter().filter(asked).filter_map(of).reduce(f64::max)
    }
}
