//! tokenizer.json -> the token list and flags that core compiles, and the crate `tokenizers` as
//! the oracle that core's own tokenizer is checked against.

use riskft_core::refusal::{code, Refusal, Result};
use serde::Deserialize;
use std::collections::HashMap;
use tokenizers::Tokenizer;

/// A WordPiece vocabulary as read.
pub struct Words {
    /// By id.
    pub tokens: Vec<String>,
    pub lowercase: bool,
    pub strip_accents: bool,
    pub clean_text: bool,
    pub space_chinese: bool,
    oracle: Tokenizer,
}

#[derive(Deserialize)]
struct File {
    normalizer: Option<Normalizer>,
    pre_tokenizer: Option<Kind>,
    model: Model,
}

#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Clone, Deserialize)]
struct Normalizer {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default = "yes")]
    clean_text: bool,
    #[serde(default = "yes")]
    handle_chinese_chars: bool,
    #[serde(default)]
    strip_accents: Option<bool>,
    #[serde(default = "yes")]
    lowercase: bool,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
struct Model {
    #[serde(default = "word_piece", rename = "type")]
    kind: String,
    #[serde(default)]
    unk_token: Option<String>,
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
    #[serde(default)]
    max_input_chars_per_word: Option<usize>,
    vocab: HashMap<String, usize>,
}

/// Old files leave the model's type out; without it only a WordPiece vocabulary is a map.
fn word_piece() -> String {
    "WordPiece".to_owned()
}

fn unsupported(detail: impl Into<String>) -> Refusal {
    Refusal::new(
        code::NOT_SUPPORTED,
        "the base model's tokenizer is of a kind that is not supported",
    )
    .detail(detail)
    .hint("Use a BERT encoder with a WordPiece tokenizer, such as minilm-l6.")
}

impl Words {
    /// Reads tokenizer.json; `vocabulary` is the number of rows of the word embeddings.
    ///
    /// # Errors
    /// 0A000 for anything but BERT's WordPiece, XX001 for ids that do not fit.
    pub fn read(json: &[u8], vocabulary: usize) -> Result<Self> {
        let file: File = serde_json::from_slice(json)
            .map_err(|e| unsupported(format!("Its tokenizer.json is not a WordPiece one: {e}.")))?;
        let normalizer = check(&file)?.clone();
        let mut oracle = Tokenizer::from_bytes(json)
            .map_err(|e| unsupported(format!("Its tokenizer.json cannot be read: {e}.")))?;
        // The file may ask for a fixed length: every text would cost that many tokens.
        oracle.with_padding(None);
        oracle
            .with_truncation(None)
            .map_err(|e| unsupported(format!("Its truncation cannot be switched off: {e}.")))?;
        Ok(Words {
            tokens: by_id(file.model.vocab, vocabulary)?,
            lowercase: normalizer.lowercase,
            strip_accents: normalizer.strip_accents.unwrap_or(normalizer.lowercase),
            clean_text: normalizer.clean_text,
            space_chinese: normalizer.handle_chinese_chars,
            oracle,
        })
    }

    /// Ids by the crate `tokenizers`, special ones included, without a limit.
    pub fn oracle_ids(&self, text: &str) -> Option<Vec<u32>> {
        self.oracle.encode(text, true).ok().map(|encoding| encoding.get_ids().to_vec())
    }
}

fn check(file: &File) -> Result<&Normalizer> {
    let model = &file.model;
    if model.kind != "WordPiece" {
        return Err(unsupported(format!("Its model is \"{}\".", model.kind)));
    }
    let expected = [
        (
            "continuing_subword_prefix",
            model.continuing_subword_prefix.as_deref().unwrap_or("##"),
            "##",
        ),
        ("unk_token", model.unk_token.as_deref().unwrap_or("[UNK]"), "[UNK]"),
    ];
    if let Some((key, value, _)) = expected.iter().find(|(_, value, right)| value != right) {
        return Err(unsupported(format!("Its {key} is \"{value}\".")));
    }
    if model.max_input_chars_per_word.is_some_and(|most| most != 100) {
        return Err(unsupported("Its max_input_chars_per_word is not 100."));
    }
    if file.pre_tokenizer.as_ref().is_none_or(|p| p.kind != "BertPreTokenizer") {
        return Err(unsupported("Its pre-tokenizer is not BertPreTokenizer."));
    }
    file.normalizer
        .as_ref()
        .filter(|n| n.kind == "BertNormalizer")
        .ok_or_else(|| unsupported("Its normalizer is not BertNormalizer."))
}

fn by_id(vocab: HashMap<String, usize>, size: usize) -> Result<Vec<String>> {
    let damaged = |detail: String| {
        Refusal::new(code::DATA_CORRUPTED, "a file of the base model is damaged").detail(detail)
    };
    let count = vocab.len();
    if count > size {
        return Err(damaged(format!(
            "tokenizer.json has {count} tokens, the embeddings {size} rows."
        )));
    }
    let mut tokens = vec![None; count];
    for (token, id) in vocab {
        match tokens.get_mut(id) {
            Some(slot @ None) => *slot = Some(token),
            _ => {
                return Err(damaged(format!(
                    "In tokenizer.json, the id {id} is double or too large."
                )))
            }
        }
    }
    Ok(tokens.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(model: &str, normalizer: &str) -> Vec<u8> {
        format!(
            r###"{{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],
            "normalizer":{normalizer},"pre_tokenizer":{{"type":"BertPreTokenizer"}},
            "post_processor":null,"decoder":null,
            "model":{{"type":"{model}","unk_token":"[UNK]","continuing_subword_prefix":"##",
            "max_input_chars_per_word":100,"vocab":{{"[UNK]":0,"loan":1,"##s":2}}}}}}"###
        )
        .into_bytes()
    }
    const BERT: &str = r#"{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,
        "strip_accents":null,"lowercase":true}"#;

    #[test]
    fn word_pieces_are_read_by_id() {
        let words = Words::read(&file("WordPiece", BERT), 3).map_err(|r| r.detail).unwrap();
        assert_eq!(words.tokens, ["[UNK]", "loan", "##s"]);
        assert!(words.lowercase && words.strip_accents);
        assert_eq!(words.oracle_ids("LOANS, loan"), Some(vec![1, 2, 0, 1]));
    }

    #[test]
    fn other_tokenizers_and_ids_out_of_range_are_refused() {
        let refused = |json: &[u8], size| Words::read(json, size).map(|_| ()).unwrap_err().code;
        assert_eq!(refused(&file("Unigram", BERT), 3), code::NOT_SUPPORTED);
        assert_eq!(refused(&file("WordPiece", r#"{"type":"NFC"}"#), 3), code::NOT_SUPPORTED);
        assert_eq!(refused(&file("WordPiece", BERT), 2), code::DATA_CORRUPTED);
        assert_eq!(refused(b"{", 2), code::NOT_SUPPORTED);
    }
}
