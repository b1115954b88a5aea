//! Rows in columns, as the trainer holds them; roles, target, split and the leak check.
//!
//! Layout (each in its own file):
//! * `mod.rs`   [`Dataset`]: typed columns, texts as codes into a dictionary of distinct values
//! * `prepare.rs` [`prepare`]: all decisions before encoding, in order
//! * `names.rs` column names that the caller gave
//! * `target.rs` the target's labels, the positive class, unlabelled rows
//! * `hash.rs`, `split.rs` train / validation / calibration / test, by row hash or by time
//! * `profile.rs`, `roles.rs`, `text_roles.rs` the role of each column, with the reason
//! * `leak.rs`  columns that tell the target almost surely
//! * `parse.rs`, `dates.rs` numbers and dates written as text

pub mod dates;
pub mod hash;
pub mod leak;
pub mod names;
pub mod parse;
mod prepare;
pub mod profile;
pub mod roles;
pub mod split;
pub mod target;
mod text_roles;

pub use prepare::{prepare, sample, ColumnPlan, Prepared};

use std::collections::hash_map::RandomState;
use std::collections::HashMap;
use std::hash::BuildHasher;

use crate::cell::{Cell, ColumnType, SourceColumn};
use crate::refusal::Result;

/// A whole relation in typed columns.
#[derive(Debug, Default)]
pub struct Dataset {
    pub columns: Vec<Column>,
    pub rows: usize,
}

/// One column; `present[row]` says whether the cell is not NULL.
#[derive(Debug)]
pub struct Column {
    pub source: SourceColumn,
    pub present: Vec<bool>,
    pub data: ColumnData,
}

/// Values, one for each row; a NULL row holds the type's zero.
#[derive(Debug)]
pub enum ColumnData {
    Bool(Vec<bool>),
    Int(Vec<i64>),
    Float(Vec<f64>),
    Date(Vec<i32>),
    Timestamp(Vec<i64>),
    Text { codes: Vec<u32>, values: Vec<String>, index: TextIndex },
}

/// Finds a text among distinct values by its hash, so that no text is held twice.
#[derive(Debug, Default)]
pub struct TextIndex {
    hasher: RandomState,
    /// Hash -> code; a text whose hash is taken by another moves on to the next number.
    codes: HashMap<u64, u32>,
}

impl TextIndex {
    /// The code of a text; a new one is appended to `values`.
    fn code(&mut self, values: &mut Vec<String>, text: &str) -> u32 {
        let mut hash = self.hasher.hash_one(text);
        loop {
            match self.codes.get(&hash) {
                Some(code) if values[*code as usize] == text => return *code,
                Some(_) => hash = hash.wrapping_add(1),
                None => break,
            }
        }
        let code = values.len() as u32;
        values.push(text.to_owned());
        self.codes.insert(hash, code);
        code
    }
}

/// The part of a row in the run. `Unlabelled` rows (NULL target) belong to no part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    Train,
    Validation,
    Calibration,
    Test,
    Unlabelled,
}

impl Part {
    pub const LABELLED: [Part; 4] = [Part::Train, Part::Validation, Part::Calibration, Part::Test];
    pub fn name(self) -> &'static str {
        match self {
            Part::Train => "train",
            Part::Validation => "validation",
            Part::Calibration => "calibration",
            Part::Test => "test",
            Part::Unlabelled => "unlabelled",
        }
    }
}

impl ColumnData {
    fn empty(kind: ColumnType) -> Self {
        match kind {
            ColumnType::Bool => ColumnData::Bool(Vec::new()),
            ColumnType::Int => ColumnData::Int(Vec::new()),
            ColumnType::Float => ColumnData::Float(Vec::new()),
            ColumnType::Date => ColumnData::Date(Vec::new()),
            ColumnType::Timestamp => ColumnData::Timestamp(Vec::new()),
            ColumnType::Text => ColumnData::Text {
                codes: Vec::new(),
                values: Vec::new(),
                index: TextIndex::default(),
            },
        }
    }
}

impl Column {
    pub fn new(source: SourceColumn) -> Self {
        let data = ColumnData::empty(source.column_type);
        Column { source, present: Vec::new(), data }
    }

    /// Appends a cell. A cell of another type than the column's counts as NULL; the protocol
    /// refuses it before it gets here.
    pub fn push(&mut self, cell: Cell<'_>) {
        let present = match (&mut self.data, cell) {
            (ColumnData::Bool(v), Cell::Bool(x)) => {
                v.push(x);
                true
            }
            (ColumnData::Int(v), Cell::Int(x)) => {
                v.push(x);
                true
            }
            (ColumnData::Float(v), Cell::Float(x)) => {
                v.push(x);
                true
            }
            (ColumnData::Date(v), Cell::Date(x)) => {
                v.push(x);
                true
            }
            (ColumnData::Timestamp(v), Cell::Timestamp(x)) => {
                v.push(x);
                true
            }
            (ColumnData::Text { codes, values, index }, Cell::Text(x)) => {
                let code = index.code(values, x);
                codes.push(code);
                true
            }
            (data, _) => {
                match data {
                    ColumnData::Bool(v) => v.push(false),
                    ColumnData::Int(v) => v.push(0),
                    ColumnData::Float(v) => v.push(0.0),
                    ColumnData::Date(v) => v.push(0),
                    ColumnData::Timestamp(v) => v.push(0),
                    ColumnData::Text { codes, .. } => codes.push(0),
                }
                false
            }
        };
        self.present.push(present);
    }

    /// The cell of a row.
    pub fn cell(&self, row: usize) -> Cell<'_> {
        if !self.present[row] {
            return Cell::Null;
        }
        match &self.data {
            ColumnData::Bool(v) => Cell::Bool(v[row]),
            ColumnData::Int(v) => Cell::Int(v[row]),
            ColumnData::Float(v) => Cell::Float(v[row]),
            ColumnData::Date(v) => Cell::Date(v[row]),
            ColumnData::Timestamp(v) => Cell::Timestamp(v[row]),
            ColumnData::Text { codes, values, .. } => Cell::Text(&values[codes[row] as usize]),
        }
    }
}

impl Dataset {
    pub fn new(columns: &[SourceColumn]) -> Self {
        Dataset { columns: columns.iter().cloned().map(Column::new).collect(), rows: 0 }
    }
    /// Appends a batch payload of the protocol.
    pub fn append(&mut self, payload: &[u8]) -> Result<()> {
        let types: Vec<ColumnType> = self.columns.iter().map(|c| c.source.column_type).collect();
        let columns = &mut self.columns;
        let rows = crate::protocol::read_batch(payload, &types, |column, _, cell| {
            columns[column].push(cell);
            Ok(())
        })?;
        self.rows += rows;
        Ok(())
    }
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.source.name == name)
    }
}
