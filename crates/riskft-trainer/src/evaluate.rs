//! Logits of the float branches, and what a stage is judged by.

use riskft_core::math::{logistic, logit};
use riskft_core::metrics;
use tch::Tensor;

use crate::folds::{Folds, Share};
use crate::head::Head;
use crate::rows::Rows;
use crate::tensors::{to_doubles, to_floats};
use crate::terms::Terms;

/// Rows of one forward pass.
const CHUNK: usize = 4096;

/// Most rows that an epoch is judged on; beyond them the AUC's standard error is below 0.003 and
/// the time better spent on training.
pub const MOST_JUDGED_ROWS: usize = 50_000;

/// The network's logits [members][places].
pub fn member_logits(head: &Head, rows: &Rows, places: &[u32]) -> Vec<Vec<f64>> {
    let _guard = tch::no_grad_guard();
    let mut members = vec![Vec::with_capacity(places.len()); head.plan.members as usize];
    for chunk in places.chunks(CHUNK) {
        let logits = head.forward(&rows.batch(chunk), false);
        for (member, values) in members.iter_mut().zip(to_doubles(&logits).chunks(chunk.len())) {
            member.extend_from_slice(values);
        }
    }
    members
}

/// Sums of text terms. `vectors` are normalised pooled vectors, in which a text number has the row
/// `place`.
pub fn term_logits(
    terms: &Terms,
    rows: &Rows,
    places: &[u32],
    vectors: &Tensor,
    place: impl Fn(usize) -> usize,
) -> Vec<f64> {
    let _guard = tch::no_grad_guard();
    let of =
        |chunk: &[u32]| to_doubles(&terms.forward(&rows.text_batch(chunk, vectors, &place), false));
    places.chunks(CHUNK).flat_map(of).collect()
}

/// The logit of the members' mean probability, as the network is scored.
pub fn network_logits(members: &[Vec<f64>]) -> Vec<f64> {
    let of = |row: usize| {
        let sum: f64 = members.iter().map(|member| logistic(member[row])).sum();
        logit(sum / members.len() as f64)
    };
    (0..members.first().map_or(0, Vec::len)).map(of).collect()
}

/// For each of some places the mean logit of the members that did not train on it; NaN where all
/// did. Member m belongs to model `m / (members / models)`.
pub fn left_out(folds: &Folds, members: &[Vec<f64>], places: &[u32]) -> Vec<f64> {
    let each = (members.len() / folds.models()).max(1);
    let of = |(row, place): (usize, &u32)| {
        let mut sum = (0.0, 0u32);
        for (m, member) in members.iter().enumerate() {
            if folds.share(m / each, *place) == Share::Held {
                sum = (sum.0 + member[row], sum.1 + 1);
            }
        }
        sum.0 / f64::from(sum.1)
    };
    places.iter().enumerate().map(of).collect()
}

/// The figure that a stage climbs: AUC of rows left out, or minus the log-loss where the AUC does
/// not exist (one class).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judgement {
    pub value: f64,
    pub auc: Option<f64>,
}

pub fn judge(logits: &[f64], labels: &[bool]) -> Judgement {
    if logits.iter().any(|z| !z.is_finite()) {
        return Judgement { value: f64::NEG_INFINITY, auc: None };
    }
    let auc = metrics::auc(logits, labels);
    let scores = || logits.iter().map(|z| logistic(*z)).collect::<Vec<f64>>();
    Judgement {
        value: auc.unwrap_or_else(|| -metrics::log_loss(&scores(), labels).unwrap_or(f64::MAX)),
        auc,
    }
}

/// The mean of a loss tensor, waited for.
pub fn loss_value(loss: &Tensor) -> f64 {
    f64::from(to_floats(loss).first().copied().unwrap_or(f32::NAN))
}
