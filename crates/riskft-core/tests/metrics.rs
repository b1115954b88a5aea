//! Metrics and Platt's calibration against scikit-learn, SciPy and hand-computed cases.
//! The golden numbers come from `golden/metrics.py`.

use riskft_core::calibrate::{Platt, MIN_SLOPE};
use riskft_core::math::{logistic, logit};
use riskft_core::metrics::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    name: String,
    scores: Vec<f64>,
    other: Vec<f64>,
    labels: Vec<bool>,
    auc: f64,
    auc_error: f64,
    difference: f64,
    difference_error: f64,
    average_precision: f64,
    ks: f64,
    f1: f64,
    best_f1: f64,
    brier: f64,
    log_loss: f64,
    ece: f64,
    platt: (f64, f64),
}

fn golden() -> Vec<Golden> {
    serde_json::from_str(include_str!("../golden/metrics.json")).expect("the golden file parses")
}

fn near(name: &str, got: Option<f64>, wanted: f64, tolerance: f64) {
    let got = got.unwrap_or_else(|| panic!("{name} is None"));
    assert!((got - wanted).abs() <= tolerance, "{name}: {got} instead of {wanted}");
}

#[test]
fn figures_equal_scikit_learn() {
    for g in golden() {
        let (s, y) = (&g.scores, &g.labels);
        let area = auc_with_error(s, y).expect("both classes");
        near(&g.name, Some(area.value), g.auc, 1e-12);
        near(&g.name, auc(s, y), g.auc, 1e-12);
        near(&g.name, area.standard_error, g.auc_error, 1e-12);
        let (difference, error) = auc_difference(s, &g.other, y).expect("both classes");
        near(&g.name, Some(difference), g.difference, 1e-12);
        near(&g.name, Some(error), g.difference_error, 1e-12);
        near(&g.name, average_precision(s, y), g.average_precision, 1e-12);
        near(&g.name, ks(s, y), g.ks, 1e-12);
        near(&g.name, f1(s, y, 0.4), g.f1, 1e-12);
        near(&g.name, brier(s, y), g.brier, 1e-12);
        near(&g.name, log_loss(s, y), g.log_loss, 1e-12);
        near(&g.name, ece(s, y), g.ece, 1e-12);
        let (threshold, best) = best_f1_threshold(s, y).expect("both classes");
        near(&g.name, Some(best), g.best_f1, 1e-12);
        near(&g.name, f1(s, y, threshold), g.best_f1, 1e-12);
    }
}

#[test]
fn platt_equals_a_general_optimiser() {
    for g in golden() {
        let logits: Vec<f64> = g.scores.iter().map(|p| logit(*p)).collect();
        let platt = Platt::fit(&logits, &g.labels);
        near(&g.name, Some(platt.slope), g.platt.0, 2e-5);
        near(&g.name, Some(platt.intercept), g.platt.1, 2e-5);
    }
}

/// F37: ties, in all 720 orders of the rows.
#[test]
fn ties_do_not_depend_on_the_order_of_rows() {
    let rows = [(0.9, true), (0.5, true), (0.5, true), (0.5, false), (0.5, false), (0.1, false)];
    let mut orders = 0;
    permutations(&mut (0..6).collect::<Vec<usize>>(), 0, &mut |order| {
        let s: Vec<f64> = order.iter().map(|i| rows[*i].0).collect();
        let y: Vec<bool> = order.iter().map(|i| rows[*i].1).collect();
        assert_eq!(auc(&s, &y), Some(7.0 / 9.0));
        near("ks", ks(&s, &y), 1.0 / 3.0, 1e-15);
        assert_eq!(
            evaluate(&s, &y, 0.5),
            evaluate(
                &[0.9, 0.5, 0.5, 0.5, 0.5, 0.1],
                &[true, true, true, false, false, false],
                0.5
            )
        );
        orders += 1;
    });
    assert_eq!(orders, 720);
    let (s, y) = ([0.5; 6], [true, false, true, false, false, false]);
    assert_eq!(auc(&s, &y), Some(0.5));
    assert_eq!(ks(&s, &y), Some(0.0));
}

fn permutations(items: &mut Vec<usize>, from: usize, visit: &mut impl FnMut(&[usize])) {
    if from == items.len() {
        return visit(items);
    }
    for i in from..items.len() {
        items.swap(from, i);
        permutations(items, from + 1, visit);
        items.swap(from, i);
    }
}

/// F36: one class has no ranking figures; no positive found is F1 = 0.
#[test]
fn one_class_and_no_rows_give_none() {
    for label in [false, true] {
        let (s, y) = (vec![0.3; 50], vec![label; 50]);
        for metric in evaluate(&s, &y, 0.5) {
            let ranked = ["auc", "average_precision", "ks", "f1"].contains(&metric.metric.as_str());
            assert_eq!(metric.value.is_none(), ranked, "{}", metric.metric);
            assert!(metric.value.is_none_or(f64::is_finite));
            assert_eq!(metric.ci_low, None);
        }
        assert_eq!(best_f1_threshold(&s, &y), None);
        assert_eq!(auc_difference(&s, &s, &y), None);
    }
    let y: Vec<bool> = (0..50).map(|i| i < 5).collect();
    assert_eq!(f1(&[0.4; 50], &y, 0.5), Some(0.0));
    for metric in evaluate(&[], &[], 0.5) {
        let wanted = match metric.metric.as_str() {
            "threshold" => Some(0.5),
            "rows" => Some(0.0),
            _ => None,
        };
        assert_eq!(metric.value, wanted, "{}", metric.metric);
    }
}

#[test]
fn odd_scores_never_give_nan() {
    let y = [true, false, true, false];
    for s in [
        [f64::NAN, 0.1, 0.2, 0.3],
        [f64::INFINITY, 0.0, f64::NEG_INFINITY, 0.5],
        [0.0, 1.0, 0.0, 1.0],
    ] {
        for metric in evaluate(&s, &y, 0.5) {
            assert!(metric.value.is_none_or(f64::is_finite), "{metric:?}");
        }
    }
    assert_eq!(auc(&[0.1, 0.2], &[true]), None);
    near("log_loss", log_loss(&[0.0], &[true]), -(1e-15f64).ln(), 1e-9);
    // One row of a class: a value, and no interval.
    let area = auc_with_error(&[0.9, 0.1, 0.2], &[true, false, false]).expect("both classes");
    assert_eq!((area.value, area.interval()), (1.0, None));
}

#[test]
fn the_best_threshold_lies_between_scores() {
    let (threshold, value) = best_f1_threshold(&[0.9, 0.8, 0.3, 0.2], &[true, true, false, false])
        .expect("both classes");
    assert_eq!(value, 1.0);
    assert!((threshold - 0.55).abs() < 1e-15);
    let all = best_f1_threshold(&[0.5, 0.5], &[true, false]);
    assert_eq!(all, Some((0.5, 2.0 / 3.0)));
}

#[test]
fn platt_without_both_classes_stays_near_the_model() {
    assert_eq!(Platt::fit(&[], &[]), Platt::IDENTITY);
    // 10 rows of mean probability 0.5, all negative: (0 + 20 * 0.5) / 30.
    let few = Platt::fit(&[0.0; 10], &[false; 10]);
    assert_eq!(few.slope, 1.0);
    assert!((few.apply(0.0) - 1.0 / 3.0).abs() < 1e-9);
    // 1,000 negative rows: 10 / 1020.
    let many = Platt::fit(&[0.0; 1000], &[false; 1000]);
    assert!((many.apply(0.0) - 10.0 / 1020.0).abs() < 1e-9);
}

#[test]
fn platt_never_reverses_a_ranking() {
    let logits: Vec<f64> = (0..100).map(|i| f64::from(i) / 10.0 - 5.0).collect();
    let labels: Vec<bool> = (0..100).map(|i| i < 30).collect();
    let platt = Platt::fit(&logits, &labels);
    assert_eq!(platt.slope, MIN_SLOPE);
    let mean = logits.iter().map(|x| platt.apply(*x)).sum::<f64>() / 100.0;
    assert!((mean - 0.3).abs() < 0.01, "{mean}");
    assert!(platt.apply(1.0) > platt.apply(0.0));
}

#[test]
fn platt_stays_finite_on_separable_equal_and_infinite_logits() {
    let labels: Vec<bool> = (0..60).map(|i| i % 2 == 0).collect();
    for (high, low) in
        [(30.0, -30.0), (2.0, 2.0), (f64::INFINITY, f64::NEG_INFINITY), (f64::NAN, 1.0)]
    {
        let logits: Vec<f64> = labels.iter().map(|y| if *y { high } else { low }).collect();
        let platt = Platt::fit(&logits, &labels);
        assert!(platt.slope.is_finite() && platt.intercept.is_finite(), "{platt:?}");
        assert!((0.0..=1.0).contains(&platt.apply(high.min(50.0))), "{platt:?}");
    }
    let scale: Vec<f64> = labels
        .iter()
        .enumerate()
        .map(|(i, y)| if *y == (i % 10 != 0) { 3.0 } else { -3.0 })
        .collect();
    let fitted = Platt::fit(&scale, &labels);
    assert!(fitted.slope > 0.0 && fitted.slope < 1.0, "{fitted:?}");
    assert!((logistic(0.0) - 0.5).abs() < 1e-15);
}
