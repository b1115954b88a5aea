//! Tuning of an encoder from the converged text terms on, and what it is judged by: the steps of the second
//! stage (`second`).

use riskft_core::metrics;
use riskft_core::options::{Method, Options};
use riskft_core::refusal::Result;
use tch::Tensor;

use crate::evaluate::{judge, MOST_JUDGED_ROWS};
use crate::fit::{Best, Lesson, Reached, Snapshot};
use crate::folds::Share;
use crate::frozen::Tuned;
use crate::random::Random;
use crate::rows::sample;
use crate::stage::{Seen, Stage, Turn};
use crate::terms::Terms;
use crate::tuning::Tuning;

/// What the second stage reached.
#[derive(Clone)]
pub struct TuneReport {
    pub reached: Reached,
    /// CPU seconds of one epoch's training, without its validation.
    pub epoch_cpu_seconds: f64,
    pub best_epoch: usize,
    /// Out-of-fold AUC of the tuned minus that of the frozen encoder, and its standard error.
    pub gain: Option<(f64, f64)>,
}

/// Tunes the encoder and the text terms together and leaves both at their best epoch. One model
/// alone is tuned, the first: its rows train, those that it leaves out judge. `frozen` are the
/// out-of-fold logits of the frozen encoder's terms by place.
///
/// # Errors
/// 22000 when no epoch gives finite scores.
pub fn tune(
    tuned: &Tuned<'_>,
    terms: &Terms,
    lesson: Lesson<'_>,
    frozen: &[f64],
    method: Method,
) -> Result<TuneReport> {
    let options = lesson.options;
    let mut order = lesson.folds.places(0, Share::Train);
    let mut stage = Stage::new(tuned, terms, lesson, method, (order.len(), ONE));
    let held = lesson.folds.places(0, Share::Held);
    let judged = sample(held.clone(), MOST_JUDGED_ROWS, options.seed);
    let labels = lesson.rows.labels_of(&judged);
    let mut best = Best::default();
    let mut kept = Snapshot::take(&stage.parameters);
    let mut random = shuffles(options);
    for epoch in 1..=options.epochs {
        random.shuffle(&mut order);
        stage.epoch(&order, epoch);
        let logits = lesson.whole(&stage.logits(&judged, &stage.read(&judged)), &judged);
        if best.offer(epoch, judge(&logits, &labels)) {
            kept = Snapshot::take(&stage.parameters);
        }
        stage.report(epoch, best.last.auc);
        if stage.at_bound() || best.waited(epoch) >= options.patience {
            break;
        }
    }
    kept.restore(&stage.parameters);
    let mut out_of_fold = vec![f64::NAN; lesson.rows.source.len()];
    let logits = stage.logits(&held, &stage.read(&held));
    held.iter().zip(logits).for_each(|(place, logit)| out_of_fold[*place as usize] = logit);
    let best_epoch = best.epoch();
    let reached = best.reached(out_of_fold)?;
    Ok(TuneReport {
        epoch_cpu_seconds: stage.cpu_seconds / reached.epochs.max(1) as f64,
        best_epoch,
        gain: gain(&lesson, &reached.out_of_fold, frozen, &held),
        reached,
    })
}

const ONE: Turn = Turn { number: 0, of: 1 };

/// The tuning of one model of several that are judged together.
pub struct Course {
    held: Vec<u32>,
    /// By epoch: logits of the rows left out.
    epochs: Vec<Vec<f64>>,
    /// By epoch, where tunings have a mean: the texts of these rows.
    pub(crate) seen: Vec<Seen>,
    /// By epoch, where tunings have a mean: the terms and the encoder's tuned tensors.
    pub(crate) kept: Vec<Vec<Tensor>>,
    cpu_seconds: f64,
}

/// Tunes the model of `turn` on its own rows, through all epochs.
pub fn course(
    tuned: &Tuned<'_>,
    terms: &Terms,
    lesson: Lesson<'_>,
    method: Method,
    turn: Turn,
) -> Course {
    let mut order = lesson.folds.places(turn.number, Share::Train);
    let mut stage = Stage::new(tuned, terms, lesson, method, (order.len(), turn));
    let held = lesson.folds.places(turn.number, Share::Held);
    let labels = lesson.rows.labels_of(&held);
    let mut random = shuffles(lesson.options);
    let (mut epochs, mut all, mut kept) = (Vec::new(), Vec::new(), Vec::new());
    for epoch in 1..=lesson.options.epochs {
        random.shuffle(&mut order);
        stage.epoch(&order, epoch);
        let seen = stage.read(&held);
        let logits = stage.logits(&held, &seen);
        stage.report(epoch, judge(&lesson.whole(&logits, &held), &labels).auc);
        epochs.push(logits);
        if Tuning::has_mean(method) {
            all.push(seen);
            kept.push(Snapshot::take(&stage.parameters).tensors());
        }
        if stage.at_bound() {
            break;
        }
    }
    Course { held, epochs, seen: all, kept, cpu_seconds: stage.cpu_seconds }
}

/// Judges courses that leave out different rows at the epoch that is best for all of them, beside
/// the frozen encoder's terms `frozen`, by place and of the same division: means over all divisions
/// rank better than the logits of one.
///
/// # Errors
/// 22000 when no epoch gives finite scores.
pub fn judged(courses: &[Course], lesson: Lesson<'_>, frozen: &[f64]) -> Result<TuneReport> {
    let mut held: Vec<u32> = courses.iter().flat_map(|course| course.held.clone()).collect();
    held.sort_unstable();
    held.dedup();
    let labels = lesson.rows.labels_of(&held);
    let of = |epoch: usize| {
        let mut out_of_fold = vec![f64::NAN; lesson.rows.source.len()];
        for course in courses {
            let logits = course.epochs.get(epoch - 1);
            let pairs = course.held.iter().zip(logits.into_iter().flatten());
            pairs.for_each(|(place, logit)| out_of_fold[*place as usize] = *logit);
        }
        out_of_fold
    };
    let epochs = courses.iter().map(|course| course.epochs.len()).min().unwrap_or(0);
    let mut best = Best::default();
    for epoch in 1..=epochs {
        let own = of(epoch);
        let own: Vec<f64> = held.iter().map(|place| own[*place as usize]).collect();
        best.offer(epoch, judge(&lesson.whole(&own, &held), &labels));
    }
    let best_epoch = best.epoch();
    let reached = best.reached(of(best_epoch))?;
    let trained = (epochs * courses.len()).max(1) as f64;
    Ok(TuneReport {
        epoch_cpu_seconds: courses.iter().map(|course| course.cpu_seconds).sum::<f64>() / trained,
        best_epoch,
        gain: gain(&lesson, &reached.out_of_fold, frozen, &held),
        reached,
    })
}

/// The AUC of tuned over frozen terms on some places, on top of the offset.
pub(crate) fn gain(
    lesson: &Lesson<'_>,
    tuned: &[f64],
    frozen: &[f64],
    held: &[u32],
) -> Option<(f64, f64)> {
    let of = |logits: &[f64]| {
        let own: Vec<f64> = held.iter().map(|place| logits[*place as usize]).collect();
        lesson.whole(&own, held)
    };
    metrics::auc_difference(&of(tuned), &of(frozen), &lesson.rows.labels_of(held))
}

/// Tunes on all fitted rows for as many epochs as were best where some rows judged. The rate falls
/// as it did there.
pub fn tune_whole(
    tuned: &Tuned<'_>,
    terms: &Terms,
    lesson: Lesson<'_>,
    method: Method,
    (epochs, turn): (usize, Turn),
) {
    let mut order = lesson.folds.fitted.clone();
    let mut stage = Stage::new(tuned, terms, lesson, method, (order.len(), turn));
    let mut random = shuffles(lesson.options);
    for epoch in 1..=epochs {
        random.shuffle(&mut order);
        stage.epoch(&order, epoch);
        stage.report(epoch, None);
    }
}

fn shuffles(options: &Options) -> Random {
    Random::new(options.seed ^ 0x5455_4E45)
}
