//! One value of a source column, as the server hands it over.
//!
//! A cell never depends on a session's settings (DateStyle, TimeZone, extra_float_digits,
//! lc_monetary): it is built from the binary value. Training and scoring build it alike.

use serde::{Deserialize, Serialize};

/// The storage class of a column, after domains are resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnType {
    Bool,
    /// smallint, integer, bigint, oid.
    Int,
    /// real, double precision, numeric; money in major units.
    Float,
    /// text, varchar, char (trailing blanks cut), name, enum, uuid.
    Text,
    /// Days since 1970-01-01.
    Date,
    /// Microseconds since 1970-01-01 00:00 UTC; a timestamp without time zone is read as UTC.
    Timestamp,
}

/// What the declared SQL type says beyond its storage class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TypeHint {
    #[default]
    None,
    Money,
    /// enum: always a category.
    Label,
    /// uuid: always an identifier.
    Identifier,
}

/// A column of the relation, as declared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceColumn {
    pub name: String,
    #[serde(rename = "type")]
    pub column_type: ColumnType,
    #[serde(default)]
    pub hint: TypeHint,
    /// The declared type as `format_type` prints it, for messages and views.
    #[serde(default)]
    pub declared: String,
}

/// One value. NaN and infinite floats, and infinite dates, arrive as they are; encoders treat
/// them as missing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cell<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(&'a str),
    /// Days since 1970-01-01.
    Date(i32),
    /// Microseconds since 1970-01-01 00:00 UTC.
    Timestamp(i64),
}
