//! The branch `text`: terms of the encoder's vectors, fitted on top of the other branches or beside
//! them.
//!
//! On top, the offset is the out-of-fold logit of network and trees, so the terms learn what
//! numbers and categories leave. First with the frozen encoder, crossed over all folds. Where it
//! says anything at all, the encoder is tuned and kept if it beats the frozen one on the rows that it
//! left out: as one model on the first one's rows, in a small sample as one for each fold of the
//! first division, whose mean it keeps where it stands for them.

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
use crate::second::Second;
use crate::terms::Terms;
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
    let stage = Second {
        origin: &origin,
        fields: &fields,
        vectors: &start.frozen.vectors,
        lesson,
        on_top,
        begin,
    };
    let text = match run.folds.is_small() {
        true => stage.crossed(start.bert, ledger)?,
        false => stage.alone(start.bert, ledger)?,
    };
    Ok(text.unwrap_or_else(|| frozen(fields)))
}

fn is_tabular(kind: BranchKind) -> bool {
    kind < BranchKind::Grams
}

/// Fits terms on vectors by text number.
pub(crate) fn terms(run: &Run<'_>, lesson: &Lesson<'_>, vectors: &Tensor) -> Result<Fields> {
    let name = |field: usize| run.encoding.texts.get(field).map_or("", |text| &text.name);
    fields::fit(lesson, vectors, |field| name(field).to_owned())
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
    let fit = |offset: Vec<f64>, on_top| -> Result<Place> {
        let fields = terms(run, &lesson(run, &offset), vectors)?;
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
