//! LoRA (Hu et al. 2021) on query and value: `y + (alpha / rank) dropout(x) A' B'`.

use riskft_core::network::{EncoderShape, FloatTensor, TensorMap};
use riskft_core::options::Options;
use tch::{Device, Kind, Tensor};

use crate::tensors::to_float_tensor;

/// The two low-rank matrices of one linear layer, f32.
struct Pair {
    /// [rank, inputs]
    a: Tensor,
    /// [outputs, rank]; starts at zero
    b: Tensor,
}

pub struct Lora {
    /// The lowest tuned layer.
    first: usize,
    scale: f64,
    dropout: f64,
    /// For each tuned layer: query, value.
    layers: Vec<[Pair; 2]>,
}

const TARGETS: [&str; 2] = ["query", "value"];

impl Pair {
    fn new(width: i64, rank: i64, device: Device) -> Self {
        // kaiming_uniform with a = sqrt(5), as peft has it: bound 1 / sqrt(inputs).
        let bound = 1.0 / (width as f64).sqrt();
        let mut a = Tensor::zeros([rank, width], (Kind::Float, device));
        let _ = a.uniform_(-bound, bound);
        let b = Tensor::zeros([width, rank], (Kind::Float, device));
        Pair { a: a.set_requires_grad(true), b: b.set_requires_grad(true) }
    }
}

impl Lora {
    pub fn new(shape: &EncoderShape, options: &Options, first: usize, device: Device) -> Self {
        let (width, rank) = (shape.width as i64, options.rank as i64);
        let pair = || Pair::new(width, rank, device);
        Lora {
            first,
            scale: options.alpha / options.rank as f64,
            dropout: options.dropout,
            layers: (first..shape.layers).map(|_| [pair(), pair()]).collect(),
        }
    }

    pub(crate) fn query(&self, l: usize, x: &Tensor, y: Tensor, train: bool) -> Tensor {
        self.add(l, 0, x, y, train)
    }

    pub(crate) fn value(&self, l: usize, x: &Tensor, y: Tensor, train: bool) -> Tensor {
        self.add(l, 1, x, y, train)
    }

    fn add(&self, l: usize, target: usize, x: &Tensor, y: Tensor, train: bool) -> Tensor {
        let Some(pair) = l.checked_sub(self.first).and_then(|i| self.layers.get(i)) else {
            return y;
        };
        let Pair { a, b } = &pair[target];
        let kind = x.kind();
        let none: Option<Tensor> = None;
        let low = x.dropout(self.dropout, train).linear(&a.to_kind(kind), none.as_ref());
        y + (low * self.scale).linear(&b.to_kind(kind), none.as_ref())
    }

    pub(crate) fn parameters(&self) -> Vec<Tensor> {
        self.layers
            .iter()
            .flatten()
            .flat_map(|pair| [pair.a.shallow_clone(), pair.b.shallow_clone()])
            .collect()
    }

    fn named(&self) -> impl Iterator<Item = (String, &Pair)> {
        self.layers.iter().enumerate().flat_map(move |(i, pairs)| {
            let layer = self.first + i;
            pairs
                .iter()
                .zip(TARGETS)
                .map(move |(pair, target)| (format!("layer.{layer}.{target}"), pair))
        })
    }

    /// `W + scale B A` of each tuned matrix.
    pub(crate) fn merged(&self, base: &TensorMap) -> TensorMap {
        let _guard = tch::no_grad_guard();
        let mut merged = TensorMap::new();
        for (name, pair) in self.named() {
            let name = format!("{name}.weight");
            let Some(weight) = base.get(&name) else { continue };
            let delta = to_float_tensor(&(pair.b.matmul(&pair.a) * self.scale));
            let data = weight.data.iter().zip(&delta.data).map(|(w, d)| w + d).collect();
            merged.insert(name, FloatTensor { shape: weight.shape.clone(), data });
        }
        merged
    }

    /// `layer.{l}.{query,value}.lora_{a,b}`
    pub(crate) fn tensors(&self) -> TensorMap {
        self.named()
            .flat_map(|(name, pair)| {
                [
                    (format!("{name}.lora_a"), to_float_tensor(&pair.a)),
                    (format!("{name}.lora_b"), to_float_tensor(&pair.b)),
                ]
            })
            .collect()
    }
}
