//! The mean of the encoders that a small sample's folds tuned (model soups, Wortsman et al. 2022): each
//! row has taught all but one of them, and no further tuning is needed.
//!
//! Tunings from one start have a mean that is worth something while they stay near each other. At high
//! rates they part: on a made-up table (rate 5e-3, 25 epochs) the mean's log-loss on the rows that taught
//! it was 0.49, where each encoder had 0.16 on rows it had not seen. [`stands_for`] finds that.

use riskft_core::calibrate::Platt;
use tch::{Kind, Tensor};

use crate::blend;
use crate::calibrated;
use crate::evaluate::judge;
use crate::fields::Fields;
use crate::fit::{Lesson, Reached};
use crate::frozen::Tuned;
use crate::stage::Seen;
use crate::terms::{normalise, Terms};
use crate::tune::{gain, Course, TuneReport};
use crate::tuning::Tuning;

/// The mean of the courses' encoders and terms at an epoch, on an untrained tuning and the terms where
/// they began.
pub fn mean(courses: &[Course], epoch: usize, tuning: Tuning, like: &Terms) -> (Tuning, Terms) {
    let _guard = tch::no_grad_guard();
    let kept: Vec<&Vec<Tensor>> =
        courses.iter().filter_map(|course| course.kept.get(epoch.checked_sub(1)?)).collect();
    let weights: Vec<&Tensor> = kept.iter().filter_map(|tensors| tensors.first()).collect();
    let terms = match weights.is_empty() {
        true => like.weight.shallow_clone(),
        false => Tensor::stack(&weights, 0).mean_dim(0, false, Kind::Float),
    };
    let own: Vec<Vec<Tensor>> =
        kept.iter().map(|t| t.iter().skip(1).map(Tensor::shallow_clone).collect()).collect();
    (tuning.mean(&own), Terms::new(&terms, like.weight.device()))
}

/// Vectors of all texts, of the shape of `like` [texts, width], each by the encoders that were tuned
/// without its rows, at an epoch; zeros for those of no fitted row. The encoders start alike and learn
/// from mostly the same rows, so that one set of terms serves them all.
pub fn crossed_vectors(courses: &[Course], epoch: usize, like: &Tensor) -> Tensor {
    let seen = courses.iter().filter_map(|course| course.seen.get(epoch.checked_sub(1)?));
    mean_vectors(seen, like)
}

fn mean_vectors<'s>(all: impl Iterator<Item = &'s Seen>, like: &Tensor) -> Tensor {
    let _guard = tch::no_grad_guard();
    let mut sum = like.zeros_like();
    for seen in all {
        let numbers: Vec<i64> = seen.numbers.iter().map(|n| *n as i64).collect();
        let index = Tensor::from_slice(&numbers).to_device(sum.device());
        let vectors = seen.vectors.narrow(0, 0, numbers.len() as i64);
        let _ = sum.index_add_(0, &index, &vectors);
    }
    normalise(&sum)
}

/// The tuning with terms that were fitted anew on [`crossed_vectors`], where these rank better than the
/// terms that were tuned with the encoder. `frozen` are the frozen encoder's terms.
pub fn refitted(
    report: &TuneReport,
    again: &Fields,
    frozen: &Fields,
    lesson: Lesson<'_>,
) -> Option<TuneReport> {
    let held = &lesson.folds.fitted;
    let labels = lesson.rows.labels_of(held);
    let judgement = |logits: &[f64]| {
        let own: Vec<f64> = held.iter().map(|place| logits[*place as usize]).collect();
        judge(&lesson.whole(&own, held), &labels)
    };
    // As the others were judged: by the models of one division.
    let better = judgement(&again.first).value > report.reached.judgement.value;
    better.then(|| TuneReport {
        reached: Reached {
            epochs: report.reached.epochs,
            judgement: judgement(&again.out_of_fold),
            out_of_fold: again.out_of_fold.clone(),
        },
        gain: gain(&lesson, &again.out_of_fold, &frozen.out_of_fold, held),
        ..*report
    })
}

/// Whether the mean says at least as much of the fitted rows, which its encoders were tuned on, as these
/// say of rows that they were not tuned on: by log-loss under the calibration of the latter, which is the
/// one that a version has. `out_of_fold` are logits by place.
pub fn stands_for(
    tuned: &Tuned<'_>,
    terms: &Terms,
    lesson: &Lesson<'_>,
    out_of_fold: &[f64],
) -> bool {
    let (rows, places) = (lesson.rows, &lesson.folds.fitted);
    let own = Seen::of(tuned, rows, places).logits(terms, rows, places);
    let own = lesson.whole(&own, places);
    let before: Vec<f64> = places.iter().map(|place| out_of_fold[*place as usize]).collect();
    let before = lesson.whole(&before, places);
    is_no_worse(&own, &before, &rows.labels_of(places))
}

/// Logits of the same rows; a row without one before does not count.
fn is_no_worse(own: &[f64], before: &[f64], labels: &[bool]) -> bool {
    let all: Vec<u32> = (0..labels.len() as u32).collect();
    let (known, outcomes) = blend::known(before, &all, labels);
    let platt = Platt::fit(&known, &outcomes);
    let loss = |logits: &[f64]| {
        let pairs = logits.iter().zip(before).filter(|(_, before)| !before.is_nan());
        let logits: Vec<f64> = pairs.map(|(own, _)| *own).collect();
        calibrated::mean(&calibrated::losses_by(platt, &logits, &outcomes)).0
    };
    loss(own) <= loss(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_the_mean_of_what_the_encoders_say() {
        let seen = |numbers: &[usize], values: &[f32]| Seen {
            numbers: numbers.to_vec(),
            vectors: Tensor::from_slice(values).view([-1, 2]),
        };
        // The last one read nothing.
        let all = [
            seen(&[0, 2], &[1.0, -1.0, 3.0, 1.0]),
            seen(&[2], &[-1.0, 5.0]),
            seen(&[], &[9.0, 9.0]),
        ];
        let vectors =
            mean_vectors(all.iter(), &Tensor::ones([4, 2], (Kind::Float, tch::Device::Cpu)));
        let found = crate::tensors::to_floats(&vectors);
        let wanted = [1.0, -1.0, 0.0, 0.0, -1.0, 1.0, 0.0, 0.0];
        assert!(found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-4), "{found:?}");
    }

    #[test]
    fn a_mean_that_says_less_than_its_parts_is_none() {
        let labels = [true, false, true, false, true, false, true, false, false];
        // The last row has no model that left it out.
        let before = [1.0, -1.0, 2.0, -0.5, 0.8, -2.0, -0.2, 0.3, f64::NAN];
        let sure = before.map(|z| if z > 0.5 { 3.0 } else { -3.0 });
        let shy = before.map(|z| z / 50.0);
        let wrong = before.map(|z| -z);
        let shifted = before.map(|z| z + 4.0);
        assert!(is_no_worse(&before, &before, &labels));
        assert!(is_no_worse(&labels.map(|l| if l { 4.0 } else { -4.0 }), &before, &labels));
        for own in [shy, wrong, shifted, [f64::NAN; 9]] {
            assert!(!is_no_worse(&own, &before, &labels), "{own:?}");
        }
        let mut own = sure;
        own[8] = 1e9;
        assert_eq!(is_no_worse(&sure, &before, &labels), is_no_worse(&own, &before, &labels));
    }
}
