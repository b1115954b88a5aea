//! The distinct texts of all rows as token ids, shortest first.
//!
//! The encoder reads windows of texts. A text's number is its rank by length, and a window's too,
//! so that any ascending list of windows is sorted by length and packs without padding, and so
//! that states of all windows lie in one tensor.

use std::collections::HashMap;

use riskft_core::tokenize::windows;
use tch::{Device, Tensor};

use crate::bert::{groups, Group, Packed};

/// Runs that a thinned selection is made of.
const RUNS: usize = 4;

/// Texts and their windows, each by number.
#[derive(Debug, Default)]
pub struct Texts {
    /// Of all windows, one after the other.
    tokens: Vec<i32>,
    /// Where each window starts in `tokens`; one more than there are windows.
    starts: Vec<usize>,
    /// The windows of each text.
    windows: Vec<Vec<usize>>,
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
    /// Cuts tokenised texts into windows of at most `window` tokens and sorts both by length (ties
    /// by their order here). The second part maps each place in `list` to the text's number, -1 for
    /// a text without tokens.
    pub fn new(list: &[Vec<i32>], window: usize) -> (Self, Vec<i32>) {
        let (mut cut, mut ends, mut counts) = (Vec::new(), Vec::new(), Vec::new());
        let mut order: Vec<usize> = (0..list.len()).filter(|i| !list[*i].is_empty()).collect();
        order.sort_by_key(|i| list[*i].len());
        let mut numbers = vec![-1; list.len()];
        for (number, place) in order.into_iter().enumerate() {
            numbers[place] = number as i32;
            let before = ends.len();
            windows(&list[place], window, &mut cut, &mut ends);
            counts.push(ends.len() - before);
        }
        let starts: Vec<usize> = std::iter::once(0).chain(ends).collect();
        let mut order: Vec<usize> = (0..starts.len() - 1).collect();
        order.sort_by_key(|i| starts[*i + 1] - starts[*i]);
        let mut texts = Texts { starts: vec![0], ..Texts::default() };
        let mut ranks = vec![0; order.len()];
        for (rank, window) in order.into_iter().enumerate() {
            ranks[window] = rank;
            texts.tokens.extend_from_slice(&cut[starts[window]..starts[window + 1]]);
            texts.starts.push(texts.tokens.len());
        }
        let mut ranks = ranks.into_iter();
        texts.windows =
            counts.into_iter().map(|count| ranks.by_ref().take(count).collect()).collect();
        (texts, numbers)
    }

    pub fn len(&self) -> usize {
        self.windows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tokens of the windows of all distinct texts.
    pub fn tokens(&self) -> usize {
        self.tokens.len()
    }

    /// Windows of about so many tokens, each as a text of its own: runs of neighbours from among the short,
    /// the middle and the long ones, so that as many are of one length as among all.
    pub fn thinned(&self, tokens: usize) -> Self {
        let count = self.starts.len().saturating_sub(1);
        let run = tokens.min(self.tokens()) / RUNS;
        let mut thin = Texts { starts: vec![0], ..Texts::default() };
        let mut window = 0;
        for middle in (0..RUNS).map(|n| (2 * n + 1) * self.tokens() / (2 * RUNS)) {
            let (from, to) = (middle.saturating_sub(run / 2), middle + run.div_ceil(2));
            while window < count && self.starts[window] < to {
                if self.starts[window] >= from {
                    thin.tokens.extend_from_slice(&self.tokens[self.place(window)]);
                    thin.starts.push(thin.tokens.len());
                    thin.windows.push(vec![thin.windows.len()]);
                }
                window += 1;
            }
        }
        thin
    }

    /// Tokens of the longest window; 0 of no texts.
    pub fn longest(&self) -> usize {
        self.starts.len().checked_sub(2).map_or(0, |last| self.place(last).len())
    }

    /// Tokens of a text's windows.
    pub fn length(&self, number: usize) -> usize {
        self.windows[number].iter().map(|window| self.place(*window).len()).sum()
    }

    /// The windows of some texts, ascending.
    pub fn windows(&self, numbers: &[usize]) -> Vec<usize> {
        let mut all: Vec<usize> =
            numbers.iter().flat_map(|number| self.windows[*number].iter().copied()).collect();
        all.sort_unstable();
        all
    }

    /// Where a window's tokens lie among all tokens.
    fn place(&self, window: usize) -> std::ops::Range<usize> {
        self.starts[window]..self.starts[window + 1]
    }

    /// `windows` are ascending.
    pub fn packed(&self, windows: &[usize], device: Device) -> Packed {
        Packed::new(windows.iter().map(|w| &self.tokens[self.place(*w)]), device)
    }

    /// Groups of equal length of ascending windows.
    pub fn groups(&self, windows: &[usize]) -> Vec<Group> {
        groups(windows.iter().map(|w| self.place(*w).len()))
    }

    /// Places of the tokens of some windows, as an index into states of all tokens.
    pub fn token_places(&self, windows: &[usize], device: Device) -> Tensor {
        crate::tensors::index(windows.iter().flat_map(|w| self.place(*w)), device)
    }

    /// Vectors of texts [numbers, width], the means over all of their tokens, from those of their
    /// windows [windows, width]. A product of matrices, for its sums have one order on every device.
    pub fn join(&self, numbers: &[usize], windows: &[usize], vectors: Tensor) -> Tensor {
        if windows.len() == numbers.len() {
            return vectors;
        }
        let mut shares = vec![0f32; numbers.len() * windows.len()];
        for (number, shares) in numbers.iter().zip(shares.chunks_exact_mut(windows.len())) {
            let whole = self.length(*number) as f32;
            for window in &self.windows[*number] {
                if let Ok(place) = windows.binary_search(window) {
                    shares[place] = self.place(*window).len() as f32 / whole;
                }
            }
        }
        let shape = [numbers.len() as i64, windows.len() as i64];
        Tensor::from_slice(&shares).view(shape).to_device(vectors.device()).matmul(&vectors)
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
        let list = [vec![1, 2, 3], vec![], vec![1, 5, 6, 3], vec![1, 6, 7, 8, 9, 3], vec![1, 9, 3]];
        Texts::new(&list, 4)
    }

    #[test]
    fn numbers_are_ranks_by_length() {
        let (texts, numbers) = texts();
        assert_eq!(numbers, [0, -1, 2, 3, 1]);
        // The longest text has two windows of four tokens.
        assert_eq!((texts.len(), texts.tokens(), texts.length(3)), (4, 18, 8));
        assert_eq!(texts.windows(&[1, 3]), [1, 3, 4]);
        let group = |texts, length| Group { texts, length };
        assert_eq!(texts.groups(&[1, 3, 4]), [group(1, 3), group(2, 4)]);
        let packed = texts.packed(&[1, 4], Device::Cpu);
        assert_eq!(Vec::<i64>::try_from(packed.ids).unwrap(), [1, 9, 3, 1, 8, 9, 3]);
        assert_eq!(Vec::<i64>::try_from(packed.places).unwrap(), [0, 1, 2, 0, 1, 2, 3]);
    }

    #[test]
    fn vectors_of_windows_join_by_their_tokens() {
        let long: Vec<i32> = (0..9).collect();
        let (texts, numbers) = Texts::new(&[long, vec![1, 2, 3]], 6);
        let (number, windows) = (numbers[0] as usize, texts.windows(&[0, 1]));
        // Seven tokens between the special ones: four and three, in windows of six and five.
        assert_eq!((number, windows.len(), texts.length(number)), (1, 3, 11));
        let vectors = Tensor::from_slice(&[1f32, 10., 2., 20., 3., 30.]).view([3, 2]);
        let joined = texts.join(&[0, 1], &windows, vectors);
        let joined = Vec::<f32>::try_from(joined.flatten(0, -1)).unwrap();
        let mean = (2. * 5. + 3. * 6.) / 11.;
        for (value, expected) in joined.iter().zip([1., 10., mean, 10. * mean]) {
            assert!((value - expected).abs() < 1e-5, "{joined:?}");
        }
    }

    #[test]
    fn thin_texts_are_of_all_lengths() {
        let list: Vec<Vec<i32>> = (0..300).map(|n| vec![7; 3 + n % 30]).collect();
        let (texts, _) = Texts::new(&list, 16);
        for tokens in [1, 100, 1000, texts.tokens(), 10 * texts.tokens()] {
            let thin = texts.thinned(tokens);
            let windows: Vec<usize> = (0..thin.len()).map(|text| thin.length(text)).collect();
            assert_eq!(windows.iter().sum::<usize>(), thin.tokens());
            assert!(windows.is_sorted(), "a text's number is its rank by length");
            let wanted = tokens.min(texts.tokens());
            assert!(thin.tokens().abs_diff(wanted) <= 16 * RUNS, "{tokens}: {}", thin.tokens());
            let mean = |texts: &Texts| texts.tokens() as f64 / texts.starts.len() as f64;
            assert!(tokens < 1000 || (mean(&thin) / mean(&texts) - 1.0).abs() < 0.1, "{tokens}");
        }
        assert_eq!(texts.thinned(usize::MAX / 2).tokens, texts.tokens);
        assert_eq!((texts.longest(), Texts::default().longest()), (16, 0));
        assert!(Texts::default().thinned(10).is_empty());
    }

    #[test]
    fn runs_cover_all_texts_within_the_bound() {
        let (texts, _) = texts();
        assert_eq!(texts.runs(&[0, 1, 2, 3], 10), [&[0, 1, 2][..], &[3]]);
        assert_eq!(texts.runs(&[0, 1, 2, 3], 18), [&[0, 1, 2, 3][..]]);
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
