//! A whole run: from the job to what is published.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Instant;

use riskft_core::dataset::{self, Dataset, Part, Prepared};
use riskft_core::encode::{self, Encoding};
use riskft_core::metrics;
use riskft_core::model::BranchKind;
use riskft_core::options::{Calibrate, Grams, KeepText, Method, TextMode, Unlabelled, SMALL};
use riskft_core::protocol::{BlobHeader, JobHeader, Ledger, Progress, TrainingResult};
use riskft_core::refusal::{code, Refusal, Result};

use crate::backtest::{self, Natural};
use crate::balance;
use crate::base::Base;
use crate::baseline;
use crate::blend::{self, Blend, Candidate};
use crate::device::Compute;
use crate::events::Reporter;
use crate::finish::Trained;
use crate::fit::{fit_head, Lesson};
use crate::folds::Folds;
use crate::forest::{self, Forest, Ground};
use crate::grams;
use crate::head::{Head, Plan};
use crate::job::{self, Job};
use crate::ledger::Meter;
use crate::rows::{Reader, Rows};
use crate::scoring;
use crate::search;
use crate::self_train;
use crate::text::{self, Text};
use crate::texts::{Collector, Texts};

/// A finished run.
pub struct Outcome {
    pub result: TrainingResult,
    pub blobs: Vec<(BlobHeader, Vec<u8>)>,
}

/// Reads the job, trains, and returns what is to be published. `base_dir` stands in for the
/// folder of the header, which is another machine's when the job is a file.
///
/// # Errors
/// Every refusal of the steps.
pub fn run(input: impl Read, base_dir: Option<PathBuf>, reporter: &Reporter) -> Result<Outcome> {
    let mut meter = Meter::default();
    meter.phase("load");
    let job = job::read(input, reporter)?;
    meter.phase("prepare");
    let (prepared, mut encoding) = prepare(&job, reporter)?;
    let compute = Compute::choose(&job.header.options)?;
    reporter.notice(compute.in_words());
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
        let offset = run.offset(&fitted, |kind| kind < BranchKind::Grams);
        // On top of logits of natural shares, by labelled rows alone.
        let folds = run.folds.natural();
        let natural = Run { folds: &folds, ..run };
        let text = text::fit(&natural, base, &offset, &mut meter, &mut ledger)?;
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
    let published = trained.publish(quantized, incumbent)?;
    meter.close(&mut ledger);
    let result = TrainingResult {
        positive_label: prepared.positive_label.clone(),
        negative_label: prepared.negative_label.clone(),
        threshold: published.threshold,
        features: prepared.reports.clone(),
        metrics: published.metrics,
        branches: published.branches,
        periods: published.periods,
        trials: found.trials,
        gate: published.gate,
        ledger,
        incumbent: published.incumbent,
        blobs: published.blobs.iter().map(|(header, _)| header.clone()).collect(),
    };
    Ok(Outcome { result, blobs: published.blobs })
}

fn prepare(job: &Job, reporter: &Reporter) -> Result<(Prepared, Encoding)> {
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
    let encoding = encode::fit(&job.dataset, &prepared, &job.header);
    Ok((prepared, encoding))
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

    /// Network and trees.
    pub(crate) fn tabular(&self, meter: &mut Meter, ledger: &mut Ledger) -> Result<Fitted> {
        let mut fitted = Fitted::default();
        if !self.is_text_alone() {
            self.network(&mut fitted, meter, ledger)?;
            self.trees(&mut fitted, meter)?;
        }
        Ok(fitted)
    }

    /// Whole-row text is the traditional arm: it stands alone.
    pub fn is_text_alone(&self) -> bool {
        self.header.options.text == TextMode::Row && self.header.method != Method::None
    }

    pub fn trees(&self, fitted: &mut Fitted, meter: &mut Meter) -> Result<()> {
        meter.phase("trees");
        let asked = self.rows.unlabelled();
        if let Some(forest) = forest::fit(&Ground::of(self, &asked), self.reporter)? {
            fitted.candidates.push(Candidate {
                kind: BranchKind::Trees,
                logits: forest.out_of_fold.clone(),
                on_top: false,
                kept: true,
                always: false,
                seconds: forest.seconds,
                what: format!(
                    "LightGBM, {} models of {} rounds",
                    self.folds.models(),
                    forest.rounds
                ),
            });
            fitted.forest = Some(forest);
        }
        Ok(())
    }

    pub fn network(
        &self,
        fitted: &mut Fitted,
        meter: &mut Meter,
        ledger: &mut Ledger,
    ) -> Result<()> {
        let options = &self.header.options;
        let members = self.folds.models() * options.members;
        let base_rate = metrics::base_rate(&self.labels()).unwrap_or(0.5);
        let plan = Plan::tabular(self.encoding, options, members, base_rate);
        if plan.inputs() == 0 || options.head_epochs == 0 {
            return Ok(());
        }
        meter.phase("network");
        let start = Instant::now();
        let head = Head::new(plan, self.compute.device);
        ledger.parameters += head.size() as u64;
        ledger.parameters_trainable += head.size() as u64;
        let lesson = Lesson {
            rows: self.rows,
            folds: self.folds,
            offset: None,
            options,
            phase: "network",
            reporter: self.reporter,
        };
        let reached = fit_head(&head, lesson)?;
        ledger.head_epochs = reached.epochs as u64;
        fitted.candidates.push(Candidate {
            kind: BranchKind::Network,
            logits: reached.out_of_fold,
            on_top: false,
            kept: true,
            always: false,
            seconds: start.elapsed().as_secs_f64(),
            what: format!("{members} networks, {} epochs", reached.epochs),
        });
        fitted.network = Some(head);
        Ok(())
    }

    /// N-grams of texts, kept if they add to numbers and categories.
    pub fn grams(&self, dataset: &Dataset, fitted: &mut Fitted, meter: &mut Meter) -> Result<()> {
        let options = &self.header.options;
        let asked = options.grams == Grams::Better && options.text == TextMode::Fields;
        if !asked || self.encoding.texts.is_empty() {
            return Ok(());
        }
        meter.phase("grams");
        let Some(branch) = grams::branch(self, dataset)? else { return Ok(()) };
        let labels = self.labels();
        let before = (!fitted.candidates.is_empty()).then(|| self.offset(fitted, |_| true));
        fitted.candidates.push(Candidate {
            kind: BranchKind::Grams,
            logits: branch.logits.clone(),
            on_top: false,
            kept: true,
            always: false,
            seconds: branch.seconds,
            what: branch.what.clone(),
        });
        let gain = before.and_then(|before| {
            blend::gain(&self.offset(fitted, |_| true), &before, &self.folds.fitted, &labels)
        });
        if gain.is_some_and(|gain| !self.is_reliable(gain)) {
            if let Some(candidate) = fitted.candidates.last_mut() {
                candidate.kept = false;
            }
        }
        fitted.grams = Some(branch);
        Ok(())
    }

    /// The blend so far of some kinds of branches, or the base rate.
    pub(crate) fn offset(&self, fitted: &Fitted, of: impl Fn(BranchKind) -> bool) -> Vec<f64> {
        let labels = self.labels();
        let candidates: Vec<&Candidate> =
            fitted.candidates.iter().filter(|c| c.kept && of(c.kind)).collect();
        if candidates.is_empty() {
            let rate = metrics::base_rate(&labels).unwrap_or(0.5);
            return vec![riskft_core::math::logit(rate); self.rows.source.len()];
        }
        blend::fit(&candidates, &self.folds.fitted, &labels).out_of_fold
    }

    /// Whether a branch's gain is more than its standard error, in a small sample than half of it: there
    /// that error is larger than most true gains, and the ridge of the weights bounds the harm.
    fn is_reliable(&self, (gain, error): (f64, f64)) -> bool {
        let errors = if self.folds.size() < SMALL { 0.5 } else { 1.0 };
        gain > errors * error
    }

    /// Text beside what there is: kept if the blend with it is better than the one without.
    fn add_text(&self, fitted: &mut Fitted, text: Text, ledger: &mut Ledger) {
        let labels = self.labels();
        let before = (!fitted.candidates.is_empty()).then(|| self.offset(fitted, |_| true));
        let tabular = fitted.candidates.iter().any(|c| c.kind < BranchKind::Grams);
        fitted.candidates.push(Candidate {
            kind: BranchKind::Text,
            logits: text.logits.clone(),
            on_top: tabular,
            kept: true,
            always: self.header.options.keep_text == KeepText::Always,
            seconds: text.seconds,
            what: text.what.clone(),
        });
        fitted.text = Some(text);
        ledger.text_kept = true;
        let Some(before) = before else { return };
        let gain =
            blend::gain(&self.offset(fitted, |_| true), &before, &self.folds.fitted, &labels);
        let better = gain.is_some_and(|gain| self.is_reliable(gain));
        ledger.text_kept = better || self.header.options.keep_text == KeepText::Always;
        ledger.auc_without_text = blend::auc(&before, &self.folds.fitted, &labels);
        ledger.text_gain_se = gain.map(|(_, error)| error);
        if let Some(candidate) = fitted.candidates.last_mut() {
            candidate.kept = ledger.text_kept;
        }
        let figure = |v: Option<f64>| v.map_or("unknown".to_owned(), |v| format!("{v:.4}"));
        self.reporter.notice(format!(
            "validation AUC {} without the encoder's text, which adds {} (standard error {}): {}",
            figure(ledger.auc_without_text),
            figure(gain.map(|(gain, _)| gain)),
            figure(ledger.text_gain_se),
            match ledger.text_kept {
                true => "it is kept",
                false => "it adds nothing reliable and is left out of the version",
            }
        ));
    }

    /// The weights of what was kept.
    fn blend(&self, fitted: &Fitted) -> Result<Blend> {
        let kept: Vec<&Candidate> = fitted.candidates.iter().filter(|c| c.kept).collect();
        if kept.is_empty() {
            return Err(Refusal::new(code::INVALID_PARAMETER, "nothing is left to train")
                .detail("Options switch off the network, and there are no trees and no text.")
                .hint("Set options.head_epochs or options.trees.rounds above 0."));
        }
        Ok(blend::fit(&kept, &self.folds.fitted, &self.labels()))
    }
}
