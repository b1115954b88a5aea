//! A whole reduction: moments of the rows as they come, then the eigenvectors of their correlations.
//! No row is kept; memory goes by the square of the columns. [`condense()`] does the same within a
//! training.

mod condense;
mod moments;
mod solve;

use std::io::Read;

use riskft_core::cell::{ColumnType, SourceColumn};
use riskft_core::encode::value::plain;
use riskft_core::protocol::{
    broken, read_batch, read_frame, BlobHeader, BlobKind, Ledger, Progress, ReductionHeader,
    ReductionResult, FRAME_BATCH, FRAME_END,
};
use riskft_core::reduce::{fit, is_number, needed, varying, Column, Fit, Wanted, MOST_COLUMNS};
use riskft_core::refusal::Result;

pub use condense::{condense, is_condensed};
pub use moments::{Moments, Summary, ROWS};
pub use solve::solve;

use crate::device;
use crate::events::Reporter;
use crate::files::blob;
use crate::job::unknown_frame;
use crate::ledger::Meter;

/// A finished reduction.
pub struct Outcome {
    pub result: ReductionResult,
    pub blobs: Vec<(BlobHeader, Vec<u8>)>,
}

/// Reads the job's rows and returns the reducer's file.
///
/// # Errors
/// 08P01 for a stream that is no job, and every refusal of core's `reduce`.
pub fn run(header: ReductionHeader, input: &mut impl Read, reporter: &Reporter) -> Result<Outcome> {
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

/// The moments of the job's rows, columns ascending by name: their order in the relation has no say.
fn read(columns: &[SourceColumn], input: &mut impl Read, reporter: &Reporter) -> Result<Summary> {
    let places = places(columns)?;
    let types: Vec<ColumnType> = columns.iter().map(|column| column.column_type).collect();
    let mut names = vec![String::new(); columns.len()];
    for (column, place) in columns.iter().zip(&places) {
        names[*place].clone_from(&column.name);
    }
    let mut moments = Moments::new(names);
    let mut values: Vec<Vec<f64>> = vec![Vec::new(); columns.len()];
    let mut payload = Vec::new();
    loop {
        match read_frame(input, &mut payload)? {
            FRAME_BATCH => {}
            FRAME_END => return Ok(moments.finish()),
            other => return Err(unknown_frame(other)),
        }
        values.iter_mut().for_each(Vec::clear);
        read_batch(&payload, &types, |column, _, cell| {
            values[places[column]].push(plain(cell));
            Ok(())
        })?;
        moments.push(&values);
        let done = moments.rows();
        reporter.progress(Progress { phase: "load".into(), done, ..Progress::default() });
    }
}

/// Place of each column by its name.
fn places(columns: &[SourceColumn]) -> Result<Vec<usize>> {
    if columns.is_empty() || columns.len() > MOST_COLUMNS {
        return Err(broken(&format!("the header has {} columns", columns.len())));
    }
    if !columns.iter().all(|column| is_number(column.column_type)) {
        return Err(broken("a column holds no numbers"));
    }
    let mut order: Vec<usize> = (0..columns.len()).collect();
    order.sort_by_key(|index| &columns[*index].name);
    if order.windows(2).any(|two| columns[two[0]].name == columns[two[1]].name) {
        return Err(broken("a column comes twice"));
    }
    let mut places = vec![0; columns.len()];
    order.iter().enumerate().for_each(|(place, index)| places[*index] = place);
    Ok(places)
}
