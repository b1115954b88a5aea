//! How the pretrained encoder is changed: LoRA, bottleneck adapters, or all of its weights.

use riskft_core::network::{EncoderShape, TensorMap};
use riskft_core::options::{Method, Options};
use tch::{Device, Tensor};

use crate::adapter::Adapters;
use crate::bert::Bert;
use crate::full::Full;
use crate::lora::Lora;

/// Trainable additions to a [`Bert`], or what marks its own weights as trainable.
pub enum Tuning {
    Frozen,
    Lora(Lora),
    Adapters(Adapters),
    Full(Full),
}

impl Tuning {
    /// The untrained tuning of the options. [`Tuning::Full`] makes the weights of `bert` its own.
    pub fn new(method: Method, options: &Options, bert: &mut Bert, device: Device) -> Self {
        let first = first_layer(method, options, &bert.shape);
        match method {
            Method::Lora => Tuning::Lora(Lora::new(&bert.shape, options, first, device)),
            Method::Adapter => Tuning::Adapters(Adapters::new(&bert.shape, options, first, device)),
            Method::Full => Tuning::Full(Full::new(bert, options)),
            Method::None => Tuning::Frozen,
        }
    }

    /// Whether several tunings from one start have a mean ([`Tuning::mean`]); the others' tensors would
    /// be too many to keep, or do not add up.
    pub fn has_mean(method: Method) -> bool {
        method == Method::Lora
    }

    /// The mean of several tunings, by their tensors in the order of [`Tuning::parameters`].
    pub fn mean(self, tunings: &[Vec<Tensor>]) -> Self {
        match self {
            Tuning::Lora(lora) => Tuning::Lora(lora.mean(tunings)),
            other => other,
        }
    }

    pub(crate) fn query(&self, l: usize, x: &Tensor, y: Tensor, train: bool) -> Tensor {
        match self {
            Tuning::Lora(lora) => lora.query(l, x, y, train),
            _ => y,
        }
    }

    pub(crate) fn value(&self, l: usize, x: &Tensor, y: Tensor, train: bool) -> Tensor {
        match self {
            Tuning::Lora(lora) => lora.value(l, x, y, train),
            _ => y,
        }
    }

    pub(crate) fn after_attention(&self, l: usize, y: Tensor, train: bool) -> Tensor {
        match self {
            Tuning::Adapters(adapters) => adapters.after_attention(l, y),
            Tuning::Full(full) => full.drop(y, train),
            _ => y,
        }
    }

    pub(crate) fn after_output(&self, l: usize, y: Tensor, train: bool) -> Tensor {
        match self {
            Tuning::Adapters(adapters) => adapters.after_output(l, y),
            Tuning::Full(full) => full.drop(y, train),
            _ => y,
        }
    }

    /// Trainable tensors with weight decay, and those without.
    pub fn parameters(&self) -> (Vec<Tensor>, Vec<Tensor>) {
        match self {
            Tuning::Frozen => (Vec::new(), Vec::new()),
            Tuning::Lora(lora) => (lora.parameters(), Vec::new()),
            Tuning::Adapters(adapters) => adapters.parameters(),
            Tuning::Full(full) => full.parameters(),
        }
    }

    /// Whether gradients reach the embeddings.
    pub fn trains_embeddings(&self) -> bool {
        matches!(self, Tuning::Full(_))
    }

    /// Number of trainable values.
    pub fn size(&self) -> usize {
        let (decayed, plain) = self.parameters();
        decayed.iter().chain(&plain).map(Tensor::numel).sum()
    }

    /// The encoder's tensors that differ from the base, merged in f32, by canonical name.
    pub fn merged(&self, base: &TensorMap) -> TensorMap {
        match self {
            Tuning::Frozen => TensorMap::new(),
            Tuning::Lora(lora) => lora.merged(base),
            Tuning::Adapters(adapters) => adapters.tensors(),
            Tuning::Full(full) => full.tensors(),
        }
    }

    /// The tuning's own float tensors, for later updates.
    pub fn tensors(&self) -> TensorMap {
        match self {
            Tuning::Frozen => TensorMap::new(),
            Tuning::Lora(lora) => lora.tensors(),
            Tuning::Adapters(adapters) => adapters.tensors(),
            Tuning::Full(full) => full.tensors(),
        }
    }

    /// The shape of the tuned encoder.
    pub fn shape(&self, base: &EncoderShape) -> EncoderShape {
        let adapter = match self {
            Tuning::Adapters(adapters) => adapters.bottleneck(),
            _ => 0,
        };
        EncoderShape { adapter, ..base.clone() }
    }
}

/// The lowest layer that is tuned: all of them are in full fine-tuning, else `options.layers`
/// from the top (0 = all).
pub fn first_layer(method: Method, options: &Options, shape: &EncoderShape) -> usize {
    match (method, options.layers) {
        (Method::Full, _) | (_, 0) => 0,
        (_, layers) => shape.layers.saturating_sub(layers),
    }
}
