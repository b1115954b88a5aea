//! Scores of the float network, and what a stage is judged by.

use riskft_core::metrics;
use tch::Tensor;

use crate::head::{probabilities, Head};
use crate::rows::Rows;
use crate::tensors::to_floats;

/// Rows of one forward pass.
const CHUNK: usize = 4096;

/// Most validation rows that an epoch is judged on; beyond them the AUC's standard error is
/// below 0.003 and the time better spent on training.
pub const MOST_VALIDATION_ROWS: usize = 50_000;

/// Probabilities, averaged over the members, of the rows at `places`. `vectors` are normalised
/// pooled vectors, in which a text number has the row `place`.
pub fn scores(
    head: &Head,
    rows: &Rows,
    places: &[u32],
    vectors: Option<&Tensor>,
    place: impl Fn(usize) -> usize,
) -> Vec<f64> {
    let _guard = tch::no_grad_guard();
    let mut scores = Vec::with_capacity(places.len());
    for chunk in places.chunks(CHUNK) {
        let logits = head.forward(&rows.batch(chunk, vectors, &place), false);
        scores.extend(to_doubles(&probabilities(&logits)));
    }
    scores
}

fn to_doubles(tensor: &Tensor) -> Vec<f64> {
    let flat = tensor.to_device(tch::Device::Cpu).to_kind(tch::Kind::Double).contiguous();
    let mut data = vec![0f64; flat.numel()];
    let count = data.len();
    flat.copy_data(&mut data, count);
    data
}

/// The figure that a stage climbs: validation AUC, or minus the log-loss where the AUC does not
/// exist (one class).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judgement {
    pub value: f64,
    pub auc: Option<f64>,
}

pub fn judge(scores: &[f64], labels: &[bool]) -> Judgement {
    if scores.iter().any(|s| !s.is_finite()) {
        return Judgement { value: f64::NEG_INFINITY, auc: None };
    }
    let auc = metrics::auc(scores, labels);
    Judgement {
        value: auc.unwrap_or_else(|| -metrics::log_loss(scores, labels).unwrap_or(f64::MAX)),
        auc,
    }
}

/// The mean of a loss tensor, waited for.
pub fn loss_value(loss: &Tensor) -> f64 {
    f64::from(to_floats(loss).first().copied().unwrap_or(f32::NAN))
}
