//! Two scorings of the same rows, against their definitions worked out row by row, and against the
//! golden numbers of `golden/metrics.py`.

use riskft_core::metrics::{self, compare, Comparison, Scoring};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    scores: Vec<f64>,
    other: Vec<f64>,
    labels: Vec<bool>,
    difference: f64,
    difference_error: f64,
}

fn golden() -> Vec<Golden> {
    serde_json::from_str(include_str!("../golden/metrics.json")).expect("the golden file parses")
}

fn lines(a: &[f64], b: &[f64], labels: &[bool], thresholds: (f64, f64)) -> Vec<Comparison> {
    let (a, b) = (
        Scoring { scores: a, threshold: thresholds.0 },
        Scoring { scores: b, threshold: thresholds.1 },
    );
    compare(a, b, labels, &mut || {})
}

fn line<'a>(lines: &'a [Comparison], metric: &str) -> &'a Comparison {
    lines.iter().find(|line| line.metric == metric).expect("the metric is there")
}

fn near(what: &str, got: Option<f64>, wanted: f64, tolerance: f64) {
    let got = got.unwrap_or_else(|| panic!("{what} is None"));
    assert!((got - wanted).abs() <= tolerance, "{what}: {got} instead of {wanted}");
}

/// Both tails of the normal distribution beyond `z`, by Simpson's rule over its density.
fn two_tails(z: f64) -> f64 {
    let (steps, end) = (20_000, z.abs());
    let width = end / f64::from(steps);
    let density = |x: f64| (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let sum: f64 = (0..=steps)
        .map(|step| {
            let weight = match step {
                0 => 1.0,
                last if last == steps => 1.0,
                odd if odd % 2 == 1 => 4.0,
                _ => 2.0,
            };
            weight * density(f64::from(step) * width)
        })
        .sum();
    1.0 - 2.0 * sum * width / 3.0
}

#[test]
fn areas_are_compared_as_delong_does() {
    for g in golden() {
        let found = lines(&g.scores, &g.other, &g.labels, (0.4, 0.4));
        let area = line(&found, "auc");
        // The golden difference is the first scoring's less the second's.
        near("difference", area.difference, -g.difference, 1e-12);
        near("low", area.ci_low, -g.difference - 1.959_963_984_540_054 * g.difference_error, 1e-12);
        near(
            "high",
            area.ci_high,
            -g.difference + 1.959_963_984_540_054 * g.difference_error,
            1e-12,
        );
        near("p", area.p_value, two_tails(g.difference / g.difference_error), 1e-9);
    }
}

#[test]
fn figures_are_those_of_each_scoring() {
    for g in golden() {
        let found = lines(&g.scores, &g.other, &g.labels, (0.4, 0.25));
        for (metric, a, b) in [
            ("auc", metrics::auc(&g.scores, &g.labels), metrics::auc(&g.other, &g.labels)),
            ("ks", metrics::ks(&g.scores, &g.labels), metrics::ks(&g.other, &g.labels)),
            ("ece", metrics::ece(&g.scores, &g.labels), metrics::ece(&g.other, &g.labels)),
            ("f1", metrics::f1(&g.scores, &g.labels, 0.4), metrics::f1(&g.other, &g.labels, 0.25)),
            ("threshold", Some(0.4), Some(0.25)),
        ] {
            let line = line(&found, metric);
            assert_eq!((line.a, line.b), (a, b), "{metric}");
            near(metric, line.difference, b.unwrap_or(f64::NAN) - a.unwrap_or(f64::NAN), 1e-15);
        }
        let positives = g.labels.iter().filter(|l| **l).count() as f64;
        assert_eq!(line(&found, "rows").a, Some(g.labels.len() as f64));
        assert_eq!(line(&found, "positives").b, Some(positives));
    }
}

/// Means of paired differences, in the order of the rows and by the textbook.
#[test]
fn means_are_compared_by_their_paired_differences() {
    for g in golden() {
        let found = lines(&g.scores, &g.other, &g.labels, (0.4, 0.4));
        let y = |row: usize| f64::from(u8::from(g.labels[row]));
        let loss = |p: f64, y: f64| -(y * p.ln() + (1.0 - y) * (1.0 - p).ln());
        for (metric, term) in [
            ("brier", &(|p: f64, y: f64| (p - y) * (p - y)) as &dyn Fn(f64, f64) -> f64),
            ("log_loss", &loss),
            ("mean_score", &|p: f64, _: f64| p),
        ] {
            let d: Vec<f64> = (0..g.labels.len())
                .map(|row| term(g.other[row], y(row)) - term(g.scores[row], y(row)))
                .collect();
            let n = d.len() as f64;
            let mean = d.iter().sum::<f64>() / n;
            let squares = d.iter().map(|x| x * x).sum::<f64>();
            let error = ((squares - n * mean * mean) / (n - 1.0) / n).sqrt();
            let line = line(&found, metric);
            near(metric, line.difference, mean, 1e-12);
            near(metric, line.ci_high, mean + 1.959_963_984_540_054 * error, 1e-12);
            near(metric, line.p_value, two_tails(mean / error), 1e-9);
        }
    }
}

/// The bootstrap row by row, with a generator of its own: the same up to the noise of the draws.
#[test]
fn f1_is_compared_by_resampled_rows() {
    for g in golden() {
        let found = lines(&g.scores, &g.other, &g.labels, (0.4, 0.25));
        let n = g.labels.len();
        let f1 = |rows: &[usize], scores: &[f64], threshold: f64| {
            let (mut both, mut either) = (0.0, 0.0);
            for row in rows {
                let chosen = scores[*row] >= threshold;
                both += f64::from(u8::from(chosen && g.labels[*row]));
                either += f64::from(u8::from(chosen)) + f64::from(u8::from(g.labels[*row]));
            }
            if both == 0.0 {
                0.0
            } else {
                2.0 * both / either
            }
        };
        let mut state = 12_345u64;
        let mut draw = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize % n
        };
        let mut differences: Vec<f64> = (0..20_000)
            .map(|_| {
                let rows: Vec<usize> = (0..n).map(|_| draw()).collect();
                f1(&rows, &g.other, 0.25) - f1(&rows, &g.scores, 0.4)
            })
            .collect();
        differences.sort_by(f64::total_cmp);
        let line = line(&found, "f1");
        // Standard error of a 2.5% quantile of 1,000 draws: about 0.085 of the interval's half.
        let half = (differences[19_499] - differences[500]) / 2.0;
        near("low", line.ci_low, differences[500], 0.3 * half);
        near("high", line.ci_high, differences[19_499], 0.3 * half);
        let below = differences.iter().filter(|d| **d <= 0.0).count() as f64 / 20_000.0;
        let above = differences.iter().filter(|d| **d >= 0.0).count() as f64 / 20_000.0;
        near("p", line.p_value, (2.0 * below.min(above)).min(1.0), 0.07);
    }
}

#[test]
fn neither_order_nor_repetition_changes_anything() {
    for g in golden() {
        let found = lines(&g.scores, &g.other, &g.labels, (0.4, 0.25));
        assert_eq!(found, lines(&g.scores, &g.other, &g.labels, (0.4, 0.25)));
        let reversed = |values: &[f64]| values.iter().rev().copied().collect::<Vec<f64>>();
        let labels: Vec<bool> = g.labels.iter().rev().copied().collect();
        let again = lines(&reversed(&g.scores), &reversed(&g.other), &labels, (0.4, 0.25));
        for (one, two) in found.iter().zip(&again) {
            assert_eq!((one.a, one.b, one.difference), (two.a, two.b, two.difference));
            for (x, y) in [(one.ci_low, two.ci_low), (one.p_value, two.p_value)] {
                assert_eq!(x.is_some(), y.is_some());
                near(&one.metric, x.or(Some(0.0)), y.unwrap_or(0.0), 1e-12);
            }
        }
        // The other way round, every difference changes its sign.
        let other = lines(&g.other, &g.scores, &g.labels, (0.25, 0.4));
        for (one, two) in found.iter().zip(&other) {
            assert_eq!((one.a, one.b), (two.b, two.a));
            assert_eq!(one.difference.map(|d| -d), two.difference, "{}", one.metric);
        }
    }
}

#[test]
fn a_version_does_not_differ_from_itself() {
    for g in golden() {
        for line in lines(&g.scores, &g.scores, &g.labels, (0.4, 0.4)) {
            assert_eq!(line.difference, Some(0.0), "{}", line.metric);
            if line.p_value.is_some() {
                assert_eq!(
                    (line.ci_low, line.ci_high, line.p_value),
                    (Some(0.0), Some(0.0), Some(1.0))
                );
            }
        }
    }
}

#[test]
fn what_does_not_exist_is_none() {
    for (scores, labels) in [
        (vec![], vec![]),
        (vec![0.5], vec![true]),
        (vec![0.2; 50], vec![false; 50]),
        (vec![0.2; 50], vec![true; 50]),
        (vec![f64::NAN, 0.5, 0.1], vec![true, false, true]),
        (vec![0.9, 0.1], vec![true, false]),
        (vec![0.0, 1.0, 0.0, 1.0], vec![true, false, true, false]),
    ] {
        let other: Vec<f64> = scores.iter().map(|s| s / 2.0).collect();
        for line in lines(&scores, &other, &labels, (0.5, f64::INFINITY)) {
            for value in [line.a, line.b, line.difference, line.ci_low, line.ci_high, line.p_value]
            {
                assert!(value.is_none_or(f64::is_finite), "{line:?}");
            }
            assert!(line.p_value.is_none_or(|p| (0.0..=1.0).contains(&p)), "{line:?}");
            let ranked = ["auc", "ks", "f1"].contains(&line.metric.as_str());
            let both = labels.contains(&true) && labels.contains(&false);
            assert!(!ranked || both || line.a.is_none(), "{line:?}");
        }
    }
}

/// Labels that both rank perfectly and that both rank upside down leave nothing to chance.
#[test]
fn a_difference_without_error_is_no_chance() {
    let labels: Vec<bool> = (0..40).map(|row| row < 10).collect();
    let good: Vec<f64> = labels.iter().map(|l| if *l { 0.9 } else { 0.1 }).collect();
    let bad: Vec<f64> = labels.iter().map(|l| if *l { 0.1 } else { 0.9 }).collect();
    let found = lines(&bad, &good, &labels, (0.5, 0.5));
    let area = line(&found, "auc");
    assert_eq!((area.difference, area.p_value), (Some(1.0), Some(0.0)));
    assert_eq!((area.ci_low, area.ci_high), (Some(1.0), Some(1.0)));
    let f1 = line(&found, "f1");
    assert_eq!((f1.difference, f1.ci_low), (Some(1.0), Some(1.0)));
    near("p", f1.p_value, 2.0 / 1001.0, 1e-12);
}
