//! Which columns carry the risk: boosted trees on folds, each of which explains rows that it left out.
//!
//! One function, [`ranked`], serves riskft_select ([`run`]) and options.select ([`keep`]). It looks at
//! rows outside the test part alone. Columns come by name, for LightGBM draws them by their number: the
//! order of the table's columns has no say.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::Read;

use riskft_core::dataset::names::{listed, visible};
use riskft_core::dataset::roles::Decision;
use riskft_core::dataset::{self, ColumnPlan, Part, Prepared};
use riskft_core::encode;
use riskft_core::options::{Categories, Method, Options, Role, Trees};
use riskft_core::protocol::{JobHeader, Ledger, Progress, SelectionHeader, SelectionResult};
use riskft_core::refusal::{code, Refusal, Result};
use riskft_core::select::{leaders, owners, rank, rows_of, top, Ranked, Said, Sums};

use crate::begin::prepare;
use crate::device;
use crate::events::Reporter;
use crate::folds::Folds;
use crate::forest::Ground;
use crate::job::{self, Job};
use crate::ledger::Meter;
use crate::reduce::is_condensed;
use crate::rows::{sample, Reader, Rows};
use crate::texts::Collector;

const PHASE: &str = "select";
/// Rows that are explained, at most.
const EXPLAINED: usize = 2000;
/// Rows, and cells, that the quick model learns from. A selection from 20,000 rows of 1,000 columns
/// took 984 MB, the rows themselves included, and 30 s of two cores.
const MOST_ROWS: usize = 50_000;
const MOST_CELLS: usize = 1 << 23;

/// A finished selection.
pub struct Outcome {
    pub result: SelectionResult,
}

/// Reads the job's rows and ranks their columns.
///
/// # Errors
/// 08P01 for a stream that is no job, every refusal of preparing a training, and those of [`ranked`].
pub fn run(header: SelectionHeader, input: &mut impl Read, reporter: &Reporter) -> Result<Outcome> {
    let mut meter = Meter::default();
    let threads = device::use_threads(header.job.options.threads);
    meter.phase("load");
    let job = job::read(JobHeader { method: Method::None, ..header.job }, input, reporter)?;
    meter.phase("prepare");
    let prepared = prepare(&job, reporter)?;
    tell_texts(&job, &prepared, reporter);
    meter.phase(PHASE);
    let columns = top(ranked(&job, &prepared, threads, reporter)?, header.most);
    let fitted = prepared.fitted().len() as u64;
    let mut ledger = Ledger {
        rows: job.dataset.rows as u64,
        rows_unlabelled: prepared.rows(Part::Unlabelled).len() as u64,
        rows_train: fitted,
        rows_validation: fitted,
        rows_test: prepared.rows(Part::Test).len() as u64,
        device: "cpu".to_owned(),
        precision: "f64".to_owned(),
        threads: threads as u32,
        ..Ledger::default()
    };
    meter.close(&mut ledger);
    Ok(Outcome { result: SelectionResult { columns, ledger } })
}

/// Texts without a line of their own: long ones, which trees do not read.
fn tell_texts(job: &Job, prepared: &Prepared, reporter: &Reporter) {
    let unread = |plan: &&ColumnPlan| plan.is_used() && !plan.is_read(Method::None);
    let name = |plan: &ColumnPlan| format!("\"{}\"", visible(name_of(job, plan)));
    let texts: Vec<String> = prepared.columns.iter().filter(unread).map(name).collect();
    if !texts.is_empty() {
        reporter.notice(format!("left out, as trees read no texts: {}", listed(&texts)));
    }
}

/// Leaves columns out of a training that the quick model does not choose: `options.select`. Columns
/// whose role the caller gave stay in any case, and so do texts where an encoder reads them; amounts
/// that `options.reduce` condenses stay for it, but not what says the same as another column.
///
/// Returns the names of the chosen columns, None without a selection.
///
/// # Errors
/// Those of [`ranked`].
pub fn keep(
    job: &Job,
    prepared: &mut Prepared,
    threads: usize,
    meter: &mut Meter,
    reporter: &Reporter,
) -> Result<Option<HashSet<String>>> {
    let options = &job.header.options;
    let most = options.select.shap;
    if most == 0 {
        return Ok(None);
    }
    meter.phase(PHASE);
    let ranked = ranked(job, prepared, threads, reporter)?;
    let why = |column: &Ranked| match &column.twin_of {
        Some(twin) => format!("options.select: it says the same as \"{}\"", visible(twin)),
        None => format!("options.select: not among the {most} columns that carry the risk"),
    };
    let is_chosen = |column: &&Ranked| column.twin_of.is_none() && column.rank as usize <= most;
    let chosen = ranked.iter().filter(is_chosen).map(|column| column.column_name.clone()).collect();
    let dropped: HashMap<&str, &Ranked> = ranked
        .iter()
        .filter(|column| !is_chosen(column))
        .map(|column| (column.column_name.as_str(), column))
        .collect();
    let before = prepared.columns.iter().filter(|plan| plan.is_used()).count();
    for (plan, report) in prepared.columns.iter_mut().zip(&mut prepared.reports) {
        let name = report.column_name.as_str();
        let is_encoded = plan.role() == Role::Text && job.header.method != Method::None;
        let Some(column) = dropped.get(name) else { continue };
        let is_left = column.twin_of.is_none() && is_condensed(options, plan, name);
        if !is_encoded && !is_left && !options.roles.contains_key(name) {
            let why = why(column);
            plan.decision = Decision::new(Role::Ignored, why.as_str());
            (report.role, report.why) = (Role::Ignored, why);
        }
    }
    let left = before - prepared.columns.iter().filter(|plan| plan.is_used()).count();
    if left > 0 {
        reporter.notice(format!(
            "options.select leaves out {left} of {before} columns; riskft.features tells which"
        ));
    }
    Ok(Some(chosen))
}

/// Ranks the columns that trees read by the magnitude of their contributions out of fold. Empty where
/// all columns are texts.
///
/// # Errors
/// 22023 with too few rows of a class to cross them over, 38000 when LightGBM fails.
pub fn ranked(
    job: &Job,
    prepared: &Prepared,
    threads: usize,
    reporter: &Reporter,
) -> Result<Vec<Ranked>> {
    reporter.progress(Progress { phase: PHASE.into(), ..Progress::default() });
    let header = quick_header(&job.header);
    let quick = quick_rows(job, prepared);
    let plans: Vec<&ColumnPlan> =
        quick.columns.iter().filter(|plan| plan.is_read(Method::None)).collect();
    let names: Vec<&str> = plans.iter().map(|plan| name_of(job, plan)).collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let leaders = leaders(&names, &said(job, &quick, &plans));
    let encoding = encode::fit(&job.dataset, &quick, &header);
    let place: HashMap<&str, usize> = names.iter().copied().zip(0..).collect();
    let of_encoding: Vec<usize> =
        encoding.columns.iter().filter_map(|c| place.get(c.name.as_str()).copied()).collect();
    let owners: Vec<Vec<usize>> = owners(&encoding)
        .iter()
        .map(|columns| columns.iter().map(|column| of_encoding[*column]).collect())
        .collect();
    let mut sums = Sums::new(&owners, &leaders);
    if encoding.features() > 0 {
        let reader = Reader::new(&job.dataset, &encoding)?;
        let mut none = Collector::default();
        let rows = Rows::read(&reader, &quick.labels, &quick.parts, false, &mut none, |_| ());
        let folds = Folds::new(&quick, &rows, &header.options);
        let ground = Ground {
            features: &rows.features,
            labels: &rows.labels,
            labelled: rows.labelled,
            asked: &[],
            folds: &folds,
            encoding: &encoding,
            options: &header.options,
            hashes: &rows.hashes,
            threads,
        };
        let explained = sample(folds.fitted.clone(), EXPLAINED, header.options.seed);
        let found = ground.contributions(&explained, PHASE, reporter)?;
        found.ok_or_else(|| too_few(&folds))?.iter().for_each(|row| sums.add(row));
    }
    Ok(rank(&names, &leaders, &sums.means()))
}

fn name_of<'a>(job: &'a Job, plan: &ColumnPlan) -> &'a str {
    &job.dataset.columns[plan.index].source.name
}

/// Trees alone, few rounds of them, on one division into folds.
fn quick_header(given: &JobHeader) -> JobHeader {
    let options = Options {
        folds: 5,
        repeats: 1,
        trees: Trees {
            rounds: 100,
            leaves: 0,
            learning_rate: 0.1,
            columns: 0.4,
            min_rows: 0,
            categories: Categories::Mixed,
        },
        seed: given.options.seed,
        ..Options::default()
    };
    JobHeader { method: Method::None, options, ..given.clone() }
}

/// The prepared rows as the quick model sees them: columns by name, and of the rows outside the test
/// part so many as it learns from.
fn quick_rows(job: &Job, prepared: &Prepared) -> Prepared {
    let mut quick = prepared.clone();
    quick.columns.sort_by(|a, b| name_of(job, a).cmp(name_of(job, b)));
    let columns = quick.columns.iter().filter(|plan| plan.is_read(Method::None)).count();
    let most = (MOST_CELLS / columns.max(1)).min(MOST_ROWS);
    let rows = dataset::sample(prepared.fitted(), &prepared.row_hashes, most);
    let rows: BTreeSet<usize> = rows.into_iter().map(|row| row as usize).collect();
    let rest = (0..quick.parts.len()).filter(|row| !rows.contains(row));
    for row in rest {
        (quick.labels[row], quick.parts[row]) = (None, Part::Unlabelled);
    }
    quick
}

fn said(job: &Job, quick: &Prepared, plans: &[&ColumnPlan]) -> Vec<Said> {
    let rows = dataset::sample(quick.fitted(), &quick.row_hashes, rows_of(plans.len()));
    let of = |plan: &&ColumnPlan| {
        let column = &job.dataset.columns[plan.index];
        Said::of(column, &plan.encoded(&column.source), job.header.reference_date, &rows)
    };
    plans.iter().map(of).collect()
}

fn too_few(folds: &Folds) -> Refusal {
    Refusal::new(code::INVALID_PARAMETER, "too few rows to select columns")
        .detail(format!(
            "{} rows are outside the test part, which each of {} folds needs both classes of.",
            folds.size(),
            folds.models()
        ))
        .hint("Give more rows of the rarer class.")
}
