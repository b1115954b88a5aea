//! The branch `text`: terms of the encoder's vectors, fitted on top of the other branches.
//!
//! The offset is the blend's out-of-fold logit, so the terms learn what numbers and categories
//! leave. First with the frozen encoder, crossed over all folds. Where it says anything at all, the
//! encoder is tuned and kept if it beats the frozen one on the rows that it left out: as one model on
//! the first one's rows, in a small sample as one for each fold of the first division. What a small
//! sample keeps is then tuned again, on all rows.

use std::time::Instant;

use riskft_core::options::{KeepText, KeepTuned, Method};
use riskft_core::protocol::{Ledger, Progress};
use riskft_core::refusal::Result;
use tch::{Kind, Tensor};

use crate::base::Base;
use crate::bert::Bert;
use crate::blend;
use crate::fit::Lesson;
use crate::frozen::{encode, fits, Frozen, Tuned};
use crate::ledger::Meter;
use crate::ridge::{self, Ridge};
use crate::run::Run;
use crate::stage::Turn;
use crate::terms::Terms;
use crate::tune::{course, judged, tune, tune_whole, TuneReport};
use crate::tuning::{first_layer, Tuning};

/// The branch as fitted.
pub struct Text {
    pub terms: Terms,
    pub tuning: Tuning,
    /// What it is, in words.
    pub what: String,
    /// Out-of-fold logits by place; of the first model's rows alone where one model was tuned.
    pub logits: Vec<f64>,
    pub seconds: f64,
}

/// Where tuning starts.
struct Start {
    bert: Bert,
    frozen: Frozen,
}

/// Fits the branch on top of the logits `offset`, by place.
///
/// # Errors
/// Those of the stages.
pub fn fit(
    run: &Run<'_>,
    base: &Base,
    offset: &[f64],
    meter: &mut Meter,
    ledger: &mut Ledger,
) -> Result<Text> {
    let begin = Instant::now();
    let options = &run.header.options;
    ledger.parameters += base.parameters() as u64;
    let split = first_layer(run.header.method, options, &base.shape);
    meter.phase("encode");
    let start = freeze(run, base, split)?;
    meter.phase("text");
    let lesson = Lesson {
        rows: run.rows,
        folds: run.folds,
        offset: Some(offset),
        options,
        phase: "text",
        reporter: run.reporter,
    };
    let ridge = ridge::fit(&lesson, &start.frozen.vectors)?;
    let labels = run.labels();
    let whole: Vec<f64> = ridge.out_of_fold.iter().zip(offset).map(|(own, z)| own + z).collect();
    ledger.auc_frozen = blend::auc(&whole, &run.folds.fitted, &labels);
    let mean = ridge.weights.mean_dim(0, false, Kind::Float);
    let frozen = Terms::new(&mean, run.compute.device);
    ledger.parameters += frozen.size() as u64;
    ledger.parameters_trainable += frozen.size() as u64;
    let frozen = |ridge: Ridge| Text {
        terms: frozen,
        tuning: Tuning::Frozen,
        what: format!("frozen encoder of {}, C = {}", names(run, &ridge.fields), ridge.c),
        logits: ridge.out_of_fold,
        seconds: begin.elapsed().as_secs_f64(),
    };
    let gain = blend::gain(&whole, offset, &run.folds.fitted, &labels);
    if options.epochs == 0 || !is_worth_tuning(run, gain) {
        return Ok(frozen(ridge));
    }
    meter.phase("tune");
    let origin = Origin { run, base, split, lower: start.frozen.lower.as_ref() };
    let lesson = Lesson { phase: "tune", ..lesson };
    let stage = Second { origin: &origin, ridge: &ridge, mean: &mean, lesson, begin };
    let text = match run.folds.is_small() {
        true => stage.crossed(start.bert, ledger)?,
        false => stage.alone(start.bert, ledger)?,
    };
    Ok(text.unwrap_or_else(|| frozen(ridge)))
}

/// The encoder's tuning, from the converged terms on.
struct Second<'a> {
    origin: &'a Origin<'a>,
    ridge: &'a Ridge,
    /// Mean terms of all models.
    mean: &'a Tensor,
    lesson: Lesson<'a>,
    begin: Instant,
}

impl Second<'_> {
    /// One model, as the version holds it; None where it is not kept.
    fn alone(&self, bert: Bert, ledger: &mut Ledger) -> Result<Option<Text>> {
        let run = self.origin.run;
        let method = run.header.method;
        let (bert, tuning) = self.origin.start(bert)?;
        count(&tuning, method, ledger);
        let terms = Terms::new(&self.ridge.weights.get(0), run.compute.device);
        let tuned = self.origin.tuned(&bert, &tuning);
        let report = tune(&tuned, &terms, self.lesson, &self.ridge.out_of_fold, method)?;
        let kept = tell(run, &report, ledger);
        Ok(kept.then(|| self.text(terms, tuning, report)))
    }

    /// One model for each fold, which are judged together, and then one on all rows.
    fn crossed(&self, mut bert: Bert, ledger: &mut Ledger) -> Result<Option<Text>> {
        let run = self.origin.run;
        let (method, device) = (run.header.method, run.compute.device);
        let folds = run.folds.models() / run.folds.repeats.max(1);
        let turn = |number| Turn { number, of: folds + 1 };
        let mut courses = Vec::with_capacity(folds);
        for fold in 0..folds {
            let (under, tuning) = self.origin.start(bert)?;
            if fold == 0 {
                count(&tuning, method, ledger);
            }
            let terms = Terms::new(&self.ridge.weights.get(fold as i64), device);
            let tuned = self.origin.tuned(&under, &tuning);
            courses.push(course(&tuned, &terms, self.lesson, method, turn(fold)));
            bert = under;
        }
        let report = judged(&courses, self.lesson)?;
        if !tell(run, &report, ledger) {
            return Ok(None);
        }
        let (bert, tuning) = self.origin.start(bert)?;
        let terms = Terms::new(self.mean, device);
        let whole = (report.best_epoch, turn(folds));
        tune_whole(&self.origin.tuned(&bert, &tuning), &terms, self.lesson, method, whole);
        Ok(Some(self.text(terms, tuning, report)))
    }

    fn text(&self, terms: Terms, tuning: Tuning, report: TuneReport) -> Text {
        Text {
            terms,
            tuning,
            what: format!(
                "encoder tuned by {}, {} epochs",
                self.origin.run.header.method.name(),
                report.reached.epochs
            ),
            logits: report.reached.out_of_fold,
            seconds: self.begin.elapsed().as_secs_f64(),
        }
    }
}

fn count(tuning: &Tuning, method: Method, ledger: &mut Ledger) {
    ledger.parameters_trainable += tuning.size() as u64;
    // Those of full fine-tuning are the encoder's own.
    if method != Method::Full {
        ledger.parameters += tuning.size() as u64;
    }
}

fn freeze(run: &Run<'_>, base: &Base, split: usize) -> Result<Start> {
    let compute = run.compute;
    let bert = Bert::new(&base.shape, &base.tensors, compute.kind, compute.device)?;
    let total = run.texts.tokens() as u64;
    let keep = run.header.options.epochs > 0
        && split > 0
        && fits(run.texts, base.shape.width, compute.kind);
    let frozen = encode(&bert, run.texts, split, keep, compute.device, |done| {
        let done = done as u64;
        run.reporter.progress(Progress {
            phase: "encode".into(),
            done,
            total,
            ..Progress::default()
        });
    });
    Ok(Start { bert, frozen })
}

fn names(run: &Run<'_>, fields: &[usize]) -> String {
    let texts = fields.iter().filter_map(|field| run.encoding.texts.get(*field));
    texts.map(|text| text.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// Whether frozen text adds anything out of fold, which costs a small part of what tuning costs. On
/// the loans, where it adds nothing, no tuned encoder ever did.
fn is_worth_tuning(run: &Run<'_>, gain: Option<(f64, f64)>) -> bool {
    let options = &run.header.options;
    let forced = options.keep_text == KeepText::Always || options.keep_tuned == KeepTuned::Always;
    let worth = forced || gain.is_none_or(|(gain, _)| gain > 0.0);
    if !worth {
        run.reporter.notice(
            "text adds nothing with the frozen encoder, so the encoder is not tuned \
             (option keep_tuned \"always\" tunes it all the same)",
        );
    }
    worth
}

/// What every tuning of a run begins from.
struct Origin<'a> {
    run: &'a Run<'a>,
    base: &'a Base,
    /// Layers below this one stay frozen.
    split: usize,
    lower: Option<&'a Tensor>,
}

impl Origin<'_> {
    /// The untrained tuning, and the encoder under it: `frozen`, or one with weights of its own.
    fn start(&self, frozen: Bert) -> Result<(Bert, Tuning)> {
        let (header, compute) = (self.run.header, self.run.compute);
        let mut bert = frozen;
        if header.method == Method::Full {
            // The weights that are trained are f32; the products stay of the run's kind.
            bert = Bert::new(&self.base.shape, &self.base.tensors, Kind::Float, compute.device)?;
            bert.kind = compute.kind;
        }
        let tuning = Tuning::new(header.method, &header.options, &mut bert, compute.device);
        Ok((bert, tuning))
    }

    fn tuned<'b>(&'b self, bert: &'b Bert, tuning: &'b Tuning) -> Tuned<'b> {
        let device = self.run.compute.device;
        Tuned { bert, tuning, texts: self.run.texts, split: self.split, lower: self.lower, device }
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
