//! The branch `text`: terms of the encoder's vectors, fitted on top of the other branches.
//!
//! The offset is the blend's out-of-fold logit, so the terms learn what numbers and categories
//! leave. First with the frozen encoder, crossed over all folds; then the encoder is tuned, as one
//! model on the first one's rows, and kept if it beats the frozen one on the rows that it left out.

use std::time::Instant;

use riskft_core::options::Method;
use riskft_core::protocol::{Ledger, Progress};
use riskft_core::refusal::Result;
use tch::Kind;

use crate::base::Base;
use crate::bert::Bert;
use crate::fit::{fit_head, Lesson, Reached};
use crate::frozen::{encode, fits, Frozen, Tuned};
use crate::head::{Head, Plan};
use crate::ledger::Meter;
use crate::run::Run;
use crate::tune::{tune, TuneReport};
use crate::tuning::{first_layer, Tuning};

/// The branch as fitted.
pub struct Text {
    pub head: Head,
    pub tuning: Tuning,
    /// Out-of-fold logits by place; of the first model's rows alone when the encoder was tuned.
    pub logits: Vec<f64>,
    pub seconds: f64,
}

/// Where tuning starts.
struct Start {
    bert: Bert,
    frozen: Frozen,
    /// Layers below this one stay frozen.
    split: usize,
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
    let plan = Plan::text(run.encoding, run.folds.models(), base.shape.width);
    let head = Head::new(plan, run.compute.device);
    ledger.parameters += (head.size() + base.parameters()) as u64;
    ledger.parameters_trainable += head.size() as u64;
    let split = first_layer(run.header.method, options, &base.shape);
    meter.phase("encode");
    let start = freeze(run, base, split)?;
    meter.phase("text");
    let lesson = Lesson {
        rows: run.rows,
        folds: run.folds,
        vectors: Some(&start.frozen.vectors),
        offset: Some(offset),
        options,
        phase: "text",
        reporter: run.reporter,
    };
    let reached = fit_head(&head, lesson)?;
    ledger.auc_frozen = reached.judgement.auc;
    let frozen = |head, reached: Reached| Text {
        head,
        tuning: Tuning::Frozen,
        logits: reached.out_of_fold,
        seconds: begin.elapsed().as_secs_f64(),
    };
    if options.epochs == 0 {
        return Ok(frozen(head, reached));
    }
    meter.phase("tune");
    let (one, tuning, report) = tuned(run, base, start, &head, (&reached, offset), ledger)?;
    tell(run, &report, &reached, ledger);
    if !report.is_kept() {
        return Ok(frozen(head, reached));
    }
    let logits = report.reached.out_of_fold;
    Ok(Text { head: one, tuning, logits, seconds: begin.elapsed().as_secs_f64() })
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
    Ok(Start { bert, frozen, split })
}

/// Tunes from the frozen stage's first member, which has not seen the rows that judge.
fn tuned(
    run: &Run<'_>,
    base: &Base,
    start: Start,
    head: &Head,
    (reached, offset): (&Reached, &[f64]),
    ledger: &mut Ledger,
) -> Result<(Head, Tuning, TuneReport)> {
    let (header, compute) = (run.header, run.compute);
    let Start { mut bert, frozen, split } = start;
    if header.method == Method::Full {
        // The weights that are trained are f32; the products stay of the run's kind.
        bert = Bert::new(&base.shape, &base.tensors, Kind::Float, compute.device)?;
        bert.kind = compute.kind;
    }
    let one = head.text_of(0);
    let tuning = Tuning::new(header.method, &header.options, &mut bert, compute.device);
    ledger.parameters_trainable += tuning.size() as u64;
    if header.method != Method::Full {
        ledger.parameters += tuning.size() as u64;
    }
    let tuned = Tuned {
        bert: &bert,
        tuning: &tuning,
        texts: run.texts,
        split,
        lower: frozen.lower.as_ref(),
        device: compute.device,
    };
    let lesson = Lesson {
        rows: run.rows,
        folds: run.folds,
        vectors: None,
        offset: Some(offset),
        options: &header.options,
        phase: "tune",
        reporter: run.reporter,
    };
    let report = tune(&tuned, &one, lesson, &reached.out_of_fold, header.method)?;
    Ok((one, tuning, report))
}

fn tell(run: &Run<'_>, report: &TuneReport, frozen: &Reached, ledger: &mut Ledger) {
    ledger.tune_epochs = report.reached.epochs as u64;
    ledger.tune_epoch_cpu_seconds = Some(report.epoch_cpu_seconds);
    ledger.auc_tuned = report.reached.judgement.auc;
    ledger.auc_gain_se = report.gain.map(|(_, error)| error);
    ledger.tuned_kept = report.is_kept();
    // The frozen encoder on the same rows as the tuned one.
    let before = report.gain.zip(ledger.auc_tuned).map(|((gain, _), tuned)| tuned - gain);
    ledger.auc_frozen = before.or(frozen.judgement.auc);
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
