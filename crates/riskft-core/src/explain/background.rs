//! Usual rows that a score is told against, stored in the version.
//!
//! Rows are stored as the inputs that their columns give: numbers, codes of categories, hashes of
//! labels. Of their texts only the mean terms are kept, so that no text and no label of a training
//! row is in the file beyond those that the encoding has.

use serde::{Deserialize, Serialize};

use crate::cell::Cell;
use crate::encode::mix::{Mixer, Reading};
use crate::encode::{EncodedRow, Encoding};
use crate::model::Scorer;

/// Most background rows of a version.
pub const MOST_ROWS: usize = 64;
/// Most numbers of all rows: a version's header has 4 MiB, and a number takes about 20 bytes.
const MOST_NUMBERS: usize = 60_000;

/// The background of a version; without rows it explains nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Background {
    pub rows: Vec<Reading>,
    /// For each text the mean of what it adds to the logit, before calibration.
    pub texts: Vec<f64>,
}

impl Background {
    /// The background of some rows, each the cells of the encoding's columns. Of wide tables it takes
    /// the first ones only, at least one.
    pub fn of(scorer: &mut Scorer, rows: &[Vec<Cell<'_>>]) -> Self {
        let model = scorer.model_arc();
        let encoding = &model.specification().encoding;
        let mixer = Mixer::new(encoding);
        let most = (MOST_NUMBERS / mixer.size(encoding).max(1)).clamp(1, MOST_ROWS);
        let rows = &rows[..rows.len().min(most)];
        let mut texts = vec![0.0; encoding.texts.len()];
        let mut encoded = EncodedRow::default();
        for cells in rows {
            encoding.encode_row(cells, &mut encoded);
            let (terms, _) = scorer.text_terms(&encoded);
            texts.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term / rows.len() as f64);
        }
        Background { rows: rows.iter().map(|cells| mixer.read(encoding, cells)).collect(), texts }
    }

    /// Whether the rows are rows of the encoding; else what is wrong.
    pub(crate) fn check(&self, encoding: &Encoding) -> Result<(), String> {
        if self.rows.is_empty() && self.texts.is_empty() {
            return Ok(());
        }
        if self.rows.len() > MOST_ROWS {
            return Err(format!("its background has {} rows", self.rows.len()));
        }
        if self.texts.len() != encoding.texts.len() {
            return Err(format!("its background has terms of {} texts", self.texts.len()));
        }
        let mixer = Mixer::new(encoding);
        self.rows.iter().try_for_each(|row| row.check(&mixer, encoding))
    }
}
