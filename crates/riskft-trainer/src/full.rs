//! Full fine-tuning: all weights of all layers, and the embeddings.

use riskft_core::network::TensorMap;
use riskft_core::options::Options;
use tch::{Kind, Tensor};

use crate::bert::{Bert, Layer};
use crate::tensors::to_float_tensor;

pub struct Full {
    dropout: f64,
    /// Canonical name, f32 leaf that the encoder shares; cast to its kind at use.
    weights: Vec<(String, Tensor)>,
}

impl Full {
    /// Replaces the weights of `bert` by trainable f32 ones.
    pub fn new(bert: &mut Bert, options: &Options) -> Self {
        let mut weights = Vec::new();
        let mut own = |name: String, slot: &mut Tensor| {
            let leaf = slot.to_kind(Kind::Float).copy().detach().set_requires_grad(true);
            *slot = leaf.shallow_clone();
            weights.push((name, leaf));
        };
        own("embeddings.word".into(), &mut bert.word);
        own("embeddings.position".into(), &mut bert.position);
        own("embeddings.token_type".into(), &mut bert.token_type);
        own("embeddings.norm.weight".into(), &mut bert.norm.weight);
        own("embeddings.norm.bias".into(), &mut bert.norm.bias);
        for (l, layer) in bert.layers.iter_mut().enumerate() {
            for (name, slot) in slots(layer) {
                own(format!("layer.{l}.{name}"), slot);
            }
        }
        Full { dropout: options.dropout, weights }
    }

    /// The base model's own dropout, in the places where its pretraining had it.
    pub(crate) fn drop(&self, y: Tensor, train: bool) -> Tensor {
        y.dropout(self.dropout, train)
    }

    pub(crate) fn parameters(&self) -> (Vec<Tensor>, Vec<Tensor>) {
        let matrix = |t: &Tensor| t.dim() > 1;
        let (matrices, others): (Vec<_>, Vec<_>) =
            self.weights.iter().map(|(_, t)| t.shallow_clone()).partition(matrix);
        (matrices, others)
    }

    pub(crate) fn tensors(&self) -> TensorMap {
        self.weights.iter().map(|(name, t)| (name.clone(), to_float_tensor(t))).collect()
    }
}

fn slots(layer: &mut Layer) -> [(&'static str, &mut Tensor); 16] {
    [
        ("query.weight", &mut layer.query.weight),
        ("query.bias", &mut layer.query.bias),
        ("key.weight", &mut layer.key.weight),
        ("key.bias", &mut layer.key.bias),
        ("value.weight", &mut layer.value.weight),
        ("value.bias", &mut layer.value.bias),
        ("attention_output.weight", &mut layer.attention_output.weight),
        ("attention_output.bias", &mut layer.attention_output.bias),
        ("attention_norm.weight", &mut layer.attention_norm.weight),
        ("attention_norm.bias", &mut layer.attention_norm.bias),
        ("intermediate.weight", &mut layer.intermediate.weight),
        ("intermediate.bias", &mut layer.intermediate.bias),
        ("output.weight", &mut layer.output.weight),
        ("output.bias", &mut layer.output.bias),
        ("output_norm.weight", &mut layer.output_norm.weight),
        ("output_norm.bias", &mut layer.output_norm.bias),
    ]
}
