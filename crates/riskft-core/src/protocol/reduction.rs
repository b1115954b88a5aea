//! The job of a reduction, and its answer.

use serde::{Deserialize, Serialize};

use super::{BlobHeader, Ledger};
use crate::cell::SourceColumn;
use crate::reduce::{Options, Wanted};

/// What is to be reduced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReductionHeader {
    /// [`super::PROTOCOL`]
    pub protocol: u32,
    pub reducer: String,
    /// As the user wrote it; for messages only.
    pub relation: String,
    pub wanted: Wanted,
    pub options: Options,
    /// The columns that are reduced, in the order of their cells in the batches: numbers alone, at
    /// most [`crate::reduce::MOST_COLUMNS`].
    pub columns: Vec<SourceColumn>,
}

/// All that the server stores of a reduction, but the bytes of its file. What the views tell of a
/// reducer is read from that file once it is verified.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReductionResult {
    pub ledger: Ledger,
    /// One, of kind reducer.
    pub blobs: Vec<BlobHeader>,
}
