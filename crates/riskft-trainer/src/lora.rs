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

    /// The mean of what several tunings from one start add, whose tensors are in the order of
    /// [`Lora::parameters`]: `B A` of pairs that are set side by side is their sum.
    pub(crate) fn mean(self, tunings: &[Vec<Tensor>]) -> Self {
        let _guard = tch::no_grad_guard();
        let joined = |place: usize, dim: i64| {
            let all: Vec<&Tensor> = tunings.iter().filter_map(|own| own.get(place)).collect();
            Tensor::cat(&all, dim)
        };
        let count = tunings.len().max(1) as f64;
        let pair =
            |number: usize| Pair { a: joined(2 * number, 0), b: joined(2 * number + 1, 1) / count };
        let layers = (0..self.layers.len()).map(|i| [pair(2 * i), pair(2 * i + 1)]).collect();
        Lora { layers, ..self }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> EncoderShape {
        EncoderShape {
            layers: 2,
            width: 6,
            heads: 1,
            intermediate: 8,
            vocabulary: 4,
            positions: 4,
            position_offset: 0,
            token_types: 1,
            norm_epsilon: 1e-12,
            adapter: 0,
        }
    }

    /// A tuning of the upper layer whose second matrices are not zero.
    fn tuned() -> Lora {
        let options = Options { rank: 2, ..Options::default() };
        let lora = Lora::new(&shape(), &options, 1, Device::Cpu);
        let _guard = tch::no_grad_guard();
        for pair in lora.layers.iter().flatten() {
            let _ = pair.b.shallow_clone().uniform_(-1.0, 1.0);
        }
        lora
    }

    #[test]
    fn the_mean_adds_the_mean_of_what_each_adds() {
        let zeros = FloatTensor { shape: vec![6, 6], data: vec![0.0; 36] };
        let names = ["layer.1.query.weight", "layer.1.value.weight"];
        let base: TensorMap = names.map(|name| (name.to_owned(), zeros.clone())).into();
        let all = [tuned(), tuned(), tuned()];
        let each: Vec<TensorMap> = all.iter().map(|lora| lora.merged(&base)).collect();
        let tensors: Vec<Vec<Tensor>> = all.iter().map(Lora::parameters).collect();
        let mean = tuned().mean(&tensors).merged(&base);
        for name in names {
            let sum = |place: usize| each.iter().map(|own| own[name].data[place]).sum::<f32>();
            let right = |(place, value): (usize, &f32)| (value - sum(place) / 3.0).abs() < 1e-5;
            assert!(mean[name].data.iter().enumerate().all(right), "{name}");
            assert!(mean[name].data.iter().any(|value| value.abs() > 0.1));
        }
    }
}
