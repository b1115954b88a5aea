//! A pretrained encoder as Hugging Face stores it -> shape and tensors by canonical name.
//!
//! BERT (Devlin et al. 2018), RoBERTa (Liu et al. 2019) and DistilBERT (Sanh et al. 2019), with or
//! without a task's head: FinBERT is a BERT with one. All three compute the same layers; they
//! differ in their tensors' names, in where positions begin, and in whether there are token types.
//! Canonical names are one for all, so that whatever is tuned is named alike.

mod foreign;
mod names;
mod tensors;

use serde::Deserialize;

use super::EncoderShape;
use crate::refusal::{code, Refusal, Result};

pub use foreign::foreign;
pub use names::canonical_name;
pub use tensors::{check_tensors, parameters, read_tensors, MAX_HEADER};

/// Families of encoders that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    Bert,
    Roberta,
    DistilBert,
}

impl Architecture {
    const ALL: [Architecture; 3] =
        [Architecture::Bert, Architecture::Roberta, Architecture::DistilBert];

    /// As `model_type` in a config.json has it.
    pub fn name(self) -> &'static str {
        match self {
            Architecture::Bert => "bert",
            Architecture::Roberta => "roberta",
            Architecture::DistilBert => "distilbert",
        }
    }
}

/// What is read of any `config.json`.
#[derive(Deserialize)]
struct Kind {
    model_type: String,
    #[serde(default = "absolute")]
    position_embedding_type: String,
    #[serde(default)]
    is_decoder: bool,
}

/// Of BERT's and RoBERTa's.
#[derive(Deserialize)]
struct Bert {
    hidden_act: String,
    num_hidden_layers: usize,
    hidden_size: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    vocab_size: usize,
    max_position_embeddings: usize,
    type_vocab_size: usize,
    layer_norm_eps: f64,
    pad_token_id: Option<usize>,
}

/// Of DistilBERT's.
#[derive(Deserialize)]
struct DistilBert {
    activation: String,
    n_layers: usize,
    dim: usize,
    n_heads: usize,
    hidden_dim: usize,
    vocab_size: usize,
    max_position_embeddings: usize,
}

fn absolute() -> String {
    "absolute".to_owned()
}

fn parse<'a, T: Deserialize<'a>>(config: &'a [u8]) -> Result<T> {
    serde_json::from_slice(config)
        .map_err(|error| unsupported(format!("Its config.json cannot be read: {error}.")))
}

/// The family in a `config.json`; 0A000 for any other.
pub fn read_architecture(config: &[u8]) -> Result<Architecture> {
    if let Some(refusal) = foreign(config, "config.json") {
        return Err(refusal);
    }
    let kind: Kind = parse(config)?;
    let known = Architecture::ALL.into_iter().find(|a| a.name() == kind.model_type);
    let Some(architecture) = known else {
        return Err(unsupported(format!("Its model_type is \"{}\".", kind.model_type)));
    };
    demand("position_embedding_type", &kind.position_embedding_type, "absolute")?;
    if kind.is_decoder {
        return Err(unsupported("It is a decoder: its tokens see only those before them.".into()));
    }
    Ok(architecture)
}

/// The shape in a `config.json`; 0A000 for anything but BERT, RoBERTa or DistilBERT with exact
/// GELU and absolute positions.
pub fn read_shape(config: &[u8]) -> Result<EncoderShape> {
    let shape = match read_architecture(config)? {
        Architecture::Bert => bert(&parse(config)?, false)?,
        Architecture::Roberta => bert(&parse(config)?, true)?,
        Architecture::DistilBert => distilbert(&parse(config)?)?,
    };
    shape.check().map_err(unsupported)?;
    Ok(shape)
}

fn bert(config: &Bert, roberta: bool) -> Result<EncoderShape> {
    demand("hidden_act", &config.hidden_act, "gelu")?;
    Ok(EncoderShape {
        layers: config.num_hidden_layers,
        width: config.hidden_size,
        heads: config.num_attention_heads,
        intermediate: config.intermediate_size,
        vocabulary: config.vocab_size,
        positions: config.max_position_embeddings,
        // RoBERTa counts positions from padding_idx + 1; its padding_idx is 1 unless told.
        position_offset: match roberta {
            true => config.pad_token_id.unwrap_or(1).saturating_add(1),
            false => 0,
        },
        token_types: config.type_vocab_size,
        norm_epsilon: config.layer_norm_eps as f32,
        adapter: 0,
    })
}

fn distilbert(config: &DistilBert) -> Result<EncoderShape> {
    demand("activation", &config.activation, "gelu")?;
    Ok(EncoderShape {
        layers: config.n_layers,
        width: config.dim,
        heads: config.n_heads,
        intermediate: config.hidden_dim,
        vocabulary: config.vocab_size,
        positions: config.max_position_embeddings,
        position_offset: 0,
        // None in the file: read_tensors adds a table of one row of zeros.
        token_types: 1,
        // Fixed in the architecture; not in its config.
        norm_epsilon: 1e-12,
        adapter: 0,
    })
}

fn demand(what: &str, found: &str, wanted: &str) -> Result<()> {
    if found == wanted {
        return Ok(());
    }
    Err(unsupported(format!("Its {what} is \"{found}\", not \"{wanted}\".")))
}

fn unsupported(detail: String) -> Refusal {
    Refusal::new(code::NOT_SUPPORTED, "base model is not supported")
        .detail(detail)
        .hint("Use a BERT, RoBERTa or DistilBERT encoder in safetensors format.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(config: &str) -> Result<EncoderShape> {
        read_shape(config.as_bytes())
    }

    const ROBERTA: &str = r#"{"model_type": "roberta", "hidden_act": "gelu",
        "num_hidden_layers": 2, "hidden_size": 48, "num_attention_heads": 4,
        "intermediate_size": 96, "vocab_size": 300, "max_position_embeddings": 66,
        "type_vocab_size": 1, "layer_norm_eps": 1e-5, "pad_token_id": 1}"#;

    const DISTILBERT: &str = r#"{"model_type": "distilbert", "activation": "gelu", "n_layers": 2,
        "dim": 48, "n_heads": 4, "hidden_dim": 96, "vocab_size": 300,
        "max_position_embeddings": 64}"#;

    #[test]
    fn positions_of_roberta_begin_after_its_padding() {
        let shape = read(ROBERTA).unwrap();
        assert_eq!((shape.position_offset, shape.max_tokens()), (2, 64));
        let other = read(&ROBERTA.replace("\"pad_token_id\": 1", "\"pad_token_id\": null"));
        assert_eq!(other.unwrap(), shape);
        let far = read(&ROBERTA.replace("\"pad_token_id\": 1", "\"pad_token_id\": 3"));
        assert_eq!(far.unwrap().max_tokens(), 62);
    }

    #[test]
    fn a_shape_without_an_offset_is_stored_without_it() {
        let shape = read(DISTILBERT).unwrap();
        let json = serde_json::to_string(&shape).unwrap();
        assert!(!json.contains("position_offset"), "{json}");
        assert_eq!(serde_json::from_str::<EncoderShape>(&json).unwrap(), shape);
        let roberta = read(ROBERTA).unwrap();
        let json = serde_json::to_string(&roberta).unwrap();
        assert_eq!(serde_json::from_str::<EncoderShape>(&json).unwrap(), roberta);
    }

    #[test]
    fn what_is_not_computed_is_refused() {
        for (from, to, word) in [
            ("\"roberta\"", "\"electra\"", "electra"),
            ("\"gelu\"", "\"gelu_new\"", "gelu_new"),
            ("\"pad_token_id\": 1", "\"pad_token_id\": 66", "positions"),
            ("\"pad_token_id\": 1", "\"pad_token_id\": 18446744073709551615", "positions"),
            ("\"pad_token_id\": 1", "\"is_decoder\": true", "decoder"),
            (
                "\"pad_token_id\": 1",
                "\"position_embedding_type\": \"relative_key\"",
                "relative_key",
            ),
            ("\"hidden_size\": 48", "\"hidden_size\": 50", "heads"),
            ("\"hidden_size\": 48", "\"hidden_size\": -1", "config.json"),
            ("\"hidden_size\": 48,", "", "hidden_size"),
        ] {
            let config = ROBERTA.replace(from, to);
            assert_ne!(config, ROBERTA, "{from}");
            let refusal = read(&config).unwrap_err();
            assert_eq!(refusal.code, code::NOT_SUPPORTED);
            assert!(refusal.detail.contains(word), "{}", refusal.detail);
        }
    }
}
