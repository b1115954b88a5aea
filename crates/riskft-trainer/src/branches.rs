//! The branches of a run: each fitted on what the run has read, kept by what it adds, and blended.

use std::time::Instant;

use riskft_core::dataset::Dataset;
use riskft_core::metrics;
use riskft_core::model::BranchKind;
use riskft_core::options::{Grams, KeepText, Method, TextMode};
use riskft_core::protocol::Ledger;
use riskft_core::refusal::{code, Refusal, Result};

use crate::blend::{self, Blend, Candidate};
use crate::fit::{fit_head, Lesson};
use crate::forest::{self, Ground};
use crate::grams;
use crate::head::{Head, Plan};
use crate::ledger::Meter;
use crate::run::{Fitted, Run};
use crate::text::Text;

impl Run<'_> {
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

    /// The blend so far of some kinds of branches, with a text branch of these logits.
    pub(crate) fn with_text(
        &self,
        fitted: &Fitted,
        of: impl Fn(BranchKind) -> bool,
        logits: &[f64],
        on_top: bool,
    ) -> Blend {
        let text = Candidate {
            kind: BranchKind::Text,
            logits: logits.to_vec(),
            on_top: on_top && fitted.candidates.iter().any(|c| c.kind < BranchKind::Grams),
            kept: true,
            always: false,
            seconds: 0.0,
            what: String::new(),
        };
        let others = fitted.candidates.iter().filter(|c| c.kept && of(c.kind));
        let candidates: Vec<&Candidate> = others.chain([&text]).collect();
        blend::fit(&candidates, &self.folds.fitted, &self.labels())
    }

    /// Whether a branch's gain is more than its standard error, in a small sample than half of it: there
    /// that error is larger than most true gains, and the ridge of the weights bounds the harm.
    pub(crate) fn is_reliable(&self, (gain, error): (f64, f64)) -> bool {
        let errors = if self.folds.is_small() { 0.5 } else { 1.0 };
        gain > errors * error
    }

    /// Text beside what there is: kept if the blend with it is better than the one without.
    pub(crate) fn add_text(&self, fitted: &mut Fitted, text: Text, ledger: &mut Ledger) {
        let labels = self.labels();
        let before = (!fitted.candidates.is_empty()).then(|| self.offset(fitted, |_| true));
        let tabular = fitted.candidates.iter().any(|c| c.kind < BranchKind::Grams);
        fitted.candidates.push(Candidate {
            kind: BranchKind::Text,
            logits: text.logits.clone(),
            on_top: tabular && text.on_top,
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
    pub(crate) fn blend(&self, fitted: &Fitted) -> Result<Blend> {
        let kept: Vec<&Candidate> = fitted.candidates.iter().filter(|c| c.kept).collect();
        if kept.is_empty() {
            return Err(Refusal::new(code::INVALID_PARAMETER, "nothing is left to train")
                .detail("Options switch off the network, and there are no trees and no text.")
                .hint("Set options.head_epochs or options.trees.rounds above 0."));
        }
        Ok(blend::fit(&kept, &self.folds.fitted, &self.labels()))
    }
}
