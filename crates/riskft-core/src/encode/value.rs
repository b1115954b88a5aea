//! One cell as a number, a date or a label. Any cell type in any column gives a value or none.

use std::fmt::Write;

use super::{EncodedColumn, TextFormat};
use crate::cell::Cell;
use crate::dataset::dates::{self, MICROS_PER_DAY};
use crate::dataset::{parse, Column, ColumnData};
use crate::options::Role;

/// Numbers are held within this bound, so that differences of edges stay finite.
const MAX_NUMBER: f64 = 1e150;
/// Dates beyond these days (years -768 and 12921) are infinite or mistaken: missing.
const DAYS: std::ops::RangeInclusive<i64> = -1_000_000..=4_000_000;

/// A cell of a column of numbers as a float8, held within 1e150; NaN = missing, as is every cell of
/// another type.
pub fn plain(cell: Cell<'_>) -> f64 {
    match cell {
        Cell::Int(v) => v as f64,
        Cell::Float(v) if v.is_finite() => v.clamp(-MAX_NUMBER, MAX_NUMBER) + 0.0,
        _ => f64::NAN,
    }
}

/// The cell as a float8; NaN = missing. Flags are 0 and 1, dates days since 1970-01-01.
pub fn number(cell: Cell<'_>, column: &EncodedColumn, reference: i32) -> f64 {
    match cell {
        Cell::Null | Cell::Int(_) | Cell::Float(_) => plain(cell),
        Cell::Bool(v) => f64::from(u8::from(v)),
        Cell::Date(_) | Cell::Timestamp(_) => days(micros(cell)),
        Cell::Text(text) if column.role == Role::Date => {
            days(dates::date(text, column.format, reference))
        }
        Cell::Text(text) => match parse::number_with(text, column.format.decimal()) {
            Some(number) => number.value.clamp(-MAX_NUMBER, MAX_NUMBER) + 0.0,
            None if column.role == Role::Flag => {
                truth(text).map_or(f64::NAN, |v| f64::from(u8::from(v)))
            }
            None => f64::NAN,
        },
    }
}

/// Reads the numbers of a column; each distinct text is parsed once.
pub struct Numbers<'a> {
    column: &'a Column,
    encoded: &'a EncodedColumn,
    reference: i32,
    of_text: Vec<f64>,
}

impl<'a> Numbers<'a> {
    pub fn new(column: &'a Column, encoded: &'a EncodedColumn, reference: i32) -> Self {
        let of_text = match &column.data {
            ColumnData::Text { values, .. } => {
                values.iter().map(|text| number(Cell::Text(text), encoded, reference)).collect()
            }
            _ => Vec::new(),
        };
        Numbers { column, encoded, reference, of_text }
    }

    /// The number of a row; NaN = missing.
    pub fn at(&self, row: usize) -> f64 {
        match &self.column.data {
            ColumnData::Text { codes, .. } if self.column.present[row] => {
                self.of_text[codes[row] as usize]
            }
            _ => number(self.column.cell(row), self.encoded, self.reference),
        }
    }
}

/// The numbers of some rows of a column.
pub fn numbers(column: &Column, encoded: &EncodedColumn, reference: i32, rows: &[u32]) -> Vec<f64> {
    let numbers = Numbers::new(column, encoded, reference);
    rows.iter().map(|row| numbers.at(*row as usize)).collect()
}

/// The day of a date cell, days since 1970-01-01 in UTC.
pub fn day(cell: Cell<'_>, format: TextFormat, reference: i32) -> Option<i64> {
    moment(cell, format, reference).map(|micros| micros.div_euclid(MICROS_PER_DAY))
}

/// Microseconds since 1970-01-01 00:00 UTC of a date, timestamp or date text.
pub fn moment(cell: Cell<'_>, format: TextFormat, reference: i32) -> Option<i64> {
    match cell {
        Cell::Text(text) => dates::date(text, format, reference),
        other => micros(other),
    }
}

fn micros(cell: Cell<'_>) -> Option<i64> {
    let micros = match cell {
        Cell::Date(days) => i64::from(days).checked_mul(MICROS_PER_DAY)?,
        Cell::Timestamp(micros) => micros,
        _ => return None,
    };
    DAYS.contains(&micros.div_euclid(MICROS_PER_DAY)).then_some(micros)
}

/// Whole days are exact: 86,400,000,000 is a multiple of 2^13.
fn days(micros: Option<i64>) -> f64 {
    micros.map_or(f64::NAN, |micros| micros as f64 / MICROS_PER_DAY as f64)
}

/// The words for true and false that PostgreSQL's boolean reads.
pub fn truth(text: &str) -> Option<bool> {
    let text = parse::trim(text);
    let is = |words: &[&str]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is(&["t", "true", "y", "yes", "on"]) {
        Some(true)
    } else if is(&["f", "false", "n", "no", "off"]) {
        Some(false)
    } else {
        None
    }
}

/// Room to print a cell that is not a text.
#[derive(Default)]
pub struct Scratch(String);

/// The cell as a label, blanks at both ends cut; None = missing or empty.
///
/// Integers print plainly, whole floats as integers, dates as ISO, booleans as `true`, `false`.
pub fn label<'a>(cell: Cell<'a>, scratch: &'a mut Scratch) -> Option<&'a str> {
    if let Cell::Text(text) = cell {
        let text = text.trim();
        return (!text.is_empty()).then_some(text);
    }
    scratch.0.clear();
    // Writing to a String does not fail.
    match cell {
        Cell::Bool(v) => return Some(if v { "true" } else { "false" }),
        Cell::Int(v) => {
            let _ = write!(scratch.0, "{v}");
        }
        Cell::Float(v) if v.is_finite() => {
            let _ = write!(scratch.0, "{}", v + 0.0);
        }
        Cell::Date(_) | Cell::Timestamp(_) => print_moment(micros(cell)?, &mut scratch.0),
        Cell::Null | Cell::Float(_) | Cell::Text(_) => return None,
    }
    Some(&scratch.0)
}

fn print_moment(micros: i64, out: &mut String) {
    let (year, month, day) = dates::civil_from_days(micros.div_euclid(MICROS_PER_DAY));
    let _ = write!(out, "{year:04}-{month:02}-{day:02}");
    let rest = micros.rem_euclid(MICROS_PER_DAY);
    if rest != 0 {
        let seconds = rest / 1_000_000;
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        let _ = write!(out, " {hour:02}:{minute:02}:{second:02}");
    }
}
