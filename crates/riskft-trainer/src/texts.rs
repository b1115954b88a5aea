//! The distinct texts of all rows as token ids, shortest first.
//!
//! A text's number is its rank by length, so that any ascending list of numbers is sorted by
//! length and packs without padding, and so that states of all texts lie in one tensor.

use std::collections::HashMap;

use tch::{Device, Tensor};

use crate::bert::{groups, Group, Packed};

/// Texts by number.
#[derive(Debug, Default)]
pub struct Texts {
    tokens: Vec<i32>,
    /// Where each text starts in `tokens`; one more than there are texts.
    starts: Vec<usize>,
}

/// Gives distinct texts provisional numbers while rows are read.
#[derive(Default)]
pub struct Collector {
    /// By token limit, then by value.
    known: HashMap<usize, HashMap<String, u32>>,
    values: Vec<(String, usize)>,
}

impl Collector {
    /// The provisional number of a text that is cut to `max_tokens`.
    pub fn number(&mut self, text: &str, max_tokens: usize) -> u32 {
        let known = self.known.entry(max_tokens).or_default();
        if let Some(number) = known.get(text) {
            return *number;
        }
        let number = self.values.len() as u32;
        known.insert(text.to_owned(), number);
        self.values.push((text.to_owned(), max_tokens));
        number
    }

    /// Value and token limit, by provisional number.
    pub fn values(&self) -> &[(String, usize)] {
        &self.values
    }
}

impl Texts {
    /// Sorts tokenised texts by length (ties by their order here). The second part maps each
    /// place in `list` to the text's number, -1 for a text without tokens.
    pub fn new(list: &[Vec<i32>]) -> (Self, Vec<i32>) {
        let mut order: Vec<usize> = (0..list.len()).filter(|i| !list[*i].is_empty()).collect();
        order.sort_by_key(|i| list[*i].len());
        let mut numbers = vec![-1; list.len()];
        let mut texts = Texts { tokens: Vec::new(), starts: vec![0] };
        for (number, place) in order.into_iter().enumerate() {
            numbers[place] = number as i32;
            texts.tokens.extend_from_slice(&list[place]);
            texts.starts.push(texts.tokens.len());
        }
        (texts, numbers)
    }

    pub fn len(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tokens of all distinct texts.
    pub fn tokens(&self) -> usize {
        self.tokens.len()
    }

    /// Where a text's tokens lie among all tokens.
    pub fn place(&self, number: usize) -> std::ops::Range<usize> {
        self.starts[number]..self.starts[number + 1]
    }

    pub fn length(&self, number: usize) -> usize {
        self.place(number).len()
    }

    /// `numbers` are ascending.
    pub fn packed(&self, numbers: &[usize], device: Device) -> Packed {
        Packed::new(numbers.iter().map(|n| &self.tokens[self.place(*n)]), device)
    }

    /// Groups of equal length of ascending numbers.
    pub fn groups(&self, numbers: &[usize]) -> Vec<Group> {
        groups(numbers.iter().map(|n| self.length(*n)))
    }

    /// Places of the tokens of some texts, as an index into states of all tokens.
    pub fn token_places(&self, numbers: &[usize], device: Device) -> Tensor {
        crate::tensors::index(numbers.iter().flat_map(|n| self.place(*n)), device)
    }

    /// Cuts ascending numbers into runs of at most `tokens` tokens (at least one text each).
    pub fn runs<'a>(&self, numbers: &'a [usize], tokens: usize) -> Vec<&'a [usize]> {
        let mut runs = Vec::new();
        let (mut start, mut sum) = (0, 0);
        for (i, number) in numbers.iter().enumerate() {
            let length = self.length(*number);
            if i > start && sum + length > tokens {
                runs.push(&numbers[start..i]);
                (start, sum) = (i, 0);
            }
            sum += length;
        }
        if start < numbers.len() {
            runs.push(&numbers[start..]);
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts() -> (Texts, Vec<i32>) {
        Texts::new(&[vec![1, 2, 3], vec![], vec![4, 5], vec![6, 7, 8], vec![9]])
    }

    #[test]
    fn numbers_are_ranks_by_length() {
        let (texts, numbers) = texts();
        assert_eq!(numbers, [2, -1, 1, 3, 0]);
        assert_eq!((texts.len(), texts.tokens()), (4, 9));
        assert_eq!(texts.place(2), 3..6);
        let group = |texts, length| Group { texts, length };
        assert_eq!(texts.groups(&[0, 2, 3]), [group(1, 1), group(2, 3)]);
        let packed = texts.packed(&[1, 2], Device::Cpu);
        assert_eq!(Vec::<i64>::try_from(packed.ids).unwrap(), [4, 5, 1, 2, 3]);
        assert_eq!(Vec::<i64>::try_from(packed.places).unwrap(), [0, 1, 0, 1, 2]);
    }

    #[test]
    fn runs_cover_all_texts_within_the_bound() {
        let (texts, _) = texts();
        assert_eq!(texts.runs(&[0, 1, 2, 3], 5), [&[0, 1][..], &[2], &[3]]);
        assert_eq!(texts.runs(&[0, 1, 2, 3], 6), [&[0, 1, 2][..], &[3]]);
        assert_eq!(texts.runs(&[2], 1), [&[2][..]]);
        assert!(texts.runs(&[], 1).is_empty());
    }

    #[test]
    fn equal_texts_of_equal_limit_share_a_number() {
        let mut collector = Collector::default();
        let numbers =
            [("a", 32), ("b", 32), ("a", 32), ("a", 256)].map(|(t, n)| collector.number(t, n));
        assert_eq!(numbers, [0, 1, 0, 2]);
        assert_eq!(collector.values()[2], ("a".to_owned(), 256));
    }
}
