//! A whole training: from the job to what is published.

use std::io::Read;
use std::path::{Path, PathBuf};

use riskft_core::dataset::{self, Part, Prepared};
use riskft_core::encode::{self, Encoding};
use riskft_core::options::{Calibrate, Method, Unlabelled};
use riskft_core::protocol::{BlobHeader, Figures, JobHeader, Ledger, Progress, TrainingResult};
use riskft_core::refusal::Result;

use crate::backtest::{self, Natural};
use crate::balance;
use crate::base::Base;
use crate::baseline;
use crate::blend::Candidate;
use crate::device::Compute;
use crate::events::Reporter;
use crate::finish::Trained;
use crate::folds::Folds;
use crate::forest::Forest;
use crate::grams;
use crate::head::Head;
use crate::job::{self, Job};
use crate::ledger::Meter;
use crate::reduce::condense;
use crate::rows::{Reader, Rows};
use crate::scoring;
use crate::search;
use crate::select;
use crate::self_train;
use crate::text::{self, Text};
use crate::texts::{Collector, Texts};

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
    meter.phase("load");
    let job = job::read(header, input, reporter)?;
    meter.phase("prepare");
    let mut prepared = prepare(&job, reporter)?;
    let compute = Compute::choose(&job.header.options)?;
    reporter.notice(compute.in_words());
    let chosen = select::keep(&job, &mut prepared, compute.threads, &mut meter, reporter)?;
    condense(&job, &mut prepared, chosen.as_ref(), &mut meter, reporter)?;
    meter.phase("prepare");
    let mut encoding = encode::fit(&job.dataset, &prepared, &job.header);
    let folder = base_dir.unwrap_or_else(|| PathBuf::from(&job.header.base_dir));
    let base = read_base(&job.header, &encoding, &folder, reporter)?;
    if base.is_none() {
        encoding.texts.clear();
    }
    meter.phase("encode");
    let (rows, texts) = read_rows(&job, &prepared, &encoding, base.as_ref(), reporter)?;
    let rows = rows.to_device(compute.device);
    let folds = Folds::new(&prepared, &rows, &job.header.options);
    let balanced = balance::of(&rows, &folds, &encoding, &job.header, reporter);
    let natural = Natural { rows: &rows, folds: &folds };
    let (folds, made) = (&balanced.folds, balanced.rows.as_ref());
    let run = Run {
        header: &job.header,
        prepared: &prepared,
        encoding: &encoding,
        texts: &texts,
        folds,
        rows: made.unwrap_or(&rows),
        compute: &compute,
        reporter,
    };
    let found = search::search(&run, base.as_ref(), &mut meter)?;
    let run = Run { header: &found.header, ..run };
    let mut ledger = run.ledger(job.dataset.rows, base.is_some());
    let mut fitted = run.tabular(&mut meter, &mut ledger)?;
    run.grams(&job.dataset, &mut fitted, &mut meter)?;
    let mut fitted = self_train::refit(run, fitted, &mut meter, &mut ledger)?;
    if let Some(base) = &base {
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
        job: &job,
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

/// Takes all decisions before encoding, and tells of them.
///
/// # Errors
/// Those of [`dataset::prepare`].
pub fn prepare(job: &Job, reporter: &Reporter) -> Result<Prepared> {
    let phase = |done| Progress { phase: "prepare".into(), done, total: 2, ..Progress::default() };
    reporter.progress(phase(0));
    let prepared = dataset::prepare(&job.dataset, &job.header)?;
    for notice in &prepared.notices {
        reporter.notice(notice);
    }
    for (message, detail) in &prepared.warnings {
        reporter.warning(message, detail);
    }
    reporter.progress(phase(1));
    Ok(prepared)
}

fn read_base(
    header: &JobHeader,
    encoding: &Encoding,
    folder: &Path,
    reporter: &Reporter,
) -> Result<Option<Base>> {
    if header.method == Method::None {
        return Ok(None);
    }
    if encoding.texts.is_empty() {
        reporter.notice(format!(
            "there is no text column: method {} trains numbers and categories only",
            header.method.name()
        ));
        return Ok(None);
    }
    Base::read(&header.base, folder).map(Some)
}

fn read_rows(
    job: &Job,
    prepared: &Prepared,
    encoding: &Encoding,
    base: Option<&Base>,
    reporter: &Reporter,
) -> Result<(Rows, Texts)> {
    let reader = Reader::new(&job.dataset, encoding)?;
    let mut collector = Collector::default();
    let total = job.dataset.rows as u64;
    let progress = |done| {
        if done % 4096 == 0 {
            let done = done as u64;
            reporter.progress(Progress {
                phase: "encode".into(),
                done,
                total,
                ..Progress::default()
            });
        }
    };
    let unlabelled = job.header.options.unlabelled == Unlabelled::SelfTrain;
    let (labels, parts) = (&prepared.labels, &prepared.parts);
    let mut rows = Rows::read(&reader, labels, parts, unlabelled, &mut collector, progress);
    let Some(base) = base else { return Ok((rows, Texts::default())) };
    base.words.check(collector.values())?;
    let (texts, numbers) = Texts::new(&base.words.encode(collector.values()), base.shape.window());
    rows.renumber(&numbers);
    Ok((rows, texts))
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
    fn ledger(&self, rows: usize, encoder: bool) -> Ledger {
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
