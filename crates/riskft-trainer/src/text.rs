//! The branch `text`: terms of the encoder's vectors, fitted on top of the other branches or beside
//! them.
//!
//! On top, the offset is the out-of-fold logit of network and trees, so the terms learn what
//! numbers and categories leave. First with the frozen encoder, crossed over all folds. Where it
//! says anything at all, the encoder is tuned and kept if it beats the frozen one on the rows that it
//! left out: as one model on the first one's rows, in a small sample as one for each fold of the
//! first division. What a small sample keeps is then tuned again, on all rows.

use std::time::Instant;

use riskft_core::model::BranchKind;
use riskft_core::options::{KeepText, KeepTuned, Method};
use riskft_core::protocol::{Ledger, Progress};
use riskft_core::refusal::Result;
use tch::{Kind, Tensor};

use crate::base::Base;
use crate::bert::Bert;
use crate::blend;
use crate::calibrated;
use crate::fields::{self, Fields};
use crate::fit::Lesson;
use crate::frozen::{encode, fits, Frozen, Tuned};
use crate::ledger::Meter;
use crate::run::{Fitted, Run};
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
    /// Fitted on top of network and trees.
    pub on_top: bool,
    pub seconds: f64,
}

/// Where tuning starts.
struct Start {
    bert: Bert,
    frozen: Frozen,
}

/// Fits the branch to what network and trees leave or, in a small sample, to the labels themselves
/// if the blend of all branches is better for it.
///
/// # Errors
/// Those of the stages.
pub fn fit(
    run: &Run<'_>,
    base: &Base,
    fitted: &Fitted,
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
    let Place { offset, on_top, fields } = place(run, fitted, &start.frozen.vectors)?;
    let labels = run.labels();
    let before = run.offset(fitted, is_tabular);
    let whole = run.with_text(fitted, is_tabular, &fields.out_of_fold, on_top).out_of_fold;
    ledger.auc_frozen = blend::auc(&whole, &run.folds.fitted, &labels);
    ledger.parameters += fields.terms.size() as u64;
    ledger.parameters_trainable += fields.terms.size() as u64;
    let frozen = |fields: Fields| Text {
        terms: fields.terms,
        tuning: Tuning::Frozen,
        what: format!("frozen encoder of {}", fields.what),
        logits: fields.out_of_fold,
        on_top,
        seconds: begin.elapsed().as_secs_f64(),
    };
    let gain = blend::gain(&whole, &before, &run.folds.fitted, &labels);
    if options.epochs == 0 || !is_worth_tuning(run, gain) {
        return Ok(frozen(fields));
    }
    meter.phase("tune");
    let origin = Origin { run, base, split, lower: start.frozen.lower.as_ref() };
    let lesson = Lesson { phase: "tune", ..lesson(run, &offset) };
    let stage = Second { origin: &origin, fields: &fields, lesson, on_top, begin };
    let text = match run.folds.is_small() {
        true => stage.crossed(start.bert, ledger)?,
        false => stage.alone(start.bert, ledger)?,
    };
    Ok(text.unwrap_or_else(|| frozen(fields)))
}

fn is_tabular(kind: BranchKind) -> bool {
    kind < BranchKind::Grams
}

/// What terms of texts are fitted on.
pub(crate) fn lesson<'a>(run: &Run<'a>, offset: &'a [f64]) -> Lesson<'a> {
    Lesson {
        rows: run.rows,
        folds: run.folds,
        offset: Some(offset),
        options: &run.header.options,
        phase: "text",
        reporter: run.reporter,
    }
}

/// The frozen encoder's terms where they stand.
struct Place {
    /// By place: what their logits are added to while they are fitted.
    offset: Vec<f64>,
    on_top: bool,
    fields: Fields,
}

/// Terms on top of network and trees or, if a small sample's blend has a lower log-loss for it,
/// beside them: on top of columns that tell little, terms learn from the noise in their logits.
fn place(run: &Run<'_>, fitted: &Fitted, vectors: &Tensor) -> Result<Place> {
    let name = |field: usize| run.encoding.texts.get(field).map_or("", |text| &text.name);
    let fit = |offset: Vec<f64>, on_top| -> Result<Place> {
        let fields = fields::fit(&lesson(run, &offset), vectors, |field| name(field).to_owned())?;
        Ok(Place { offset, on_top, fields })
    };
    let top = fit(run.offset(fitted, is_tabular), true)?;
    if !run.folds.is_small() || fitted.candidates.is_empty() {
        return Ok(top);
    }
    let beside = fit(run.offset(fitted, |_| false), false)?;
    let labels = run.labels();
    let loss = |place: &Place| {
        let own = &place.fields.out_of_fold;
        let whole = run.with_text(fitted, |_| true, own, place.on_top).out_of_fold;
        let (logits, labels) = blend::known(&whole, &run.folds.fitted, &labels);
        calibrated::loss(&logits, &labels)
    };
    Ok(if loss(&beside) < loss(&top) { beside } else { top })
}

/// The encoder's tuning, from the converged terms on.
struct Second<'a> {
    origin: &'a Origin<'a>,
    fields: &'a Fields,
    lesson: Lesson<'a>,
    on_top: bool,
    begin: Instant,
}

impl Second<'_> {
    /// One model, as the version holds it; None where it is not kept.
    fn alone(&self, bert: Bert, ledger: &mut Ledger) -> Result<Option<Text>> {
        let run = self.origin.run;
        let method = run.header.method;
        let (bert, tuning) = self.origin.start(bert)?;
        count(&tuning, method, ledger);
        let terms = Terms::new(&self.fields.linear.get(0), run.compute.device);
        let tuned = self.origin.tuned(&bert, &tuning);
        let report = tune(&tuned, &terms, self.lesson, &self.fields.out_of_fold, method)?;
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
            let terms = Terms::new(&self.fields.linear.get(fold as i64), device);
            let tuned = self.origin.tuned(&under, &tuning);
            courses.push(course(&tuned, &terms, self.lesson, method, turn(fold)));
            bert = under;
        }
        let report = judged(&courses, self.lesson, &self.fields.first)?;
        if !tell(run, &report, ledger) {
            return Ok(None);
        }
        let (bert, tuning) = self.origin.start(bert)?;
        let terms = Terms::new(&self.fields.whole, device);
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
            on_top: self.on_top,
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
pub(crate) struct Origin<'a> {
    pub run: &'a Run<'a>,
    pub base: &'a Base,
    /// Layers below this one stay frozen.
    pub split: usize,
    /// States after those layers, of all tokens, where they are kept.
    pub lower: Option<&'a Tensor>,
}

impl Origin<'_> {
    /// The untrained tuning, and the encoder under it: `frozen`, or one with weights of its own.
    pub fn start(&self, frozen: Bert) -> Result<(Bert, Tuning)> {
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

    /// The encoder as it is tuned.
    pub fn tuned<'b>(&'b self, bert: &'b Bert, tuning: &'b Tuning) -> Tuned<'b> {
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
