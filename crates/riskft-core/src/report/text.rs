//! Names and values of users, made safe to stand in HTML and SVG.

use std::borrow::Cow;

/// As text or as an attribute's value: markup is escaped; what XML cannot hold, and what turns the
/// direction of writing so that a page reads otherwise than it is, becomes U+FFFD.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(printable(other)),
        }
    }
    safe
}

/// The same without markup, for what is escaped elsewhere.
pub fn plain(text: &str) -> String {
    text.chars().map(printable).collect()
}

fn printable(letter: char) -> char {
    match letter {
        '\n' | '\t' => letter,
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => char::REPLACEMENT_CHARACTER,
        // Processors end lines at it, and no text shows it.
        '\r' => ' ',
        '\u{fffe}' | '\u{ffff}' => char::REPLACEMENT_CHARACTER,
        other if other.is_control() => char::REPLACEMENT_CHARACTER,
        other => other,
    }
}

/// At most so many characters, the last an ellipsis where more were there.
pub fn short(text: &str, most: usize) -> Cow<'_, str> {
    match text.char_indices().nth(most) {
        None => Cow::Borrowed(text),
        Some(_) => {
            let end = text.char_indices().nth(most.saturating_sub(1)).map_or(0, |(at, _)| at);
            Cow::Owned(format!("{}…", &text[..end]))
        }
    }
}

/// A figure with so many decimals; a dash where there is none.
pub fn figure(value: Option<f64>, decimals: usize) -> String {
    value.filter(|v| v.is_finite()).map_or("–".to_owned(), |v| format!("{v:.decimals$}"))
}
