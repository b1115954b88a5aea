//! The model file: what a version is, was made of, reached and is used for, as one HTML page with
//! pictures in SVG. It holds what a validator asks for under SR 11-7 (Board of Governors and OCC
//! 2011): data, development, outcomes, monitoring, changes and their approvals, limits of use.
//!
//! Strings in, strings out. Whatever users wrote is escaped in [`text`]; the page has no script and
//! names no address.

mod chart;
mod limits;
mod page;
mod pictures;
mod series;
pub mod text;

pub use page::page;
pub use pictures::picture;

use crate::protocol::Figures;

/// What a picture shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Roc,
    PrecisionRecall,
    Calibration,
    Ks,
    Scores,
    Lift,
    Importance,
    Effect,
    Drift,
    Ab,
    Cost,
}

impl Kind {
    pub const ALL: [Kind; 11] = [
        Kind::Roc,
        Kind::PrecisionRecall,
        Kind::Calibration,
        Kind::Ks,
        Kind::Scores,
        Kind::Lift,
        Kind::Importance,
        Kind::Effect,
        Kind::Drift,
        Kind::Ab,
        Kind::Cost,
    ];

    /// As riskft_plot takes it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Roc => "roc",
            Kind::PrecisionRecall => "precision_recall",
            Kind::Calibration => "calibration",
            Kind::Ks => "ks",
            Kind::Scores => "scores",
            Kind::Lift => "lift",
            Kind::Importance => "importance",
            Kind::Effect => "effect",
            Kind::Drift => "drift",
            Kind::Ab => "ab",
            Kind::Cost => "cost",
        }
    }

    /// Undoes [`Kind::name`].
    pub fn of(name: &str) -> Option<Self> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// A call of riskft_monitor, as the picture of drift shows it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DriftPoint {
    /// Its day, in UTC.
    pub day: String,
    /// Population stability index of the score.
    pub score: Option<f64>,
    /// The column whose index is largest, and that index.
    pub worst: Option<(String, f64)>,
}

/// The AUC of an arm of an A/B test, when it was last evaluated.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ArmFigure {
    /// Number of the test.
    pub test: i32,
    pub is_challenger: bool,
    pub version: i32,
    pub auc: f64,
    /// 95%.
    pub interval: Option<(f64, f64)>,
}

/// What a way of training took.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TrainingCost {
    /// Version and way, as the picture says them.
    pub name: String,
    /// Wall time.
    pub seconds: f64,
}

/// What pictures show besides a version's own figures.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Beside {
    /// Oldest first.
    pub drift: Vec<DriftPoint>,
    /// By test and arm.
    pub arms: Vec<ArmFigure>,
    pub costs: Vec<TrainingCost>,
}

/// Rows for people: text as it is to be read, None for what is unknown.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    pub heads: Vec<String>,
    pub rows: Vec<Vec<Option<String>>>,
}

/// All that a page tells of a version.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    pub model: String,
    pub version: i32,
    /// When the report was asked for.
    pub made_at: String,
    /// What the version is: one row.
    pub version_facts: Table,
    /// The run that made it: one row, or none where the reader may not see it.
    pub run_facts: Table,
    /// What the run used: likewise.
    pub cost: Table,
    pub phases: Table,
    pub figures: Figures,
    pub gate: Table,
    pub beside: Beside,
    pub outcomes: Table,
    /// All versions of the model, with their figures.
    pub versions: Table,
    pub deployments: Table,
    pub aliases: Table,
    pub ab_tests: Table,
    /// Of the last evaluation of each test.
    pub ab_results: Table,
    pub cost_comparison: Table,
    pub privileges: Table,
    pub audit: Table,
}
