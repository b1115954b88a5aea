//! The encoder of BERT's family in libtorch, over packed texts.
//!
//! Texts of a batch lie one after the other, [tokens, width], sorted by length: no padding and no
//! mask. Attention runs over groups of equal length, each a view of the packed states.
//! Matrix products are of the weights' kind (f32 or bf16); tunings and pooled vectors are f32.

use riskft_core::network::{EncoderShape, TensorMap};
use riskft_core::refusal::{code, Refusal, Result};
use tch::{Device, Kind, Tensor};

use crate::tuning::Tuning;

/// `y = x weight' + bias`; weight is [outputs, inputs].
pub struct Linear {
    pub weight: Tensor,
    pub bias: Tensor,
}

pub struct Norm {
    pub weight: Tensor,
    pub bias: Tensor,
}

pub struct Layer {
    pub query: Linear,
    pub key: Linear,
    pub value: Linear,
    pub attention_output: Linear,
    pub attention_norm: Norm,
    pub intermediate: Linear,
    pub output: Linear,
    pub output_norm: Norm,
}

pub struct Bert {
    pub shape: EncoderShape,
    /// Kind of the matrix products; weights of another kind are cast at use.
    pub kind: Kind,
    pub word: Tensor,
    pub position: Tensor,
    pub token_type: Tensor,
    pub norm: Norm,
    pub layers: Vec<Layer>,
}

/// Texts one after the other, sorted by length.
pub struct Packed {
    /// [tokens], i64
    pub ids: Tensor,
    /// [tokens], i64: the token's place in its text
    pub places: Tensor,
    pub groups: Vec<Group>,
}

/// Neighbouring texts of equal length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    pub texts: i64,
    pub length: i64,
}

/// The groups of texts that are sorted by length.
pub fn groups(lengths: impl Iterator<Item = usize>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for length in lengths.map(|l| l as i64) {
        match groups.last_mut() {
            Some(last) if last.length == length => last.texts += 1,
            _ => groups.push(Group { texts: 1, length }),
        }
    }
    groups
}

impl Packed {
    /// `texts` are sorted by length and not empty.
    pub fn new<'a>(texts: impl Iterator<Item = &'a [i32]> + Clone, device: Device) -> Self {
        let ids: Vec<i64> = texts.clone().flatten().map(|id| i64::from(*id)).collect();
        let places: Vec<i64> = texts.clone().flat_map(|text| 0..text.len() as i64).collect();
        Packed {
            ids: Tensor::from_slice(&ids).to_device(device),
            places: Tensor::from_slice(&places).to_device(device),
            groups: groups(texts.map(<[i32]>::len)),
        }
    }
}

impl Linear {
    fn forward(&self, x: &Tensor) -> Tensor {
        let kind = x.kind();
        x.linear(&self.weight.to_kind(kind), Some(self.bias.to_kind(kind)))
    }
}

impl Norm {
    fn forward(&self, x: &Tensor, epsilon: f32) -> Tensor {
        let kind = x.kind();
        let width = *self.weight.size().last().unwrap_or(&0);
        let (weight, bias) = (self.weight.to_kind(kind), self.bias.to_kind(kind));
        x.layer_norm([width], Some(weight), Some(bias), f64::from(epsilon), true)
    }
}

impl Bert {
    /// Copies the tensors to the device; matrices in `kind`, embeddings in f32.
    ///
    /// # Errors
    /// XX001 when a tensor is missing.
    pub fn new(
        shape: &EncoderShape,
        tensors: &TensorMap,
        kind: Kind,
        device: Device,
    ) -> Result<Self> {
        let take = |name: &str, kind: Kind| -> Result<Tensor> {
            let tensor = tensors.get(name).ok_or_else(|| {
                Refusal::new(code::DATA_CORRUPTED, "a tensor of the encoder is missing")
                    .detail(format!("There is no tensor \"{name}\"."))
            })?;
            let dimensions: Vec<i64> = tensor.shape.iter().map(|d| *d as i64).collect();
            Ok(Tensor::from_slice(&tensor.data)
                .view(dimensions.as_slice())
                .to_device(device)
                .to_kind(kind))
        };
        let pair = |name: String, kind: Kind| -> Result<(Tensor, Tensor)> {
            Ok((take(&format!("{name}.weight"), kind)?, take(&format!("{name}.bias"), kind)?))
        };
        let linear = |name: String| pair(name, kind).map(|(weight, bias)| Linear { weight, bias });
        let norm =
            |name: String| pair(name, Kind::Float).map(|(weight, bias)| Norm { weight, bias });
        let layer = |l: usize| -> Result<Layer> {
            Ok(Layer {
                query: linear(format!("layer.{l}.query"))?,
                key: linear(format!("layer.{l}.key"))?,
                value: linear(format!("layer.{l}.value"))?,
                attention_output: linear(format!("layer.{l}.attention_output"))?,
                attention_norm: norm(format!("layer.{l}.attention_norm"))?,
                intermediate: linear(format!("layer.{l}.intermediate"))?,
                output: linear(format!("layer.{l}.output"))?,
                output_norm: norm(format!("layer.{l}.output_norm"))?,
            })
        };
        Ok(Bert {
            shape: shape.clone(),
            kind,
            word: take("embeddings.word", Kind::Float)?,
            position: take("embeddings.position", Kind::Float)?,
            token_type: take("embeddings.token_type", Kind::Float)?,
            norm: norm("embeddings.norm".into())?,
            layers: (0..shape.layers).map(layer).collect::<Result<_>>()?,
        })
    }

    /// States before the first layer: [tokens, width] of the encoder's kind.
    pub fn embed(&self, packed: &Packed) -> Tensor {
        let words = Tensor::embedding(&self.word, &packed.ids, -1, false, false);
        let places = &packed.places + self.shape.position_offset as i64;
        let places = Tensor::embedding(&self.position, &places, -1, false, false);
        let sum = words + places + self.token_type.narrow(0, 0, 1);
        self.norm.forward(&sum, self.shape.norm_epsilon).to_kind(self.kind)
    }

    /// States after layer `l`; `train` switches the tuning's dropout on.
    pub fn layer(
        &self,
        l: usize,
        x: &Tensor,
        groups: &[Group],
        tuning: &Tuning,
        train: bool,
    ) -> Tensor {
        let layer = &self.layers[l];
        let epsilon = self.shape.norm_epsilon;
        let query = tuning.query(l, x, layer.query.forward(x), train);
        let value = tuning.value(l, x, layer.value.forward(x), train);
        let context = self.attention(&query, &layer.key.forward(x), &value, groups);
        let attended = tuning.after_attention(l, layer.attention_output.forward(&context), train);
        let x = layer.attention_norm.forward(&(attended + x), epsilon);
        let inner = layer.intermediate.forward(&x).gelu("none");
        let outer = tuning.after_output(l, layer.output.forward(&inner), train);
        layer.output_norm.forward(&(outer + x), epsilon)
    }

    /// States after the layers `range`.
    pub fn layers(
        &self,
        range: std::ops::Range<usize>,
        x: Tensor,
        groups: &[Group],
        tuning: &Tuning,
        train: bool,
    ) -> Tensor {
        range.fold(x, |x, l| self.layer(l, &x, groups, tuning, train))
    }

    fn attention(&self, query: &Tensor, key: &Tensor, value: &Tensor, groups: &[Group]) -> Tensor {
        let (width, heads) = (self.shape.width as i64, self.shape.heads as i64);
        let cut = |x: &Tensor| -> Vec<Tensor> {
            let shape = |g: &Group| [g.texts, g.length, heads, width / heads];
            let parts = by_group(x, groups).into_iter().zip(groups);
            parts.map(|(part, group)| part.view(shape(group)).transpose(1, 2)).collect()
        };
        // libtorch's backward pass of attention in bf16 asks oneDNN for a kernel of each small product, head by
        // head and block by block, and spends more time on these than on the products: an epoch of LoRA on
        // narratives of 235 tokens took 30 CPU seconds, and takes 16 where the products are MKL's in f32.
        let wide = |x: &Tensor| match x.device() == Device::Cpu && query.requires_grad() {
            true => x.to_kind(Kind::Float),
            false => x.shallow_clone(),
        };
        let (query, key, value) = (cut(&wide(query)), cut(&wide(key)), cut(&wide(value)));
        let attend = |((q, k), v): ((&Tensor, &Tensor), &Tensor)| {
            let none: Option<Tensor> = None;
            let context =
                Tensor::scaled_dot_product_attention(q, k, v, none, 0.0, false, None, false);
            context.transpose(1, 2).reshape([-1, width])
        };
        let parts: Vec<Tensor> = query.iter().zip(&key).zip(&value).map(attend).collect();
        Tensor::cat(&parts, 0).to_kind(self.kind)
    }
}

/// Packed states by group, [texts * length, width] each. One operation for all: the gradient of a
/// view of its own is as large as the whole, and adding one for each group took 37% of tuning on long
/// texts, of which few have the same length.
fn by_group(x: &Tensor, groups: &[Group]) -> Vec<Tensor> {
    let sizes: Vec<i64> = groups.iter().map(|group| group.texts * group.length).collect();
    x.split_with_sizes(sizes, 0)
}

/// Mean over all tokens of each text: [texts, width], f32.
pub fn pool(x: &Tensor, groups: &[Group]) -> Tensor {
    let width = x.size().last().copied().unwrap_or(0);
    let mean = |(part, group): (Tensor, &Group)| {
        part.view([group.texts, group.length, width]).mean_dim(1, false, Kind::Float)
    };
    let parts = by_group(&x.to_kind(Kind::Float), groups).into_iter().zip(groups);
    Tensor::cat(&parts.map(mean).collect::<Vec<Tensor>>(), 0)
}
