//! The second stage of the branch `text`: the encoder is tuned from the converged terms on, and kept if it
//! beats the frozen one on rows that it left out.

use std::time::Instant;

use riskft_core::options::{KeepTuned, Method};
use riskft_core::protocol::Ledger;
use riskft_core::refusal::Result;
use tch::Tensor;

use crate::bert::Bert;
use crate::fields::Fields;
use crate::fit::Lesson;
use crate::folds::Folds;
use crate::run::Run;
use crate::soup;
use crate::stage::Turn;
use crate::terms::Terms;
use crate::text::{terms, Origin, Text};
use crate::tune::{course, judged, tune, tune_whole, Course, TuneReport};
use crate::tuning::Tuning;

/// The encoder's tuning, from the converged terms on.
pub(crate) struct Second<'a> {
    pub origin: &'a Origin<'a>,
    pub fields: &'a Fields,
    /// The frozen encoder's, by text number.
    pub vectors: &'a Tensor,
    pub lesson: Lesson<'a>,
    pub on_top: bool,
    pub begin: Instant,
}

impl Second<'_> {
    /// One model, as the version holds it; None where it is not kept.
    pub fn alone(&self, bert: Bert, ledger: &mut Ledger) -> Result<Option<Text>> {
        let run = self.origin.run;
        let method = run.header.method;
        let (bert, tuning) = self.origin.start(bert)?;
        count(&tuning, method, ledger);
        let terms = Terms::new(&self.fields.linear.get(0), run.compute.device);
        let tuned = self.origin.tuned(&bert, &tuning);
        let report = tune(&tuned, &terms, self.lesson, &self.fields.out_of_fold, method)?;
        let kept = tell(run, &report, ledger);
        Ok(kept.then(|| self.text(terms, tuning, &report)))
    }

    /// One model for each fold, which are judged together; the version has their mean or, where it does
    /// not stand for them, one on all rows.
    pub fn crossed(&self, bert: Bert, ledger: &mut Ledger) -> Result<Option<Text>> {
        let (run, method) = (self.origin.run, self.origin.run.header.method);
        let (bert, courses) = self.courses(bert, ledger)?;
        let plain = judged(&courses, self.lesson, &self.fields.first)?;
        if !Tuning::has_mean(method) {
            return match tell(run, &plain, ledger) {
                true => self.whole(bert, &plain, courses.len()).map(Some),
                false => Ok(None),
            };
        }
        let again = self.again(&courses, &plain)?;
        let report = again.as_ref().map_or(&plain, |(report, _)| report);
        if !tell(run, report, ledger) {
            return Ok(None);
        }
        let refitted = again.is_some();
        let (bert, tuning) = self.origin.start(bert)?;
        if let Some(text) = self.mean(&bert, tuning, &courses, &plain, again) {
            return Ok(Some(text));
        }
        run.reporter.notice(
            "the mean of the folds' encoders says less of its rows than these of new ones, as where tuning \
             takes too long steps (options.learning_rate): one encoder is tuned on all rows",
        );
        if refitted && !tell(run, &plain, ledger) {
            return Ok(None);
        }
        self.whole(bert, &plain, courses.len()).map(Some)
    }

    fn courses(&self, mut bert: Bert, ledger: &mut Ledger) -> Result<(Bert, Vec<Course>)> {
        let run = self.origin.run;
        let method = run.header.method;
        let folds = run.folds.models() / run.folds.repeats.max(1);
        let mut courses = Vec::with_capacity(folds);
        for number in 0..folds {
            let (under, tuning) = self.origin.start(bert)?;
            if number == 0 {
                count(&tuning, method, ledger);
            }
            let terms = Terms::new(&self.fields.linear.get(number as i64), run.compute.device);
            let tuned = self.origin.tuned(&under, &tuning);
            let turn = Turn { number, of: tunings(run.folds, method) };
            courses.push(course(&tuned, &terms, self.lesson, method, turn));
            bert = under;
        }
        Ok((bert, courses))
    }

    /// Terms on the vectors of encoders that were tuned without the rows that they are of, where they rank
    /// better: those of an encoder that has learnt from the rows would say more of them than of others.
    /// They suit the mean of these encoders alone.
    fn again(
        &self,
        courses: &[Course],
        plain: &TuneReport,
    ) -> Result<Option<(TuneReport, Fields)>> {
        let vectors = soup::crossed_vectors(courses, plain.best_epoch, self.vectors);
        let lesson = Lesson { phase: "text", ..self.lesson };
        let fields = terms(self.origin.run, &lesson, &vectors)?;
        Ok(soup::refitted(plain, &fields, self.fields, self.lesson).map(|report| (report, fields)))
    }

    /// The mean of the folds' encoders with the mean of their terms or those fitted again, if it stands
    /// for them.
    fn mean(
        &self,
        bert: &Bert,
        tuning: Tuning,
        courses: &[Course],
        plain: &TuneReport,
        again: Option<(TuneReport, Fields)>,
    ) -> Option<Text> {
        let linear = Terms::new(&self.fields.whole, self.origin.run.compute.device);
        let (tuning, linear) = soup::mean(courses, plain.best_epoch, tuning, &linear);
        let (report, terms, what) = match again {
            Some((report, fields)) => (report, fields.terms, format!(", {}", fields.what)),
            None => (plain.clone(), linear, String::new()),
        };
        let tuned = self.origin.tuned(bert, &tuning);
        if !soup::stands_for(&tuned, &terms, &self.lesson, &report.reached.out_of_fold) {
            return None;
        }
        let mut text = self.text(terms, tuning, &report);
        text.what = format!("mean of {} folds, {}{what}", courses.len(), text.what);
        Some(text)
    }

    /// One encoder on all rows, after those of so many folds.
    fn whole(&self, bert: Bert, report: &TuneReport, folds: usize) -> Result<Text> {
        let run = self.origin.run;
        let (bert, tuning) = self.origin.start(bert)?;
        let terms = Terms::new(&self.fields.whole, run.compute.device);
        let turn = Turn { number: folds, of: folds + 1 };
        let tuned = self.origin.tuned(&bert, &tuning);
        tune_whole(&tuned, &terms, self.lesson, run.header.method, (report.best_epoch, turn));
        Ok(self.text(terms, tuning, report))
    }

    fn text(&self, terms: Terms, tuning: Tuning, report: &TuneReport) -> Text {
        Text {
            terms,
            tuning,
            what: format!(
                "encoder tuned by {}, {} epochs",
                self.origin.run.header.method.name(),
                report.reached.epochs
            ),
            logits: report.reached.out_of_fold.clone(),
            on_top: self.on_top,
            seconds: self.begin.elapsed().as_secs_f64(),
        }
    }
}

/// Tunings of a small sample: one for each fold and, where these have no mean, one on all rows.
pub(crate) fn tunings(folds: &Folds, method: Method) -> usize {
    folds.models() / folds.repeats.max(1) + usize::from(!Tuning::has_mean(method))
}

fn count(tuning: &Tuning, method: Method, ledger: &mut Ledger) {
    ledger.parameters_trainable += tuning.size() as u64;
    // Those of full fine-tuning are the encoder's own.
    if method != Method::Full {
        ledger.parameters += tuning.size() as u64;
    }
}

/// Notes what tuning reached; whether it is kept.
fn tell(run: &Run<'_>, report: &TuneReport, ledger: &mut Ledger) -> bool {
    ledger.tune_epochs = report.reached.epochs as u64;
    ledger.tune_epoch_cpu_seconds = Some(report.epoch_cpu_seconds);
    ledger.auc_tuned = report.reached.judgement.auc;
    ledger.auc_gain_se = report.gain.map(|(_, error)| error);
    let always = run.header.options.keep_tuned == KeepTuned::Always;
    ledger.tuned_kept = always || report.gain.is_some_and(|gain| run.is_reliable(gain));
    // The frozen encoder on the same rows as the tuned one.
    let before = report.gain.zip(ledger.auc_tuned).map(|((gain, _), tuned)| tuned - gain);
    ledger.auc_frozen = before.or(ledger.auc_frozen);
    let figure = |auc: Option<f64>| auc.map_or("unknown".to_owned(), |auc| format!("{auc:.4}"));
    run.reporter.notice(format!(
        "validation AUC {} with the frozen encoder, {} after {} (standard error of the gain {}): \
         the {} encoder is kept",
        figure(ledger.auc_frozen),
        figure(ledger.auc_tuned),
        run.header.method.name(),
        figure(ledger.auc_gain_se),
        if ledger.tuned_kept { "tuned" } else { "frozen" },
    ));
    ledger.tuned_kept
}
