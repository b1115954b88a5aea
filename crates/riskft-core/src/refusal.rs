//! A refusal that the user can act on; it crosses the protocol and becomes one `ereport`.

use serde::{Deserialize, Serialize};

/// Longest message, detail or hint, bytes: what users and files put in is quoted only in part.
pub const MAX_WORDS: usize = 1200;
/// Bytes kept of the end of a longer one.
const END: usize = 100;

/// A refused request, in the words and the code that the user sees.
///
/// `message` is in the PostgreSQL manner (lower case, no full stop); `detail` names the column,
/// value or label; `hint` tells the way out. The last two are whole sentences, or empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// SQLSTATE, five characters; see [`code`].
    pub code: String,
    pub message: String,
    #[serde(default)]
    pub detail: String,
    #[serde(default)]
    pub hint: String,
}

/// The SQLSTATEs that riskft uses.
pub mod code {
    /// A parameter that cannot be meant (an unknown option, a value out of range).
    pub const INVALID_PARAMETER: &str = "22023";
    /// Data that cannot be trained on, or a version that missed its gate.
    pub const DATA_EXCEPTION: &str = "22000";
    /// Words of a small language that do not follow its grammar.
    pub const SYNTAX: &str = "42601";
    pub const UNDEFINED_COLUMN: &str = "42703";
    pub const UNDEFINED_OBJECT: &str = "42704";
    pub const NULL_NOT_ALLOWED: &str = "22004";
    pub const INSUFFICIENT_PRIVILEGE: &str = "42501";
    /// A stored model that is damaged.
    pub const DATA_CORRUPTED: &str = "XX001";
    /// A file that the installation lacks (base weights, the trainer).
    pub const UNDEFINED_FILE: &str = "58P01";
    /// A name that is taken already.
    pub const DUPLICATE_OBJECT: &str = "42710";
    /// A name that has a meaning of its own.
    pub const RESERVED_NAME: &str = "42939";
    /// A name that belongs to something of another kind.
    pub const WRONG_OBJECT: &str = "42809";
    /// Something is larger than a setting allows.
    pub const LIMIT_EXCEEDED: &str = "54000";
    /// A file that cannot be read or written.
    pub const IO_ERROR: &str = "58030";
    pub const OUT_OF_MEMORY: &str = "53200";
    pub const DISK_FULL: &str = "53100";
    pub const NOT_SUPPORTED: &str = "0A000";
    /// The trainer ended without a result.
    pub const EXTERNAL_ROUTINE: &str = "38000";
    pub const PROTOCOL_VIOLATION: &str = "08P01";
    pub const QUERY_CANCELED: &str = "57014";
    /// The database has no catalogue of riskft.
    pub const NO_CATALOGUE: &str = "3F000";
    pub const LOCK_NOT_AVAILABLE: &str = "55P03";
    pub const DEADLOCK: &str = "40P01";
    pub const SERIALIZATION_FAILURE: &str = "40001";
    /// The process that worked on a run is gone.
    pub const ADMIN_SHUTDOWN: &str = "57P01";
    /// Something is not in the state that a call needs.
    pub const NOT_IN_STATE: &str = "55000";
}

impl Refusal {
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Refusal {
            code: code.into(),
            message: brief(one_line(message.into())),
            detail: String::new(),
            hint: String::new(),
        }
    }
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = brief(detail.into());
        self
    }
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = brief(hint.into());
        self
    }
}

/// Control characters, which names may hold, written as `<U+000A>`.
fn one_line(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    let shown = |c: char| match c.is_control() {
        true => format!("<U+{:04X}>", u32::from(c)),
        false => c.to_string(),
    };
    text.chars().map(shown).collect()
}

/// A text that is too long, without its middle.
fn brief(text: String) -> String {
    if text.len() <= MAX_WORDS {
        return text;
    }
    const BETWEEN: &str = " ... ";
    let start = text.floor_char_boundary(MAX_WORDS - END - BETWEEN.len());
    let end = text.ceil_char_boundary(text.len() - END);
    [&text[..start], BETWEEN, &text[end..]].concat()
}

pub type Result<T> = std::result::Result<T, Refusal>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line() {
        let refusal = Refusal::new("42703", "column \"a\nb\u{7f}é\" does not exist");
        assert_eq!(refusal.message, "column \"a<U+000A>b<U+007F>é\" does not exist");
    }

    #[test]
    fn long_quotes_lose_their_middle() {
        let refusal = Refusal::new("22023", "é".repeat(5000))
            .detail(format!("The value is {}.", "x".repeat(1 << 20)))
            .hint("Use 1.");
        assert!(refusal.message.len() <= MAX_WORDS && refusal.message.contains("é ... é"));
        assert!(refusal.detail.len() <= MAX_WORDS && refusal.detail.ends_with("xx."));
        assert_eq!(refusal.hint, "Use 1.");
        let whole = "y".repeat(MAX_WORDS);
        assert_eq!(Refusal::new("22023", whole.clone()).message, whole);
    }
}
