//! The deployed version on the new version's test rows.

use std::sync::Arc;

use riskft_core::dataset::Dataset;
use riskft_core::metrics;
use riskft_core::model::Model;
use riskft_core::protocol::IncumbentReport;
use riskft_core::refusal::Result;

use crate::events::Reporter;
use crate::rows::Reader;
use crate::scoring;

/// The test rows of the new version, and what it says of them.
pub struct Contest<'a> {
    pub dataset: &'a Dataset,
    /// Rows of the dataset.
    pub rows: &'a [u32],
    pub labels: &'a [bool],
    pub scores: &'a [f64],
    pub positive_label: &'a str,
    pub threads: usize,
}

/// Scores the deployed version; what prevents it is said in the report, for it must not prevent
/// the new version.
pub fn compare(
    model: Result<Arc<Model>>,
    contest: &Contest<'_>,
    reporter: &Reporter,
) -> IncumbentReport {
    let why_not = |why: String| IncumbentReport { why_not: why, ..IncumbentReport::default() };
    let model = match model {
        Ok(model) => model,
        Err(refusal) => return why_not(format!("its files cannot be read: {}", refusal.message)),
    };
    let specification = model.specification();
    if specification.positive_label != contest.positive_label {
        return why_not(format!("its positive label is \"{}\"", specification.positive_label));
    }
    let gone =
        specification.encoding.columns.iter().find(|c| contest.dataset.column(&c.name).is_none());
    if let Some(column) = gone {
        return why_not(format!("its column \"{}\" is gone", column.name));
    }
    let scores = Reader::new(contest.dataset, &specification.encoding).and_then(|reader| {
        scoring::logits(&model, &reader, contest.rows, contest.threads, reporter)
    });
    match scores {
        Ok(logits) => {
            let blend = |row: Vec<f64>| specification.blend(row.into_iter());
            judged(&logits.into_iter().map(blend).collect::<Vec<f64>>(), &model, contest)
        }
        Err(refusal) => why_not(format!("it cannot score the rows: {}", refusal.message)),
    }
}

fn judged(logits: &[f64], model: &Model, contest: &Contest<'_>) -> IncumbentReport {
    let platt = model.specification().calibration;
    let old: Vec<f64> = logits.iter().map(|logit| platt.apply(*logit)).collect();
    let difference = metrics::auc_difference(contest.scores, &old, contest.labels);
    IncumbentReport {
        auc: metrics::auc(&old, contest.labels),
        difference: difference.map(|(difference, _)| difference),
        standard_error: difference.map(|(_, error)| error),
        why_not: match difference {
            Some(_) => String::new(),
            None => "the test rows are too few or of one class".to_owned(),
        },
    }
}
