//! A loaded version: cells -> probability.

use serde::{Deserialize, Serialize};

use crate::calibrate::Platt;
use crate::encode::Encoding;
use crate::network::EncoderShape;

/// The specification in a version's artifact: all of the version but its tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Specification {
    /// 1
    pub format: u32,
    /// Names the arithmetic that scoring uses, so that a later one leaves old versions' bits alone. 1
    pub numerics: u32,
    pub encoding: Encoding,
    pub members: usize,
    pub hidden: usize,
    pub encoder: Option<EncoderReference>,
    pub calibration: Platt,
    pub threshold: f64,
    pub positive_label: String,
    pub negative_label: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EncoderReference {
    pub base: String,
    /// SHA-256 (hex) of the base encoder's artifact; the version's own tensors lie over it.
    pub digest: String,
    pub shape: EncoderShape,
}
