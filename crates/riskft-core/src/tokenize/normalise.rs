//! BERT's normaliser, one character after the other.

use unicode_categories::UnicodeCategories;
use unicode_normalization::UnicodeNormalization;

/// What the normaliser of a base model does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Normaliser {
    /// Drop control characters, turn every blank into a space.
    pub clean: bool,
    /// Set CJK ideographs apart by spaces.
    pub ideographs: bool,
    /// NFD, then drop nonspacing marks.
    pub strip_accents: bool,
    pub lowercase: bool,
}

impl Normaliser {
    /// BERT uncased.
    pub const UNCASED: Normaliser =
        Normaliser { clean: true, ideographs: true, strip_accents: true, lowercase: true };

    /// The characters of the normalised text.
    pub fn characters(self, text: &str) -> impl Iterator<Item = char> + '_ {
        let cleaned = text.chars().filter_map(move |c| self.cleaned(c));
        let spaced = cleaned.flat_map(move |c| {
            let apart = self.ideographs && is_ideograph(c);
            let space = apart.then_some(' ');
            space.into_iter().chain([c]).chain(space)
        });
        Stripped { on: self.strip_accents, plain: spaced.clone(), nfd: spaced.nfd() }
            .flat_map(move |c| Lower::of(c, self.lowercase))
    }

    #[inline]
    fn cleaned(self, c: char) -> Option<char> {
        if !self.clean || matches!(c, ' '..='~') {
            return Some(c);
        }
        if matches!(c, '\t' | '\n' | '\r') {
            return Some(' ');
        }
        if c == '\0' || c == '\u{fffd}' || c.is_other() {
            return None;
        }
        Some(if c.is_whitespace() { ' ' } else { c })
    }
}

/// NFD without nonspacing marks, or the characters as they are.
struct Stripped<P, N> {
    on: bool,
    plain: P,
    nfd: N,
}

impl<P: Iterator<Item = char>, N: Iterator<Item = char>> Iterator for Stripped<P, N> {
    type Item = char;
    #[inline]
    fn next(&mut self) -> Option<char> {
        if !self.on {
            return self.plain.next();
        }
        self.nfd.find(|c| c.is_ascii() || !c.is_mark_nonspacing())
    }
}

/// A character, or its lower case (up to three characters).
enum Lower {
    One(Option<char>),
    Many(std::char::ToLowercase),
}

impl Lower {
    #[inline]
    fn of(c: char, lower: bool) -> Self {
        match (lower, c.is_ascii()) {
            (false, _) => Lower::One(Some(c)),
            (true, true) => Lower::One(Some(c.to_ascii_lowercase())),
            (true, false) => Lower::Many(c.to_lowercase()),
        }
    }
}

impl Iterator for Lower {
    type Item = char;
    #[inline]
    fn next(&mut self) -> Option<char> {
        match self {
            Lower::One(c) => c.take(),
            Lower::Many(chars) => chars.next(),
        }
    }
}

/// The CJK Unified Ideographs blocks that BERT sets apart.
fn is_ideograph(c: char) -> bool {
    matches!(u32::from(c),
        0x4e00..=0x9fff | 0x3400..=0x4dbf | 0x20000..=0x2a6df | 0x2a700..=0x2b73f
        | 0x2b740..=0x2b81f | 0x2b920..=0x2ceaf | 0xf900..=0xfaff | 0x2f800..=0x2fa1f)
}

/// A character that is a word of its own: ASCII symbols and the Unicode categories P*.
pub(super) fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation() || (!c.is_ascii() && c.is_punctuation())
}
