//! The branches together: which are kept, with which weights, and what each is worth.

use riskft_core::blend;
use riskft_core::metrics;
use riskft_core::model::{Branch, BranchKind};
use riskft_core::protocol::BranchReport;

/// A branch that was fitted.
#[derive(Clone)]
pub struct Candidate {
    pub kind: BranchKind,
    /// Out-of-fold logits of the branch alone, by place; NaN where it has none.
    pub logits: Vec<f64>,
    /// Fitted on top of the branches before it.
    pub on_top: bool,
    /// Whether it earned its place.
    pub kept: bool,
    /// Part of the version whatever it adds, with [`LEAST`] at least.
    pub always: bool,
    pub seconds: f64,
    pub what: String,
}

/// Least weight of a branch that is always kept.
const LEAST: f64 = 0.01;

/// The branches of a version.
pub struct Blend {
    pub branches: Vec<Branch>,
    /// Out-of-fold logits by place; NaN where a branch of the version has none.
    pub out_of_fold: Vec<f64>,
}

/// Where the weights of branches lie on few rows: those that stand beside each other share one, and
/// so do those on top.
fn start(candidates: &[&Candidate]) -> Vec<f64> {
    let count = |on_top| candidates.iter().filter(|c| c.on_top == on_top).count() as f64;
    candidates.iter().map(|candidate| 1.0 / count(candidate.on_top)).collect()
}

/// Fits the weights of some candidates on the rows of `places`; a branch without weight is left out.
pub fn fit(candidates: &[&Candidate], places: &[u32], labels: &[bool]) -> Blend {
    let of = |candidate: &&Candidate| -> Vec<f64> {
        places.iter().map(|place| candidate.logits[*place as usize]).collect()
    };
    let logits: Vec<Vec<f64>> = candidates.iter().map(of).collect();
    let slices: Vec<&[f64]> = logits.iter().map(Vec::as_slice).collect();
    let weights = blend::fit(&slices, labels, &start(candidates));
    let floor = |place: usize| if candidates[place].always { LEAST } else { 0.0 };
    let mut kept: Vec<(&Candidate, f64)> = (0..candidates.len())
        .map(|place| (candidates[place], weights[place].max(floor(place))))
        .filter(|(_, weight)| *weight > 0.0)
        .collect();
    if kept.is_empty() {
        // None tells anything: the first one, as it is.
        kept.extend(candidates.first().map(|first| (*first, 1.0)));
    }
    kept.sort_by_key(|(candidate, _)| candidate.kind);
    let rows = candidates.first().map_or(0, |candidate| candidate.logits.len());
    let total = |place: usize| kept.iter().map(|(c, weight)| weight * c.logits[place]).sum();
    Blend {
        out_of_fold: (0..rows).map(total).collect(),
        branches: kept
            .iter()
            .map(|(candidate, weight)| Branch {
                kind: candidate.kind,
                weight: weight.min(Branch::MOST),
            })
            .collect(),
    }
}

/// The AUC of one list of logits over another's on the rows where both have one: the difference
/// and its paired standard error.
pub fn gain(with: &[f64], without: &[f64], places: &[u32], labels: &[bool]) -> Option<(f64, f64)> {
    let mut rows = (Vec::new(), Vec::new(), Vec::new());
    for (place, label) in places.iter().zip(labels) {
        let (a, b) = (with[*place as usize], without[*place as usize]);
        if !a.is_nan() && !b.is_nan() {
            rows.0.push(a);
            rows.1.push(b);
            rows.2.push(*label);
        }
    }
    metrics::auc_difference(&rows.0, &rows.1, &rows.2)
}

/// AUC on the rows that have a logit.
pub fn auc(logits: &[f64], places: &[u32], labels: &[bool]) -> Option<f64> {
    let (logits, labels) = known(logits, places, labels);
    metrics::auc(&logits, &labels)
}

/// Logits and labels of the rows that have a logit.
pub fn known(logits: &[f64], places: &[u32], labels: &[bool]) -> (Vec<f64>, Vec<bool>) {
    let rows = places.iter().zip(labels);
    rows.map(|(place, label)| (logits[*place as usize], *label))
        .filter(|(logit, _)| !logit.is_nan())
        .unzip()
}

/// What each candidate is worth beside the others that were kept.
pub fn reports(
    candidates: &[Candidate],
    blend: &Blend,
    places: &[u32],
    labels: &[bool],
) -> Vec<BranchReport> {
    let is_kept =
        |candidate: &Candidate| blend.branches.iter().any(|branch| branch.kind == candidate.kind);
    let report = |candidate: &Candidate| {
        let others: Vec<&Candidate> = candidates
            .iter()
            .filter(|other| other.kind != candidate.kind && is_kept(other))
            .collect();
        let branch = blend.branches.iter().find(|branch| branch.kind == candidate.kind);
        let without = (!others.is_empty()).then(|| fit(&others, places, labels));
        let worth = match (&without, branch) {
            (Some(without), Some(_)) => {
                gain(&blend.out_of_fold, &without.out_of_fold, places, labels)
            }
            _ => None,
        };
        BranchReport {
            branch: candidate.kind.name().to_owned(),
            weight: branch.map_or(0.0, |branch| branch.weight),
            auc: auc(&candidate.logits, places, labels),
            auc_without: without.and_then(|without| auc(&without.out_of_fold, places, labels)),
            gain: worth.map(|(gain, _)| gain),
            gain_se: worth.map(|(_, error)| error),
            seconds: candidate.seconds,
            why: match branch {
                Some(_) => candidate.what.clone(),
                None => format!("{}; left out: it adds nothing reliable", candidate.what),
            },
            ..BranchReport::default()
        }
    };
    candidates.iter().map(report).collect()
}
