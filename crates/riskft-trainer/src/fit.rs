//! First stage: the head on the frozen encoder's vectors.

use std::time::Instant;

use riskft_core::dataset::Part;
use riskft_core::options::Options;
use riskft_core::protocol::Progress;
use riskft_core::refusal::{code, Refusal, Result};
use tch::{Kind, Reduction, Tensor};

use crate::adam::AdamW;
use crate::evaluate::{judge, loss_value, scores, Judgement, MOST_VALIDATION_ROWS};
use crate::events::Reporter;
use crate::head::Head;
use crate::random::Random;
use crate::rows::Rows;

/// Weight decay of the head's matrices and embeddings.
pub const HEAD_DECAY: f64 = 0.1;

/// What a stage reached; the tensors hold its best epoch.
#[derive(Debug, Clone)]
pub struct Reached {
    pub epochs: usize,
    pub judgement: Judgement,
    /// Scores of [`judged_rows`] at the best epoch.
    pub scores: Vec<f64>,
}

/// The validation rows that every epoch is judged on.
pub fn judged_rows(rows: &Rows, options: &Options) -> Vec<u32> {
    rows.sample(Part::Validation, MOST_VALIDATION_ROWS, options.seed)
}

/// Sum over the members of the mean cross-entropy: each member learns as if it were alone.
pub fn loss(logits: &Tensor, targets: &Tensor) -> Tensor {
    let members = logits.size()[0];
    let targets = targets.expand_as(logits);
    let none: Option<Tensor> = None;
    logits.binary_cross_entropy_with_logits(&targets, none.as_ref(), none.as_ref(), Reduction::Mean)
        * members
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

/// Trains the head until the validation figure has not improved for `patience` epochs, and leaves
/// it at its best epoch. `vectors` are normalised pooled vectors by text number.
///
/// # Errors
/// 22000 when no epoch gives finite scores.
pub fn fit_head(
    head: &Head,
    rows: &Rows,
    vectors: Option<&Tensor>,
    options: &Options,
    reporter: &Reporter,
) -> Result<Reached> {
    let mut stage = Stage::new(head, rows, options);
    let mut random = Random::new(options.seed ^ 0x4845_4144);
    let mut order = rows.part(Part::Train).to_vec();
    let start = Instant::now();
    for epoch in 1..=options.head_epochs {
        random.shuffle(&mut order);
        let finished = stage.epoch(&order, vectors, epoch, reporter);
        let validation = scores(head, rows, &stage.judged, vectors, |n| n);
        let better = stage.best.offer(epoch, judge(&validation, &stage.labels), validation);
        if better {
            stage.kept = Snapshot::take(&stage.parameters);
        }
        let per_epoch = start.elapsed().as_secs_f64() / epoch as f64;
        reporter.progress(Progress {
            phase: "head".into(),
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
    stage.best.reached()
}

struct Stage<'a> {
    head: &'a Head,
    rows: &'a Rows,
    options: &'a Options,
    optimizer: AdamW,
    parameters: Vec<Tensor>,
    kept: Snapshot,
    judged: Vec<u32>,
    labels: Vec<bool>,
    best: Best,
    steps: usize,
    losses: (f64, usize),
}

impl<'a> Stage<'a> {
    fn new(head: &'a Head, rows: &'a Rows, options: &'a Options) -> Self {
        let mut optimizer = AdamW::default();
        let (decayed, plain) = head.parameters();
        optimizer.add(&decayed, options.head_learning_rate, HEAD_DECAY);
        optimizer.add(&plain, options.head_learning_rate, 0.0);
        let parameters = all_parameters(head);
        let judged = judged_rows(rows, options);
        Stage {
            head,
            rows,
            options,
            optimizer,
            kept: Snapshot::take(&parameters),
            parameters,
            labels: rows.labels_of(&judged),
            judged,
            best: Best::default(),
            steps: 0,
            losses: (0.0, 0),
        }
    }

    /// One pass over `order`; true when the bound on steps is reached.
    fn epoch(
        &mut self,
        order: &[u32],
        vectors: Option<&Tensor>,
        epoch: usize,
        reporter: &Reporter,
    ) -> bool {
        let members = self.head.plan.members;
        let batches = order.len().div_ceil(self.options.batch_size);
        let mut sum = Tensor::zeros([], (Kind::Float, self.parameters[0].device()));
        for (done, batch) in order.chunks(self.options.batch_size).enumerate() {
            let logits = self.head.forward(&self.rows.batch(batch, vectors, |n| n), true);
            let loss = loss(&logits, &self.rows.targets(batch));
            loss.backward();
            self.optimizer.step(clip(members));
            sum += loss.detach() / members as f64;
            self.steps += 1;
            let bound = self.options.max_steps > 0 && self.steps >= self.options.max_steps;
            if bound || done + 1 == batches {
                self.losses = (loss_value(&sum), done + 1);
                return bound;
            }
            reporter.progress(Progress {
                phase: "head".into(),
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
    scores: Vec<f64>,
    pub last: Judgement,
}

impl Default for Best {
    fn default() -> Self {
        let last = Judgement { value: f64::NEG_INFINITY, auc: None };
        Best { epoch: 0, epochs: 0, value: f64::NEG_INFINITY, auc: None, scores: Vec::new(), last }
    }
}

impl Best {
    /// Takes an epoch's figures; true when they are the best so far.
    pub fn offer(&mut self, epoch: usize, judgement: Judgement, scores: Vec<f64>) -> bool {
        self.last = judgement;
        self.epochs = epoch;
        if judgement.value <= self.value {
            return false;
        }
        (self.epoch, self.value, self.auc, self.scores) =
            (epoch, judgement.value, judgement.auc, scores);
        true
    }

    /// Epochs since the best one.
    pub fn waited(&self, epoch: usize) -> usize {
        epoch - self.epoch
    }

    /// # Errors
    /// 22000 when no epoch gave finite scores.
    pub fn reached(self) -> Result<Reached> {
        if self.epoch == 0 {
            return Err(Refusal::new(code::DATA_EXCEPTION, "the training diverged")
                .detail(format!("None of {} epochs gave finite scores.", self.epochs))
                .hint("Set options.head_learning_rate and options.learning_rate lower."));
        }
        let judgement = Judgement { value: self.value, auc: self.auc };
        Ok(Reached { epochs: self.epochs, judgement, scores: self.scores })
    }
}
