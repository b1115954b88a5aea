//! What a training would take, from some of its steps taken for real on this machine and these rows.
//!
//! Reading, preparing and encoding are done in full, for nothing else tells how many rows, features and
//! tokens there are. Of what takes longer, a few rounds of the trees, steps of the network and of the
//! tuning, and passes of the encoder are timed, and multiplied by how many of them a training takes.
//! How many that is depends on when it stops by itself; what it typically takes on the tables of the
//! bench stands for that. benches/RESULTS.md, section Estimates, tells how well this agrees.

mod tabular;
mod text;

use std::io::Read;
use std::path::PathBuf;
use std::time::Instant;

use riskft_core::dataset::Part;
use riskft_core::options::{Calibrate, KeepText, KeepTuned, Options, Unlabelled};
use riskft_core::protocol::{
    EstimateHeader, EstimateResult, JobHeader, Ledger, PhaseEstimate, Progress,
};
use riskft_core::refusal::Result;

use crate::balance;
use crate::base::Base;
use crate::baseline;
use crate::begin;
use crate::events::{Listener, Reporter};
use crate::explain;
use crate::finish::MOST_TRAINING_ROWS;
use crate::job::Job;
use crate::ledger::Meter;
use crate::run::Run;
use crate::search;

/// Seconds of a thread for a row that is scored without text.
const SCORED_ROW: f64 = 85e-6;
/// A text's token as the version scores it, in f32 and int8, in those of the frozen encoder.
const SCORED_TOKEN: f64 = 0.7;

/// Reads the job's rows and estimates what training on them takes. `base_dir` as of
/// [`crate::run::run`].
///
/// # Errors
/// Those of [`begin::begin`], and of the steps that are taken.
pub fn run(
    header: EstimateHeader,
    input: &mut impl Read,
    base_dir: Option<PathBuf>,
    reporter: &Reporter,
) -> Result<EstimateResult> {
    let mut meter = Meter::default();
    let begun = begin::begin(header.job, input, base_dir, &mut meter, reporter)?;
    let header = &begun.job.header;
    let balanced = balance::of(&begun.rows, &begun.folds, &begun.encoding, header, reporter);
    meter.phase("estimate");
    let quiet = Reporter::new(Listener::Nobody);
    let run = begun.run(&balanced, &quiet);
    let mut ledger = run.ledger(begun.job.dataset.rows, begun.base.is_some());
    let pilot = Pilot { run, job: &begun.job, base: begun.base.as_ref(), told: reporter };
    let rest = pilot.phases()?;
    let memory_bytes = pilot.memory();
    meter.close(&mut ledger);
    let taken = ledger.phases.iter().filter(|(phase, _)| phase != "estimate");
    let mut phases: Vec<PhaseEstimate> =
        taken.map(|(phase, seconds)| certain(phase, *seconds)).collect();
    for phase in rest {
        match phases.iter_mut().find(|known| known.phase == phase.phase) {
            Some(known) => known.seconds += phase.seconds,
            None => phases.push(phase),
        }
    }
    Ok(EstimateResult { phases, memory_bytes, ledger })
}

/// Wall seconds, and what came of them.
fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(f64, T)> {
    let start = Instant::now();
    let done = work()?;
    Ok((start.elapsed().as_secs_f64(), done))
}

fn certain(phase: &str, seconds: f64) -> PhaseEstimate {
    PhaseEstimate { phase: phase.to_owned(), seconds, seconds_if_text_adds: 0.0 }
}

/// Tries steps of one run.
struct Pilot<'a> {
    run: Run<'a>,
    job: &'a Job,
    base: Option<&'a Base>,
    /// Hears which phase is tried; of the steps themselves nobody hears.
    told: &'a Reporter,
}

impl Pilot<'_> {
    fn options(&self) -> &Options {
        &self.run.header.options
    }

    /// The phases after encoding, in the training's order.
    fn phases(&self) -> Result<Vec<PhaseEstimate>> {
        let mut phases = Vec::new();
        if !self.run.is_text_alone() {
            // Self-training fits both a second time.
            let times = if self.trains_itself() { 2.0 } else { 1.0 };
            let (network, trees) = (times * self.network()?, times * self.trees()?);
            phases.extend(self.again(network + trees));
            let grams = self.grams()?;
            let branches = [("network", network), ("trees", trees), ("grams", grams)];
            phases.extend(branches.map(|(phase, seconds)| certain(phase, seconds)));
        }
        let mut token = 0.0;
        if let Some(base) = self.base {
            token = self.encoder_token(base)?;
            phases.extend(self.text(base, token)?);
        }
        self.tell("baseline");
        let (seconds, _) = timed(|| Ok(baseline::fit(&self.run)))?;
        phases.push(certain("baseline", seconds));
        phases.push(self.evaluation(token));
        if !self.run.is_text_alone() {
            phases.push(self.explanations(token));
        }
        phases.retain(|phase| phase.seconds > 0.0);
        Ok(phases)
    }

    /// Fits of network and trees besides the first ones, each of which takes `tabular` seconds.
    fn again(&self, tabular: f64) -> Vec<PhaseEstimate> {
        let (options, header) = (self.options(), self.run.header);
        let search = search::seconds(options, self.run.folds.models(), tabular);
        let mut again = vec![certain("search", search)];
        if options.calibrate == Calibrate::Recent && header.time_column.is_some() {
            again.push(certain("backtest", tabular));
        }
        again
    }

    /// Scores of fitted and test rows by the version; with its text, if that is kept, a text's token takes
    /// `token` seconds of the frozen encoder.
    fn evaluation(&self, token: f64) -> PhaseEstimate {
        let run = &self.run;
        let fitted = run.folds.fitted.len().min(MOST_TRAINING_ROWS);
        let rows = fitted + run.rows.part(Part::Test).len();
        let tokens = run.texts.tokens() as f64;
        let text = tokens * token * SCORED_TOKEN;
        let seconds = rows as f64 * SCORED_ROW / run.compute.threads as f64 + text;
        let seconds_if_text_adds = if self.text_is_certain() { 0.0 } else { text };
        PhaseEstimate { phase: "evaluate".to_owned(), seconds, seconds_if_text_adds }
    }

    /// Importances and effects of some rows, whose texts are read once.
    fn explanations(&self, token: f64) -> PhaseEstimate {
        let run = &self.run;
        let (rows, seconds) = explain::seconds(run);
        let tokens = run.texts.tokens() as f64 / run.rows.labelled.max(1) as f64;
        let text = rows as f64 * tokens * token * SCORED_TOKEN;
        let seconds_if_text_adds = if self.text_is_certain() { 0.0 } else { text };
        let seconds = seconds + text;
        PhaseEstimate { phase: "explain".to_owned(), seconds, seconds_if_text_adds }
    }

    /// Whether text is kept and the encoder tuned whatever it adds.
    fn text_is_certain(&self) -> bool {
        let options = self.options();
        let forced =
            options.keep_text == KeepText::Always || options.keep_tuned == KeepTuned::Always;
        forced || self.run.is_text_alone()
    }

    fn trains_itself(&self) -> bool {
        let asked = self.options().unlabelled == Unlabelled::SelfTrain;
        asked && !self.run.rows.unlabelled().is_empty()
    }

    fn tell(&self, phase: &str) {
        self.told.progress(Progress { phase: phase.to_owned(), ..Progress::default() });
    }

    /// The job with other options.
    fn with(&self, change: impl FnOnce(&mut Options)) -> JobHeader {
        let mut header = self.run.header.clone();
        change(&mut header.options);
        header
    }
}

/// Nothing of a training's own ledger is wanted from a step that is tried.
fn nowhere() -> (Meter, Ledger) {
    (Meter::default(), Ledger::default())
}
