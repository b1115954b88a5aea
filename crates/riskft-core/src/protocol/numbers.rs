//! Batches of numbers alone, taken by column in portions.

use super::batch::Rest;
use super::broken;
use crate::cell::{Cell, ColumnType};
use crate::encode::value::plain;
use crate::refusal::Result;

/// The cells of one column of a batch that are not taken yet.
pub struct NumberColumn<'a> {
    kind: ColumnType,
    present: &'a [u8],
    values: &'a [[u8; 8]],
}

/// The rows of a batch payload, and its columns; each is of type int or float.
///
/// # Errors
/// 08P01 as [`super::read_batch`], and for a column of another type.
pub fn number_columns<'a>(
    payload: &'a [u8],
    types: &[ColumnType],
) -> Result<(usize, Vec<NumberColumn<'a>>)> {
    let mut rest = Rest(payload);
    let rows = rest.rows(types.len())?;
    let column = |kind: &ColumnType| {
        if !matches!(kind, ColumnType::Int | ColumnType::Float) {
            return Err(broken("a column holds no numbers"));
        }
        let present = rest.take(rows)?;
        let count: usize = present.iter().map(|flag| usize::from(*flag == 1)).sum();
        let missing: usize = present.iter().map(|flag| usize::from(*flag == 0)).sum();
        if count + missing != rows {
            return Err(broken("a presence byte is neither 0 nor 1"));
        }
        let values = rest.take(count.saturating_mul(8))?.as_chunks().0;
        Ok(NumberColumn { kind: *kind, present, values })
    };
    let columns = types.iter().map(column).collect::<Result<Vec<_>>>()?;
    rest.end()?;
    Ok((rows, columns))
}

impl NumberColumn<'_> {
    /// Takes as many cells as `out` is long, as [`plain`] has them; beyond the batch's end all are missing.
    pub fn take(&mut self, out: &mut [f64]) {
        match self.kind {
            ColumnType::Int => self.fill(out, |v| plain(Cell::Int(i64::from_le_bytes(v)))),
            _ => self.fill(out, |v| plain(Cell::Float(f64::from_le_bytes(v)))),
        }
    }

    fn fill(&mut self, out: &mut [f64], number: impl Fn([u8; 8]) -> f64) {
        let (present, later) = self.present.split_at(out.len().min(self.present.len()));
        let count = present.iter().map(|flag| usize::from(*flag)).sum();
        let (values, rest) = self.values.split_at(count);
        (self.present, self.values) = (later, rest);
        if count == out.len() {
            out.iter_mut().zip(values).for_each(|(cell, value)| *cell = number(*value));
            return;
        }
        out.fill(f64::NAN);
        let places = out.iter_mut().zip(present).filter(|(_, flag)| **flag == 1);
        places.zip(values).for_each(|((cell, _), value)| *cell = number(*value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::{SourceColumn, TypeHint};
    use crate::protocol::{read_batch, BatchBuilder};

    fn payload(rows: usize) -> (Vec<u8>, Vec<ColumnType>) {
        let types = vec![ColumnType::Float, ColumnType::Int, ColumnType::Float];
        let column = |kind: &ColumnType| SourceColumn {
            name: String::new(),
            column_type: *kind,
            hint: TypeHint::None,
            declared: String::new(),
        };
        let columns: Vec<SourceColumn> = types.iter().map(column).collect();
        let mut batch = BatchBuilder::new(&columns);
        for row in 0..rows {
            let float = match row % 5 {
                0 => Cell::Null,
                1 => Cell::Float(f64::INFINITY),
                2 => Cell::Float(-1e200),
                _ => Cell::Float(row as f64 / 7.0),
            };
            let int = if row % 3 == 1 { Cell::Null } else { Cell::Int(-(row as i64)) };
            batch.push(&[float, int, Cell::Float(-0.0)]).expect("a row of the types");
        }
        (batch.payload(), types)
    }

    #[test]
    fn portions_hold_the_cells_of_the_batch() {
        let rows = 23;
        let (payload, types) = payload(rows);
        let mut wanted = vec![vec![0u64; rows]; types.len()];
        let sink = |column: usize, row: usize, cell: Cell<'_>| {
            wanted[column][row] = plain(cell).to_bits();
            Ok(())
        };
        assert_eq!(read_batch(&payload, &types, sink).map_err(|r| r.detail), Ok(rows));
        for portion in [1, 4, 23] {
            let (count, mut columns) = number_columns(&payload, &types).expect("a batch");
            assert_eq!(count, rows);
            for (column, wanted) in columns.iter_mut().zip(&wanted) {
                let mut found = vec![0.0; rows];
                found.chunks_mut(portion).for_each(|part| column.take(part));
                assert!(found.iter().map(|v| v.to_bits()).eq(wanted.iter().copied()));
                column.take(&mut found[..1]);
                assert!(found[0].is_nan());
            }
        }
    }

    #[test]
    fn what_is_no_batch_is_refused() {
        let (payload, types) = payload(6);
        let refused =
            |payload: &[u8], types: &[ColumnType]| number_columns(payload, types).is_err();
        assert!(!refused(&payload, &types));
        for length in 0..payload.len() {
            assert!(refused(&payload[..length], &types), "{length} bytes");
        }
        assert!(refused(&[payload.as_slice(), &[0]].concat(), &types));
        assert!(refused(&payload, &[ColumnType::Float, ColumnType::Text, ColumnType::Float]));
        let mut flag = payload.clone();
        flag[4] = 2;
        assert!(refused(&flag, &types));
        let mut rows = payload;
        rows[3] = 0xff;
        assert!(refused(&rows, &types));
    }
}
