//! Settings of the encoder's tuning: few, for each costs a training of the text branch.

use std::time::Instant;

use riskft_core::options::{KeepText, Method};
use riskft_core::protocol::Ledger;
use riskft_core::refusal::Result;

use super::bench::{changed, is_of_settings, reseed, Bench};
use super::draw::{Changes, Setting};
use super::{Search, Trial};
use crate::base::Base;
use crate::blend;
use crate::events::{Listener, Reporter};
use crate::ledger::Meter;
use crate::run::{Fitted, Run};
use crate::text;

/// Most settings tried beside the given ones.
const MOST: usize = 3;

/// The text branch of one setting beside the others: out-of-fold logits of the blend by place.
struct Tried {
    total: Vec<f64>,
    auc: Option<f64>,
}

impl<'a> Search<'a> {
    /// Tries settings of LoRA on top of the best network and trees, while there is time. `last` is
    /// the last round's judge: without it the clock has ended the search.
    pub(super) fn tune(&mut self, base: &Base, last: Option<&Bench<'a>>) -> Result<()> {
        let header = changed(self.run.header, &self.best.changes())?;
        let options = &header.options;
        let ended = last.is_none() && !self.run.is_text_alone();
        if header.method != Method::Lora || options.epochs == 0 || ended || self.is_over() {
            return Ok(());
        }
        let drawn = self.draw.text(MOST, base.shape.layers);
        if drawn.is_empty() {
            return Ok(());
        }
        let quiet = Reporter::new(Listener::Nobody);
        let run = Run { header: &header, reporter: &quiet, ..self.run };
        let fitted = last.map_or_else(Fitted::default, |bench| bench.fitted(&self.best));
        let offset = run.offset(&fitted, |_| true);
        self.total = self.done + 1 + drawn.len();
        let given = self.try_text(&run, base, &fitted, Changes::new())?;
        let Some(given) = given else { return Ok(()) };
        if let Some(trial) = self.trials.last_mut() {
            trial.state = if last.is_none() { "best" } else { "kept" };
        }
        let labels = run.labels();
        let gain = |a: &[f64], b: &[f64]| blend::gain(a, b, &run.folds.fitted, &labels);
        let adds = gain(&given.total, &offset).is_some_and(|(gain, error)| gain > error);
        if !adds && options.keep_text == KeepText::Better && !fitted.candidates.is_empty() {
            let why = "search: text adds nothing reliable, so settings of its tuning are not tried";
            self.run.reporter.notice(why);
            return Ok(());
        }
        let mut best: Option<(usize, f64, f64)> = None;
        for changes in drawn {
            if self.is_over() {
                break;
            }
            let index = self.trials.len();
            let Some(tried) = self.try_text(&run, base, &fitted, changes)? else { continue };
            let Some((own, error)) = gain(&tried.total, &given.total) else { continue };
            if own > error && best.is_none_or(|(_, best, _)| own > best) {
                best = Some((index, own, error));
            }
        }
        self.take_text(best);
        Ok(())
    }

    fn take_text(&mut self, best: Option<(usize, f64, f64)>) {
        let Some((index, gain, error)) = best else {
            if !self.is_over() {
                self.run.reporter.notice(
                    "search: no other settings of the encoder's tuning are better by more than \
                     chance",
                );
            }
            return;
        };
        for trial in self.trials.iter_mut().filter(|trial| trial.state == "best") {
            trial.state = "kept";
        }
        self.trials[index].state = "best";
        self.best = self.trials[index].setting.clone();
        self.run.reporter.notice(format!(
            "search: trial {} tunes the encoder better: AUC out of fold {gain:.5} higher than with \
             the given settings (standard error {error:.5})",
            index + 1
        ));
    }

    /// One more trial: the branch with these changes. Its figure is the AUC of the blend with it;
    /// None where the training diverged.
    fn try_text(
        &mut self,
        run: &Run<'_>,
        base: &Base,
        fitted: &Fitted,
        changes: Changes,
    ) -> Result<Option<Tried>> {
        let begun = Instant::now();
        let header = changed(run.header, &changes)?;
        let own = Run { header: &header, ..*run };
        reseed(&header);
        let text = text::fit(&own, base, fitted, &mut Meter::default(), &mut Ledger::default());
        let tried = match text {
            Ok(text) => {
                let total = run.with_text(fitted, |_| true, &text.logits, text.on_top).out_of_fold;
                let auc = blend::auc(&total, &run.folds.fitted, &run.labels());
                Some(Tried { total, auc })
            }
            Err(refusal) if !changes.is_empty() && is_of_settings(&refusal.code) => None,
            Err(refusal) => return Err(refusal),
        };
        self.trials.push(Trial {
            rungs: 1,
            auc: tried.as_ref().and_then(|tried| tried.auc),
            seconds: begun.elapsed().as_secs_f64(),
            ..Trial::new(Setting { text: changes, ..self.best.clone() })
        });
        self.report();
        Ok(tried)
    }
}
