//! The special tokens of a tokenizer.json: those around a text, and none within it.

use serde_json::Value;

use super::compile::{unsupported, MAX_TOKENS};
use crate::refusal::{Refusal, Result};

/// A token's id.
pub(super) fn id(value: &Value) -> Option<u32> {
    value.as_u64().filter(|id| *id < MAX_TOKENS as u64).map(|id| id as u32)
}

/// The tokens before and after a text.
pub(super) fn special(processor: &Value) -> Result<(u32, u32)> {
    let found = match processor["type"].as_str() {
        Some("RobertaProcessing" | "BertProcessing") => {
            id(&processor["cls"][1]).zip(id(&processor["sep"][1]))
        }
        Some("TemplateProcessing") => template(processor),
        Some("Sequence") => {
            let parts = processor["processors"].as_array().map(Vec::as_slice).unwrap_or(&[]);
            let others: Vec<&Value> = parts.iter().filter(|p| p["type"] != "ByteLevel").collect();
            if let [one] = others[..] {
                return special_of_part(one);
            }
            None
        }
        _ => None,
    };
    found.ok_or_else(no_special)
}

/// A part of a sequence, which is no sequence itself.
fn special_of_part(part: &Value) -> Result<(u32, u32)> {
    if part["type"] == "Sequence" {
        return Err(no_special());
    }
    special(part)
}

fn no_special() -> Refusal {
    unsupported("Its post_processor does not put one token before and one after a text.".to_owned())
}

/// `<s> $A </s>`
fn template(processor: &Value) -> Option<(u32, u32)> {
    let [first, text, last] = processor["single"].as_array()?.as_slice() else { return None };
    text["Sequence"].as_object()?;
    let of = |piece: &Value| -> Option<u32> {
        let ids = &processor["special_tokens"][piece["SpecialToken"]["id"].as_str()?]["ids"];
        match ids.as_array()?.as_slice() {
            [one] => id(one),
            _ => None,
        }
    };
    of(first).zip(of(last))
}

/// Special tokens are plain text within a text; others would split it.
pub(super) fn plain_text_only(added: &Value) -> Result<()> {
    let tokens = added.as_array().map(Vec::as_slice).unwrap_or(&[]);
    match tokens.iter().find(|token| token["special"] != Value::Bool(true)) {
        None => Ok(()),
        Some(token) => {
            Err(unsupported(format!("It has the added token {}.", short(&token["content"]))))
        }
    }
}

/// A value, cut to a length that fits a message.
pub(super) fn short(value: &Value) -> String {
    value.to_string().chars().take(80).collect()
}
