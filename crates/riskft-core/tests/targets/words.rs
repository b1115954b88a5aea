//! Tokenizers, as they are imported and as they are read.

use riskft_core::refusal::code;
use riskft_core::tokenize::{compile_tokenizer_json, tokenizer_json, Layout, Tokenizer};
use serde_json::{json, Map, Value};

use super::dwarf::{dwarf, TOKENS};
use super::sound;

const TEXTS: &[&str] = &[
    "new banks, a",
    "",
    " \u{0}\u{7}\u{301}",
    "É\u{301}Σ İstanbul 中文 😀 ﷺ don't 'LL x's",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\
     aaaaaaaaaaaaaaaaab",
];

/// Bytes as a flat vocabulary.
pub fn flat(input: &[u8]) {
    let Some(layout) = Layout::check(input) else { return };
    let vocabulary = layout.vocabulary(input);
    let mut tokenizer = Tokenizer::default();
    let mut ids = Vec::new();
    let tail = String::from_utf8_lossy(&input[input.len().saturating_sub(300)..]);
    for text in TEXTS.iter().copied().chain([&*tail]) {
        for most in [0, 2, 3, 40, 4096] {
            tokenizer.encode(&vocabulary, text, most, &mut ids);
            assert!(ids.len() <= most, "{} tokens of {most}", ids.len());
            assert!(ids.iter().all(|id| (*id as usize) < layout.tokens()));
        }
    }
}

/// Bytes as a tokenizer.json, else as a vocab.txt.
pub fn json(input: &[u8]) {
    let compiled = compile_tokenizer_json(input);
    match compiled {
        Ok(file) => {
            assert!(Layout::check(&file).is_some());
            flat(&file);
        }
        Err(refusal) => sound(&refusal, &[code::NOT_SUPPORTED]),
    }
    let Ok(text) = std::str::from_utf8(input) else { return };
    if !text.starts_with('{') {
        match tokenizer_json(text, b"{}") {
            Ok(json) => assert!(compile_tokenizer_json(json.as_bytes()).is_ok(), "{json}"),
            Err(refusal) => sound(&refusal, &[code::NOT_SUPPORTED]),
        }
    }
}

pub fn flats() -> Vec<Vec<u8>> {
    let bpe = compile_tokenizer_json(byte_level().to_string().as_bytes()).unwrap();
    vec![dwarf().vocabulary.clone(), bpe]
}

pub fn jsons() -> Vec<Vec<u8>> {
    let lines = TOKENS.join("\n");
    let wordpiece = tokenizer_json(&lines, b"{}").unwrap();
    vec![wordpiece.into_bytes(), byte_level().to_string().into_bytes(), lines.into_bytes()]
}

/// A byte-level BPE with a few merges.
fn byte_level() -> Value {
    let mut vocab = Map::new();
    let mut add = |token: String| {
        let id = vocab.len();
        vocab.insert(token, json!(id));
    };
    for token in ["<s>", "<pad>", "</s>", "<unk>"] {
        add(token.to_owned());
    }
    let itself = |byte: u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let others = (0..=255).filter(|byte| !itself(*byte)).count() as u32;
    let mapped = (0..=255).filter(|b| itself(*b)).map(u32::from).chain(256..256 + others);
    mapped.filter_map(char::from_u32).for_each(|c| add(c.to_string()));
    for token in ["Ġa", "aa", "aaaa", "Ġb", "an", "Ġban"] {
        add(token.to_owned());
    }
    json!({
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true},
        "post_processor": {"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0],
                           "trim_offsets": true, "add_prefix_space": false},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>",
                  "continuing_subword_prefix": "", "end_of_word_suffix": "",
                  "vocab": vocab,
                  "merges": ["Ġ a", "a a", "aa aa", "Ġ b", "a n", "Ġb an"]},
    })
}
