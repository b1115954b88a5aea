//! One round's judge: settings of network and trees, fitted on some of the folds' models and judged
//! by the calibrated log-loss of their blend on the rows that those leave out.

use std::collections::HashMap;

use riskft_core::blend;
use riskft_core::calibrate::Platt;
use riskft_core::metrics;
use riskft_core::model::BranchKind;
use riskft_core::protocol::{JobHeader, Ledger};
use riskft_core::refusal::{code, Result};

use super::draw::{Changes, Setting};
use crate::blend::Candidate;
use crate::events::{Listener, Reporter};
use crate::folds::Folds;
use crate::ledger::Meter;
use crate::run::{Fitted, Run};

/// What a setting reached.
#[derive(Debug, Clone)]
pub struct Figures {
    pub auc: Option<f64>,
    pub log_loss: f64,
    /// Of each judged row; all settings of a round are judged on the same ones.
    losses: Vec<f64>,
}

impl Figures {
    fn new(logits: &[f64], labels: &[bool]) -> Option<Self> {
        if logits.is_empty() || logits.iter().any(|z| !z.is_finite()) {
            return None;
        }
        let platt = Platt::fit(logits, labels);
        let loss = |(z, label): (&f64, &bool)| {
            let p = platt.apply(*z);
            -if *label { p } else { 1.0 - p }.max(1e-12).ln()
        };
        let losses: Vec<f64> = logits.iter().zip(labels).map(loss).collect();
        let log_loss = losses.iter().sum::<f64>() / losses.len() as f64;
        Some(Figures { auc: metrics::auc(logits, labels), log_loss, losses })
    }

    /// How much lower the log-loss is than another's of the same rows, and the paired standard
    /// error of the difference; None with fewer than two rows.
    pub fn gain_over(&self, other: &Figures) -> Option<(f64, f64)> {
        let n = self.losses.len() as f64;
        if n < 2.0 || other.losses.len() != self.losses.len() {
            return None;
        }
        let differences = || other.losses.iter().zip(&self.losses).map(|(a, b)| a - b);
        let mean = differences().sum::<f64>() / n;
        let squares = differences().map(|d| (d - mean).powi(2)).sum::<f64>();
        Some((mean, (squares / (n - 1.0) / n).sqrt()))
    }
}

/// Judges settings on the first models of the folds. A branch is fitted once for all settings that
/// do not differ in it.
pub struct Bench<'a> {
    run: Run<'a>,
    folds: Folds,
    labels: Vec<bool>,
    /// Out-of-fold logits of the judged rows, by branch and changes; None without the branch, or
    /// where it could not be fitted.
    known: HashMap<(BranchKind, String), Option<Vec<f64>>>,
}

impl<'a> Bench<'a> {
    pub fn new(run: &Run<'a>, models: usize) -> Self {
        let folds = run.folds.first(models);
        let labels = run.rows.labels_of(&folds.fitted);
        Bench { run: *run, folds, labels, known: HashMap::new() }
    }

    /// Figures of a setting; None where nothing could be fitted.
    ///
    /// # Errors
    /// What the given options, without changes, are refused for: the run itself would be.
    pub fn judge(&mut self, setting: &Setting) -> Result<Option<Figures>> {
        let sides = [(BranchKind::Network, &setting.network), (BranchKind::Trees, &setting.trees)];
        for (kind, changes) in sides {
            let key = (kind, signature(changes));
            if !self.known.contains_key(&key) {
                let logits = match self.fit(kind, changes) {
                    Err(refusal) if changes.is_empty() || !is_of_settings(&refusal.code) => {
                        return Err(refusal);
                    }
                    Err(_) => return Ok(None),
                    Ok(logits) => logits,
                };
                self.known.insert(key, logits);
            }
        }
        let known = |(kind, changes)| self.known.get(&(kind, signature(changes)))?.as_deref();
        let logits: Vec<&[f64]> = sides.into_iter().filter_map(known).collect();
        let start = vec![1.0 / logits.len().max(1) as f64; logits.len()];
        let weights = blend::fit(&logits, &self.labels, &start);
        let total = |row: usize| logits.iter().zip(&weights).map(|(z, w)| z[row] * w).sum();
        let rows = if logits.is_empty() { 0 } else { self.labels.len() };
        Ok(Figures::new(&(0..rows).map(total).collect::<Vec<f64>>(), &self.labels))
    }

    /// The branches of a setting that was judged, by place.
    pub fn fitted(&self, setting: &Setting) -> Fitted {
        let sides = [(BranchKind::Network, &setting.network), (BranchKind::Trees, &setting.trees)];
        let candidates = sides.into_iter().filter_map(|(kind, changes)| {
            let known = self.known.get(&(kind, signature(changes)))?.as_ref()?;
            let mut logits = vec![f64::NAN; self.run.rows.source.len()];
            self.folds.fitted.iter().zip(known).for_each(|(p, z)| logits[*p as usize] = *z);
            let (what, seconds) = (String::new(), 0.0);
            Some(Candidate {
                kind,
                logits,
                on_top: false,
                kept: true,
                always: false,
                seconds,
                what,
            })
        });
        Fitted { candidates: candidates.collect(), ..Fitted::default() }
    }

    fn fit(&self, kind: BranchKind, changes: &Changes) -> Result<Option<Vec<f64>>> {
        let header = changed(self.run.header, changes)?;
        let reporter = Reporter::new(Listener::Nobody);
        let run = Run { header: &header, folds: &self.folds, reporter: &reporter, ..self.run };
        let (mut fitted, mut meter) = (Fitted::default(), Meter::default());
        reseed(&header);
        match kind {
            BranchKind::Network => run.network(&mut fitted, &mut meter, &mut Ledger::default())?,
            _ => run.trees(&mut fitted, &mut meter)?,
        }
        let of = |candidate: &Candidate| {
            self.folds.fitted.iter().map(|place| candidate.logits[*place as usize]).collect()
        };
        Ok(fitted.candidates.first().map(of))
    }
}

/// Trainings start from the seed, whatever was fitted before them: all settings have the same draws,
/// and the run afterwards those of a run without a search.
pub fn reseed(header: &JobHeader) {
    tch::manual_seed(header.options.seed as i64);
}

/// The job with some options changed.
pub fn changed(header: &JobHeader, changes: &Changes) -> Result<JobHeader> {
    let options = header.options.with(changes)?;
    Ok(JobHeader { options, ..header.clone() })
}

/// Whether a refusal may be the settings' doing: a training that diverges, too large a forest.
pub fn is_of_settings(refusal: &str) -> bool {
    [code::DATA_EXCEPTION, code::LIMIT_EXCEEDED].contains(&refusal)
}

fn signature(changes: &Changes) -> String {
    serde_json::to_string(changes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gain_is_paired_by_rows() {
        let labels: Vec<bool> = (0..400usize).map(|row| row.is_multiple_of(4)).collect();
        let logits = |noise: f64| -> Vec<f64> {
            let of = |row: usize| {
                let sign = if row.is_multiple_of(4) { 1.0 } else { -1.0 };
                sign + noise * ((row * 37 % 101) as f64 / 50.0 - 1.0)
            };
            (0..400).map(of).collect()
        };
        let figures = |noise| Figures::new(&logits(noise), &labels).expect("finite logits");
        let (clear, blurred) = (figures(2.0), figures(8.0));
        let (gain, error) = clear.gain_over(&blurred).expect("rows");
        assert!((gain - (blurred.log_loss - clear.log_loss)).abs() < 1e-12);
        assert!(gain > 2.0 * error && error > 0.0, "{gain} +- {error}");
        assert_eq!(clear.gain_over(&clear), Some((0.0, 0.0)));
        assert!(Figures::new(&[f64::NAN, 1.0], &[true, false]).is_none());
        assert!(Figures::new(&[], &[]).is_none());
    }
}
