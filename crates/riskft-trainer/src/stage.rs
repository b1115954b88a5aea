//! Steps and epochs of tuning: one model, from where it starts to where its epochs end.

use std::time::Instant;

use riskft_core::options::{Method, Options};
use riskft_core::protocol::Progress;
use tch::{Device, Kind, Tensor};

use crate::adam::{warm_up_cosine, AdamW};
use crate::evaluate::{loss_value, term_logits};
use crate::events::Reporter;
use crate::fit::{batch_size, clip, loss, Lesson};
use crate::folds::Folds;
use crate::frozen::Tuned;
use crate::ledger::usage;
use crate::rows::Rows;
use crate::terms::Terms;

/// Weight decay of the encoder's trainable matrices.
const ENCODER_DECAY: f64 = 0.01;
/// The text terms' rate, as a share of the network's: they start from their optimum.
const TERMS_RATE: f64 = 0.1;
/// Share of the steps over which the rate rises.
const WARM_UP: f64 = 0.1;
/// Peak rate of full fine-tuning in place of the default one, which is LoRA's: all weights at
/// 5e-4 forget what they learnt.
const FULL_RATE: f64 = 5e-5;

/// How much higher the default rate is in a small sample, whose epochs have few steps: on two draws of 1,025
/// complaints 1e-3 reached an out-of-fold AUC of 0.797 and 0.798, 5e-4 0.787 and 0.797, 2e-3 0.792 and 0.788,
/// lower ones less.
const FEW_STEPS: f64 = 2.0;

/// The peak rate of the encoder's parameters.
pub fn peak_rate(method: Method, options: &Options, small: bool) -> f64 {
    let default = options.learning_rate == Options::default().learning_rate;
    match method {
        Method::Full if default => FULL_RATE,
        Method::Lora if default && small => FEW_STEPS * options.learning_rate,
        _ => options.learning_rate,
    }
}

/// Which of a run's tunings this is; they take about the same number of steps each.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    /// From 0.
    pub number: usize,
    pub of: usize,
}

/// Texts as an encoder under tuning reads them.
pub struct Seen {
    /// Ascending.
    pub numbers: Vec<usize>,
    /// Normalised pooled vectors [numbers, width]; one row where there is no text.
    pub vectors: Tensor,
}

impl Seen {
    /// The texts of rows by place, as the encoder stands.
    pub fn of(tuned: &Tuned<'_>, rows: &Rows, places: &[u32]) -> Self {
        let numbers = rows.distinct(places);
        let vectors = tuned.vectors_in_runs(&numbers);
        Seen { numbers, vectors }
    }

    /// Logits of terms, of rows by place whose texts were read.
    pub fn logits(&self, terms: &Terms, rows: &Rows, places: &[u32]) -> Vec<f64> {
        let place = |n: usize| self.numbers.binary_search(&n).unwrap_or(0);
        term_logits(terms, rows, places, &self.vectors, place)
    }
}

/// A model under tuning.
pub struct Stage<'a> {
    tuned: &'a Tuned<'a>,
    terms: &'a Terms,
    rows: &'a Rows,
    folds: &'a Folds,
    offset: Option<Tensor>,
    reporter: &'a Reporter,
    optimizer: AdamW,
    peaks: Vec<f64>,
    pub parameters: Vec<Tensor>,
    step_tokens: usize,
    batch: usize,
    steps: usize,
    total_steps: usize,
    losses: (f64, usize),
    pub cpu_seconds: f64,
    /// Encoder tokens so far, after dedup within steps.
    pub tokens: usize,
    turn: Turn,
    start: Instant,
}

impl<'a> Stage<'a> {
    /// For epochs of `train` rows.
    pub fn new(
        tuned: &'a Tuned<'a>,
        terms: &'a Terms,
        lesson: Lesson<'a>,
        method: Method,
        (train, turn): (usize, Turn),
    ) -> Self {
        let Lesson { rows, folds, options, reporter, .. } = lesson;
        let rate = peak_rate(method, options, folds.is_small());
        let weights = [terms.weight.shallow_clone()];
        let (encoder_decayed, encoder_plain) = tuned.tuning.parameters();
        let mut optimizer = AdamW::default();
        optimizer.add(&weights, options.head_learning_rate * TERMS_RATE, 0.0);
        optimizer.add(&encoder_decayed, rate, ENCODER_DECAY);
        optimizer.add(&encoder_plain, rate, 0.0);
        let mut parameters: Vec<Tensor> = weights.into();
        parameters.extend(encoder_decayed.into_iter().chain(encoder_plain));
        let batch = batch_size(options, train);
        let per_epoch = train.div_ceil(batch);
        let mut total_steps = per_epoch * options.epochs;
        if options.max_steps > 0 {
            total_steps = total_steps.min(options.max_steps);
        }
        Stage {
            peaks: optimizer.groups.iter().map(|g| g.rate).collect(),
            step_tokens: step_tokens(tuned),
            batch,
            folds,
            offset: lesson.offset_tensor(),
            tuned,
            terms,
            rows,
            reporter,
            optimizer,
            parameters,
            steps: 0,
            total_steps,
            losses: (0.0, 0),
            cpu_seconds: 0.0,
            tokens: 0,
            turn,
            start: Instant::now(),
        }
    }

    /// Whether the steps that options allow are done.
    pub fn at_bound(&self) -> bool {
        self.steps >= self.total_steps
    }

    pub fn epoch(&mut self, order: &[u32], epoch: usize) {
        let before = usage().cpu_seconds;
        let mut sum = Tensor::zeros([], (Kind::Float, self.tuned.device));
        let mut done = 0;
        for batch in order.chunks(self.batch) {
            if self.at_bound() {
                break;
            }
            sum += self.step(batch);
            done += 1;
            self.reporter.progress(self.progress(epoch));
        }
        self.losses = (loss_value(&sum), done);
        self.cpu_seconds += usage().cpu_seconds - before;
    }

    /// One step over a batch, in parts that bound the memory; the loss for each member.
    fn step(&mut self, batch: &[u32]) -> Tensor {
        let mut sum = Tensor::zeros([], (Kind::Float, self.tuned.device));
        for part in self.parts(batch) {
            let numbers = self.rows.distinct(part);
            self.tokens += numbers.iter().map(|n| self.tuned.texts.length(*n)).sum::<usize>();
            let vectors = match numbers.is_empty() {
                true => self.tuned.vectors_in_runs(&[]),
                false => self.tuned.vectors(&numbers, true),
            };
            let place = |n: usize| numbers.binary_search(&n).unwrap_or(0);
            let mut logits = self.terms.forward(&self.rows.text_batch(part, &vectors, place), true);
            if let Some(offset) = &self.offset {
                logits += offset.index_select(0, &self.rows.index(part));
            }
            let share = part.len() as f64 / batch.len() as f64;
            let weights: Vec<f32> =
                part.iter().map(|place| self.folds.weights[*place as usize]).collect();
            let weights = Tensor::from_slice(&weights).to_device(self.tuned.device);
            let weights = weights.unsqueeze(0);
            let logits = logits.unsqueeze(0);
            let loss = loss(&logits, &self.rows.targets(part), &weights) * share;
            loss.backward();
            sum += loss.detach();
        }
        let factor = warm_up_cosine(
            self.steps,
            (self.total_steps as f64 * WARM_UP).ceil() as usize,
            self.total_steps,
        );
        for (group, peak) in self.optimizer.groups.iter_mut().zip(&self.peaks) {
            group.rate = peak * factor;
        }
        self.optimizer.step(clip(1));
        self.steps += 1;
        sum
    }

    /// Cuts a batch so that each part has at most `step_tokens` tokens (at least one row).
    fn parts<'b>(&self, batch: &'b [u32]) -> Vec<&'b [u32]> {
        let mut parts = Vec::new();
        let (mut start, mut sum) = (0, 0);
        for (i, row) in batch.iter().enumerate() {
            let tokens: usize = self
                .rows
                .numbers_of(std::slice::from_ref(row))
                .filter_map(|n| usize::try_from(n).ok())
                .map(|n| self.tuned.texts.length(n))
                .sum();
            if i > start && sum + tokens > self.step_tokens {
                parts.push(&batch[start..i]);
                (start, sum) = (i, 0);
            }
            sum += tokens;
        }
        parts.push(&batch[start..]);
        parts
    }

    /// The texts of rows by place, as the encoder stands.
    pub fn read(&self, places: &[u32]) -> Seen {
        Seen::of(self.tuned, self.rows, places)
    }

    /// Logits of the terms, of rows by place whose texts were read.
    pub fn logits(&self, places: &[u32], seen: &Seen) -> Vec<f64> {
        seen.logits(self.terms, self.rows, places)
    }

    /// Tells where the tuning stands after an epoch.
    pub fn report(&self, epoch: usize, auc: Option<f64>) {
        self.reporter.progress(Progress {
            loss: Some(self.losses.0 / self.losses.1.max(1) as f64),
            validation_auc: auc,
            ..self.progress(epoch)
        });
    }

    fn progress(&self, epoch: usize) -> Progress {
        let done = self.turn.number * self.total_steps + self.steps;
        let left = (self.turn.of * self.total_steps).saturating_sub(done);
        let per_step = self.start.elapsed().as_secs_f64() / self.steps.max(1) as f64;
        Progress {
            phase: "tune".into(),
            done: done as u64,
            total: (done + left) as u64,
            epoch: epoch as u64,
            seconds_left: Some(per_step * left as f64),
            ..Progress::default()
        }
    }
}

/// Tokens whose activations, kept for the backward pass, take about 0.75 GiB on the CPU (32 values
/// of the encoder's width a token and layer) and 16 GiB on a GPU.
fn step_tokens(tuned: &Tuned<'_>) -> usize {
    let bytes: usize = if tuned.device == Device::Cpu { 3 << 28 } else { 16 << 30 };
    let shape = &tuned.bert.shape;
    let layers = (shape.layers - tuned.split).max(1);
    (bytes / (32 * shape.width * tuned.bert.kind.elt_size_in_bytes() * layers)).max(1024)
}
