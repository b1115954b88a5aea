//! The job of an update, and what it tells of its version beside the figures of every version.

use serde::{Deserialize, Serialize};

use crate::cell::SourceColumn;
use crate::update::{Contest, Options};

/// Which rows a version goes on from, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UpdateHeader {
    /// [`super::PROTOCOL`]
    pub protocol: u32,
    pub model: String,
    /// As the user wrote it; for messages only.
    pub relation: String,
    /// The column of the labels.
    pub target: String,
    pub options: Options,
    /// The columns of the deployed version, and the target.
    pub columns: Vec<SourceColumn>,
}

/// The deployed version and its update on rows that neither has learnt from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct UpdateReport {
    /// Test rows of the versions before, of which the training file keeps a sample; None where it has
    /// none.
    pub old: Option<Contest>,
    /// New rows that were set aside.
    pub new: Contest,
    /// Labels that have a code of their own from now on: (category, labels).
    pub added: Vec<(String, u64)>,
}
