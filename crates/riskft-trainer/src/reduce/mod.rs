//! A whole reduction: moments of the rows as they come, then the eigenvectors of their correlations.
//! No row is kept; memory goes by the square of the columns. [`condense()`] does the same within a
//! training.

mod block;
mod condense;
mod moments;
mod read;
mod solve;

use std::io::Read;

use riskft_core::protocol::{
    BlobHeader, BlobKind, Ledger, Progress, ReductionHeader, ReductionResult,
};
use riskft_core::reduce::{fit, needed, varying, Column, Fit, Wanted};
use riskft_core::refusal::Result;

pub use block::{Block, ROWS};
pub use condense::{condense, is_condensed};
pub use moments::{Moments, Summary};
pub use solve::solve;

use crate::device;
use crate::events::Reporter;
use crate::files::blob;
use crate::ledger::Meter;
use read::read;

/// A finished reduction.
pub struct Outcome {
    pub result: ReductionResult,
    pub blobs: Vec<(BlobHeader, Vec<u8>)>,
}

/// Reads the job's rows and returns the reducer's file.
///
/// # Errors
/// 08P01 for a stream that is no job, and every refusal of core's `reduce`.
pub fn run(
    header: ReductionHeader,
    input: &mut (impl Read + Send),
    reporter: &Reporter,
) -> Result<Outcome> {
    let _guard = tch::no_grad_guard();
    let mut meter = Meter::default();
    let threads = device::use_threads(header.options.threads);
    meter.phase("load");
    let summary = read(&header.columns, input, reporter)?;
    meter.phase("solve");
    reporter.progress(Progress { phase: "solve".into(), total: 1, ..Progress::default() });
    let rows = summary.rows;
    let (reducer, notices) = fitted(summary, header.wanted)?;
    notices.into_iter().for_each(|notice| reporter.notice(notice));
    let blobs = vec![blob(BlobKind::Reducer, reducer.write()?)];
    let mut ledger = Ledger {
        rows,
        device: "cpu".to_owned(),
        precision: "f64".to_owned(),
        threads: threads as u32,
        ..Ledger::default()
    };
    meter.close(&mut ledger);
    let blob_headers = blobs.iter().map(|(header, _)| header.clone()).collect();
    Ok(Outcome { result: ReductionResult { ledger, blobs: blob_headers }, blobs })
}

/// The components of the rows that were summed up, and what is told of them, in words.
///
/// # Errors
/// Every refusal of core's `reduce`.
fn fitted(summary: Summary, wanted: Wanted) -> Result<(Fit, Vec<String>)> {
    let (kept, mut notices) = varying(&summary.columns, summary.rows)?;
    let columns: Vec<Column> = kept.iter().map(|index| summary.columns[*index].clone()).collect();
    let rows = summary.rows;
    let eigen = solve(summary.correlation(&kept), |values| needed(values, rows, wanted))?;
    let (fit, more) = fit(columns, rows, eigen, wanted)?;
    notices.extend(more);
    Ok((fit, notices))
}
