//! What every training begins with, and an estimate of one: from the job to rows as branches read
//! them.

use std::io::Read;
use std::path::{Path, PathBuf};

use riskft_core::dataset::{self, Prepared};
use riskft_core::encode::{self, Encoding};
use riskft_core::options::{Method, Unlabelled};
use riskft_core::protocol::{JobHeader, Progress};
use riskft_core::refusal::Result;

use crate::balance::Balanced;
use crate::base::Base;
use crate::device::Compute;
use crate::events::Reporter;
use crate::folds::Folds;
use crate::job::{self, Job};
use crate::ledger::Meter;
use crate::reduce::condense;
use crate::rows::{Reader, Rows};
use crate::run::Run;
use crate::select;
use crate::texts::{Collector, Texts};

/// The job as read, and all that was decided of it.
pub struct Begun {
    pub job: Job,
    pub prepared: Prepared,
    pub compute: Compute,
    pub encoding: Encoding,
    /// None where no text is read.
    pub base: Option<Base>,
    pub rows: Rows,
    pub texts: Texts,
    /// Before `options.balance`.
    pub folds: Folds,
}

/// Reads the job's rows and encodes them. `base_dir` stands in for the folder of the header, which is
/// another machine's when the job is a file.
///
/// # Errors
/// Those of [`job::read`], [`prepare`], the selection and reduction of columns, and the base model.
pub fn begin(
    header: JobHeader,
    input: &mut impl Read,
    base_dir: Option<PathBuf>,
    meter: &mut Meter,
    reporter: &Reporter,
) -> Result<Begun> {
    meter.phase("load");
    let job = job::read(header, input, reporter)?;
    meter.phase("prepare");
    let mut prepared = prepare(&job, reporter)?;
    let compute = Compute::choose(&job.header.options)?;
    reporter.notice(compute.in_words());
    let chosen = select::keep(&job, &mut prepared, compute.threads, meter, reporter)?;
    condense(&job, &mut prepared, chosen.as_ref(), meter, reporter)?;
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
    Ok(Begun { job, prepared, compute, encoding, base, rows, texts, folds })
}

impl Begun {
    /// What the branches work on.
    pub fn run<'a>(&'a self, balanced: &'a Balanced, reporter: &'a Reporter) -> Run<'a> {
        Run {
            header: &self.job.header,
            prepared: &self.prepared,
            encoding: &self.encoding,
            texts: &self.texts,
            folds: &balanced.folds,
            rows: balanced.rows.as_ref().unwrap_or(&self.rows),
            compute: &self.compute,
            reporter,
        }
    }
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
