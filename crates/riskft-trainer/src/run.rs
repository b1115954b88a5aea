//! A whole run: from the job to what is published.

use std::io::Read;
use std::path::{Path, PathBuf};

use riskft_core::dataset::{self, Part, Prepared};
use riskft_core::encode::{self, Encoding};
use riskft_core::metrics;
use riskft_core::options::{KeepText, Method, TextMode};
use riskft_core::protocol::{BlobHeader, JobHeader, Ledger, Progress, TrainingResult};
use riskft_core::refusal::Result;
use tch::Kind;

use crate::base::Base;
use crate::bert::Bert;
use crate::device::Compute;
use crate::events::Reporter;
use crate::finish::Trained;
use crate::fit::{all_parameters, fit_head, judged_rows, Reached, Snapshot};
use crate::frozen::{encode, fits, Frozen, Tuned};
use crate::head::{Head, Plan};
use crate::job::{self, Job};
use crate::ledger::Meter;
use crate::rows::{Reader, Rows};
use crate::scoring;
use crate::texts::{Collector, Texts};
use crate::tune::{tune, TuneReport};
use crate::tuning::{first_layer, Tuning};

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
    let (prepared, encoding) = prepare(&job, reporter)?;
    let plain = plain_encoding(&job, &prepared, &encoding);
    let compute = Compute::choose(&job.header.options)?;
    reporter.notice(compute.in_words());
    let folder = base_dir.unwrap_or_else(|| PathBuf::from(&job.header.base_dir));
    let base = read_base(&job.header, &encoding, &folder, reporter)?;
    let encoding = within_positions(encoding, base.as_ref());
    meter.phase("encode");
    let (rows, texts) = read_rows(&job, &prepared, &encoding, base.as_ref(), reporter)?;
    let rows = rows.to_device(compute.device);
    let run = Run {
        header: &job.header,
        encoding: &encoding,
        base: base.as_ref(),
        texts: &texts,
        rows: &rows,
        compute: &compute,
        reporter,
    };
    let mut ledger = run.ledger(job.dataset.rows);
    let (none, plain_rows) = match plain.as_ref().filter(|_| base.is_some()) {
        Some(plain) => {
            (Texts::default(), Some(read_rows(&job, &prepared, plain, None, reporter)?.0))
        }
        None => (Texts::default(), None),
    };
    let plain_rows = plain_rows.map(|rows| rows.to_device(compute.device));
    let plain_run = plain.as_ref().zip(plain_rows.as_ref()).map(|(encoding, rows)| Run {
        encoding,
        base: None,
        texts: &none,
        rows,
        ..run
    });
    let plain_fit = match &plain_run {
        Some(plain) => Some(plain.fit(&mut meter, &mut Ledger::default())?),
        None => None,
    };
    let mut chosen = (&run, run.fit(&mut meter, &mut ledger)?);
    if let Some((plain_run, fitted)) = plain_run.as_ref().zip(plain_fit) {
        if !run.text_is_kept(&chosen.1.reached, &fitted.reached, &mut ledger) {
            chosen = (plain_run, fitted);
        }
    }
    let (run, fitted) = chosen;
    meter.phase("quantize");
    let trained = Trained {
        job: &job.header,
        dataset: &job.dataset,
        prepared: &prepared,
        encoding: run.encoding,
        base: run.base,
        texts: run.texts,
        rows: run.rows,
        head: &fitted.head,
        tuning: &fitted.tuning,
        compute: &compute,
        reporter,
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

/// The encoding of the same table without text, where text has to earn its place.
fn plain_encoding(job: &Job, prepared: &Prepared, encoding: &Encoding) -> Option<Encoding> {
    let options = &job.header.options;
    let asked = options.keep_text == KeepText::Better && options.text == TextMode::Fields;
    if !asked || encoding.texts.is_empty() {
        return None;
    }
    let header = JobHeader { method: Method::None, ..job.header.clone() };
    let mut plain = encode::fit(&job.dataset, prepared, &header);
    plain.texts.clear();
    (!plain.is_empty()).then_some(plain)
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

/// No text may have more tokens than the base has positions for.
fn within_positions(mut encoding: Encoding, base: Option<&Base>) -> Encoding {
    match base {
        Some(base) => {
            for text in &mut encoding.texts {
                text.max_tokens = text.max_tokens.min(base.shape.max_tokens());
            }
        }
        None => encoding.texts.clear(),
    }
    encoding
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
    let mut rows = Rows::read(&reader, &prepared.labels, &prepared.parts, &mut collector, |done| {
        if done % 4096 == 0 {
            let done = done as u64;
            reporter.progress(Progress {
                phase: "encode".into(),
                done,
                total,
                ..Progress::default()
            });
        }
    });
    let Some(base) = base else { return Ok((rows, Texts::default())) };
    base.words.check(collector.values())?;
    let (texts, numbers) = Texts::new(&base.words.encode(collector.values()));
    rows.renumber(&numbers);
    Ok((rows, texts))
}

/// What both stages work on.
#[derive(Clone, Copy)]
struct Run<'a> {
    header: &'a JobHeader,
    encoding: &'a Encoding,
    base: Option<&'a Base>,
    texts: &'a Texts,
    rows: &'a Rows,
    compute: &'a Compute,
    reporter: &'a Reporter,
}

/// Where the second stage starts.
struct Start {
    bert: Bert,
    frozen: Frozen,
    /// Layers below this one stay frozen.
    split: usize,
}

struct Fitted {
    head: Head,
    tuning: Tuning,
    reached: Reached,
}

impl Run<'_> {
    fn ledger(&self, rows: usize) -> Ledger {
        let count = |part: Part| self.rows.part(part).len() as u64;
        let lengths = self.rows.text_numbers.iter().filter_map(|n| usize::try_from(*n).ok());
        Ledger {
            rows: rows as u64,
            rows_unlabelled: (rows - self.rows.source.len()) as u64,
            rows_train: count(Part::Train),
            rows_validation: count(Part::Validation),
            rows_calibration: count(Part::Calibration),
            rows_test: count(Part::Test),
            tokens: lengths.map(|n| self.texts.length(n) as u64).sum(),
            tokens_distinct: self.texts.tokens() as u64,
            device: self.compute.name.clone(),
            precision: self.base.map_or("f32", |_| self.compute.precision()).to_owned(),
            threads: self.compute.threads as u32,
            ..Ledger::default()
        }
    }

    fn new_head(&self) -> Head {
        let labels = self.rows.labels_of(self.rows.part(Part::Train));
        let base_rate = metrics::base_rate(&labels).unwrap_or(0.5);
        let width = self.base.map_or(0, |base| base.shape.width);
        let plan = Plan::new(self.encoding, &self.header.options, width, base_rate);
        Head::new(plan, self.compute.device)
    }

    fn fit(&self, meter: &mut Meter, ledger: &mut Ledger) -> Result<Fitted> {
        let head = self.new_head();
        let options = &self.header.options;
        ledger.parameters = head.size() as u64;
        ledger.parameters_trainable = head.size() as u64;
        let Some(base) = self.base else {
            meter.phase("head");
            let reached = fit_head(&head, self.rows, None, options, self.reporter)?;
            ledger.head_epochs = reached.epochs as u64;
            return Ok(Fitted { head, tuning: Tuning::Frozen, reached });
        };
        ledger.parameters += base.parameters() as u64;
        let split = first_layer(self.header.method, options, &base.shape);
        meter.phase("encode");
        let start = self.freeze(base, split)?;
        meter.phase("head");
        let vectors = Some(&start.frozen.vectors);
        let reached = fit_head(&head, self.rows, vectors, options, self.reporter)?;
        ledger.head_epochs = reached.epochs as u64;
        ledger.auc_frozen = reached.judgement.auc;
        if options.epochs == 0 {
            return Ok(Fitted { head, tuning: Tuning::Frozen, reached });
        }
        meter.phase("tune");
        let (tuning, reached) = self.tune(base, start, &head, reached, ledger)?;
        Ok(Fitted { head, tuning, reached })
    }

    fn freeze(&self, base: &Base, split: usize) -> Result<Start> {
        let compute = self.compute;
        let bert = Bert::new(&base.shape, &base.tensors, compute.kind, compute.device)?;
        let total = self.texts.tokens() as u64;
        let keep = self.header.options.epochs > 0
            && split > 0
            && fits(self.texts, base.shape.width, compute.kind);
        let frozen = encode(&bert, self.texts, split, keep, compute.device, |done| {
            let done = done as u64;
            self.reporter.progress(Progress {
                phase: "encode".into(),
                done,
                total,
                ..Progress::default()
            });
        });
        Ok(Start { bert, frozen, split })
    }

    fn tune(
        &self,
        base: &Base,
        start: Start,
        head: &Head,
        reached: Reached,
        ledger: &mut Ledger,
    ) -> Result<(Tuning, Reached)> {
        let (header, compute) = (self.header, self.compute);
        let Start { mut bert, frozen, split } = start;
        if header.method == Method::Full {
            // The weights that are trained are f32; the products stay of the run's kind.
            bert = Bert::new(&base.shape, &base.tensors, Kind::Float, compute.device)?;
            bert.kind = compute.kind;
        }
        let tuning = Tuning::new(header.method, &header.options, &mut bert, compute.device);
        let before = Snapshot::take(&all_parameters(head));
        ledger.parameters_trainable += tuning.size() as u64;
        if header.method != Method::Full {
            ledger.parameters += tuning.size() as u64;
        }
        let tuned = Tuned {
            bert: &bert,
            tuning: &tuning,
            texts: self.texts,
            split,
            lower: frozen.lower.as_ref(),
            device: compute.device,
        };
        let report = tune(
            &tuned,
            head,
            self.rows,
            &reached.scores,
            header.method,
            &header.options,
            self.reporter,
        )?;
        self.tell(&report, &reached, ledger);
        if report.is_kept() {
            return Ok((tuning, report.reached));
        }
        before.restore(&all_parameters(head));
        Ok((Tuning::Frozen, reached))
    }

    /// Whether text improves the validation AUC by more than the paired standard error.
    fn text_is_kept(&self, text: &Reached, plain: &Reached, ledger: &mut Ledger) -> bool {
        let labels = self.rows.labels_of(&judged_rows(self.rows, &self.header.options));
        let gain = metrics::auc_difference(&text.scores, &plain.scores, &labels);
        let kept = gain.is_some_and(|(gain, error)| gain > error);
        ledger.auc_without_text = plain.judgement.auc;
        ledger.text_gain_se = gain.map(|(_, error)| error);
        ledger.text_kept = kept;
        let figure = |auc: Option<f64>| auc.map_or("unknown".to_owned(), |auc| format!("{auc:.4}"));
        let verdict = match kept {
            true => "text is kept",
            false => "text adds nothing reliable and is left out of the version",
        };
        self.reporter.notice(format!(
            "validation AUC {} with text, {} without (standard error of the gain {}): {verdict}",
            figure(text.judgement.auc),
            figure(plain.judgement.auc),
            figure(ledger.text_gain_se),
        ));
        kept
    }

    fn tell(&self, report: &TuneReport, frozen: &Reached, ledger: &mut Ledger) {
        ledger.tune_epochs = report.reached.epochs as u64;
        ledger.tune_epoch_cpu_seconds = Some(report.epoch_cpu_seconds);
        ledger.auc_tuned = report.reached.judgement.auc;
        ledger.auc_gain_se = report.gain.map(|(_, error)| error);
        ledger.tuned_kept = report.is_kept();
        let figure = |auc: Option<f64>| auc.map_or("unknown".to_owned(), |auc| format!("{auc:.4}"));
        self.reporter.notice(format!(
            "validation AUC {} with the frozen encoder, {} after {} (standard error of the gain {}): the {} encoder is kept",
            figure(frozen.judgement.auc),
            figure(report.reached.judgement.auc),
            self.header.method.name(),
            figure(ledger.auc_gain_se),
            if ledger.tuned_kept { "tuned" } else { "frozen" },
        ));
    }
}
