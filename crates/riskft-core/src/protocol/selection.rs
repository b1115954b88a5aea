//! The job of a selection of columns, and its answer.

use serde::{Deserialize, Serialize};

use super::{JobHeader, Ledger};
use crate::select::Ranked;

/// What is to be selected from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SelectionHeader {
    /// [`super::PROTOCOL`]
    pub protocol: u32,
    /// As of a training without texts; it names no model.
    pub job: JobHeader,
    /// Columns that are listed, at most; those that say the same count once.
    pub most: u32,
}

/// The columns, the most important first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SelectionResult {
    pub columns: Vec<Ranked>,
    pub ledger: Ledger,
}
