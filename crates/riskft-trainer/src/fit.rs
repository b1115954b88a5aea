//! Fitting the network.

use std::time::Instant;

use riskft_core::options::Options;
use riskft_core::protocol::Progress;
use riskft_core::refusal::{code, Refusal, Result};
use tch::{Kind, Reduction, Tensor};

use crate::adam::AdamW;
use crate::evaluate::{judge, left_out, loss_value, member_logits, Judgement, MOST_JUDGED_ROWS};
use crate::events::Reporter;
use crate::folds::Folds;
use crate::head::Head;
use crate::random::Random;
use crate::rows::{sample, Rows};

/// Weight decay of the head's matrices and embeddings.
pub const HEAD_DECAY: f64 = 0.1;

/// Steps of an epoch that a small sample should have, and fewest rows of a step.
const STEPS: usize = 32;
const LEAST_BATCH: usize = 32;

/// What a stage reached; the tensors hold its best epoch.
#[derive(Debug, Clone)]
pub struct Reached {
    pub epochs: usize,
    pub judgement: Judgement,
    /// Out-of-fold logits of the head by place; NaN where no member left a row out.
    pub out_of_fold: Vec<f64>,
}

/// What a head is fitted on.
#[derive(Clone, Copy)]
pub struct Lesson<'a> {
    pub rows: &'a Rows,
    pub folds: &'a Folds,
    /// By place: a logit that the head's is added to.
    pub offset: Option<&'a [f64]>,
    pub options: &'a Options,
    pub phase: &'static str,
    pub reporter: &'a Reporter,
}

impl Lesson<'_> {
    /// The offset as a tensor [rows].
    pub fn offset_tensor(&self) -> Option<Tensor> {
        self.offset.map(|offset| {
            let values: Vec<f32> =
                offset.iter().map(|z| if z.is_nan() { 0.0 } else { *z as f32 }).collect();
            Tensor::from_slice(&values).to_device(self.rows.device())
        })
    }

    /// Adds the offset to logits of some places.
    pub fn whole(&self, logits: &[f64], places: &[u32]) -> Vec<f64> {
        let of =
            |place: &u32| self.offset.map(|offset| offset[*place as usize]).filter(|z| !z.is_nan());
        logits.iter().zip(places).map(|(z, place)| z + of(place).unwrap_or(0.0)).collect()
    }
}

/// Rows of a step: few enough that a small sample's epoch has [`STEPS`] of them.
pub fn batch_size(options: &Options, rows: usize) -> usize {
    options.batch_size.min((rows / STEPS).max(LEAST_BATCH))
}

/// Sum over the members of the weighted mean cross-entropy: each member learns as if it were alone.
/// `logits` and `weights` are [members, rows].
pub fn loss(logits: &Tensor, targets: &Tensor, weights: &Tensor) -> Tensor {
    let targets = targets.expand_as(logits);
    let none: Option<Tensor> = None;
    let losses = logits.binary_cross_entropy_with_logits(
        &targets,
        none.as_ref(),
        none.as_ref(),
        Reduction::None,
    );
    let sum = |t: Tensor| t.sum_dim_intlist(1, false, Kind::Float);
    (sum(losses * weights) / sum(weights.shallow_clone()).clamp_min(1e-6)).sum(Kind::Float)
}

/// Largest joint gradient norm: 1 for each member.
pub fn clip(members: i64) -> f64 {
    (members as f64).sqrt()
}

/// Copies of parameters, to come back to.
pub struct Snapshot(Vec<Tensor>);

impl Snapshot {
    pub fn take(parameters: &[Tensor]) -> Self {
        let _guard = tch::no_grad_guard();
        Snapshot(parameters.iter().map(|p| p.detach().copy()).collect())
    }
    pub fn tensors(self) -> Vec<Tensor> {
        self.0
    }
    pub fn restore(&self, parameters: &[Tensor]) {
        let _guard = tch::no_grad_guard();
        for (parameter, kept) in parameters.iter().zip(&self.0) {
            parameter.shallow_clone().copy_(kept);
        }
    }
}

/// All parameters of a head, in a fixed order.
pub fn all_parameters(head: &Head) -> Vec<Tensor> {
    let (decayed, plain) = head.parameters();
    decayed.into_iter().chain(plain).collect()
}

/// Trains the head until the out-of-fold figure has not improved for `patience` epochs, and leaves
/// it at its best epoch. Each member learns from the rows of its model alone.
///
/// # Errors
/// 22000 when no epoch gives finite scores.
pub fn fit_head(head: &Head, lesson: Lesson<'_>) -> Result<Reached> {
    let options = lesson.options;
    let mut stage = Stage::new(head, lesson);
    let mut random = Random::new(options.seed ^ 0x4845_4144);
    let mut order = lesson.folds.trained();
    let start = Instant::now();
    for epoch in 1..=options.head_epochs {
        random.shuffle(&mut order);
        let finished = stage.epoch(&order, epoch);
        let logits = lesson.whole(&stage.left_out(&stage.judged), &stage.judged);
        let better = stage.best.offer(epoch, judge(&logits, &stage.labels));
        if better {
            stage.kept = Snapshot::take(&stage.parameters);
        }
        let per_epoch = start.elapsed().as_secs_f64() / epoch as f64;
        lesson.reporter.progress(Progress {
            phase: lesson.phase.into(),
            done: epoch as u64,
            total: options.head_epochs as u64,
            epoch: epoch as u64,
            loss: Some(stage.mean_loss()),
            validation_auc: stage.best.last.auc,
            seconds_left: Some(per_epoch * (options.head_epochs - epoch) as f64),
        });
        if finished || stage.best.waited(epoch) >= options.patience {
            break;
        }
    }
    stage.kept.restore(&stage.parameters);
    let mut out_of_fold = vec![f64::NAN; lesson.rows.source.len()];
    let logits = stage.left_out(&lesson.folds.fitted);
    lesson.folds.fitted.iter().zip(logits).for_each(|(p, z)| out_of_fold[*p as usize] = z);
    stage.best.reached(out_of_fold)
}

struct Stage<'a> {
    head: &'a Head,
    lesson: Lesson<'a>,
    optimizer: AdamW,
    parameters: Vec<Tensor>,
    kept: Snapshot,
    /// By member and place.
    weights: Tensor,
    offset: Option<Tensor>,
    /// By member: what weights and made-up rows add to the logits that it is trained on, so that
    /// its own are those of natural shares.
    shift: Option<Tensor>,
    batch: usize,
    judged: Vec<u32>,
    labels: Vec<bool>,
    best: Best,
    steps: usize,
    losses: (f64, usize),
}

impl<'a> Stage<'a> {
    fn new(head: &'a Head, lesson: Lesson<'a>) -> Self {
        let Lesson { rows, folds, options, .. } = lesson;
        let mut optimizer = AdamW::default();
        let (decayed, plain) = head.parameters();
        optimizer.add(&decayed, options.head_learning_rate, HEAD_DECAY);
        optimizer.add(&plain, options.head_learning_rate, 0.0);
        let parameters = all_parameters(head);
        let judged = sample(folds.fitted.clone(), MOST_JUDGED_ROWS, options.seed);
        Stage {
            head,
            lesson,
            optimizer,
            kept: Snapshot::take(&parameters),
            parameters,
            weights: folds.member_weights(head.plan.members as usize).to_device(rows.device()),
            offset: lesson.offset_tensor(),
            shift: folds
                .member_shifts(head.plan.members as usize, &rows.labels)
                .map(|shift| shift.to_device(rows.device())),
            batch: batch_size(options, folds.size()),
            labels: rows.labels_of(&judged),
            judged,
            best: Best::default(),
            steps: 0,
            losses: (0.0, 0),
        }
    }

    fn left_out(&self, places: &[u32]) -> Vec<f64> {
        let Lesson { rows, folds, .. } = self.lesson;
        let members = member_logits(self.head, rows, places);
        left_out(folds, &members, places)
    }

    /// One pass over `order`; true when the bound on steps is reached.
    fn epoch(&mut self, order: &[u32], epoch: usize) -> bool {
        let Lesson { rows, options, phase, reporter, .. } = self.lesson;
        let members = self.head.plan.members;
        let batches = order.len().div_ceil(self.batch);
        let mut sum = Tensor::zeros([], (Kind::Float, rows.device()));
        for (done, batch) in order.chunks(self.batch).enumerate() {
            let index = rows.index(batch);
            let mut logits = self.head.forward(&rows.batch(batch), true);
            if let Some(offset) = &self.offset {
                logits += offset.index_select(0, &index);
            }
            if let Some(shift) = &self.shift {
                logits += shift;
            }
            let weights = self.weights.index_select(1, &index);
            let loss = loss(&logits, &rows.targets(batch), &weights);
            loss.backward();
            self.optimizer.step(clip(members));
            sum += loss.detach() / members as f64;
            self.steps += 1;
            let bound = options.max_steps > 0 && self.steps >= options.max_steps;
            if bound || done + 1 == batches {
                self.losses = (loss_value(&sum), done + 1);
                return bound;
            }
            reporter.progress(Progress {
                phase: phase.into(),
                done: done as u64,
                total: batches as u64,
                epoch: epoch as u64,
                ..Progress::default()
            });
        }
        false
    }

    fn mean_loss(&self) -> f64 {
        self.losses.0 / self.losses.1.max(1) as f64
    }
}

/// The best epoch so far.
#[derive(Debug)]
pub struct Best {
    epoch: usize,
    epochs: usize,
    value: f64,
    auc: Option<f64>,
    pub last: Judgement,
}

impl Default for Best {
    fn default() -> Self {
        let last = Judgement { value: f64::NEG_INFINITY, auc: None };
        Best { epoch: 0, epochs: 0, value: f64::NEG_INFINITY, auc: None, last }
    }
}

impl Best {
    /// Takes an epoch's figures; true when they are the best so far.
    pub fn offer(&mut self, epoch: usize, judgement: Judgement) -> bool {
        self.last = judgement;
        self.epochs = epoch;
        if judgement.value <= self.value {
            return false;
        }
        (self.epoch, self.value, self.auc) = (epoch, judgement.value, judgement.auc);
        true
    }

    pub fn epoch(&self) -> usize {
        self.epoch
    }

    /// Epochs since the best one.
    pub fn waited(&self, epoch: usize) -> usize {
        epoch - self.epoch
    }

    /// # Errors
    /// 22000 when no epoch gave finite scores.
    pub fn reached(self, out_of_fold: Vec<f64>) -> Result<Reached> {
        if self.epoch == 0 {
            return Err(Refusal::new(code::DATA_EXCEPTION, "the training diverged")
                .detail(format!("None of {} epochs gave finite scores.", self.epochs))
                .hint("Set options.head_learning_rate and options.learning_rate lower."));
        }
        let judgement = Judgement { value: self.value, auc: self.auc };
        Ok(Reached { epochs: self.epochs, judgement, out_of_fold })
    }
}
