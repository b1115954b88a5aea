//! The log-loss of logits once they are calibrated.
//!
//! A branch's scale is not its own affair: the blend weighs it, and the calibration has the last
//! word. The log-loss as it is asks for weights that are large enough to be probabilities, and pays
//! with the ranking. On five draws of 1,025 complaints the penalty of the lowest calibrated loss
//! ranked 0.003 better out of fold with the encoder's vectors, and 0.005 with n-grams.

use riskft_core::calibrate::Platt;
use riskft_core::math::logistic;

/// Log-loss of each row after Platt's calibration on these rows.
pub fn losses(logits: &[f64], labels: &[bool]) -> Vec<f64> {
    losses_by(Platt::fit(logits, labels), logits, labels)
}

/// Log-loss of each row by a calibration.
pub fn losses_by(platt: Platt, logits: &[f64], labels: &[bool]) -> Vec<f64> {
    let of = |(logit, label): (&f64, &bool)| {
        let z = platt.slope * logit + platt.intercept;
        -logistic(if *label { z } else { -z }).max(1e-15).ln()
    };
    logits.iter().zip(labels).map(of).collect()
}

/// Their mean.
pub fn loss(logits: &[f64], labels: &[bool]) -> f64 {
    mean(&losses(logits, labels)).0
}

/// Mean and its standard error; NaN of nothing.
pub fn mean(figures: &[f64]) -> (f64, f64) {
    let rows = figures.len() as f64;
    let mean = figures.iter().sum::<f64>() / rows;
    let square: f64 = figures.iter().map(|x| (x - mean).powi(2)).sum();
    (mean, square.sqrt() / rows)
}

/// Whether some losses are lower than others of the same rows by more than the difference's
/// standard error.
pub fn is_lower(losses: &[f64], others: &[f64]) -> bool {
    let gains: Vec<f64> = losses.iter().zip(others).map(|(own, other)| other - own).collect();
    let (gain, error) = mean(&gains);
    gain > error
}
