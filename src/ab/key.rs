//! A value of a type -> the text by which it is a key.

use pgrx::pg_sys::{self, Datum, Oid};
use riskft_core::ab::Key;
use riskft_core::cell::Cell;
use riskft_core::refusal::{code, Refusal, Result};

use crate::datum::{output_text, Reader, EPOCH_DAYS};
use crate::json;

/// How keys of one type are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyReader {
    Value(Reader),
    /// A number, string or flag in jsonb.
    Json,
}

impl KeyReader {
    /// The reader of a type, or None for one whose values are no keys. Money prints by lc_monetary, and a
    /// time by TimeZone: the same one would be another key in another session's JSON.
    pub fn of(declared: Oid) -> Option<Self> {
        match Reader::of(declared) {
            Some(Reader::Money | Reader::Timestamp) => None,
            Some(reader) => Some(KeyReader::Value(reader)),
            // SAFETY: a catalogue lookup of a type that exists.
            None => (unsafe { pg_sys::getBaseType(declared) } == pg_sys::JSONBOID)
                .then_some(KeyReader::Json),
        }
    }

    /// Writes the canonical text of a value that is not NULL; false where the value is no key.
    ///
    /// # Safety
    /// `datum` is a value of a type that this reader was made for.
    pub unsafe fn write(self, datum: Datum, into: &mut String) -> Result<bool> {
        // SAFETY: as promised; what is read points into the value or the current memory context, and
        // is copied before this returns.
        unsafe {
            let reader = match self {
                KeyReader::Json => return json::write_key(datum, into),
                KeyReader::Value(reader) => reader,
            };
            let key = match reader {
                Reader::Numeric => Key::Decimal(output_text(datum, pg_sys::numeric_out)),
                Reader::Float4 => Key::Single(f32::from_bits(datum.value() as u32)),
                Reader::Float8 => Key::Double(f64::from_bits(datum.value() as u64)),
                Reader::Date => date(datum.value() as i32),
                _ => match reader.read(datum) {
                    Cell::Int(value) => Key::Int(value),
                    Cell::Bool(value) => Key::Bool(value),
                    Cell::Text(text) => Key::Text(text),
                    _ => return Ok(false),
                },
            };
            Ok(key.write(into))
        }
    }
}

/// Of PostgreSQL's days; the first and the last stand for the infinities.
fn date<'a>(days: i32) -> Key<'a> {
    match days {
        i32::MIN => Key::Text("-infinity"),
        i32::MAX => Key::Text("infinity"),
        days => Key::Date(i64::from(days) + i64::from(EPOCH_DAYS)),
    }
}

/// The refusal of a column whose values are no keys.
pub fn unreadable(column: &str) -> Refusal {
    Refusal::new("42804", format!("column \"{column}\" has a type that is no key"))
        .detail(format!("An A/B test tells rows apart by column \"{column}\"."))
        .hint("Cast it in a subquery to an integer, numeric, text, uuid or date.")
}

/// The refusal of a value that an arm is asked for.
pub fn no_key() -> Refusal {
    Refusal::new("42804", "key has a type that is no key")
        .detail("An arm is told of a single number, text, uuid, date or flag.")
        .hint("Pass the column that the test tells rows apart by: riskft_ab_arm('m', t.loan_id).")
}

/// The refusal of a JSON array or object.
pub fn no_scalar() -> Refusal {
    Refusal::new(code::INVALID_PARAMETER, "key is no single value")
        .detail("The JSON value is an array or an object.")
        .hint("Pass a number, a string or a flag.")
}
