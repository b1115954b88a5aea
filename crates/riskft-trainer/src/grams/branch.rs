//! The branch `grams` of a run.

use std::time::Instant;

use riskft_core::cell::Cell;
use riskft_core::dataset::Dataset;
use riskft_core::grams::{Table, View};
use riskft_core::model::GramsInput;
use riskft_core::protocol::Progress;
use riskft_core::refusal::{code, Refusal, Result};

use super::{choice_seconds, choose, view_for, Matrix, Sample, Texts, GRID};
use crate::rows::Reader;
use crate::run::Run;

/// The branch as fitted.
pub struct Branch {
    pub table: Table,
    pub input: GramsInput,
    /// Out-of-fold logits by place.
    pub logits: Vec<f64>,
    /// What it reads, in words.
    pub what: String,
    pub seconds: f64,
}

/// Fits the branch on the folds of the first repeat; None where no text tells more than the base
/// rate, or the texts are too long in all to be counted.
///
/// # Errors
/// 38000 when the solver fails.
pub fn branch(run: &Run<'_>, dataset: &Dataset) -> Result<Option<Branch>> {
    let start = Instant::now();
    run.reporter.progress(Progress { phase: "grams".into(), ..Progress::default() });
    let Some((view, matrix)) = counted(run, dataset)? else { return Ok(None) };
    let (fitted, labels) = (&run.folds.fitted, &run.rows.labels);
    let weights = weights(run);
    let columns: Vec<usize> = (0..matrix.columns().len()).collect();
    let sample = Sample::new(&matrix, fitted, labels, &weights, &columns);
    let Some(best) = choose(sample, &folds(run), GRID).map_err(failed)? else { return Ok(None) };
    let shift = run.folds.shift(fitted, labels);
    let table = matrix.table(&best.columns, &best.model.weights, best.model.bias - shift);
    let mut logits = vec![f64::NAN; labels.len()];
    fitted
        .iter()
        .zip(&best.out_of_fold)
        .for_each(|(place, z)| logits[*place as usize] = *z - shift);
    let name = |column: &usize| run.encoding.texts[*column].name.as_str();
    let names: Vec<&str> = best.columns.iter().map(name).collect();
    Ok(Some(Branch {
        table: table.map_err(failed)?,
        input: GramsInput { view, texts: best.columns.clone() },
        logits,
        what: format!("n-grams of {}, C = {}", names.join(", "), best.c),
        seconds: start.elapsed().as_secs_f64(),
    }))
}

/// Wall seconds that [`branch`] takes, from one fit of each column.
///
/// # Errors
/// Those of [`branch`].
pub fn seconds(run: &Run<'_>, dataset: &Dataset) -> Result<f64> {
    let start = Instant::now();
    let Some((_, matrix)) = counted(run, dataset)? else { return Ok(0.0) };
    let read = start.elapsed().as_secs_f64();
    let weights = weights(run);
    let (rows, labels) = (&run.folds.fitted, &run.rows.labels);
    let sample = Sample::new(&matrix, rows, labels, &weights, &[]);
    let fits = choice_seconds(sample, &folds(run), matrix.columns().len(), run.compute.threads);
    Ok(read + fits.map_err(failed)?)
}

/// The rows over their n-grams; None, and a NOTICE, where these are too many.
fn counted(run: &Run<'_>, dataset: &Dataset) -> Result<Option<(View, Matrix)>> {
    let texts = texts(run, dataset)?;
    let bytes = texts.cells.iter().map(|text| text.len()).sum();
    let Some(view) = view_for(bytes) else {
        run.reporter.notice("the texts are too long in all for their n-grams to be counted");
        return Ok(None);
    };
    Ok(Some((view, Matrix::read(view, &texts, &run.folds.fitted)?)))
}

fn weights(run: &Run<'_>) -> Vec<f64> {
    run.folds.weights.iter().map(|weight| f64::from(*weight)).collect()
}

/// The fold of each fitted row.
fn folds(run: &Run<'_>) -> Vec<u8> {
    run.folds.fitted.iter().map(|place| run.folds.fold(*place)).collect()
}

/// The texts as scoring reads them: blanks at both ends cut.
fn texts<'a>(run: &Run<'a>, dataset: &'a Dataset) -> Result<Texts<'a>> {
    let reader = Reader::new(dataset, run.encoding)?;
    let mut cells = Vec::with_capacity(run.rows.source.len() * run.encoding.texts.len());
    for (place, row) in run.rows.source.iter().enumerate() {
        let counts = place < run.rows.labelled;
        cells.extend(run.encoding.texts.iter().map(|text| {
            match reader.text_cell(text.source, *row as usize) {
                Cell::Text(value) if counts => value.trim(),
                _ => "",
            }
        }));
    }
    Ok(Texts { columns: (0..run.encoding.texts.len() as u32).collect(), cells })
}

fn failed(what: String) -> Refusal {
    Refusal::new(code::EXTERNAL_ROUTINE, "fitting the n-grams failed")
        .detail(format!("The solver reported: {what}."))
        .hint("Set options.grams to \"never\" to train without them.")
}
