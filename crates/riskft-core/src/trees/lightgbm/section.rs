//! Lines of `key=value`, in sections.

use std::str::FromStr;

use super::{Fault, Read};

/// Most keys of a section; LightGBM writes about 20.
const MAX_KEYS: usize = 64;

/// The lines of a text, read section by section.
pub(super) struct Lines<'a> {
    lines: std::iter::Peekable<std::str::Lines<'a>>,
}

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Lines { lines: text.lines().peekable() }
    }

    /// What follows `Tree=`, if a tree begins here.
    pub(super) fn tree(&mut self) -> Option<&'a str> {
        let name = self.lines.peek()?.strip_prefix("Tree=")?;
        self.lines.next();
        Some(name)
    }

    /// Whether the trees end here.
    pub(super) fn ended(&mut self) -> bool {
        self.lines.peek() == Some(&"end of trees")
    }

    /// The lines up to the next tree or the end of the trees.
    pub(super) fn section(&mut self) -> Read<Section<'a>> {
        let mut section = Section { pairs: Vec::new() };
        let inner = |line: &&str| !line.starts_with("Tree=") && *line != "end of trees";
        while let Some(line) = self.lines.next_if(inner) {
            if line.is_empty() {
                continue;
            }
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            if section.find(key).is_some() {
                return Err(Fault::Broken(format!("{key} is given twice")));
            }
            if section.pairs.len() >= MAX_KEYS {
                return Err(Fault::Broken(format!("a section has more than {MAX_KEYS} keys")));
            }
            section.pairs.push((key, value));
        }
        Ok(section)
    }
}

/// Values by key; a line without `=` is a key without a value.
pub(super) struct Section<'a> {
    pairs: Vec<(&'a str, &'a str)>,
}

impl<'a> Section<'a> {
    pub(super) fn find(&self, key: &str) -> Option<&'a str> {
        self.pairs.iter().find(|pair| pair.0 == key).map(|pair| pair.1)
    }

    pub(super) fn get(&self, key: &str) -> Read<&'a str> {
        self.find(key).ok_or_else(|| Fault::Broken(format!("{key} is missing")))
    }

    pub(super) fn number<T: FromStr>(&self, key: &str) -> Read<T> {
        let text = self.get(key)?;
        text.parse().map_err(|_| Fault::Broken(format!("{key} is \"{text}\"")))
    }

    /// Exactly `count` numbers, parted by blanks. Memory is taken for those that are there, not
    /// for `count`.
    pub(super) fn numbers<T: FromStr>(&self, key: &str, count: usize) -> Read<Vec<T>> {
        let mut numbers = Vec::new();
        for word in self.get(key)?.split_ascii_whitespace() {
            if numbers.len() == count {
                return Err(Fault::Broken(format!("{key} has more than {count} values")));
            }
            let number = word.parse();
            numbers.push(number.map_err(|_| Fault::Broken(format!("{key} holds \"{word}\"")))?);
        }
        match numbers.len() == count {
            true => Ok(numbers),
            false => Err(Fault::Broken(format!("{key} has {} of {count} values", numbers.len()))),
        }
    }
}
