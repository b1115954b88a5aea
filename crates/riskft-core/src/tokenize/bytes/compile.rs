//! `tokenizer.json` of a byte-level BPE -> flat vocabulary.

use std::collections::HashMap;

use serde_json::Value;

use super::{slot, Merge, FLAG_SPACE, HEADER, MAGIC};
use crate::refusal::Result;
use crate::tokenize::compile::{demand, place, settled, unsupported, MAX_TOKENS};
use crate::tokenize::special::{id, short, special};

/// The flat vocabulary of a parsed `tokenizer.json` whose model is BPE, if it is byte-level, as
/// RoBERTa's. Padding and truncation in it are ignored.
pub fn compile(json: &Value) -> Result<Vec<u8>> {
    let model = &json["model"];
    for option in ["dropout", "ignore_merges", "byte_fallback"] {
        demand_unset(&model[option], option)?;
    }
    demand_unset(&model["continuing_subword_prefix"], "continuing prefix")?;
    demand_unset(&model["end_of_word_suffix"], "suffix of words")?;
    demand_unset(&json["normalizer"], "normalizer")?;
    demand(&json["pre_tokenizer"]["type"], "ByteLevel", "pre_tokenizer")?;
    if json["pre_tokenizer"]["use_regex"] == Value::Bool(false) {
        return Err(unsupported("Its pre_tokenizer does not split words.".to_owned()));
    }
    let vocab = ids(&model["vocab"])?;
    let (first, last) = special(&json["post_processor"])?;
    let merges = merges(&model["merges"], &vocab)?;
    let bytes = bytes(&vocab)?;
    let most = vocab.values().chain([&first, &last]).max().copied().unwrap_or(0);
    let space = json["pre_tokenizer"]["add_prefix_space"].as_bool().unwrap_or(true);
    flat(u32::from(space) * FLAG_SPACE, most + 1, [first, last], &bytes, &merges)
}

/// Refuses whatever is neither absent nor null, false, zero or empty.
fn demand_unset(value: &Value, what: &str) -> Result<()> {
    let unset = match value {
        Value::Null => true,
        Value::Bool(set) => !set,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        _ => false,
    };
    if unset {
        return Ok(());
    }
    Err(unsupported(format!("It has the {what} {}.", short(value))))
}

fn ids(vocab: &Value) -> Result<HashMap<&str, u32>> {
    let vocab = vocab
        .as_object()
        .filter(|vocab| vocab.len() <= MAX_TOKENS)
        .ok_or_else(|| unsupported("It has no vocabulary of a size that is read.".to_owned()))?;
    vocab
        .iter()
        .map(|(token, value)| match id(value) {
            Some(id) => Ok((token.as_str(), id)),
            None => Err(unsupported(format!("The token \"{token}\" has the id {}.", short(value)))),
        })
        .collect()
}

/// Each merge is "left right", or ["left", "right"].
fn merges(list: &Value, vocab: &HashMap<&str, u32>) -> Result<Vec<Merge>> {
    let list = list
        .as_array()
        .filter(|list| list.len() <= MAX_TOKENS)
        .ok_or_else(|| unsupported("It has no merges of a number that is read.".to_owned()))?;
    let read = |entry: &Value| -> Option<Merge> {
        let (left, right) = match entry {
            Value::String(pair) => pair.split_once(' ')?,
            Value::Array(pair) if pair.len() == 2 => (pair[0].as_str()?, pair[1].as_str()?),
            _ => return None,
        };
        let result = *vocab.get(format!("{left}{right}").as_str())?;
        Some(Merge { left: *vocab.get(left)?, right: *vocab.get(right)?, result })
    };
    list.iter()
        .map(|entry| {
            read(entry).ok_or_else(|| unsupported(format!("Its merge {} is broken.", short(entry))))
        })
        .collect()
}

/// The token of each byte, by GPT-2's table: printable Latin-1 stands for itself, the others
/// follow from U+0100 on in their order.
fn bytes(vocab: &HashMap<&str, u32>) -> Result<[u32; 256]> {
    let mut tokens = [0; 256];
    let mut other = 0x100;
    for (byte, token) in (0u8..=255).zip(&mut tokens) {
        let itself = matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
        let code = if itself { u32::from(byte) } else { other };
        other += u32::from(!itself);
        let name = char::from_u32(code).map(String::from).unwrap_or_default();
        *token = *vocab
            .get(name.as_str())
            .ok_or_else(|| unsupported(format!("It lacks a token for the byte {byte:#04x}.")))?;
    }
    Ok(tokens)
}

fn flat(
    flags: u32,
    tokens: u32,
    [first, last]: [u32; 2],
    bytes: &[u32; 256],
    merges: &[Merge],
) -> Result<Vec<u8>> {
    let slots = hash_table(merges)?;
    let header = [flags, tokens, merges.len() as u32, slots.len() as u32, first, last];
    let mut out = Vec::with_capacity(HEADER + 4 * (256 + 3 * merges.len() + slots.len()));
    out.extend_from_slice(&MAGIC);
    let merged = merges.iter().flat_map(|m| [m.left, m.right, m.result]);
    for field in header.into_iter().chain(*bytes).chain(merged).chain(slots) {
        out.extend_from_slice(&field.to_le_bytes());
    }
    Ok(out)
}

/// At most half full. Of a pair listed twice, the later place counts.
fn hash_table(merges: &[Merge]) -> Result<Vec<u32>> {
    let mut slots = vec![0u32; (2 * merges.len() + 1).next_power_of_two()];
    for (number, merge) in merges.iter().enumerate() {
        let pair = (merge.left, merge.right);
        place(&mut slots, slot(pair.0, pair.1), number, |other| {
            (merges[other].left, merges[other].right) == pair
        })?;
    }
    settled(slots)
}
