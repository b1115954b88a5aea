//! Platt's calibration of a logit.

use serde::{Deserialize, Serialize};

/// `probability = 1 / (1 + exp(-(slope * logit + intercept)))`
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Platt {
    pub slope: f64,
    pub intercept: f64,
}
