//! Weights of branches: logistic stacking of their out-of-fold logits (Wolpert 1992; Breiman 1996).
//!
//! The weights are never negative, and are held near a given start by a ridge: on few rows the
//! plain mean of good branches beats fitted weights, on many rows the ridge is not felt. The
//! intercept is the calibration's affair and is thrown away.

use crate::math::logistic;

/// Strength of the ridge: a deviation of 0.18 of a weight from its start costs half a nat.
pub const RIDGE: f64 = 16.0;
const STEPS: usize = 50;
/// Logits beyond this are probabilities of 0 and 1.
const MAX_LOGIT: f64 = 40.0;

/// One weight for each branch. `logits` are those of the branches on the same rows; rows with a NaN
/// are left out. `start` is where the weights lie without rows, or with rows of one class.
pub fn fit(logits: &[&[f64]], labels: &[bool], start: &[f64]) -> Vec<f64> {
    let rows: Vec<usize> =
        (0..labels.len()).filter(|row| logits.iter().all(|z| !z[*row].is_nan())).collect();
    let positive = rows.iter().filter(|row| labels[**row]).count();
    if positive == 0 || positive == rows.len() {
        return start.to_vec();
    }
    let mut active: Vec<usize> = (0..logits.len()).collect();
    loop {
        let weights = newton(logits, labels, &rows, &active, start);
        let lowest = active.iter().zip(&weights).min_by(|a, b| a.1.total_cmp(b.1));
        match lowest {
            Some((branch, weight)) if *weight < 0.0 => {
                let branch = *branch;
                active.retain(|other| *other != branch);
            }
            _ => {
                let mut all = vec![0.0; logits.len()];
                active.iter().zip(weights).for_each(|(branch, weight)| all[*branch] = weight);
                return all;
            }
        }
    }
}

/// Newton's method from the start; the objective is convex, and a step that does not lower it is
/// halved.
fn newton(
    logits: &[&[f64]],
    labels: &[bool],
    rows: &[usize],
    active: &[usize],
    start: &[f64],
) -> Vec<f64> {
    let width = active.len() + 1;
    let begin: Vec<f64> = active.iter().map(|k| start[*k]).chain([0.0]).collect();
    let mut x = begin.clone();
    let inputs = |row: usize| {
        let of = move |k: &usize| logits[*k][row].clamp(-MAX_LOGIT, MAX_LOGIT);
        active.iter().map(of).chain([1.0]).collect::<Vec<f64>>()
    };
    let objective = |x: &[f64]| {
        let ridge: f64 = (0..active.len()).map(|k| (x[k] - begin[k]).powi(2)).sum();
        let loss = |row: &usize| {
            let z: f64 = inputs(*row).iter().zip(x).map(|(z, w)| z * w).sum();
            z.max(0.0) - if labels[*row] { z } else { 0.0 } + (-z.abs()).exp().ln_1p()
        };
        rows.iter().map(loss).sum::<f64>() + RIDGE * ridge
    };
    let mut best = objective(&x);
    for _ in 0..STEPS {
        let (mut gradient, mut hessian) = (vec![0.0; width], vec![0.0; width * width]);
        for row in rows {
            let z = inputs(*row);
            let p = logistic(z.iter().zip(&x).map(|(z, w)| z * w).sum());
            let (error, curve) = (p - f64::from(u8::from(labels[*row])), p * (1.0 - p));
            for i in 0..width {
                gradient[i] += error * z[i];
                for j in 0..width {
                    hessian[i * width + j] += curve * z[i] * z[j];
                }
            }
        }
        for k in 0..active.len() {
            gradient[k] += 2.0 * RIDGE * (x[k] - begin[k]);
            hessian[k * width + k] += 2.0 * RIDGE;
        }
        hessian[width * width - 1] += 1e-9;
        let Some(step) = solve(hessian, gradient) else { break };
        let mut share = 1.0;
        let next = loop {
            let moved: Vec<f64> = x.iter().zip(&step).map(|(x, s)| x - share * s).collect();
            let value = objective(&moved);
            if value < best || share < 1e-6 {
                break (moved, value);
            }
            share *= 0.5;
        };
        let gain = best - next.1;
        if gain > 0.0 {
            (x, best) = next;
        }
        if gain < 1e-9 * best.abs().max(1.0) {
            break;
        }
    }
    x.truncate(active.len());
    x
}

/// Gaussian elimination of a positive definite system; None if it is singular.
fn solve(mut a: Vec<f64>, mut b: Vec<f64>) -> Option<Vec<f64>> {
    let n = b.len();
    for i in 0..n {
        let pivot = a[i * n + i];
        if pivot.is_nan() || pivot <= 1e-12 {
            return None;
        }
        for row in i + 1..n {
            let factor = a[row * n + i] / pivot;
            for column in i..n {
                a[row * n + column] -= factor * a[i * n + column];
            }
            b[row] -= factor * b[i];
        }
    }
    for i in (0..n).rev() {
        let known: f64 = (i + 1..n).map(|j| a[i * n + j] * b[j]).sum();
        b[i] = (b[i] - known) / a[i * n + i];
    }
    Some(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::hash::mix;

    fn noise(seed: u64, row: usize) -> f64 {
        let uniform = |k: u64| (mix(seed ^ mix(row as u64 * 31 + k)) >> 11) as f64 / 2f64.powi(53);
        (0..12).map(uniform).sum::<f64>() - 6.0
    }

    /// Rows whose logit is `a` times the first signal plus `b` times the second.
    fn rows(count: usize, a: f64, b: f64) -> (Vec<f64>, Vec<f64>, Vec<bool>) {
        let (x, y): (Vec<f64>, Vec<f64>) = (0..count).map(|r| (noise(1, r), noise(2, r))).unzip();
        let draw = |r: usize| (mix(r as u64 ^ 99) >> 11) as f64 / 2f64.powi(53);
        let labels = (0..count).map(|r| draw(r) < logistic(a * x[r] + b * y[r] - 1.0)).collect();
        (x, y, labels)
    }

    #[test]
    fn many_rows_give_the_weights_that_made_them() {
        let (x, y, labels) = rows(50_000, 0.8, 0.3);
        let weights = fit(&[&x, &y], &labels, &[0.5, 0.5]);
        assert!((weights[0] - 0.8).abs() < 0.03 && (weights[1] - 0.3).abs() < 0.03, "{weights:?}");
    }

    #[test]
    fn a_branch_that_misleads_has_no_weight() {
        let (x, y, labels) = rows(20_000, 0.8, -0.4);
        let weights = fit(&[&x, &y], &labels, &[0.5, 0.5]);
        assert_eq!(weights[1], 0.0);
        assert!(weights[0] > 0.7);
    }

    #[test]
    fn few_rows_stay_near_the_start() {
        let (x, y, labels) = rows(60, 0.8, 0.3);
        let weights = fit(&[&x, &y], &labels, &[0.5, 0.5]);
        assert!(weights.iter().all(|w| (w - 0.5).abs() < 0.25), "{weights:?}");
        assert_eq!(fit(&[&x, &y], &[true; 60], &[0.5, 0.5]), [0.5, 0.5]);
        let nan = vec![f64::NAN; 60];
        assert_eq!(fit(&[&x, &nan], &labels, &[0.5, 0.5]), [0.5, 0.5]);
        assert_eq!(fit(&[], &labels, &[]), Vec::<f64>::new());
    }

    #[test]
    fn twins_share_their_weight() {
        let (x, _, labels) = rows(5000, 1.0, 0.0);
        let weights = fit(&[&x, &x], &labels, &[0.5, 0.5]);
        assert!((weights[0] - weights[1]).abs() < 1e-6, "{weights:?}");
        assert!((weights[0] + weights[1] - 1.0).abs() < 0.1, "{weights:?}");
    }
}
