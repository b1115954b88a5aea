//! Bottleneck adapters (Houlsby et al. 2019): `y + up(relu(down(y)))` after the attention's and
//! the feed-forward's last linear layer.

use riskft_core::network::{EncoderShape, FloatTensor, TensorMap};
use riskft_core::options::Options;
use tch::{Device, Kind, Tensor};

use crate::tensors::to_float_tensor;

struct Adapter {
    /// [bottleneck, width]
    down: Tensor,
    down_bias: Tensor,
    /// [width, bottleneck]; starts at zero, so that the encoder starts as it was
    up: Tensor,
    up_bias: Tensor,
}

pub struct Adapters {
    first: usize,
    bottleneck: usize,
    width: usize,
    /// For each tuned layer: after attention, after feed-forward.
    layers: Vec<[Adapter; 2]>,
}

const PLACES: [&str; 2] = ["attention_adapter", "output_adapter"];

impl Adapter {
    fn new(width: i64, bottleneck: i64, device: Device) -> Self {
        let zeros = |size: &[i64]| Tensor::zeros(size, (Kind::Float, device));
        let bound = 1.0 / (width as f64).sqrt();
        let mut down = zeros(&[bottleneck, width]);
        let _ = down.uniform_(-bound, bound);
        Adapter {
            down: down.set_requires_grad(true),
            down_bias: zeros(&[bottleneck]).set_requires_grad(true),
            up: zeros(&[width, bottleneck]).set_requires_grad(true),
            up_bias: zeros(&[width]).set_requires_grad(true),
        }
    }

    fn forward(&self, y: Tensor) -> Tensor {
        let kind = y.kind();
        let cast = |t: &Tensor| t.to_kind(kind);
        let inner = y.linear(&cast(&self.down), Some(cast(&self.down_bias))).relu();
        inner.linear(&cast(&self.up), Some(cast(&self.up_bias))) + y
    }

    fn tensors(&self) -> [(&'static str, &Tensor); 4] {
        [
            ("down.weight", &self.down),
            ("down.bias", &self.down_bias),
            ("up.weight", &self.up),
            ("up.bias", &self.up_bias),
        ]
    }
}

impl Adapters {
    /// `options.rank` is the width of the bottleneck.
    pub fn new(shape: &EncoderShape, options: &Options, first: usize, device: Device) -> Self {
        let one = || Adapter::new(shape.width as i64, options.rank as i64, device);
        Adapters {
            first,
            bottleneck: options.rank,
            width: shape.width,
            layers: (first..shape.layers).map(|_| [one(), one()]).collect(),
        }
    }

    pub(crate) fn bottleneck(&self) -> usize {
        self.bottleneck
    }

    fn apply(&self, l: usize, place: usize, y: Tensor) -> Tensor {
        match l.checked_sub(self.first).and_then(|i| self.layers.get(i)) {
            Some(pair) => pair[place].forward(y),
            None => y,
        }
    }

    pub(crate) fn after_attention(&self, l: usize, y: Tensor) -> Tensor {
        self.apply(l, 0, y)
    }

    pub(crate) fn after_output(&self, l: usize, y: Tensor) -> Tensor {
        self.apply(l, 1, y)
    }

    pub(crate) fn parameters(&self) -> (Vec<Tensor>, Vec<Tensor>) {
        let (matrices, biases): (Vec<_>, Vec<_>) = self
            .layers
            .iter()
            .flatten()
            .flat_map(Adapter::tensors)
            .partition(|(name, _)| name.ends_with("weight"));
        let clone =
            |list: Vec<(&str, &Tensor)>| list.into_iter().map(|(_, t)| t.shallow_clone()).collect();
        (clone(matrices), clone(biases))
    }

    /// Adapters of every layer; those below the tuned ones are zero, which leaves states as they are.
    pub(crate) fn tensors(&self) -> TensorMap {
        let mut map = TensorMap::new();
        for l in 0..self.first + self.layers.len() {
            for (place, name) in PLACES.iter().enumerate() {
                let tensors = match l.checked_sub(self.first) {
                    Some(i) => {
                        self.layers[i][place].tensors().map(|(n, t)| (n, to_float_tensor(t)))
                    }
                    None => self.identity(),
                };
                for (part, tensor) in tensors {
                    map.insert(format!("layer.{l}.{name}.{part}"), tensor);
                }
            }
        }
        map
    }

    fn identity(&self) -> [(&'static str, FloatTensor); 4] {
        let zeros =
            |shape: Vec<usize>| FloatTensor { data: vec![0.0; shape.iter().product()], shape };
        [
            ("down.weight", zeros(vec![self.bottleneck, self.width])),
            ("down.bias", zeros(vec![self.bottleneck])),
            ("up.weight", zeros(vec![self.width, self.bottleneck])),
            ("up.bias", zeros(vec![self.width])),
        ]
    }
}
