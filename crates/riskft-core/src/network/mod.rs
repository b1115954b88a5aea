//! The float network as trained, and its shape.
//!
//! For each member m of the ensemble, with positions z and codes c:
//!
//! ```text
//! number j    h_j = relu(bias_j + missing_j)                       if z_j is NaN
//!             h_j = relu(bias_j + sum_t clamp(z_j - t, 0, 1) * weight_j[t])   t = 0..MAX_BINS
//! category k  e_k = embedding_k[c_k]
//! tabular     concat(h, e) -> Linear(hidden) relu -> Linear(hidden) relu -> Linear(1)
//! ```
//!
//! Probabilities of the members are averaged; the mean's logit is the branch `network`. Beside it,
//! with pooled text vectors v, stands the branch `text`:
//!
//! ```text
//! text f      t_f = weight_f . norm(v_f) + bias_f      (0 if the text is empty)
//! ```
//!
//! `norm(v) = (v - mean(v)) / sqrt(var(v) + 1e-5)`; the trained LayerNorm gain, projection to 16
//! and last layer are linear and are folded into `weight_f`, `bias_f` by the trainer.
//! v_f is the mean over all tokens of the encoder's last layer.

pub mod base;
mod reference;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::tokenize::WINDOW;

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
    /// The two hidden layers.
    pub hidden: Vec<FloatLinear>,
    /// [1, hidden]
    pub output: FloatLinear,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct FloatNetwork {
    pub members: Vec<FloatMember>,
    /// For each text: (weight [encoder width], bias).
    pub texts: Vec<(Vec<f32>, f32)>,
    /// For each text, those of its term; none where the list ends.
    pub landmarks: Vec<FloatLandmarks>,
}

/// Texts of the training that a text is compared with.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FloatLandmarks {
    /// Their normalised vectors [landmarks, encoder width].
    pub vectors: Vec<f32>,
    pub weights: Vec<f32>,
}

/// Encoder tensors by canonical name:
/// `embeddings.word`, `embeddings.position`, `embeddings.token_type`, `embeddings.norm.weight|bias`,
/// `layer.{l}.{query,key,value,attention_output,intermediate,output}.weight|bias`,
/// `layer.{l}.{attention_norm,output_norm}.weight|bias`, and for bottleneck adapters
/// `layer.{l}.{attention_adapter,output_adapter}.{down,up}.weight|bias`.
/// Linear weights are [outputs, inputs].
pub type TensorMap = BTreeMap<String, FloatTensor>;

/// Shape and constants of an encoder of BERT's family, from its config.json.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EncoderShape {
    pub layers: usize,
    pub width: usize,
    pub heads: usize,
    pub intermediate: usize,
    pub vocabulary: usize,
    pub positions: usize,
    /// Row of the position table that a text's first token takes: 0, but padding_idx + 1 in RoBERTa.
    /// Left out of the JSON where it is 0, so that a BERT's artifact keeps its bytes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub position_offset: usize,
    pub token_types: usize,
    pub norm_epsilon: f32,
    /// 0 = no adapters; else the width of their bottleneck. `x + up(relu(down(x)))`, placed
    /// after `attention_output` and after `output`, before the residual sum and the norm.
    #[serde(default)]
    pub adapter: usize,
}

fn is_zero(value: &usize) -> bool {
    *value == 0
}

impl EncoderShape {
    /// Tokens that a text has at most, the special ones among them.
    pub fn max_tokens(&self) -> usize {
        self.positions.saturating_sub(self.position_offset)
    }

    /// Tokens of a window of a long text: see [`crate::tokenize::windows`].
    pub fn window(&self) -> usize {
        self.max_tokens().min(WINDOW)
    }

    /// Whether the sizes make an encoder that is computed; else what is wrong, as a sentence.
    pub fn check(&self) -> Result<(), String> {
        for (name, value, most) in [
            ("layers", self.layers, 96),
            ("width", self.width, 8192),
            ("heads", self.heads, 256),
            ("intermediate", self.intermediate, 65536),
            ("vocabulary", self.vocabulary, 1 << 20),
            ("positions", self.positions, 65536),
            ("token_types", self.token_types, 64),
        ] {
            if !(1..=most).contains(&value) {
                return Err(format!("Its {name} are {value}, not within 1 and {most}."));
            }
        }
        // The shortest text has a token between two special ones.
        if self.max_tokens() < 3 {
            return Err(format!(
                "Its positions are {}, the first {} of them not used.",
                self.positions, self.position_offset
            ));
        }
        if self.adapter > 4096 {
            return Err(format!("Its adapter width is {}, more than 4096.", self.adapter));
        }
        if !self.width.is_multiple_of(self.heads) {
            return Err(format!(
                "Its width {} is no multiple of its {} heads.",
                self.width, self.heads
            ));
        }
        if !(0.0..1.0).contains(&self.norm_epsilon) {
            return Err(format!("Its norm epsilon is {}.", self.norm_epsilon));
        }
        Ok(())
    }
}

/// A layer or table of an encoder, by its canonical name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncoderPart {
    pub name: String,
    pub kind: PartKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartKind {
    /// One row for each token; int8 in the artifact.
    Words {
        rows: usize,
        width: usize,
    },
    Table {
        rows: usize,
        width: usize,
    },
    /// `.weight` and `.bias`.
    Norm {
        width: usize,
    },
    /// `.weight` (int8 in the artifact) and `.bias`.
    Linear {
        outputs: usize,
        inputs: usize,
    },
}

/// All parts of an encoder, adapters included.
pub fn encoder_parts(shape: &EncoderShape) -> Vec<EncoderPart> {
    let EncoderShape { width, intermediate, adapter, .. } = *shape;
    let mut parts = Vec::new();
    let mut add = |name: String, kind: PartKind| parts.push(EncoderPart { name, kind });
    add("embeddings.word".into(), PartKind::Words { rows: shape.vocabulary, width });
    add("embeddings.position".into(), PartKind::Table { rows: shape.positions, width });
    add("embeddings.token_type".into(), PartKind::Table { rows: shape.token_types, width });
    add("embeddings.norm".into(), PartKind::Norm { width });
    for layer in 0..shape.layers {
        for (name, outputs, inputs) in [
            ("query", width, width),
            ("key", width, width),
            ("value", width, width),
            ("attention_output", width, width),
            ("intermediate", intermediate, width),
            ("output", width, intermediate),
        ] {
            add(format!("layer.{layer}.{name}"), PartKind::Linear { outputs, inputs });
        }
        for name in ["attention_norm", "output_norm"] {
            add(format!("layer.{layer}.{name}"), PartKind::Norm { width });
        }
        if adapter > 0 {
            for name in ["attention_adapter", "output_adapter"] {
                let name = format!("layer.{layer}.{name}");
                let (down, up) = ((adapter, width), (width, adapter));
                add(format!("{name}.down"), PartKind::Linear { outputs: down.0, inputs: down.1 });
                add(format!("{name}.up"), PartKind::Linear { outputs: up.0, inputs: up.1 });
            }
        }
    }
    parts
}
