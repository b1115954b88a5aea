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
}

impl Kind {
    pub const ALL: [Kind; 9] = [
        Kind::Roc,
        Kind::PrecisionRecall,
        Kind::Calibration,
        Kind::Ks,
        Kind::Scores,
        Kind::Lift,
        Kind::Importance,
        Kind::Effect,
        Kind::Drift,
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
    pub drift: Vec<DriftPoint>,
    pub outcomes: Table,
    /// All versions of the model, with their figures.
    pub versions: Table,
    pub deployments: Table,
    pub aliases: Table,
    pub privileges: Table,
    pub audit: Table,
}
