//! A whole training: from the job to what is published.

use std::io::Read;
use std::path::PathBuf;

use riskft_core::dataset::{Part, Prepared};
use riskft_core::encode::Encoding;
use riskft_core::options::Calibrate;
use riskft_core::protocol::{BlobHeader, Figures, JobHeader, Ledger, TrainingResult};
use riskft_core::refusal::Result;

use crate::backtest::{self, Natural};
use crate::balance;
use crate::baseline;
use crate::begin::{self, Begun};
use crate::blend::Candidate;
use crate::device::Compute;
use crate::events::Reporter;
use crate::finish::Trained;
use crate::folds::Folds;
use crate::forest::Forest;
use crate::grams;
use crate::head::Head;
use crate::ledger::Meter;
use crate::rows::Rows;
use crate::scoring;
use crate::search;
use crate::self_train;
use crate::text::{self, Text};
use crate::texts::Texts;

/// A finished training.
pub struct Outcome {
    pub result: TrainingResult,
    pub blobs: Vec<(BlobHeader, Vec<u8>)>,
}

/// Reads the job's rows, trains, and returns what is to be published. `base_dir` stands in for the
/// folder of the header, which is another machine's when the job is a file.
///
/// # Errors
/// Every refusal of the steps.
pub fn run(
    header: JobHeader,
    input: &mut impl Read,
    base_dir: Option<PathBuf>,
    reporter: &Reporter,
) -> Result<Outcome> {
    let mut meter = Meter::default();
    let begun = begin::begin(header, input, base_dir, &mut meter, reporter)?;
    let Begun { job, prepared, rows, folds, base, .. } = &begun;
    let balanced = balance::of(rows, folds, &begun.encoding, &job.header, reporter);
    let natural = Natural { rows, folds };
    let run = begun.run(&balanced, reporter);
    let found = search::search(&run, base.as_ref(), &mut meter)?;
    let run = Run { header: &found.header, ..run };
    let mut ledger = run.ledger(job.dataset.rows, base.is_some());
    let mut fitted = run.tabular(&mut meter, &mut ledger)?;
    run.grams(&job.dataset, &mut fitted, &mut meter)?;
    let mut fitted = self_train::refit(run, fitted, &mut meter, &mut ledger)?;
    if let Some(base) = base {
        // On top of logits of natural shares, by labelled rows alone.
        let folds = run.folds.natural();
        let natural = Run { folds: &folds, ..run };
        let text = text::fit(&natural, base, &fitted, &mut meter, &mut ledger)?;
        run.add_text(&mut fitted, text, &mut ledger);
    }
    let blend = run.blend(&fitted)?;
    meter.phase("baseline");
    let baseline = baseline::fit(&run);
    if let Some(baseline) = &baseline {
        baseline.compare(&run, &blend);
    }
    let backtest = backtest::logits(&run, natural, &fitted, &blend, &mut meter)?;
    meter.phase("quantize");
    let trained = Trained {
        run,
        job,
        base: base.as_ref(),
        fitted: &fitted,
        blend: &blend,
        baseline: baseline.as_ref(),
        backtest: backtest.as_deref(),
    };
    let quantized = trained.quantize()?;
    meter.phase("evaluate");
    let incumbent = (!job.incumbent_version.is_empty()).then(|| {
        let encoder = Some(job.incumbent_encoder.clone()).filter(|bytes| !bytes.is_empty());
        scoring::open(job.incumbent_version.clone(), encoder)
    });
    let published = trained.publish(quantized, incumbent, &mut meter)?;
    meter.close(&mut ledger);
    let result = TrainingResult {
        positive_label: prepared.positive_label.clone(),
        negative_label: prepared.negative_label.clone(),
        threshold: published.threshold,
        figures: Figures {
            features: prepared.reports.clone(),
            metrics: published.metrics,
            branches: published.branches,
            periods: published.periods,
            trials: found.trials,
            importances: published.importances,
            effects: published.effects,
            reference: published.reference,
            curve: published.curve,
        },
        gate: published.gate,
        ledger,
        incumbent: published.incumbent,
        update: None,
        blobs: published.blobs.iter().map(|(header, _)| header.clone()).collect(),
    };
    Ok(Outcome { result, blobs: published.blobs })
}

/// What all branches work on.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    pub header: &'a JobHeader,
    pub prepared: &'a Prepared,
    pub encoding: &'a Encoding,
    pub texts: &'a Texts,
    pub folds: &'a Folds,
    pub rows: &'a Rows,
    pub compute: &'a Compute,
    pub reporter: &'a Reporter,
}

/// The branches as fitted; `candidates` has each one's out-of-fold logits.
#[derive(Default)]
pub struct Fitted {
    pub network: Option<Head>,
    pub forest: Option<Forest>,
    pub grams: Option<grams::Branch>,
    pub text: Option<Text>,
    pub candidates: Vec<Candidate>,
}

impl Run<'_> {
    /// The ledger of a run that has read so many rows, before it used anything.
    pub(crate) fn ledger(&self, rows: usize, encoder: bool) -> Ledger {
        let options = &self.header.options;
        let count = |part: Part| self.rows.part(part).len() as u64;
        let lengths = self.rows.text_numbers.iter().filter_map(|n| usize::try_from(*n).ok());
        Ledger {
            rows: rows as u64,
            rows_unlabelled: (rows - self.rows.labelled) as u64,
            rows_train: self.folds.fitted.len() as u64,
            rows_validation: self.folds.fitted.len() as u64,
            rows_calibration: match options.calibrate {
                Calibrate::Recent if self.header.time_column.is_some() => count(Part::Calibration),
                _ => self.folds.fitted.len() as u64,
            },
            rows_test: count(Part::Test),
            tokens: lengths.map(|n| self.texts.length(n) as u64).sum(),
            tokens_distinct: self.texts.tokens() as u64,
            device: self.compute.name.clone(),
            precision: if encoder { self.compute.precision() } else { "f32" }.to_owned(),
            threads: self.compute.threads as u32,
            ..Ledger::default()
        }
    }

    /// Labels of the fitted rows.
    pub fn labels(&self) -> Vec<bool> {
        self.rows.labels_of(&self.folds.fitted)
    }
}
