//! Applying an encoding to a row. No cell type in any column is an error: what cannot be read is
//! missing, what was never seen is code 0.

use std::fmt::Write;

use super::value::{label, number, Scratch};
use super::{
    CategoryInput, CategorySource, EncodedRow, Encoding, NumberInput, NumberSource, TextSource,
};
use crate::cell::Cell;
use crate::dataset::dates;
use crate::dataset::hash::{bytes_hash, mix};

/// Code of a rare or unseen label, and of a missing one.
pub const RARE: u32 = 0;
pub const MISSING: u32 = 1;

impl Encoding {
    /// Encodes the cells of [`Encoding::columns`], in their order; cells that lack are missing.
    /// The vectors and texts of `row` are reused.
    pub fn encode_row(&self, cells: &[Cell<'_>], row: &mut EncodedRow) {
        let value = |column| self.value_of(column, cells);
        self.components_of(value, &mut row.components);
        row.features.clear();
        row.features.extend(self.numbers.iter().map(|n| n.source.of(value, &row.components)));
        row.positions.clear();
        row.positions.extend(self.numbers.iter().zip(&row.features).map(|(n, v)| n.position(*v)));
        let mut scratch = [Scratch::default(), Scratch::default()];
        row.codes.clear();
        row.codes.extend(self.categories.iter().map(|input| input.code(cells, &mut scratch)));
        row.features.extend(self.tree_codes(&row.codes));
        self.key_hashes(cells, &mut scratch[0], &mut row.keys);
        row.texts.resize_with(self.texts.len(), String::new);
        for (input, text) in self.texts.iter().zip(&mut row.texts) {
            text.clear();
            match input.source {
                TextSource::Row => self.serialise(cells, &mut scratch[0], text),
                TextSource::Column(column) => {
                    text.push_str(label(cell(cells, column), &mut scratch[0]).unwrap_or_default());
                }
            }
        }
    }

    /// The codes of a row as the trees read them.
    pub(super) fn tree_codes<'a>(&'a self, codes: &'a [u32]) -> impl Iterator<Item = f64> + 'a {
        let codes = self.categories.iter().zip(codes);
        codes.map(|(input, code)| f64::from(input.known(*code)))
    }

    /// A hash of what the branches read of a row: the same for tables that hold the same values in
    /// other types, and for any order of their columns.
    pub fn row_hash(&self, row: &EncodedRow) -> u64 {
        let numbers = self.numbers.iter().map(|n| &n.name);
        let names = numbers.chain(self.categories.iter().map(|category| &category.name));
        let tabular = names.zip(&row.features).map(|(name, value)| {
            let bits = if value.is_nan() { u64::MAX } else { (value + 0.0).to_bits() };
            mix(bytes_hash(name.as_bytes()) ^ mix(bits))
        });
        let texts = self.texts.iter().zip(&row.texts).map(|(input, text)| {
            mix(bytes_hash(input.name.as_bytes()) ^ bytes_hash(text.as_bytes()))
        });
        mix(tabular.chain(texts).fold(0, u64::wrapping_add))
    }

    /// The row as one text: `name is value; ...` in the order of the columns, missing cells left
    /// out, underscores of names as blanks.
    pub fn serialised_row(&self, cells: &[Cell<'_>]) -> String {
        let mut text = String::new();
        self.serialise(cells, &mut Scratch::default(), &mut text);
        text
    }

    fn serialise(&self, cells: &[Cell<'_>], scratch: &mut Scratch, out: &mut String) {
        for (index, column) in self.columns.iter().enumerate() {
            let Some(value) = label(cell(cells, index), scratch) else { continue };
            if !out.is_empty() {
                out.push_str("; ");
            }
            out.extend(column.name.chars().map(|c| if c == '_' { ' ' } else { c }));
            // Writing to a String does not fail.
            let _ = write!(out, " is {value}");
        }
    }

    /// The float8 value of a column's cell; NaN = missing.
    pub(super) fn value_of(&self, column: usize, cells: &[Cell<'_>]) -> f64 {
        match self.columns.get(column) {
            Some(source) => number(cell(cells, column), source, self.reference_date),
            None => f64::NAN,
        }
    }
}

impl NumberSource {
    /// The number that the source makes of the values of its columns, or of the row's components; NaN
    /// = missing.
    pub(super) fn of(self, value: impl Fn(usize) -> f64, components: &[f64]) -> f64 {
        match self {
            NumberSource::Value(column) => value(column),
            NumberSource::Ratio(over, under) => ratio(value(over), value(under)),
            NumberSource::Year(column) => year(value(column)),
            NumberSource::Month(column) => month(value(column)),
            NumberSource::Weekday(column) => weekday(value(column)),
            NumberSource::Component(number) => components.get(number).copied().unwrap_or(f64::NAN),
        }
    }
}

pub(super) fn cell<'a>(cells: &[Cell<'a>], index: usize) -> Cell<'a> {
    cells.get(index).copied().unwrap_or(Cell::Null)
}

/// Missing unless the divisor is at least 1: a loan of nothing has no ratio.
pub(super) fn ratio(over: f64, under: f64) -> f64 {
    if under >= 1.0 {
        over / under
    } else {
        f64::NAN
    }
}

pub(super) fn year(days: f64) -> f64 {
    calendar(days, |days| dates::civil_from_days(days).0 as f64)
}

pub(super) fn month(days: f64) -> f64 {
    calendar(days, |days| f64::from(dates::civil_from_days(days).1))
}

pub(super) fn weekday(days: f64) -> f64 {
    calendar(days, |days| f64::from(dates::weekday(days)))
}

/// A number in a date column may be anything; only days of the calendar count.
fn calendar(days: f64, of: impl Fn(i64) -> f64) -> f64 {
    if days.abs() <= 1e7 {
        of(days.floor() as i64)
    } else {
        f64::NAN
    }
}

impl NumberInput {
    /// Bin plus fraction within the bin, 0..=bins, held at the ends; NaN = missing.
    pub fn position(&self, value: f64) -> f32 {
        let (Some(first), Some(last)) = (self.edges.first(), self.edges.last()) else {
            return f32::NAN;
        };
        if value.is_nan() {
            return f32::NAN;
        }
        if value <= *first {
            return 0.0;
        }
        if value >= *last {
            return (self.edges.len() - 1) as f32;
        }
        let bin = self.edges.partition_point(|edge| *edge <= value) - 1;
        let (low, high) = (self.edges[bin], self.edges[bin + 1]);
        (bin as f64 + (value - low) / (high - low)) as f32
    }
}

impl CategoryInput {
    /// The code of a row's label.
    pub(super) fn code(&self, cells: &[Cell<'_>], scratch: &mut [Scratch; 2]) -> u32 {
        let [first, second] = scratch;
        match self.source {
            CategorySource::Value(column) => self.code_of(label(cell(cells, column), first)),
            CategorySource::Prefix(column, length) => {
                self.code_of(label(cell(cells, column), first).map(|text| prefix(text, length)))
            }
            CategorySource::Equal(a, b) => {
                let a = label(cell(cells, a), first);
                let b = label(cell(cells, b), second);
                self.code_of_equal(a.zip(b).map(|(a, b)| a == b))
            }
        }
    }
    /// The code of whether two columns hold the same label; None where either is missing.
    pub(super) fn code_of_equal(&self, equal: Option<bool>) -> u32 {
        self.code_of(equal.map(|equal| if equal { "true" } else { "false" }))
    }
    /// Whether a label has a code of its own.
    pub fn has(&self, label: &str) -> bool {
        self.code_of(Some(label)) != RARE
    }
    fn code_of(&self, label: Option<&str>) -> u32 {
        let Some(label) = label else { return MISSING };
        match self.values.binary_search_by(|value| value.as_str().cmp(label)) {
            Ok(index) => index as u32 + 2,
            Err(_) => match self.added.iter().position(|value| value == label) {
                Some(index) => (self.values.len() + index) as u32 + 2,
                None => RARE,
            },
        }
    }
    /// The code without what updates have added.
    fn known(&self, code: u32) -> u32 {
        if (code as usize) < self.values.len() + 2 {
            code
        } else {
            RARE
        }
    }
}

/// The first `length` characters, without blanks at the end.
pub(super) fn prefix(text: &str, length: usize) -> &str {
    let end = text.char_indices().nth(length).map_or(text.len(), |(at, _)| at);
    text[..end].trim_end()
}
