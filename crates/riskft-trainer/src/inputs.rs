//! Rows as the network reads them, apart from tensors: to be kept, and to be read again.

use riskft_core::encode::{EncodedRow, Encoding};

/// What the network reads of some rows, and their labels.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Inputs {
    /// Numbers and categories of a row.
    pub widths: [usize; 2],
    /// [rows, numbers]; NaN = missing
    pub positions: Vec<f32>,
    /// [rows, categories]
    pub codes: Vec<u32>,
    pub labels: Vec<bool>,
}

impl Inputs {
    pub fn new(encoding: &Encoding) -> Self {
        let widths = [encoding.numbers.len(), encoding.categories.len()];
        Inputs { widths, ..Inputs::default() }
    }

    pub fn push(&mut self, row: &EncodedRow, label: bool) {
        self.positions.extend_from_slice(&row.positions);
        self.codes.extend_from_slice(&row.codes);
        self.labels.push(label);
    }

    /// A row without what other branches read.
    pub fn row(&self, place: usize) -> EncodedRow {
        let [numbers, categories] = self.widths;
        EncodedRow {
            positions: self.positions[place * numbers..(place + 1) * numbers].to_vec(),
            codes: self.codes[place * categories..(place + 1) * categories].to_vec(),
            ..EncodedRow::default()
        }
    }

    /// Some of the rows, in this order.
    pub fn select(&self, places: &[u32]) -> Self {
        let mut some = Inputs { widths: self.widths, ..Inputs::default() };
        for place in places {
            some.push(&self.row(*place as usize), self.labels[*place as usize]);
        }
        some
    }

    /// These rows, then others of the same encoding.
    pub fn followed_by(&self, others: &Inputs) -> Self {
        let mut all = self.clone();
        all.positions.extend_from_slice(&others.positions);
        all.codes.extend_from_slice(&others.codes);
        all.labels.extend_from_slice(&others.labels);
        all
    }
}
