//! Passes of the frozen encoder, fits of its terms, and steps of its tuning.

use riskft_core::protocol::PhaseEstimate;
use riskft_core::refusal::Result;
use tch::{Kind, Tensor};

use super::{certain, timed, Pilot};
use crate::base::Base;
use crate::bert::Bert;
use crate::fields;
use crate::fit::batch_size;
use crate::folds::Share;
use crate::frozen::{encode, fits, CHUNK_TOKENS};
use crate::grams;
use crate::ledger::{resident_bytes, usage};
use crate::run::Run;
use crate::second::tunings;
use crate::stage::{Stage, Turn};
use crate::terms::Terms;
use crate::text::{lesson, Origin};
use crate::tuning::{first_layer, Tuning};

/// Tokens that the frozen encoder reads untimed, and timed.
const WARM_TOKENS: usize = 4096;
const TOKENS: usize = 16_384;
/// Times that a fit of terms and landmarks takes longer on vectors that say something.
const SEARCHED: f64 = 3.0;
/// Steps of tuning that are timed, after one that is not.
const STEPS: usize = 3;

impl Pilot<'_> {
    /// Seconds of the phase `grams`.
    pub(super) fn grams(&self) -> Result<f64> {
        if self.base.is_none() {
            return Ok(0.0);
        }
        self.tell("grams");
        grams::seconds(&self.run, &self.job.dataset)
    }

    /// The phases `encode`, `text` and `tune`; a token takes the frozen encoder so many seconds.
    pub(super) fn text(&self, base: &Base, token: f64) -> Result<Vec<PhaseEstimate>> {
        let tokens = self.run.texts.tokens() as f64;
        let terms = self.terms()?;
        let mut phases = vec![certain("encode", token * tokens), certain("text", terms)];
        let seconds = self.tune(base, token, self.terms_again(terms))?;
        phases.push(PhaseEstimate {
            phase: "tune".to_owned(),
            seconds,
            seconds_if_text_adds: if self.text_is_certain() { 0.0 } else { seconds },
        });
        Ok(phases)
    }

    /// Layers below this one stay frozen.
    fn split(&self, base: &Base) -> usize {
        first_layer(self.run.header.method, self.options(), &base.shape)
    }

    /// Seconds that the frozen encoder takes for a token.
    pub(super) fn encoder_token(&self, base: &Base) -> Result<f64> {
        let split = self.split(base);
        self.tell("encode");
        let compute = self.run.compute;
        let bert = Bert::new(&base.shape, &base.tensors, compute.kind, compute.device)?;
        let pass = |tokens: usize| {
            let texts = self.run.texts.thinned(tokens);
            let (seconds, _) = timed(|| {
                Ok(encode(&bert, &texts, split, split > 0, compute.device, |_| ()).vectors)
            })?;
            Ok(seconds / texts.tokens().max(1) as f64)
        };
        pass(WARM_TOKENS)?;
        pass(TOKENS)
    }

    /// Seconds of the phase `text`: the fit itself, on vectors that say nothing.
    fn terms(&self) -> Result<f64> {
        self.tell("text");
        let run = &self.run;
        let width = self.base.map_or(1, |base| base.shape.width) as i64;
        let shape = [(run.texts.len() as i64).max(1), width];
        let vectors = Tensor::randn(shape, (Kind::Float, run.compute.device));
        let folds = run.folds.natural();
        let natural = Run { folds: &folds, ..*run };
        let offset = vec![0.0; run.rows.source.len()];
        let name = |field: usize| field.to_string();
        let (seconds, _) = timed(|| fields::fit(&lesson(&natural, &offset), &vectors, name))?;
        if !run.folds.is_small() {
            return Ok(seconds);
        }
        Ok(SEARCHED * self.places() * seconds)
    }

    /// Where a small sample's terms are fitted: on top of the other branches, and beside them.
    fn places(&self) -> f64 {
        if self.run.is_text_alone() {
            1.0
        } else {
            2.0
        }
    }

    /// Seconds of a small sample's fit on the tuned encoder's vectors, where all of the frozen one's take
    /// so many.
    fn terms_again(&self, terms: f64) -> f64 {
        let fitted = self.run.folds.is_small() && Tuning::has_mean(self.run.header.method);
        if fitted {
            terms / self.places()
        } else {
            0.0
        }
    }

    /// Seconds of the phase `tune`, in which terms are fitted again for so many.
    fn tune(&self, base: &Base, token: f64, again: f64) -> Result<f64> {
        let options = self.options();
        if options.epochs == 0 || self.run.texts.is_empty() {
            return Ok(0.0);
        }
        self.tell("tune");
        let folds = self.run.folds.natural();
        let order = folds.places(0, Share::Train);
        let batch = batch_size(options, order.len());
        let step = self.tuning_step(base, &Run { folds: &folds, ..self.run }, &order, batch)?;
        let epoch = order.len().div_ceil(batch).max(1);
        let mut steps = (options.epochs * epoch) as f64;
        if options.max_steps > 0 {
            steps = steps.min(options.max_steps as f64);
        }
        // What is left out is read after each epoch, and once more, by the layers that are tuned.
        let held = self.run.rows.distinct(&folds.places(0, Share::Held));
        let held: usize = held.iter().map(|number| self.run.texts.length(*number)).sum();
        let (layers, split) = (base.shape.layers.max(1), self.split(base));
        let upper = if self.keeps_states(base) { layers - split } else { layers };
        let judged = held as f64 * token * upper as f64 / layers as f64;
        let one = steps * step + (steps / epoch as f64 + 1.0) * judged;
        let tunings = match folds.is_small() {
            true => tunings(&folds, self.run.header.method),
            false => 1,
        };
        Ok(one * tunings as f64 + again)
    }

    /// Seconds of a step of tuning.
    fn tuning_step(&self, base: &Base, run: &Run<'_>, order: &[u32], batch: usize) -> Result<f64> {
        let (kind, device) = (run.compute.kind, run.compute.device);
        let width = base.shape.width as i64;
        // States of one token stand for all: what they are does not change how long a step takes.
        let states = Tensor::zeros([1, width], (kind, device));
        let states = states.expand([run.texts.tokens() as i64, width], false);
        let lower = self.keeps_states(base).then_some(&states);
        let origin = Origin { run, base, split: self.split(base), lower };
        let (bert, tuning) = origin.start(Bert::new(&base.shape, &base.tensors, kind, device)?)?;
        let tuned = origin.tuned(&bert, &tuning);
        let weight = Tensor::zeros([(run.rows.texts as i64).max(1), width], (Kind::Float, device));
        let terms = Terms::new(&weight, device);
        let offset = vec![0.0; run.rows.source.len()];
        let (method, turn) = (run.header.method, Turn { number: 0, of: 1 });
        let lesson = lesson(run, &offset);
        let mut stage = Stage::new(&tuned, &terms, lesson, method, (order.len(), turn));
        let (warm, rest) = order.split_at(batch.min(order.len()));
        stage.epoch(warm, 1);
        let some = if rest.is_empty() { warm } else { &rest[..rest.len().min(STEPS * batch)] };
        let (seconds, ()) = timed(|| {
            stage.epoch(some, 1);
            Ok(())
        })?;
        Ok(seconds / some.len().div_ceil(batch).max(1) as f64)
    }

    /// Largest resident set of the training: that of the steps that were tried, or what is there now with
    /// the states of all texts and the longest pass of the encoder, in f32 as the gate runs it.
    pub(super) fn memory(&self) -> u64 {
        let tried = usage().peak_memory_bytes;
        let Some(base) = self.base else { return tried };
        let now = resident_bytes().unwrap_or(tried);
        tried.max(now + (self.states(base) + self.pass(base)) as u64)
    }

    /// Whether states of all texts are kept while the encoder is tuned.
    fn keeps_states(&self, base: &Base) -> bool {
        let (texts, width, kind) = (self.run.texts, base.shape.width, self.run.compute.kind);
        self.options().epochs > 0 && self.split(base) > 0 && fits(texts, width, kind)
    }

    /// Their bytes.
    fn states(&self, base: &Base) -> usize {
        if self.keeps_states(base) {
            let each = base.shape.width * self.run.compute.kind.elt_size_in_bytes();
            self.run.texts.tokens() * each
        } else {
            0
        }
    }

    /// Bytes of a pass of the encoder in f32: of each token some vectors, two rows between the layer's
    /// products, and its weights on the tokens of its window before, while and after they are normalised.
    fn pass(&self, base: &Base) -> usize {
        let (texts, shape) = (self.run.texts, &base.shape);
        let values = 10 * shape.width + 2 * shape.intermediate + 3 * shape.heads * texts.longest();
        texts.tokens().min(CHUNK_TOKENS) * values * std::mem::size_of::<f32>()
    }
}
