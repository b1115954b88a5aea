//! The branch `text`: terms of the encoder's vectors, fitted on top of the other branches.
//!
//! The offset is the blend's out-of-fold logit, so the terms learn what numbers and categories
//! leave. First with the frozen encoder, crossed over all folds. Where it says anything at all, the
//! encoder is tuned, as one model on the first one's rows, and kept if it beats the frozen one on the
//! rows that it left out; in a small sample whose text carries the risk, unless it falls behind. What
//! a small sample keeps is then tuned again, on all rows.

use std::time::Instant;

use riskft_core::options::{KeepText, KeepTuned, Method};
use riskft_core::protocol::{Ledger, Progress};
use riskft_core::refusal::Result;
use tch::{Kind, Tensor};

use crate::base::Base;
use crate::bert::Bert;
use crate::blend;
use crate::evidence::Evidence;
use crate::fit::Lesson;
use crate::frozen::{encode, fits, Frozen, Tuned};
use crate::ledger::Meter;
use crate::ridge::{self, Ridge};
use crate::run::Run;
use crate::terms::Terms;
use crate::tune::{tune, tune_whole, TuneReport};
use crate::tuning::{first_layer, Tuning};

/// The branch as fitted.
pub struct Text {
    pub terms: Terms,
    pub tuning: Tuning,
    /// What it is, in words.
    pub what: String,
    /// Out-of-fold logits by place; of the first model's rows alone when the encoder was tuned.
    pub logits: Vec<f64>,
    /// Those of the frozen encoder, of all rows.
    pub frozen: Vec<f64>,
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
        logits: ridge.out_of_fold.clone(),
        frozen: ridge.out_of_fold,
        seconds: begin.elapsed().as_secs_f64(),
    };
    let gain = blend::gain(&whole, offset, &run.folds.fitted, &labels);
    if options.epochs == 0 || !is_worth_tuning(run, gain) {
        return Ok(frozen(ridge));
    }
    meter.phase("tune");
    let origin = Origin { run, base, split, lower: start.frozen.lower.as_ref() };
    let lesson = Lesson { phase: "tune", ..lesson };
    let method = run.header.method;
    let (bert, tuning) = origin.start(start.bert)?;
    ledger.parameters_trainable += tuning.size() as u64;
    if method != Method::Full {
        ledger.parameters += tuning.size() as u64;
    }
    let terms = Terms::new(&ridge.weights.get(0), run.compute.device);
    let report = tune(&origin.tuned(&bert, &tuning), &terms, lesson, &ridge.out_of_fold, method)?;
    let evidence = Evidence::of(run.folds.is_small(), gain);
    tell(run, &report, evidence, ledger);
    if !ledger.tuned_kept {
        return Ok(frozen(ridge));
    }
    let (terms, tuning) = match run.folds.is_small() {
        false => (terms, tuning),
        true => {
            drop((terms, tuning));
            let (bert, tuning) = origin.start(bert)?;
            let terms = Terms::new(&mean, run.compute.device);
            tune_whole(&origin.tuned(&bert, &tuning), &terms, lesson, method, report.best_epoch);
            (terms, tuning)
        }
    };
    Ok(Text {
        terms,
        tuning,
        what: format!(
            "encoder tuned by {}, {} epochs",
            run.header.method.name(),
            report.reached.epochs
        ),
        logits: report.reached.out_of_fold,
        frozen: ridge.out_of_fold,
        seconds: begin.elapsed().as_secs_f64(),
    })
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

fn tell(run: &Run<'_>, report: &TuneReport, evidence: Evidence, ledger: &mut Ledger) {
    ledger.tune_epochs = report.reached.epochs as u64;
    ledger.tune_epoch_cpu_seconds = Some(report.epoch_cpu_seconds);
    ledger.auc_tuned = report.reached.judgement.auc;
    ledger.auc_gain_se = report.gain.map(|(_, error)| error);
    let always = run.header.options.keep_tuned == KeepTuned::Always;
    ledger.tuned_kept = always || report.is_kept(evidence);
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
}
