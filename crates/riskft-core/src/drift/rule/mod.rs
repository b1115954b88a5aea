//! Rules over a point of drift, such as `psi > 0.25 or (auc < 0.7 and rows >= 500)`.
//!
//! ```text
//! rule       = term { "or" term }
//! term       = factor { "and" factor }
//! factor     = "not" factor | "(" rule ")" | measure comparison number
//! measure    = quantity [ "(" column ")" ]
//! comparison = "<" | "<=" | ">" | ">=" | "=" | "<>"
//! ```
//!
//! Words are read without regard to case. A column is an SQL identifier: folded to lower case, or
//! between double quotes as it is. What a point does not tell (an AUC without outcomes) is unknown,
//! and unknown spreads as NULL does in SQL: a rule holds only where it is true.

mod parse;
mod reading;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use parse::{MAX_BYTES, MAX_DEPTH};
pub use reading::{Outcome, Readings};

/// What is read off a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Quantity {
    /// Population stability index of the score.
    Psi,
    /// The index of a column; of none named, the largest of all.
    Csi,
    /// By how much a column's share of missing values has grown, -1 to 1; of none named, the most.
    Missing,
    /// A column's share of rows with a label that the reference does not name; of none named, the most.
    Unseen,
    /// Lines with an alarm.
    Alarms,
    /// Rows that were read.
    Rows,
    /// Area under the ROC curve of all rows with an outcome.
    Auc,
    /// Expected calibration error.
    Ece,
    MeanScore,
    MeanOutcome,
    /// Mean score over mean outcome: below 1 the model promises too little risk.
    Calibration,
}

impl Quantity {
    pub const ALL: [Quantity; 11] = [
        Quantity::Psi,
        Quantity::Csi,
        Quantity::Missing,
        Quantity::Unseen,
        Quantity::Alarms,
        Quantity::Rows,
        Quantity::Auc,
        Quantity::Ece,
        Quantity::MeanScore,
        Quantity::MeanOutcome,
        Quantity::Calibration,
    ];

    /// As a rule writes it.
    pub fn name(self) -> &'static str {
        match self {
            Quantity::Psi => "psi",
            Quantity::Csi => "csi",
            Quantity::Missing => "missing",
            Quantity::Unseen => "unseen",
            Quantity::Alarms => "alarms",
            Quantity::Rows => "rows",
            Quantity::Auc => "auc",
            Quantity::Ece => "ece",
            Quantity::MeanScore => "mean_score",
            Quantity::MeanOutcome => "mean_outcome",
            Quantity::Calibration => "calibration",
        }
    }

    /// Whether it can be asked of one column.
    pub fn takes_column(self) -> bool {
        matches!(self, Quantity::Csi | Quantity::Missing | Quantity::Unseen)
    }
}

/// A quantity, of one column or of the point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measure {
    pub quantity: Quantity,
    pub column: Option<String>,
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.column {
            None => f.write_str(self.quantity.name()),
            Some(column) => {
                write!(f, "{}(\"{}\")", self.quantity.name(), column.replace('"', "\"\""))
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Less,
    AtMost,
    More,
    AtLeast,
    Equal,
    Unequal,
}

impl Comparison {
    fn holds(self, value: f64, bound: f64) -> bool {
        match self {
            Comparison::Less => value < bound,
            Comparison::AtMost => value <= bound,
            Comparison::More => value > bound,
            Comparison::AtLeast => value >= bound,
            Comparison::Equal => value == bound,
            Comparison::Unequal => value != bound,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Compare(Measure, Comparison, f64),
    Not(Box<Node>),
    All(Vec<Node>),
    Any(Vec<Node>),
}

/// A rule that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule(Node);

impl Rule {
    /// Whether the rule holds of a point; None where what it tells does not decide that.
    pub fn holds(&self, readings: &Readings<'_>) -> Option<bool> {
        holds(&self.0, readings)
    }

    /// What the rule asks for, each once, in the rule's order.
    pub fn measures(&self) -> Vec<&Measure> {
        let mut found = Vec::new();
        collect(&self.0, &mut found);
        found
    }

    /// The rule's measures with their values, as a reason tells them: `psi 0.31, auc unknown`.
    pub fn values(&self, readings: &Readings<'_>) -> String {
        let told = self.measures().into_iter().map(|measure| match readings.of(measure) {
            Some(value) => format!("{measure} {}", (value * 1e4).round() / 1e4),
            None => format!("{measure} unknown"),
        });
        told.collect::<Vec<_>>().join(", ")
    }
}

fn holds(node: &Node, readings: &Readings<'_>) -> Option<bool> {
    match node {
        Node::Compare(measure, comparison, bound) => {
            Some(comparison.holds(readings.of(measure)?, *bound))
        }
        Node::Not(inner) => holds(inner, readings).map(|held| !held),
        Node::All(parts) => decide(parts, readings, false),
        Node::Any(parts) => decide(parts, readings, true),
    }
}

/// One part that is `decisive` decides; else one that is unknown leaves the whole unknown.
fn decide(parts: &[Node], readings: &Readings<'_>, decisive: bool) -> Option<bool> {
    let mut whole = Some(!decisive);
    for part in parts {
        match holds(part, readings) {
            Some(held) if held == decisive => return Some(decisive),
            Some(_) => {}
            None => whole = None,
        }
    }
    whole
}

fn collect<'a>(node: &'a Node, found: &mut Vec<&'a Measure>) {
    match node {
        Node::Compare(measure, ..) if !found.contains(&measure) => found.push(measure),
        Node::Compare(..) => {}
        Node::Not(inner) => collect(inner, found),
        Node::All(parts) | Node::Any(parts) => parts.iter().for_each(|part| collect(part, found)),
    }
}

#[cfg(test)]
mod tests;
