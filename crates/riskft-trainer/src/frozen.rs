//! Vectors of all texts from an encoder as it stands, and the states that tuning starts from.

use tch::{Device, Kind, Tensor};

use crate::bert::{pool, Bert, Group};
use crate::terms::normalise;
use crate::texts::Texts;
use crate::tuning::Tuning;

/// Tokens of one forward pass.
pub const CHUNK_TOKENS: usize = 16_384;

/// Most bytes of kept states; beyond them each step computes its own.
const MOST_STATE_BYTES: usize = 2 << 30;

/// What the frozen encoder gives.
pub struct Frozen {
    /// Normalised pooled vectors by text number, [texts, width], f32.
    pub vectors: Tensor,
    /// States after the layers that stay frozen, [tokens, width], when they were kept.
    pub lower: Option<Tensor>,
}

/// Whether states of all tokens may be kept.
pub fn fits(texts: &Texts, width: usize, kind: Kind) -> bool {
    texts.tokens().saturating_mul(width * kind.elt_size_in_bytes()) <= MOST_STATE_BYTES
}

/// Runs the frozen encoder over all texts. States after `split` layers are kept if `keep`.
/// `progress` hears of the tokens done.
pub fn encode(
    bert: &Bert,
    texts: &Texts,
    split: usize,
    keep: bool,
    device: Device,
    mut progress: impl FnMut(usize),
) -> Frozen {
    let _guard = tch::no_grad_guard();
    let width = bert.shape.width as i64;
    let frozen = Tuning::Frozen;
    let mut lower =
        keep.then(|| Tensor::empty([texts.tokens() as i64, width], (bert.kind, device)));
    let mut vectors = Vec::new();
    let all: Vec<usize> = (0..texts.len()).collect();
    let mut done = 0;
    for run in texts.runs(&all, CHUNK_TOKENS) {
        let windows = texts.windows(run);
        let packed = texts.packed(&windows, device);
        let x = bert.layers(0..split, bert.embed(&packed), &packed.groups, &frozen, false);
        if let Some(lower) = &mut lower {
            let _ = lower.index_copy_(0, &texts.token_places(&windows, device), &x);
        }
        let x = bert.layers(split..bert.shape.layers, x, &packed.groups, &frozen, false);
        vectors.push(normalise(&texts.join(run, &windows, pool(&x, &packed.groups))));
        done += packed.ids.numel();
        progress(done);
    }
    let vectors = if vectors.is_empty() {
        Tensor::zeros([1, width], (Kind::Float, device))
    } else {
        Tensor::cat(&vectors, 0)
    };
    Frozen { vectors, lower }
}

/// An encoder under tuning, over texts whose lower states may be kept.
pub struct Tuned<'a> {
    pub bert: &'a Bert,
    pub tuning: &'a Tuning,
    pub texts: &'a Texts,
    /// Layers below this one stay frozen.
    pub split: usize,
    pub lower: Option<&'a Tensor>,
    pub device: Device,
}

impl Tuned<'_> {
    /// Normalised pooled vectors of ascending text numbers, [numbers, width].
    pub fn vectors(&self, numbers: &[usize], train: bool) -> Tensor {
        let windows = self.texts.windows(numbers);
        let (x, groups) = self.lower_states(&windows);
        let range = self.split..self.bert.shape.layers;
        let pooled = pool(&self.bert.layers(range, x, &groups, self.tuning, train), &groups);
        normalise(&self.texts.join(numbers, &windows, pooled))
    }

    /// The same in several passes, without gradients.
    pub fn vectors_in_runs(&self, numbers: &[usize]) -> Tensor {
        let _guard = tch::no_grad_guard();
        let runs = self.texts.runs(numbers, CHUNK_TOKENS);
        if runs.is_empty() {
            return Tensor::zeros([1, self.bert.shape.width as i64], (Kind::Float, self.device));
        }
        let parts: Vec<Tensor> = runs.into_iter().map(|run| self.vectors(run, false)).collect();
        Tensor::cat(&parts, 0)
    }

    fn lower_states(&self, windows: &[usize]) -> (Tensor, Vec<Group>) {
        if let Some(lower) = self.lower {
            let places = self.texts.token_places(windows, self.device);
            return (lower.index_select(0, &places), self.texts.groups(windows));
        }
        let packed = self.texts.packed(windows, self.device);
        let states = || {
            let x = self.bert.embed(&packed);
            self.bert.layers(0..self.split, x, &packed.groups, &Tuning::Frozen, false)
        };
        let x = if self.tuning.trains_embeddings() { states() } else { tch::no_grad(states) };
        (x, packed.groups)
    }
}
