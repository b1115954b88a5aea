//! options.reduce: number columns of a training condensed into components, by the rows outside the test
//! part, with the arithmetic of riskft_reduce.

use std::collections::HashSet;
use std::sync::Arc;

use riskft_core::dataset::names::visible;
use riskft_core::dataset::roles::Decision;
use riskft_core::dataset::{ColumnPlan, Prepared};
use riskft_core::encode::value::Numbers;
use riskft_core::encode::EncodedColumn;
use riskft_core::options::{Options, Role};
use riskft_core::protocol::Progress;
use riskft_core::reduce::{no_number, Reducer, Wanted};
use riskft_core::refusal::Result;

use super::{fitted, Block, Moments, Summary, ROWS};
use crate::events::Reporter;
use crate::job::Job;
use crate::ledger::Meter;

const PHASE: &str = "reduce";

/// Whether a column is condensed if it is not chosen: an amount, not a code, of no role of the caller's.
pub fn is_condensed(options: &Options, plan: &ColumnPlan, name: &str) -> bool {
    let is_amount = plan.role() == Role::Number && !plan.decision.category;
    options.reduce.pca != 0.0 && is_amount && !options.roles.contains_key(name)
}

/// Fits the components of a training: of all amounts, but those that options.select has `chosen`.
///
/// # Errors
/// 22023 where there is no number column, and those of core's `reduce`.
pub fn condense(
    job: &Job,
    prepared: &mut Prepared,
    chosen: Option<&HashSet<String>>,
    meter: &mut Meter,
    reporter: &Reporter,
) -> Result<()> {
    let options = &job.header.options;
    let Some(wanted) = options.reduce.wanted()? else { return Ok(()) };
    meter.phase(PHASE);
    let name = |plan: &ColumnPlan| job.dataset.columns[plan.index].source.name.as_str();
    let is_kept = |name: &str| chosen.is_some_and(|chosen| chosen.contains(name));
    let mut plans: Vec<&ColumnPlan> = prepared
        .columns
        .iter()
        .filter(|plan| is_condensed(options, plan, name(plan)) && !is_kept(name(plan)))
        .collect();
    if plans.is_empty() {
        return nothing_to_condense(job, prepared, reporter);
    }
    plans.sort_by_key(|plan| name(plan));
    let asked: HashSet<String> = plans.iter().map(|plan| name(plan).to_owned()).collect();
    let reducer = reducer(job, prepared, &plans, wanted, reporter)?.map(Arc::new);
    let condensed: HashSet<&String> = reducer.iter().flat_map(|r| r.columns()).collect();
    for (plan, report) in prepared.columns.iter_mut().zip(&mut prepared.reports) {
        if condensed.contains(&report.column_name) {
            let count = reducer.as_ref().map_or(0, |reducer| reducer.count());
            report.why = format!("options.reduce: condensed into {count} components");
        } else if asked.contains(&report.column_name) {
            report.why = "options.reduce: it does not vary outside the test part".to_owned();
            report.role = Role::Ignored;
            plan.decision = Decision::new(Role::Ignored, report.why.as_str());
        }
    }
    prepared.reducer = reducer.clone();
    Ok(())
}

/// Columns that are kept as they are leave nothing; a table without a number is another matter.
fn nothing_to_condense(job: &Job, prepared: &Prepared, reporter: &Reporter) -> Result<()> {
    let used: Vec<&ColumnPlan> = prepared.columns.iter().filter(|plan| plan.is_used()).collect();
    if used.iter().any(|plan| plan.role() == Role::Number) {
        reporter.notice(
            "options.reduce has nothing to condense: all number columns are kept as they are",
        );
        return Ok(());
    }
    let described = |plan: &&ColumnPlan| {
        let source = &job.dataset.columns[plan.index].source;
        format!("\"{}\" ({})", visible(&source.name), plan.decision.why)
    };
    Err(no_number(&used.iter().map(described).collect::<Vec<_>>()))
}

/// None where no column varies: other columns may train all the same.
fn reducer(
    job: &Job,
    prepared: &Prepared,
    plans: &[&ColumnPlan],
    wanted: Wanted,
    reporter: &Reporter,
) -> Result<Option<Reducer>> {
    let _guard = tch::no_grad_guard();
    let summary = summary(job, prepared, plans, reporter);
    if summary.columns.iter().all(|column| column.present == 0 || column.is_constant()) {
        reporter.notice(
            "options.reduce has nothing to condense: no number column varies outside the test part",
        );
        return Ok(None);
    }
    let (fit, notices) = fitted(summary, wanted)?;
    for notice in notices {
        reporter.notice(format!("options.reduce: {notice}"));
    }
    Reducer::open(Arc::new(fit.write()?)).map(Some)
}

/// The moments of the rows outside the test part, in the order of their hashes: that of the table has
/// no say.
fn summary(job: &Job, prepared: &Prepared, plans: &[&ColumnPlan], reporter: &Reporter) -> Summary {
    let mut rows = prepared.fitted();
    rows.sort_by_key(|row| prepared.row_hashes[*row as usize]);
    let column = |plan: &&ColumnPlan| &job.dataset.columns[plan.index];
    let encoded: Vec<EncodedColumn> =
        plans.iter().map(|plan| plan.encoded(&column(plan).source)).collect();
    let numbers: Vec<Numbers<'_>> = plans
        .iter()
        .zip(&encoded)
        .map(|(plan, encoded)| Numbers::new(column(plan), encoded, job.header.reference_date))
        .collect();
    let mut moments = Moments::new(encoded.iter().map(|column| column.name.clone()).collect());
    let mut block = Block::new(numbers.len());
    for rows in rows.chunks(ROWS) {
        block.add(rows.len(), |column, cells| {
            for (cell, row) in cells.iter_mut().zip(rows) {
                *cell = numbers[column].at(*row as usize);
            }
        });
        moments.absorb(&mut block);
        reporter.progress(Progress {
            phase: PHASE.into(),
            done: moments.rows(),
            ..Progress::default()
        });
    }
    moments.finish()
}
