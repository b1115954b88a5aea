//! GPT-2's pattern (Radford et al. 2019), by hand:
//!
//! ```text
//! 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//! ```

use std::sync::LazyLock;

use regex_syntax::hir::{Class as CharacterClass, HirKind};

const CONTRACTIONS: [&str; 7] = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"];

/// What the pattern tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Letter,
    Number,
    Blank,
    Other,
}

impl Class {
    fn of(c: char) -> Self {
        if c.is_ascii() {
            return match c {
                'a'..='z' | 'A'..='Z' => Class::Letter,
                '0'..='9' => Class::Number,
                _ if c.is_whitespace() => Class::Blank,
                _ => Class::Other,
            };
        }
        if c.is_whitespace() {
            Class::Blank
        } else if LETTERS.contains(c) {
            Class::Letter
        } else if NUMBERS.contains(c) {
            Class::Number
        } else {
            Class::Other
        }
    }
}

/// Ascending ranges of characters, both ends included.
struct Ranges(Vec<(char, char)>);

/// The tables of the pattern engine that the `tokenizers` crate has; about 6 kB in all.
static LETTERS: LazyLock<Ranges> = LazyLock::new(|| Ranges::of(r"\p{L}"));
static NUMBERS: LazyLock<Ranges> = LazyLock::new(|| Ranges::of(r"\p{N}"));

impl Ranges {
    fn of(class: &str) -> Self {
        let parsed = regex_syntax::parse(class).map(regex_syntax::hir::Hir::into_kind);
        match parsed {
            Ok(HirKind::Class(CharacterClass::Unicode(class))) => {
                Ranges(class.ranges().iter().map(|r| (r.start(), r.end())).collect())
            }
            _ => Ranges(Vec::new()),
        }
    }

    fn contains(&self, c: char) -> bool {
        let next = self.0.partition_point(|(start, _)| *start <= c);
        next.checked_sub(1).and_then(|at| self.0.get(at)).is_some_and(|(_, end)| c <= *end)
    }
}

/// Bytes of the word that a text begins with; 0 only for no text.
pub(super) fn first_word(text: &str) -> usize {
    if let Some(contraction) = CONTRACTIONS.iter().find(|c| text.starts_with(**c)) {
        return contraction.len();
    }
    let after = text.strip_prefix(' ').unwrap_or(text);
    match after.chars().next().map(Class::of) {
        None | Some(Class::Blank) => blanks(text),
        Some(class) => {
            let run = after.find(|c| Class::of(c) != class).unwrap_or(after.len());
            text.len() - after.len() + run
        }
    }
}

/// Blanks up to the text's end; before a word, the last one is left to it.
fn blanks(text: &str) -> usize {
    let after = text.trim_start_matches(char::is_whitespace);
    let run = &text[..text.len() - after.len()];
    match run.char_indices().next_back() {
        Some((last, _)) if last > 0 && !after.is_empty() => last,
        _ => run.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(mut text: &str) -> Vec<&str> {
        let mut words = Vec::new();
        while !text.is_empty() {
            let (word, rest) = text.split_at(first_word(text));
            words.push(word);
            text = rest;
        }
        words
    }

    #[test]
    fn words_are_those_of_the_pattern() {
        for (text, expected) in [
            ("don't 'll x's", &["don", "'t", " '", "ll", " x", "'s"][..]),
            ("a  b", &["a", " ", " b"]),
            ("a \n\n b ", &["a", " \n\n", " b", " "]),
            ("\nb\t\tc", &["\n", "b", "\t", "\t", "c"]),
            ("$60,000.00", &["$", "60", ",", "000", ".", "00"]),
            ("  ", &["  "]),
            (" é½中x\u{301}", &[" é", "½", "中x", "\u{301}"]),
            ("'", &["'"]),
            ("", &[]),
        ] {
            assert_eq!(words(text), expected, "{text:?}");
        }
    }

    /// Every character is of the class that the crate's pattern gives it.
    #[test]
    fn classes_are_those_of_the_pattern() {
        let pattern = |class: &str| regex::Regex::new(&format!("^{class}$")).unwrap();
        let classes = [
            (pattern(r"\p{L}"), Class::Letter),
            (pattern(r"\p{N}"), Class::Number),
            (pattern(r"\s"), Class::Blank),
            (pattern(r"[^\s\p{L}\p{N}]"), Class::Other),
        ];
        let mut text = [0; 4];
        let differing: Vec<String> = ('\0'..=char::MAX)
            .filter(|c| {
                let text = c.encode_utf8(&mut text);
                let class = classes.iter().find(|(pattern, _)| pattern.is_match(text));
                class.map(|(_, class)| *class) != Some(Class::of(*c))
            })
            .map(|c| format!("{:x}", u32::from(c)))
            .collect();
        let some = &differing[..differing.len().min(20)];
        assert!(differing.is_empty(), "{} of them: {some:?}", differing.len());
    }
}
