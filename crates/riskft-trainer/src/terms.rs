//! Terms of texts: one weight vector for each text field on its normalised pooled vector, and
//! landmarks that it is near to or not.

use tch::{Device, Kind, Tensor};

use crate::landmarks::Near;

/// Dropout on the vectors while the encoder is tuned.
const DROPOUT: f64 = 0.1;
pub const NORM_EPSILON: f64 = 1e-5;

/// Texts of rows as the terms read them, on the device.
pub struct TextBatch {
    /// Normalised pooled vectors [texts, rows, width]
    pub vectors: Tensor,
    /// [texts, rows]: 1 where there is a text, else 0
    pub present: Tensor,
}

/// The terms of all fields.
pub struct Terms {
    /// [texts, width]
    pub weight: Tensor,
    /// At most one for each field; fixed while the encoder is tuned.
    pub near: Vec<Near>,
}

impl Terms {
    /// Terms with these weights [texts, width], ready to be trained.
    pub fn new(weight: &Tensor, device: Device) -> Self {
        let weight = weight.to_device(device).to_kind(Kind::Float).detach().copy();
        Terms { weight: weight.set_requires_grad(true), near: Vec::new() }
    }

    /// The sums of the terms, [rows].
    pub fn forward(&self, batch: &TextBatch, train: bool) -> Tensor {
        let vectors = batch.vectors.dropout(DROPOUT, train);
        let terms = vectors.matmul(&self.weight.unsqueeze(2)).squeeze_dim(2);
        let linear = (terms * &batch.present).sum_dim_intlist(0, false, Kind::Float);
        self.near.iter().fold(linear, |sum, near| {
            let field = near.field as i64;
            sum + near.terms(&vectors.get(field)) * batch.present.get(field)
        })
    }

    /// Number of weights.
    pub fn size(&self) -> usize {
        self.weight.numel() + self.near.iter().map(|near| near.weights.numel()).sum::<usize>()
    }
}

/// `(v - mean) / sqrt(var + 1e-5)` over the last dimension.
pub fn normalise(vectors: &Tensor) -> Tensor {
    let width = vectors.size().last().copied().unwrap_or(0);
    let none: Option<Tensor> = None;
    vectors.layer_norm([width], none.as_ref(), none.as_ref(), NORM_EPSILON, true)
}
