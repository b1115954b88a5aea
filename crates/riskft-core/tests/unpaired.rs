//! Two scorings of different rows: against published examples, and definitions worked out here.

use riskft_core::metrics::{self, unpaired, Estimate, Scoring, Side, Unpaired};

fn side<'a>(scores: &'a [f64], labels: &'a [bool]) -> Side<'a> {
    Side { scoring: Scoring { scores, threshold: 0.5 }, labels }
}

fn line<'a>(lines: &'a [Unpaired], metric: &str) -> &'a Unpaired {
    lines.iter().find(|line| line.metric == metric).expect("the metric is there")
}

fn near(what: &str, got: Option<f64>, wanted: f64, tolerance: f64) {
    let got = got.unwrap_or_else(|| panic!("{what} is None"));
    assert!((got - wanted).abs() <= tolerance, "{what}: {got} instead of {wanted}");
}

/// So many positive labels of so many.
fn labels(positives: usize, rows: usize) -> Vec<bool> {
    (0..rows).map(|row| row < positives).collect()
}

/// Scores without an order of their own, alike in both classes.
fn scores(rows: usize) -> Vec<f64> {
    (0..rows).map(|row| (row * 37 % 101) as f64 / 101.0).collect()
}

/// Newcombe 1998, Statistics in Medicine 17: 873-890, table II (a), method 10, and 857-872, table I.
#[test]
fn rates_have_newcombes_intervals() {
    let (a, b) = (labels(48, 80), labels(56, 70));
    let lines = unpaired(side(&scores(80), &a), side(&scores(70), &b));
    let rate = line(&lines, "positive_rate");
    near("difference", rate.difference.value, 0.2, 1e-12);
    near("low", rate.difference.ci_low, 0.0524, 5e-5);
    near("high", rate.difference.ci_high, 0.3339, 5e-5);
    // z = 0.2 / sqrt(104/150 * 46/150 * (1/80 + 1/70)) = 2.6502; both tails of the normal beyond it.
    near("p", rate.difference.p_value, 0.008_045_08, 1e-8);
    let (a, b) = (labels(81, 263), labels(15, 148));
    let lines = unpaired(side(&scores(263), &a), side(&scores(148), &b));
    let rate = line(&lines, "positive_rate");
    near("81 of 263, low", rate.a.ci_low, 0.2553, 5e-5);
    near("81 of 263, high", rate.a.ci_high, 0.3662, 5e-5);
    near("15 of 148, low", rate.b.ci_low, 0.0624, 5e-5);
    near("15 of 148, high", rate.b.ci_high, 0.1605, 5e-5);
}

#[test]
fn means_and_areas_add_their_variances() {
    let (a, b) = (labels(30, 90), labels(40, 70));
    let (p, q): (Vec<f64>, Vec<f64>) =
        (scores(90), scores(70).iter().map(|score| score * score).collect());
    let lines = unpaired(side(&p, &a), side(&q, &b));
    let variance = |terms: &[f64]| {
        let n = terms.len() as f64;
        let mean = terms.iter().sum::<f64>() / n;
        (mean, terms.iter().map(|t| (t - mean).powi(2)).sum::<f64>() / (n - 1.0) / n)
    };
    let squares = |scores: &[f64], labels: &[bool]| -> Vec<f64> {
        scores.iter().zip(labels).map(|(s, l)| (s - f64::from(u8::from(*l))).powi(2)).collect()
    };
    for (metric, x, y) in
        [("mean_score", p.clone(), q.clone()), ("brier", squares(&p, &a), squares(&q, &b))]
    {
        let ((m, v), (n, w)) = (variance(&x), variance(&y));
        let line = line(&lines, metric);
        near(metric, line.difference.value, n - m, 1e-12);
        let half = 1.959_963_984_540_054 * (v + w).sqrt();
        near(metric, line.difference.ci_low, n - m - half, 1e-12);
        near(metric, line.difference.ci_high, n - m + half, 1e-12);
        near(metric, line.a.ci_low, m - 1.959_963_984_540_054 * v.sqrt(), 1e-12);
        let is_beyond = line.difference.p_value.is_some_and(|p| p < 0.05);
        assert_eq!(is_beyond, (n - m).abs() > half, "{metric}");
    }
    let of = |scores: &[f64], labels: &[bool]| {
        metrics::auc_with_error(scores, labels).and_then(|a| a.standard_error).expect("an error")
    };
    let area = line(&lines, "auc");
    let half = 1.959_963_984_540_054 * of(&p, &a).hypot(of(&q, &b));
    let difference = area.difference.value.expect("a difference");
    near("auc, low", area.difference.ci_low, difference - half, 1e-12);
    near("auc, high", area.difference.ci_high, difference + half, 1e-12);
    for (metric, of) in [("auc", metrics::auc as fn(&[f64], &[bool]) -> _), ("ks", metrics::ks)] {
        let line = line(&lines, metric);
        assert_eq!((line.a.value, line.b.value), (of(&p, &a), of(&q, &b)), "{metric}");
    }
    assert_eq!(line(&lines, "f1").b.value, metrics::f1(&q, &b, 0.5));
    assert_eq!(line(&lines, "rows").difference.value, Some(-20.0));
}

#[test]
fn what_does_not_exist_is_none() {
    let (a, b) = (labels(30, 90), labels(70, 70));
    let (p, q) = (scores(90), scores(70));
    let none = Estimate::default();
    for (other, label) in [(&q[..], &b[..]), (&[], &[]), (&q[..1], &b[..1])] {
        for lines in
            [unpaired(side(&p, &a), side(other, label)), unpaired(side(other, label), side(&p, &a))]
        {
            for metric in ["auc", "ks", "f1"] {
                assert_eq!(line(&lines, metric).difference, none, "{metric}");
            }
            let numbers = lines.iter().flat_map(|line| [line.a, line.b, line.difference]);
            let numbers = numbers.flat_map(|e| [e.value, e.ci_low, e.ci_high, e.p_value]);
            assert!(numbers.flatten().all(f64::is_finite));
        }
    }
    let lines = unpaired(side(&p, &a), side(&[], &[]));
    assert_eq!(line(&lines, "positive_rate").difference, none);
    assert_eq!(line(&lines, "rows").b.value, Some(0.0));
    let lines = unpaired(side(&p, &a), side(&q[..1], &b[..1]));
    assert_eq!(line(&lines, "mean_score").difference.p_value, None, "one row has no variance");
    // Rows of one class in both, and scores that do not vary.
    let same = vec![0.3; 70];
    let lines = unpaired(side(&same, &b), side(&same, &b));
    for metric in ["positive_rate", "mean_score", "brier"] {
        near(metric, line(&lines, metric).difference.p_value, 1.0, 0.0);
    }
}
