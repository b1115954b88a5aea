//! Landmarks: their features are those of the kernel, and tell what no linear term can.

use riskft_trainer::calibrated;
use riskft_trainer::landmarks::Landmarks;
use riskft_trainer::terms::normalise;
use tch::{Device, Kind, Tensor};

const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);
const ROWS: i64 = 60;
const WIDTH: i64 = 48;

fn values(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.to_kind(Kind::Double).contiguous().view([-1])).expect("doubles")
}

/// `exp(-2 |u - v|^2)` of two vectors scaled to length 1.
fn kernel(u: &[f64], v: &[f64]) -> f64 {
    let length = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
    let (a, b) = (length(u), length(v));
    let apart: f64 = u.iter().zip(v).map(|(x, y)| (x / a - y / b).powi(2)).sum();
    (-2.0 * apart).exp()
}

#[test]
fn products_of_features_are_the_kernel() {
    tch::manual_seed(3);
    let vectors = normalise(&Tensor::randn([ROWS, WIDTH], CPU));
    // The last two rows are of one text.
    vectors.get(ROWS - 1).copy_(&vectors.get(ROWS - 2));
    let landmarks = Landmarks::new(0, vectors.shallow_clone()).expect("landmarks");
    let features = landmarks.features(&vectors).expect("features");
    let products = values(&features.matmul(&features.transpose(0, 1)));
    let rows: Vec<Vec<f64>> = (0..ROWS).map(|row| values(&vectors.get(row))).collect();
    for (i, u) in rows.iter().enumerate() {
        for (j, v) in rows.iter().enumerate() {
            let (ours, exact) = (products[i * ROWS as usize + j], kernel(u, v));
            assert!((ours - exact).abs() < 2e-4, "{i}, {j}: {ours} and {exact}");
        }
    }
}

#[test]
fn weights_of_landmarks_give_the_sums_of_weighted_features() {
    tch::manual_seed(4);
    let vectors = normalise(&Tensor::randn([ROWS, WIDTH], CPU));
    let others = normalise(&Tensor::randn([20, WIDTH], CPU));
    let landmarks = Landmarks::new(1, vectors).expect("landmarks");
    let weights = Tensor::randn([ROWS], CPU);
    let by_features = values(&landmarks.features(&others).expect("features").mv(&weights));
    let near = landmarks.near(&weights).expect("weights");
    assert_eq!(near.field, 1);
    let by_landmarks = values(&near.terms(&others));
    for (a, b) in by_features.iter().zip(&by_landmarks) {
        assert!((a - b).abs() < 1e-4, "{a} and {b}");
    }
    assert!(by_features.iter().any(|a| a.abs() > 0.1));
}

/// By hand: calibration undoes any scale and level, so the loss is of the ranking's shape alone.
#[test]
fn a_calibrated_loss_does_not_depend_on_scale_and_level() {
    let logits: Vec<f64> = (0..400).map(|i| ((i * 7919) % 401) as f64 / 100.0 - 2.0).collect();
    let labels: Vec<bool> = (0..400).map(|i| (i * 7919) % 401 + (i * 31) % 300 > 350).collect();
    let moved: Vec<f64> = logits.iter().map(|z| 5.0 * z - 1.0).collect();
    let (plain, moved) = (calibrated::loss(&logits, &labels), calibrated::loss(&moved, &labels));
    assert!((plain - moved).abs() < 1e-6, "{plain} and {moved}");
    let share = labels.iter().filter(|label| **label).count() as f64 / 400.0;
    let base = -(share * share.ln() + (1.0 - share) * (1.0 - share).ln());
    let against: Vec<f64> = logits.iter().map(|z| -z).collect();
    assert!(plain < base - 0.1);
    assert!(calibrated::loss(&against, &labels) > base - 0.01, "a ranking is not turned round");
    let own = [0.5; 100];
    let other: Vec<f64> = (0..100).map(|i| 0.6 + f64::from(i % 2)).collect();
    assert!(calibrated::is_lower(&own, &other) && !calibrated::is_lower(&other, &own));
    assert!(!calibrated::is_lower(&own, &own));
}
