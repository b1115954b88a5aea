//! The float network as trained, and its shape.
//!
//! For each member m of the ensemble, with positions z, codes c and pooled text vectors v:
//!
//! ```text
//! number j    h_j = relu(bias_j + missing_j)                       if z_j is NaN
//!             h_j = relu(bias_j + sum_t clamp(z_j - t, 0, 1) * weight_j[t])   t = 0..MAX_BINS
//! category k  e_k = embedding_k[c_k]
//! tabular     concat(h, e) -> Linear(hidden) relu -> Linear(hidden) relu -> Linear(1)
//! text f      t_f = weight_f . norm(v_f) + bias_f      (0 if the text is empty)
//! logit_m     tabular + sum_f t_f
//! ```
//!
//! `norm(v) = (v - mean(v)) / sqrt(var(v) + 1e-5)`; the trained LayerNorm gain, projection to 16
//! and last layer are linear and are folded into `weight_f`, `bias_f` by the trainer.
//! Probabilities of the members are averaged, the mean's logit is calibrated (Platt).
//! v_f is the mean over all tokens of the encoder's last layer.
//! Without numbers and categories (options.text = 'row') the tabular term is its last bias alone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Width of a number's vector.
pub const NUMBER_WIDTH: usize = 12;

/// A float tensor, row-major.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FloatTensor {
    pub shape: Vec<usize>,
    pub data: Vec<f32>,
}

/// `y = weight x + bias`; weight is [outputs, inputs], row-major.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FloatLinear {
    pub outputs: usize,
    pub inputs: usize,
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct FloatMember {
    /// [numbers, MAX_BINS, NUMBER_WIDTH]
    pub number_weight: Vec<f32>,
    /// [numbers, NUMBER_WIDTH]
    pub number_missing: Vec<f32>,
    /// [numbers, NUMBER_WIDTH]
    pub number_bias: Vec<f32>,
    /// For each category [codes, dimension].
    pub embeddings: Vec<FloatTensor>,
    /// The two hidden layers; empty without a tabular part.
    pub hidden: Vec<FloatLinear>,
    /// [1, hidden]; without a tabular part `weight` is empty and `bias` has one value.
    pub output: FloatLinear,
    /// For each text: (weight [encoder width], bias).
    pub texts: Vec<(Vec<f32>, f32)>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct FloatNetwork {
    pub members: Vec<FloatMember>,
}

/// Encoder tensors by canonical name:
/// `embeddings.word`, `embeddings.position`, `embeddings.token_type`, `embeddings.norm.weight|bias`,
/// `layer.{l}.{query,key,value,attention_output,intermediate,output}.weight|bias`,
/// `layer.{l}.{attention_norm,output_norm}.weight|bias`, and for bottleneck adapters
/// `layer.{l}.{attention_adapter,output_adapter}.{down,up}.weight|bias`.
/// Linear weights are [outputs, inputs].
pub type TensorMap = BTreeMap<String, FloatTensor>;

/// Shape and constants of a BERT encoder, from its config.json.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EncoderShape {
    pub layers: usize,
    pub width: usize,
    pub heads: usize,
    pub intermediate: usize,
    pub vocabulary: usize,
    pub positions: usize,
    pub token_types: usize,
    pub norm_epsilon: f32,
    /// 0 = no adapters; else the width of their bottleneck. `x + up(relu(down(x)))`, placed
    /// after `attention_output` and after `output`, before the residual sum and the norm.
    #[serde(default)]
    pub adapter: usize,
}
