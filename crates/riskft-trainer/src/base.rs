//! A base model's folder: `config.json`, `model.safetensors`, `tokenizer.json` -> shape, float
//! tensors by core's canonical names. Nothing in it can run code.

use std::fs;
use std::path::Path;

use riskft_core::network::{EncoderShape, FloatTensor, TensorMap};
use riskft_core::refusal::{code, Refusal, Result};
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

use crate::words::Words;

/// Largest file read from the folder, bytes.
const MAX_FILE: u64 = 4 << 30;

/// A base model as read.
pub struct Base {
    pub name: String,
    pub shape: EncoderShape,
    /// f32, by the names of [`TensorMap`].
    pub tensors: TensorMap,
    pub words: Words,
}

/// The part of config.json that matters.
#[derive(Deserialize)]
struct Config {
    model_type: String,
    hidden_act: String,
    #[serde(default)]
    position_embedding_type: Option<String>,
    hidden_size: usize,
    intermediate_size: usize,
    layer_norm_eps: f32,
    max_position_embeddings: usize,
    num_attention_heads: usize,
    num_hidden_layers: usize,
    type_vocab_size: usize,
    vocab_size: usize,
}

impl Base {
    /// Reads the folder.
    ///
    /// # Errors
    /// 58P01 for a missing file, 0A000 for a model that is not a BERT with WordPiece, XX001 for a
    /// file that does not hold what it should.
    pub fn read(name: &str, folder: &Path) -> Result<Self> {
        let shape = shape(&read_file(name, folder, "config.json")?)?;
        let words = Words::read(&read_file(name, folder, "tokenizer.json")?, shape.vocabulary)?;
        let weights = read_file(name, folder, "model.safetensors")?;
        let tensors = tensors(&weights, &shape)?;
        Ok(Base { name: name.to_owned(), shape, tensors, words })
    }

    /// Number of values in all tensors.
    pub fn parameters(&self) -> usize {
        self.tensors.values().map(|t| t.data.len()).sum()
    }
}

fn read_file(name: &str, folder: &Path, file: &str) -> Result<Vec<u8>> {
    let missing = |why: String| {
        Refusal::new(code::UNDEFINED_FILE, "a file of the base model cannot be read")
            .detail(format!("The base model \"{name}\" has no readable {file}: {why}."))
            .hint("Install the base model with `make models`, or train with method => 'none'.")
    };
    if folder.as_os_str().is_empty() {
        return Err(missing("no folder is configured for it".to_owned()));
    }
    let path = folder.join(file);
    let length = fs::metadata(&path).map_err(|e| missing(e.to_string()))?.len();
    if length > MAX_FILE {
        return Err(missing(format!("it has {length} bytes, more than the {MAX_FILE} allowed")));
    }
    fs::read(&path).map_err(|e| missing(e.to_string()))
}

fn unsupported(detail: String) -> Refusal {
    Refusal::new(code::NOT_SUPPORTED, "the base model is of a kind that is not supported")
        .detail(detail)
        .hint("Use a BERT encoder with a WordPiece tokenizer, such as minilm-l6.")
}

fn damaged(detail: impl Into<String>) -> Refusal {
    Refusal::new(code::DATA_CORRUPTED, "a file of the base model is damaged").detail(detail)
}

fn shape(json: &[u8]) -> Result<EncoderShape> {
    let config: Config = serde_json::from_slice(json)
        .map_err(|e| unsupported(format!("Its config.json is not a BERT's: {e}.")))?;
    if config.model_type != "bert" {
        return Err(unsupported(format!("Its model_type is \"{}\".", config.model_type)));
    }
    if config.hidden_act != "gelu" {
        return Err(unsupported(format!("Its hidden_act is \"{}\".", config.hidden_act)));
    }
    if config.position_embedding_type.as_deref().is_some_and(|kind| kind != "absolute") {
        return Err(unsupported("Its position_embedding_type is not \"absolute\".".to_owned()));
    }
    let sizes = [
        ("hidden_size", config.hidden_size, 1 << 14),
        ("intermediate_size", config.intermediate_size, 1 << 16),
        ("max_position_embeddings", config.max_position_embeddings, 1 << 16),
        ("num_attention_heads", config.num_attention_heads, 1 << 10),
        ("num_hidden_layers", config.num_hidden_layers, 1 << 10),
        ("type_vocab_size", config.type_vocab_size, 1 << 10),
        ("vocab_size", config.vocab_size, 1 << 22),
    ];
    if let Some((key, size, _)) = sizes.iter().find(|(_, size, most)| *size == 0 || size > most) {
        return Err(damaged(format!("In config.json, {key} is {size}.")));
    }
    if !config.hidden_size.is_multiple_of(config.num_attention_heads) {
        return Err(damaged(
            "In config.json, hidden_size is not a multiple of num_attention_heads.",
        ));
    }
    Ok(EncoderShape {
        layers: config.num_hidden_layers,
        width: config.hidden_size,
        heads: config.num_attention_heads,
        intermediate: config.intermediate_size,
        vocabulary: config.vocab_size,
        positions: config.max_position_embeddings,
        token_types: config.type_vocab_size,
        norm_epsilon: config.layer_norm_eps,
        adapter: 0,
    })
}

/// Canonical name, name in the file, dimensions: of every tensor of the shape.
fn wanted(shape: &EncoderShape) -> Vec<(String, String, Vec<usize>)> {
    let w = shape.width;
    let mut all = vec![
        (
            "embeddings.word".into(),
            "embeddings.word_embeddings.weight".into(),
            vec![shape.vocabulary, w],
        ),
        (
            "embeddings.position".into(),
            "embeddings.position_embeddings.weight".into(),
            vec![shape.positions, w],
        ),
        (
            "embeddings.token_type".into(),
            "embeddings.token_type_embeddings.weight".into(),
            vec![shape.token_types, w],
        ),
    ];
    let mut pair = |ours: String, theirs: String, outputs: usize, inputs: Option<usize>| {
        let dimensions = std::iter::once(outputs).chain(inputs).collect();
        all.push((format!("{ours}.weight"), format!("{theirs}.weight"), dimensions));
        all.push((format!("{ours}.bias"), format!("{theirs}.bias"), vec![outputs]));
    };
    pair("embeddings.norm".into(), "embeddings.LayerNorm".into(), w, None);
    for l in 0..shape.layers {
        let parts = [
            ("query", "attention.self.query", w, Some(w)),
            ("key", "attention.self.key", w, Some(w)),
            ("value", "attention.self.value", w, Some(w)),
            ("attention_output", "attention.output.dense", w, Some(w)),
            ("attention_norm", "attention.output.LayerNorm", w, None),
            ("intermediate", "intermediate.dense", shape.intermediate, Some(w)),
            ("output", "output.dense", w, Some(shape.intermediate)),
            ("output_norm", "output.LayerNorm", w, None),
        ];
        for (ours, theirs, outputs, inputs) in parts {
            pair(
                format!("layer.{l}.{ours}"),
                format!("encoder.layer.{l}.{theirs}"),
                outputs,
                inputs,
            );
        }
    }
    all
}

fn tensors(bytes: &[u8], shape: &EncoderShape) -> Result<TensorMap> {
    let file = SafeTensors::deserialize(bytes)
        .map_err(|e| damaged(format!("Its model.safetensors cannot be parsed: {e}.")))?;
    let mut map = TensorMap::new();
    for (ours, theirs, dimensions) in wanted(shape) {
        let view =
            file.tensor(&theirs).or_else(|_| file.tensor(&format!("bert.{theirs}"))).map_err(
                |_| damaged(format!("Its model.safetensors lacks the tensor \"{theirs}\".")),
            )?;
        if view.shape() != dimensions {
            return Err(damaged(format!(
                "Its tensor \"{theirs}\" has the shape {:?}; config.json says {dimensions:?}.",
                view.shape()
            )));
        }
        let data = floats(view.dtype(), view.data()).ok_or_else(|| {
            unsupported(format!("Its tensor \"{theirs}\" is of type {:?}.", view.dtype()))
        })?;
        if data.iter().any(|x| !x.is_finite()) {
            return Err(damaged(format!(
                "Its tensor \"{theirs}\" has a value that is not finite."
            )));
        }
        map.insert(ours, FloatTensor { shape: dimensions, data });
    }
    Ok(map)
}

fn floats(kind: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    let pairs = || bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]));
    Some(match kind {
        Dtype::F32 => {
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
        }
        Dtype::F16 => pairs().map(half_to_float).collect(),
        Dtype::BF16 => pairs().map(|bits| f32::from_bits(u32::from(bits) << 16)).collect(),
        _ => return None,
    })
}

/// IEEE 754 binary16 -> binary32, exact.
fn half_to_float(bits: u16) -> f32 {
    let sign = u32::from(bits >> 15) << 31;
    let exponent = u32::from(bits >> 10) & 0x1F;
    let fraction = u32::from(bits) & 0x3FF;
    match (exponent, fraction) {
        (0, _) => {
            let magnitude = fraction as f32 * (1.0 / 16_777_216.0);
            f32::from_bits(magnitude.to_bits() | sign)
        }
        (31, _) => f32::from_bits(sign | 0x7F80_0000 | (fraction << 13)),
        _ => f32::from_bits(sign | ((exponent + 112) << 23) | (fraction << 13)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_read_exactly() {
        for (bits, value) in [
            (0x0000, 0.0),
            (0x3C00, 1.0),
            (0xC000, -2.0),
            (0x7BFF, 65504.0),
            (0x0001, 2f32.powi(-24)),
            (0x0400, 2f32.powi(-14)),
            (0x83FF, -1023.0 * 2f32.powi(-24)),
            (0x3555, 0.333_251_95),
        ] {
            assert_eq!(half_to_float(bits), value, "{bits:#06x}");
        }
        assert!(half_to_float(0x7C00).is_infinite() && half_to_float(0x7E00).is_nan());
    }

    #[test]
    fn a_model_of_another_kind_is_refused_by_name() {
        let json =
            br#"{"model_type":"roberta","hidden_act":"gelu","hidden_size":8,"intermediate_size":16,
            "layer_norm_eps":1e-12,"max_position_embeddings":8,"num_attention_heads":2,
            "num_hidden_layers":1,"type_vocab_size":1,"vocab_size":10}"#;
        let refusal = shape(json).unwrap_err();
        assert_eq!(refusal.code, code::NOT_SUPPORTED);
        assert!(refusal.detail.contains("roberta"));
        let bert = String::from_utf8_lossy(json).replace("roberta", "bert");
        assert_eq!(shape(bert.as_bytes()).unwrap().width, 8);
        let uneven = bert.replace(":2,", ":3,");
        assert_eq!(shape(uneven.as_bytes()).unwrap_err().code, code::DATA_CORRUPTED);
    }

    #[test]
    fn a_missing_folder_names_the_way_out() {
        let refusal = Base::read("minilm-l6", Path::new("/nowhere")).map(|_| ()).unwrap_err();
        assert_eq!(refusal.code, code::UNDEFINED_FILE);
        assert!(refusal.detail.contains("config.json"));
    }
}
