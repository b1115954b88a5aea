//! Rows on their way to the trainer, by column.

use super::{broken, MAX_TEXT};
use crate::cell::{Cell, ColumnType, SourceColumn};
use crate::refusal::Result;

/// Columns of some rows, on their way to the trainer.
///
/// Payload: `u32 rows`, then for each column `rows` presence bytes (1 = present), then the values
/// of the present cells: bool u8, int i64, float f64, date i32, timestamp i64 (all LE), text
/// `u32 length, bytes`.
pub struct BatchBuilder {
    types: Vec<ColumnType>,
    present: Vec<Vec<u8>>,
    values: Vec<Vec<u8>>,
    rows: u32,
}

impl BatchBuilder {
    pub fn new(columns: &[SourceColumn]) -> Self {
        BatchBuilder {
            types: columns.iter().map(|c| c.column_type).collect(),
            present: vec![Vec::new(); columns.len()],
            values: vec![Vec::new(); columns.len()],
            rows: 0,
        }
    }
    pub fn rows(&self) -> u32 {
        self.rows
    }
    /// Bytes of the payload so far.
    pub fn size(&self) -> usize {
        4 + self.values.iter().map(Vec::len).sum::<usize>() + self.rows as usize * self.types.len()
    }
    pub fn clear(&mut self) {
        self.rows = 0;
        self.present.iter_mut().chain(&mut self.values).for_each(Vec::clear);
    }
    /// Appends one row; a cell of another type than its column's is a defect of the caller and
    /// is refused.
    pub fn push(&mut self, row: &[Cell<'_>]) -> Result<()> {
        if row.len() != self.types.len() {
            return Err(broken("a row has another number of columns than the header"));
        }
        for (index, cell) in row.iter().enumerate() {
            let out = &mut self.values[index];
            match (*cell, self.types[index]) {
                (Cell::Null, _) => {}
                (Cell::Bool(v), ColumnType::Bool) => out.push(u8::from(v)),
                (Cell::Int(v), ColumnType::Int) => out.extend_from_slice(&v.to_le_bytes()),
                (Cell::Float(v), ColumnType::Float) => out.extend_from_slice(&v.to_le_bytes()),
                (Cell::Date(v), ColumnType::Date) => out.extend_from_slice(&v.to_le_bytes()),
                (Cell::Timestamp(v), ColumnType::Timestamp) => {
                    out.extend_from_slice(&v.to_le_bytes())
                }
                (Cell::Text(v), ColumnType::Text) => {
                    let v = cut(v, MAX_TEXT);
                    out.extend_from_slice(&(v.len() as u32).to_le_bytes());
                    out.extend_from_slice(v.as_bytes());
                }
                _ => return Err(broken("a cell is of another type than its column")),
            }
            self.present[index].push(u8::from(*cell != Cell::Null));
        }
        self.rows += 1;
        Ok(())
    }
    /// The payload of a batch frame.
    pub fn payload(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.size());
        out.extend_from_slice(&self.rows.to_le_bytes());
        for (present, values) in self.present.iter().zip(&self.values) {
            out.extend_from_slice(present);
            out.extend_from_slice(values);
        }
        out
    }
}

/// The longest prefix of at most `bytes` bytes that ends at a character.
pub fn cut(text: &str, bytes: usize) -> &str {
    if text.len() <= bytes {
        return text;
    }
    let mut end = bytes;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Takes the cells of a batch payload, column by column: `sink(column, row, cell)`.
pub fn read_batch<'a>(
    payload: &'a [u8],
    types: &[ColumnType],
    mut sink: impl FnMut(usize, usize, Cell<'a>) -> Result<()>,
) -> Result<usize> {
    let mut rest = Rest(payload);
    let rows = rest.rows(types.len())?;
    for (column, kind) in types.iter().enumerate() {
        let present = rest.take(rows)?;
        for (row, flag) in present.iter().enumerate() {
            let cell = match flag {
                0 => Cell::Null,
                1 => rest.cell(*kind)?,
                _ => return Err(broken("a presence byte is neither 0 nor 1")),
            };
            sink(column, row, cell)?;
        }
    }
    rest.end()?;
    Ok(rows)
}

/// What of a payload is not read yet.
pub(super) struct Rest<'a>(pub(super) &'a [u8]);

impl<'a> Rest<'a> {
    /// How many rows follow, each of so many columns.
    pub(super) fn rows(&mut self, columns: usize) -> Result<usize> {
        let whole = self.0.len();
        let rows = u32::from_le_bytes(self.array()?) as usize;
        if rows.saturating_mul(columns) > whole {
            return Err(broken("a batch claims more rows than it holds"));
        }
        Ok(rows)
    }
    pub(super) fn end(&self) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(broken("a batch has bytes left over"))
    }
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (head, tail) =
            self.0.split_at_checked(count).ok_or_else(|| broken("a batch ends early"))?;
        self.0 = tail;
        Ok(head)
    }
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }
    fn cell(&mut self, kind: ColumnType) -> Result<Cell<'a>> {
        Ok(match kind {
            ColumnType::Bool => Cell::Bool(self.array::<1>()?[0] != 0),
            ColumnType::Int => Cell::Int(i64::from_le_bytes(self.array()?)),
            ColumnType::Float => Cell::Float(f64::from_le_bytes(self.array()?)),
            ColumnType::Date => Cell::Date(i32::from_le_bytes(self.array()?)),
            ColumnType::Timestamp => Cell::Timestamp(i64::from_le_bytes(self.array()?)),
            ColumnType::Text => {
                let length = u32::from_le_bytes(self.array()?) as usize;
                if length > MAX_TEXT {
                    return Err(broken("a text cell is longer than allowed"));
                }
                let text = std::str::from_utf8(self.take(length)?);
                Cell::Text(text.map_err(|_| broken("a text cell is not UTF-8"))?)
            }
        })
    }
}
