//! What the trainer says -> NOTICEs for the caller, the status file for others, the run's row.

use std::time::{Duration, Instant};

use riskft_core::protocol::{
    EstimateResult, Event, Progress, ReductionResult, SelectionResult, TrainingResult,
};
use riskft_core::refusal::Result;

use crate::error::{self, warn};
use crate::progress::StatusFile;

/// Least time between two NOTICEs of one phase: those with an epoch's figures, and the others.
const FIGURES_EVERY: Duration = Duration::from_secs(1);
const NOTICE_EVERY: Duration = Duration::from_secs(5);
/// Most notices that a run keeps.
const KEPT: usize = 200;

/// What the trainer says last.
pub enum Answer {
    Version(Box<TrainingResult>),
    Reducer(Box<ReductionResult>),
    Columns(Box<SelectionResult>),
    Estimate(Box<EstimateResult>),
}

pub struct Listener {
    pub status: StatusFile,
    /// What was said of the data and the decisions, not of the progress.
    notices: Vec<String>,
    last: Option<(String, Instant)>,
}

impl Listener {
    pub fn new(status: StatusFile) -> Self {
        Listener { status, notices: Vec::new(), last: None }
    }

    /// Takes one event; the answer when it is the last one.
    pub fn hear(&mut self, event: Event) -> Result<Option<Answer>> {
        match event {
            Event::Progress(progress) => self.progress(&progress),
            Event::Notice(text) => self.notice(text),
            Event::Warning(message, detail) => self.warning(&message, &detail),
            Event::Refused(refusal) => return Err(refusal),
            Event::Result(result) => return Ok(Some(Answer::Version(result))),
            Event::Reduction(result) => return Ok(Some(Answer::Reducer(result))),
            Event::Selection(result) => return Ok(Some(Answer::Columns(result))),
            Event::Estimate(result) => return Ok(Some(Answer::Estimate(result))),
        }
        Ok(None)
    }

    /// A NOTICE that the run keeps.
    pub fn notice(&mut self, text: String) {
        error::notice!("{text}");
        self.keep(text);
    }

    /// A WARNING that the run keeps.
    pub fn warning(&mut self, message: &str, detail: &str) {
        warn(message, detail);
        self.keep(format!("{message}. {detail}"));
    }

    /// What was kept.
    pub fn notices(&self) -> Vec<String> {
        self.notices.clone()
    }

    fn keep(&mut self, text: String) {
        if self.notices.len() < KEPT {
            self.notices.push(text);
        }
    }

    /// One NOTICE for each phase, each epoch's figures, and every few seconds between them.
    pub fn progress(&mut self, progress: &Progress) {
        self.status.report(progress);
        let now = Instant::now();
        let least = match progress.validation_auc {
            Some(_) => FIGURES_EVERY,
            None => NOTICE_EVERY,
        };
        let soon = |(phase, at): &(String, Instant)| *phase == progress.phase && now - *at < least;
        if self.last.as_ref().is_some_and(soon) {
            return;
        }
        self.last = Some((progress.phase.clone(), now));
        error::notice!("{}", describe(progress));
    }
}

fn describe(progress: &Progress) -> String {
    let mut text = progress.phase.clone();
    if progress.epoch > 0 {
        text += &format!(", epoch {}", progress.epoch);
    }
    if let Some(percent) = (100 * progress.done).checked_div(progress.total) {
        text += &format!(", {percent}%");
    }
    if let Some(loss) = progress.loss {
        text += &format!(", loss {loss:.4}");
    }
    if let Some(auc) = progress.validation_auc {
        text += &format!(", validation AUC {auc:.4}");
    }
    if let Some(seconds) = progress.seconds_left {
        text += &format!(", at most {seconds:.0} s left");
    }
    text
}
