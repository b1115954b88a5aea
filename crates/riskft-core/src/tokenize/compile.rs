//! Token list, vocab.txt or tokenizer.json -> flat vocabulary.

use serde::Deserialize;
use serde_json::{json, Map, Value};

use super::special::{plain_text_only, special};
use super::vocabulary::{extend, flags, seed, slot, CONTINUING, HEADER, MAGIC, MAX_RUN};
use super::{bytes, Normaliser};
use crate::refusal::{code, Refusal, Result};

/// Most tokens of a vocabulary; multilingual WordPiece ones have about 500,000.
pub(super) const MAX_TOKENS: usize = 1 << 20;

/// The flat vocabulary of a WordPiece token list, in id order (as in BERT's vocab.txt).
/// Of a token listed twice, the later id counts. `[UNK]`, `[CLS]` and `[SEP]` must be in the list.
pub fn compile(tokens: &[&str], normaliser: Normaliser, max_characters: usize) -> Result<Vec<u8>> {
    if tokens.len() > MAX_TOKENS || !(1..=1024).contains(&max_characters) {
        return Err(unsupported(format!("It has {} tokens.", tokens.len())));
    }
    let special = |name: &str| {
        let id = tokens.iter().rposition(|token| *token == name);
        id.map(|id| id as u32).ok_or_else(|| unsupported(format!("It lacks the token {name}.")))
    };
    let slots = hash_table(tokens)?;
    let text: usize = tokens.iter().map(|token| token.len()).sum();
    let max_piece = tokens.iter().map(|token| token.len()).max().unwrap_or(0);
    let header = [
        flags(normaliser),
        tokens.len() as u32,
        slots.len() as u32,
        special("[UNK]")?,
        special("[CLS]")?,
        special("[SEP]")?,
        max_characters as u32,
        max_piece as u32,
        text as u32,
    ];
    let mut ends = Vec::with_capacity(tokens.len());
    let mut end = 0u32;
    for token in tokens {
        end += token.len() as u32;
        ends.push(end);
    }
    let mut out = Vec::with_capacity(HEADER + 4 * (ends.len() + slots.len()) + text);
    out.extend_from_slice(&MAGIC);
    for field in header.iter().chain(&ends).chain(&slots) {
        out.extend_from_slice(&field.to_le_bytes());
    }
    for token in tokens {
        out.extend_from_slice(token.as_bytes());
    }
    Ok(out)
}

/// At most half full.
fn hash_table(tokens: &[&str]) -> Result<Vec<u32>> {
    let mut slots = vec![0u32; (2 * tokens.len() + 1).next_power_of_two()];
    for (id, token) in tokens.iter().enumerate() {
        let hash = match token.as_bytes().strip_prefix(CONTINUING) {
            Some(piece) if !piece.is_empty() => extend(seed(true), piece),
            _ => extend(seed(false), token.as_bytes()),
        };
        place(&mut slots, slot(hash), id, |other| tokens[other] == *token)?;
    }
    settled(slots)
}

/// Puts an entry into the first slot from `start` on that is free or holds the same.
pub(super) fn place(
    slots: &mut [u32],
    start: usize,
    entry: usize,
    same: impl Fn(usize) -> bool,
) -> Result<()> {
    let mask = slots.len() - 1;
    let found = (start..start.saturating_add(MAX_RUN)).map(|at| at & mask).find(|at| {
        let taken = slots[*at] as usize;
        taken == 0 || same(taken - 1)
    });
    match found {
        Some(at) => slots[at] = entry as u32 + 1,
        None => return Err(crowded()),
    }
    Ok(())
}

/// The table, if lookups in it end soon.
pub(super) fn settled(slots: Vec<u32>) -> Result<Vec<u32>> {
    if slots.split(|slot| *slot == 0).all(|run| run.len() <= MAX_RUN) {
        return Ok(slots);
    }
    Err(crowded())
}

fn crowded() -> Refusal {
    unsupported(format!("More than {MAX_RUN} of its tokens collide in the hash table."))
}

/// The flat vocabulary of a `tokenizer.json` (Hugging Face), if it is BERT's WordPiece or RoBERTa's
/// byte-level BPE. Padding and truncation in it are ignored.
pub fn compile_tokenizer_json(json: &[u8]) -> Result<Vec<u8>> {
    let json: Value = serde_json::from_slice(json)
        .map_err(|error| unsupported(format!("The tokenizer.json cannot be parsed: {error}.")))?;
    plain_text_only(&json["added_tokens"])?;
    // Older files leave the type out; a BPE is then told by its merges.
    match json["model"]["type"].as_str() {
        Some("BPE") => bytes::compile(&json),
        None if json["model"]["merges"].is_array() => bytes::compile(&json),
        Some("WordPiece") | None => wordpiece(&json),
        Some(other) => Err(unsupported(format!("Its model is \"{other}\"."))),
    }
}

fn wordpiece(json: &Value) -> Result<Vec<u8>> {
    demand(&json["model"]["continuing_subword_prefix"], "##", "continuing prefix")?;
    demand(&json["model"]["unk_token"], "[UNK]", "unknown token")?;
    demand(&json["normalizer"]["type"], "BertNormalizer", "normalizer")?;
    demand(&json["pre_tokenizer"]["type"], "BertPreTokenizer", "pre_tokenizer")?;
    let flag = |name: &str| json["normalizer"][name].as_bool();
    let lowercase = flag("lowercase").unwrap_or(true);
    let normaliser = Normaliser {
        clean: flag("clean_text").unwrap_or(true),
        ideographs: flag("handle_chinese_chars").unwrap_or(true),
        strip_accents: flag("strip_accents").unwrap_or(lowercase),
        lowercase,
    };
    let characters = json["model"]["max_input_chars_per_word"].as_u64().unwrap_or(100);
    let tokens = tokens_by_id(&json["model"]["vocab"])?;
    let (cls, sep) = special(&json["post_processor"])?;
    let around = [cls, sep].map(|id| tokens.get(id as usize).copied());
    if around != [Some("[CLS]"), Some("[SEP]")] {
        return Err(unsupported("Its post_processor puts other tokens around a text.".to_owned()));
    }
    compile(&tokens, normaliser, usize::try_from(characters).unwrap_or(usize::MAX))
}

/// What is read of a `tokenizer_config.json`; BERT's own settings where it says nothing.
#[derive(Deserialize)]
struct Settings {
    #[serde(default = "yes")]
    do_lower_case: bool,
    strip_accents: Option<bool>,
    #[serde(default = "yes")]
    tokenize_chinese_chars: bool,
}

fn yes() -> bool {
    true
}

/// The `tokenizer.json` of a `vocab.txt` (BERT's: one token a line, in id order) and the settings
/// beside it (a `tokenizer_config.json`, or `{}`), which both riskft and the `tokenizers` crate
/// read. Accents are dropped where letters are lowered, unless the settings say otherwise.
pub fn tokenizer_json(vocab: &str, settings: &[u8]) -> Result<String> {
    let settings: Settings = serde_json::from_slice(settings)
        .map_err(|error| unsupported(format!("Its tokenizer_config.json is broken: {error}.")))?;
    let mut tokens = Map::new();
    for (id, line) in vocab.lines().enumerate() {
        if tokens.insert(line.to_owned(), json!(id)).is_some() {
            return Err(unsupported(format!("Its vocab.txt lists the token \"{line}\" twice.")));
        }
    }
    let special = |name: &str| {
        let id = tokens.get(name).cloned();
        id.ok_or_else(|| unsupported(format!("Its vocab.txt lacks the token {name}.")))
    };
    let (unknown, cls, sep) = (special("[UNK]")?, special("[CLS]")?, special("[SEP]")?);
    let added = [("[UNK]", &unknown), ("[CLS]", &cls), ("[SEP]", &sep)].map(|(content, id)| {
        json!({"id": id, "content": content, "special": true, "single_word": false,
               "lstrip": false, "rstrip": false, "normalized": false})
    });
    let whole = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": {"type": "BertNormalizer", "clean_text": true,
                       "handle_chinese_chars": settings.tokenize_chinese_chars,
                       "strip_accents": settings.strip_accents,
                       "lowercase": settings.do_lower_case},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", sep],
                           "cls": ["[CLS]", cls]},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": tokens},
    });
    Ok(whole.to_string())
}

fn tokens_by_id(vocab: &Value) -> Result<Vec<&str>> {
    let vocab = vocab
        .as_object()
        .filter(|vocab| vocab.len() <= MAX_TOKENS)
        .ok_or_else(|| unsupported("It has no vocabulary of a size that is read.".to_owned()))?;
    let mut tokens: Vec<Option<&str>> = vec![None; vocab.len()];
    for (token, id) in vocab {
        let slot = id.as_u64().and_then(|id| tokens.get_mut(usize::try_from(id).ok()?));
        match slot {
            Some(slot) if slot.is_none() => *slot = Some(token),
            _ => return Err(unsupported(format!("The token \"{token}\" has the id {id}."))),
        }
    }
    Ok(tokens.into_iter().flatten().collect())
}

pub(super) fn demand(value: &Value, wanted: &str, what: &str) -> Result<()> {
    if value.as_str() == Some(wanted) {
        return Ok(());
    }
    Err(unsupported(format!("Its {what} is {value}, not \"{wanted}\".")))
}

pub(super) fn unsupported(detail: String) -> Refusal {
    Refusal::new(code::NOT_SUPPORTED, "tokenizer of the base model is not supported")
        .detail(detail)
        .hint("Use a base model with BERT's WordPiece or RoBERTa's byte-level BPE tokenizer.")
}
