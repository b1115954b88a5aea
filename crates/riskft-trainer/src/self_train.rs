//! `options.unlabelled = 'self_train'`: rows without a label train a second fit (Scudder 1965;
//! Yarowsky 1995), which is kept only if it is better.
//!
//! The rule. A row without a label is sure if a model's logit of it lies where labelled rows, out of
//! fold, were of one class with a precision of at least [`PRECISION`]: among the highest scores
//! positive, among the lowest negative. Of these each model takes the surest ones of both classes, in
//! the shares of the labelled rows, and at most as many as it has training rows. They train that
//! model again with the label that it gave them and a weight of [`WEIGHT`]. Where either class has no
//! sure row, nothing is taken.
//!
//! A model labels for itself alone: had others given labels, which saw the rows that it is judged
//! on, the out-of-fold figures would learn of those rows' outcomes. So the second fit is judged as the
//! first one is, and kept if its out-of-fold AUC is higher by more than the paired standard error.
//!
//! Network and trees give labels and learn from them. N-grams and texts do neither: they are fitted
//! on the folds of one division alone. Statistics of labels hear labelled rows only (`forest.rs`).

use std::collections::BTreeMap;

use riskft_core::metrics;
use riskft_core::model::BranchKind;
use riskft_core::options::Unlabelled;
use riskft_core::protocol::Ledger;
use riskft_core::refusal::Result;

use crate::blend::{self, Candidate};
use crate::evaluate::member_logits;
use crate::folds::Share;
use crate::ledger::Meter;
use crate::rows::Made;
use crate::run::{Fitted, Run};

/// Share of labelled rows of a class at a score from which on a row is sure.
pub const PRECISION: f64 = 0.95;
/// Fewest labelled rows that the share is taken of.
const LEAST: usize = 20;
/// How much such a row counts, against a labelled row of its class.
const WEIGHT: f32 = 0.5;

/// Scores beyond which rows are sure: positive from the first up, negative from the second down.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cuts {
    pub positive: f64,
    pub negative: f64,
}

impl Cuts {
    /// From out-of-fold logits; None unless both sides have some, apart from each other.
    pub fn of(logits: &[f64], labels: &[bool]) -> Option<Self> {
        let rows = || logits.iter().copied().zip(labels.iter().copied());
        let positive = cut(rows().collect())?;
        let negative = -cut(rows().map(|(z, label)| (-z, !label)).collect())?;
        (positive > negative).then_some(Cuts { positive, negative })
    }

    /// The surest rows with their labels, by their place among `logits`: at most `most`, of which a
    /// share of `rate` is positive.
    pub fn take(&self, logits: &[f64], rate: f64, most: usize) -> Vec<(usize, bool)> {
        let mut order: Vec<usize> = (0..logits.len()).filter(|i| !logits[*i].is_nan()).collect();
        order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b)));
        let sure = |label: bool| {
            let is = |i: &&usize| match label {
                true => logits[**i] >= self.positive,
                false => logits[**i] <= self.negative,
            };
            order.iter().filter(is).count() as f64
        };
        let whole = sure(true).min(most as f64 * rate) / rate;
        let whole = whole.min(sure(false).min(most as f64 * (1.0 - rate)) / (1.0 - rate));
        let positive = (whole * rate + 1e-9).floor();
        let negative = ((positive / rate * (1.0 - rate)).round()).min(sure(false));
        if !(positive >= 1.0 && negative >= 1.0) {
            return Vec::new();
        }
        let top = order.iter().take(positive as usize).map(|i| (*i, true));
        top.chain(order.iter().rev().take(negative as usize).map(|i| (*i, false))).collect()
    }
}

/// The lowest score down to which the rows are hits with a precision of [`PRECISION`] in all.
fn cut(mut rows: Vec<(f64, bool)>) -> Option<f64> {
    rows.retain(|(score, _)| !score.is_nan());
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut hits, mut lowest, mut seen) = (0, None, 0);
    for equal in rows.chunk_by(|a, b| a.0 == b.0) {
        hits += equal.iter().filter(|(_, hit)| *hit).count();
        seen += equal.len();
        if seen >= LEAST && hits as f64 >= PRECISION * seen as f64 {
            lowest = equal.first().map(|(score, _)| *score);
        }
    }
    lowest
}

/// The first fit, or a second one that has learnt from rows without a label and is better; a NOTICE
/// says which, and why.
///
/// # Errors
/// Those of the branches.
pub fn refit(
    run: Run<'_>,
    fitted: Fitted,
    meter: &mut Meter,
    ledger: &mut Ledger,
) -> Result<Fitted> {
    if run.header.options.unlabelled != Unlabelled::SelfTrain {
        return Ok(fitted);
    }
    let places = run.rows.unlabelled();
    let taken = match places.is_empty() {
        true => Vec::new(),
        false => take(&run, &fitted, &places),
    };
    if taken.is_empty() {
        run.reporter.notice(match places.len() {
            0 => "self-training: no row is without a label".to_owned(),
            rows => format!(
                "self-training: of {rows} rows without a label, no model is sure of both classes \
                 (precision {PRECISION} out of fold): nothing changes"
            ),
        });
        return Ok(fitted);
    }
    let second = again(&run, &fitted, &taken, meter)?;
    let (labels, places_fitted) = (run.labels(), &run.folds.fitted);
    let (before, after) = (run.offset(&fitted, |_| true), run.offset(&second.0, |_| true));
    let gain = blend::gain(&after, &before, places_fitted, &labels);
    let kept = gain.is_some_and(|(gain, error)| gain > error);
    let figure = |value: Option<f64>| value.map_or("unknown".to_owned(), |v| format!("{v:.4}"));
    let used: BTreeMap<u32, bool> = taken.iter().map(|one| (one.place, one.label)).collect();
    run.reporter.notice(format!(
        "self-training: {} of {} rows without a label, {} of them as positive, took part in a second \
         fit; validation AUC {} before, {} after (standard error of the gain {}): the {} fit is kept",
        used.len(),
        places.len(),
        used.values().filter(|label| **label).count(),
        figure(blend::auc(&before, places_fitted, &labels)),
        figure(blend::auc(&after, places_fitted, &labels)),
        figure(gain.map(|(_, error)| error)),
        if kept { "second" } else { "first" },
    ));
    if !kept {
        return Ok(fitted);
    }
    let (mut second, own) = second;
    ledger.head_epochs = own.head_epochs;
    second.grams = fitted.grams;
    Ok(second)
}

/// A row without a label that some models are sure of.
struct Taken {
    place: u32,
    label: bool,
    models: Vec<usize>,
}

/// What each model takes; models that agree on a row share it.
fn take(run: &Run<'_>, fitted: &Fitted, places: &[u32]) -> Vec<Taken> {
    let labels = run.labels();
    let sees = |c: &&Candidate| matches!(c.kind, BranchKind::Network | BranchKind::Trees);
    let candidates: Vec<&Candidate> = fitted.candidates.iter().filter(sees).collect();
    let rate = metrics::base_rate(&labels).unwrap_or(0.0);
    if candidates.is_empty() {
        return Vec::new();
    }
    let blend = blend::fit(&candidates, &run.folds.fitted, &labels);
    let known: Vec<f64> =
        run.folds.fitted.iter().map(|place| blend.out_of_fold[*place as usize]).collect();
    let Some(cuts) = Cuts::of(&known, &labels) else { return Vec::new() };
    let members = fitted.network.as_ref();
    let members = members.map(|head| member_logits(head, run.rows, places));
    let mut taken: BTreeMap<(u32, bool), Vec<usize>> = BTreeMap::new();
    for model in 0..run.folds.models() {
        let mut logits = vec![0.0; places.len()];
        for branch in &blend.branches {
            let own = match branch.kind {
                BranchKind::Network => members.as_ref().map(|members| {
                    let each = members.len() / run.folds.models();
                    mean(&members[model * each..(model + 1) * each])
                }),
                _ => fitted.forest.as_ref().map(|forest| forest.unlabelled[model].clone()),
            };
            let own = own.unwrap_or_default();
            logits.iter_mut().zip(own).for_each(|(sum, z)| *sum += branch.weight * z);
        }
        let most = run.folds.places(model, Share::Train);
        let most = most.iter().filter(|place| (**place as usize) < run.rows.labelled).count();
        for (row, label) in cuts.take(&logits, rate, most) {
            taken.entry((places[row], label)).or_default().push(model);
        }
    }
    let one = |((place, label), models)| Taken { place, label, models };
    taken.into_iter().map(one).collect()
}

/// The mean logit of some members, as out-of-fold logits are means.
fn mean(members: &[Vec<f64>]) -> Vec<f64> {
    let of = |row: usize| members.iter().map(|m| m[row]).sum::<f64>() / members.len() as f64;
    (0..members.first().map_or(0, Vec::len)).map(of).collect()
}

/// Network and trees on the labelled rows and those taken; the n-grams' logits as they are.
fn again(
    run: &Run<'_>,
    fitted: &Fitted,
    taken: &[Taken],
    meter: &mut Meter,
) -> Result<(Fitted, Ledger)> {
    let made: Vec<Made> = taken
        .iter()
        .map(|one| Made {
            own: one.place,
            label: one.label,
            features: run.rows.features.of(one.place).to_vec(),
        })
        .collect();
    let rows = run.rows.with(&made, run.encoding);
    let mut folds = run.folds.clone();
    let of_class = |label: bool| {
        let first = folds.fitted.iter().find(|place| run.rows.labels[**place as usize] == label);
        first.map_or(1.0, |place| folds.weights[*place as usize])
    };
    let weights = [of_class(false), of_class(true)].map(|weight| WEIGHT * weight);
    taken.iter().for_each(|one| folds.append(&one.models, weights[usize::from(one.label)]));
    // The second fit begins where the first one began, so that they differ by their rows alone.
    tch::manual_seed(run.header.options.seed as i64);
    let mut ledger = Ledger::default();
    let mut second = Run { rows: &rows, folds: &folds, ..*run }.tabular(meter, &mut ledger)?;
    for candidate in &mut second.candidates {
        candidate.logits.truncate(run.rows.source.len());
    }
    let grams = fitted.candidates.iter().filter(|c| c.kind == BranchKind::Grams);
    second.candidates.extend(grams.cloned());
    Ok((second, ledger))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_lie_where_precision_ends() {
        // 100 positive rows at the top but every 20th of them from the 41st on, then noise.
        let rows = 400;
        let logits: Vec<f64> = (0..rows).map(|row| -f64::from(row)).collect();
        let label = |row: i32| match row {
            0..100 => row < 40 || row % 10 != 5,
            100..300 => row % 2 == 0,
            _ => false,
        };
        let labels: Vec<bool> = (0..rows).map(label).collect();
        let cuts = Cuts::of(&logits, &labels).expect("both sides");
        let among = |of: &dyn Fn(f64) -> bool, class: bool| {
            let mine: Vec<bool> =
                (0..400).filter(|row| of(logits[*row])).map(|row| labels[row] == class).collect();
            mine.iter().filter(|hit| **hit).count() as f64 / mine.len() as f64
        };
        assert!(among(&|z| z >= cuts.positive, true) >= PRECISION);
        assert!(among(&|z| z >= cuts.positive - 1.0, true) < PRECISION || cuts.positive == -99.0);
        assert!(among(&|z| z <= cuts.negative, false) >= PRECISION);
        assert!(cuts.positive < -79.0 && cuts.negative > -300.0, "{cuts:?}");
        // Nothing is sure among rows that are mixed throughout, nor among too few.
        let mixed: Vec<bool> = (0..rows).map(|row| row % 3 == 0).collect();
        assert_eq!(Cuts::of(&logits, &mixed), None);
        assert_eq!(Cuts::of(&[2.0, -2.0], &[true, false]), None);
        assert_eq!(Cuts::of(&[1.0; 400], &labels), None);
    }

    #[test]
    fn the_surest_rows_are_taken_in_the_shares_of_the_classes() {
        let cuts = Cuts { positive: 50.0, negative: -10.0 };
        let logits: Vec<f64> = (0..200).map(|i| f64::from(i) - 100.0).collect();
        // 50 sure positive rows and 91 sure negative ones at one positive in four: 30 and 90.
        let taken = cuts.take(&logits, 0.25, 1000);
        let of = |label| taken.iter().filter(move |(_, own)| *own == label).map(|(row, _)| *row);
        assert_eq!((of(true).count(), of(false).count()), (30, 90));
        assert!(of(true).all(|row| row >= 170) && of(false).all(|row| row < 90));
        let few = cuts.take(&logits, 0.25, 40);
        assert_eq!((few.len(), few.iter().filter(|(_, label)| *label).count()), (40, 10));
        assert!(cuts.take(&logits[..120], 0.25, 1000).is_empty(), "no sure positive row");
        assert!(cuts.take(&logits[120..], 0.25, 1000).is_empty(), "no sure negative row");
        assert!(cuts.take(&[], 0.25, 10).is_empty());
    }
}
