//! What the words of a text add: Shapley values over its words.
//!
//! A coalition of words is worth the term of the text that holds them alone, in their order. The
//! encoder reads words together and n-grams have length 1 together, so this is a game of its own; its
//! values sum to the text's term. A long text has pieces of several words.

use std::sync::Arc;

use super::{shapley, Explainer};
use crate::cell::Cell;
use crate::dataset::hash::mix;
use crate::encode::mix::column_of;
use crate::encode::EncodedRow;
use crate::model::Scorer;
use crate::random::Random;

/// Pieces of a text, at most: each costs about as many readings of the text as it has rounds.
const MOST_PIECES: usize = 24;
/// Pieces up to which all coalitions are read.
const EXACT: usize = 4;
const ROUNDS: usize = 2;

/// A word of a text, or several that stand together, and what it adds on the log odds.
#[derive(Debug, Clone, PartialEq)]
pub struct Word {
    /// As it is written in the text.
    pub text: String,
    pub contribution: f64,
    /// Standard error of the sampling; 0 where it is exact.
    pub error: f64,
}

impl Explainer {
    /// The words of a source column's text in their order, each with what it adds to the text's term.
    /// They do not tell what the column adds beside its text, nor what usual texts add: the column's
    /// contribution less their sum. Nothing for a column that is no text of the version, or adds 0 as one.
    pub fn words(
        &mut self,
        scorer: &mut Scorer,
        cells: &[Cell<'_>],
        column: usize,
        pause: &mut dyn FnMut(),
    ) -> Vec<Word> {
        let model = Arc::clone(&self.model);
        let encoding = &model.specification().encoding;
        encoding.encode_row(cells, &mut self.row);
        let of_column = |field: &usize| column_of(encoding.texts[*field].source) == Some(column);
        let fields: Vec<usize> = (0..encoding.texts.len()).filter(of_column).collect();
        let Some(text) = fields.first().and_then(|field| self.row.texts.get(*field)) else {
            return Vec::new();
        };
        let pieces = pieces(text);
        let mut row =
            EncodedRow { texts: vec![String::new(); encoding.texts.len()], ..Default::default() };
        let mut term = |is_in: &[bool]| {
            let kept = pieces.iter().zip(is_in).filter(|(_, is_in)| **is_in);
            let kept: Vec<&str> = kept.map(|(piece, _)| *piece).collect();
            for field in &fields {
                // The whole text as it is: its blanks may count.
                row.texts[*field] =
                    if kept.len() == pieces.len() { text.clone() } else { kept.join(" ") };
            }
            scorer.text_terms(&row).0.iter().sum::<f64>()
        };
        let ends = (0.0, term(&vec![true; pieces.len()]));
        if ends.1 == 0.0 {
            // A text that no branch has a term of.
            return Vec::new();
        }
        let mut values = |coalitions: &[bool], out: &mut Vec<f64>| {
            for coalition in coalitions.chunks_exact(pieces.len()) {
                pause();
                out.push(term(coalition));
            }
        };
        let found = if pieces.len() <= EXACT {
            shapley::exact(pieces.len(), ends, 1, &mut values)
        } else {
            let order = |round: u64| {
                let mut order: Vec<usize> = (0..pieces.len()).collect();
                Random::new(mix(round)).shuffle(&mut order);
                order
            };
            let orders: Vec<Vec<usize>> = (0..ROUNDS as u64).map(order).collect();
            shapley::sampled(&orders, ends, 1, &mut values)
        };
        let slope = model.specification().calibration.slope;
        let word = |(piece, (value, square)): (&&str, (f64, f64))| Word {
            text: (*piece).to_owned(),
            contribution: slope * value,
            error: slope.abs() * square.sqrt(),
        };
        pieces.iter().zip(found).map(word).collect()
    }
}

/// The words of a text; of many, runs of about as many words each.
fn pieces(text: &str) -> Vec<&str> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let length = words.len().div_ceil(MOST_PIECES).max(1);
    let piece = |run: &[&str]| {
        let (first, last) = (run.first()?, run.last()?);
        // Both are parts of the text.
        let start = first.as_ptr() as usize - text.as_ptr() as usize;
        let end = last.as_ptr() as usize - text.as_ptr() as usize + last.len();
        text.get(start..end)
    };
    words.chunks(length).filter_map(piece).collect()
}

#[cfg(test)]
mod tests {
    use super::pieces;

    #[test]
    fn texts_fall_into_words_or_runs_of_words() {
        assert!(pieces("  ").is_empty());
        assert_eq!(pieces(" New\tYork  Bank "), ["New", "York", "Bank"]);
        let long = "é word ".repeat(500);
        let found = pieces(&long);
        assert!(found.len() <= super::MOST_PIECES && found.len() > 20);
        assert_eq!(found.join(" ").split_whitespace().count(), 1000);
    }
}
