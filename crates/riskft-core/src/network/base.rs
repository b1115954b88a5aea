//! A pretrained BERT as Hugging Face stores it -> shape and tensors by canonical name.

use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

use super::{encoder_parts, EncoderShape, FloatTensor, PartKind, TensorMap};
use crate::refusal::{code, Refusal, Result};

/// What is read of a `config.json`.
#[derive(Deserialize)]
struct Config {
    model_type: String,
    hidden_act: String,
    #[serde(default = "absolute")]
    position_embedding_type: String,
    num_hidden_layers: usize,
    hidden_size: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    vocab_size: usize,
    max_position_embeddings: usize,
    type_vocab_size: usize,
    layer_norm_eps: f64,
}

fn absolute() -> String {
    "absolute".to_owned()
}

/// The shape in a `config.json`; 0A000 for anything but BERT with exact GELU and absolute positions.
pub fn read_shape(config: &[u8]) -> Result<EncoderShape> {
    let config: Config = serde_json::from_slice(config)
        .map_err(|error| unsupported(format!("Its config.json cannot be read: {error}.")))?;
    for (what, found, wanted) in [
        ("model_type", &config.model_type, "bert"),
        ("hidden_act", &config.hidden_act, "gelu"),
        ("position_embedding_type", &config.position_embedding_type, "absolute"),
    ] {
        if found != wanted {
            return Err(unsupported(format!("Its {what} is \"{found}\", not \"{wanted}\".")));
        }
    }
    let shape = EncoderShape {
        layers: config.num_hidden_layers,
        width: config.hidden_size,
        heads: config.num_attention_heads,
        intermediate: config.intermediate_size,
        vocabulary: config.vocab_size,
        positions: config.max_position_embeddings,
        token_types: config.type_vocab_size,
        norm_epsilon: config.layer_norm_eps as f32,
        adapter: 0,
    };
    shape.check().map_err(unsupported)?;
    Ok(shape)
}

/// The tensors of a `model.safetensors` (F32, F16 or BF16), in f32, by canonical name.
/// Tensors that the encoder does not use (the pooler) are left out; a missing one, or one of
/// another shape than the config says, is 0A000.
pub fn read_tensors(shape: &EncoderShape, file: &[u8]) -> Result<TensorMap> {
    let file = SafeTensors::deserialize(file)
        .map_err(|error| unsupported(format!("Its model.safetensors cannot be read: {error}.")))?;
    let mut tensors = TensorMap::new();
    for (name, view) in file.iter() {
        if let Some(canonical) = canonical_name(name) {
            let data = floats(view.dtype(), view.data())
                .ok_or_else(|| unsupported(format!("Its tensor {name} is {:?}.", view.dtype())))?;
            tensors.insert(canonical, FloatTensor { shape: view.shape().to_vec(), data });
        }
    }
    for part in encoder_parts(shape) {
        for (name, wanted) in part.tensors() {
            let found = tensors.get(&name).map(|tensor| &tensor.shape);
            if found != Some(&wanted) {
                let found = found.map_or("absent".to_owned(), |found| format!("{found:?}"));
                return Err(unsupported(format!(
                    "Its tensor {name} is {found}, the config says {wanted:?}."
                )));
            }
        }
    }
    Ok(tensors)
}

fn unsupported(detail: String) -> Refusal {
    Refusal::new(code::NOT_SUPPORTED, "base model is not supported")
        .detail(detail)
        .hint("Use a BERT encoder in safetensors format.")
}

/// `bert.encoder.layer.0.attention.self.query.weight` -> `layer.0.query.weight`; None for tensors
/// that the encoder does not use.
pub fn canonical_name(name: &str) -> Option<String> {
    let name = name.strip_prefix("bert.").unwrap_or(name);
    let (path, last) = name.rsplit_once('.')?;
    let last = match last {
        "weight" | "gamma" => "weight",
        "bias" | "beta" => "bias",
        _ => return None,
    };
    if let Some(table) = path.strip_prefix("embeddings.") {
        return match table {
            "word_embeddings" => Some("embeddings.word".to_owned()),
            "position_embeddings" => Some("embeddings.position".to_owned()),
            "token_type_embeddings" => Some("embeddings.token_type".to_owned()),
            "LayerNorm" => Some(format!("embeddings.norm.{last}")),
            _ => None,
        };
    }
    let (layer, part) = path.strip_prefix("encoder.layer.")?.split_once('.')?;
    let part = match part {
        "attention.self.query" => "query",
        "attention.self.key" => "key",
        "attention.self.value" => "value",
        "attention.output.dense" => "attention_output",
        "attention.output.LayerNorm" => "attention_norm",
        "intermediate.dense" => "intermediate",
        "output.dense" => "output",
        "output.LayerNorm" => "output_norm",
        _ => return None,
    };
    Some(format!("layer.{layer}.{part}.{last}"))
}

fn floats(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    let halves = || bytes.as_chunks::<2>().0.iter().map(|b| u16::from_le_bytes(*b));
    match dtype {
        Dtype::F32 => {
            Some(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
        }
        Dtype::BF16 => Some(halves().map(|h| f32::from_bits(u32::from(h) << 16)).collect()),
        Dtype::F16 => Some(halves().map(from_half).collect()),
        _ => None,
    }
}

/// IEEE 754 binary16 -> binary32, exact.
fn from_half(half: u16) -> f32 {
    let sign = u32::from(half & 0x8000) << 16;
    let magnitude = u32::from(half & 0x7fff);
    let bits = match magnitude >> 10 {
        // Zero and subnormals: multiples of 2^-24.
        0 => (magnitude as f32 / 16_777_216.0).to_bits(),
        31 => (magnitude << 13) | 0x7f80_0000,
        _ => (magnitude << 13) + ((127 - 15) << 23),
    };
    f32::from_bits(sign | bits)
}

impl super::EncoderPart {
    /// Names and shapes of the part's float tensors.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let name = &self.name;
        match self.kind {
            PartKind::Words { rows, width } | PartKind::Table { rows, width } => {
                vec![(name.clone(), vec![rows, width])]
            }
            PartKind::Norm { width } => {
                vec![(format!("{name}.weight"), vec![width]), (format!("{name}.bias"), vec![width])]
            }
            PartKind::Linear { outputs, inputs } => vec![
                (format!("{name}.weight"), vec![outputs, inputs]),
                (format!("{name}.bias"), vec![outputs]),
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_exact() {
        for (half, float) in [
            (0x0000, 0.0),
            (0x0001, 5.960_464_5e-8),
            (0x03ff, 6.097_555e-5),
            (0x0400, 6.103_515_6e-5),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x7c00, f32::INFINITY),
        ] {
            assert_eq!(from_half(half), float, "{half:#06x}");
        }
        assert!(from_half(0x7e00).is_nan());
    }

    #[test]
    fn names_of_both_spellings_are_known() {
        for (name, canonical) in [
            ("bert.embeddings.LayerNorm.gamma", Some("embeddings.norm.weight")),
            ("embeddings.word_embeddings.weight", Some("embeddings.word")),
            ("encoder.layer.11.attention.self.query.bias", Some("layer.11.query.bias")),
            ("encoder.layer.0.output.LayerNorm.weight", Some("layer.0.output_norm.weight")),
            ("pooler.dense.weight", None),
            ("embeddings.position_ids", None),
        ] {
            assert_eq!(canonical_name(name).as_deref(), canonical, "{name}");
        }
    }
}
