//! Texts of rows -> one sparse row of TF-IDF values for each.

use std::ops::Range;

use riskft_core::grams::{counted, Reader, Table, View};
use riskft_core::refusal::{code, Refusal, Result};

/// Most values of all rows, 1 GiB: about 40,000 narratives of 200 words.
const MOST_VALUES: usize = 1 << 27;
/// Training rows that must have a bucket.
const LEAST_ROWS: u32 = 2;
/// Values for each byte of text, at most: runs of words begin at every second character, of
/// characters at each.
const WITH_CHARACTERS: usize = 4;
const WITHOUT: usize = 1;

/// The default view for texts of so many bytes in all: without runs of characters where their
/// values would not fit, None where those of words would not.
pub fn view_for(bytes: usize) -> Option<View> {
    let fits = |each: usize| bytes.saturating_mul(each) <= MOST_VALUES;
    let view = View::default();
    if fits(WITH_CHARACTERS) {
        return Some(view);
    }
    fits(WITHOUT).then_some(View { characters: None, ..view })
}

/// The texts of rows, by column.
pub struct Texts<'a> {
    /// The columns' numbers, by which scoring tells them apart too.
    pub columns: Vec<u32>,
    /// [rows, columns]; "" where there is none.
    pub cells: Vec<&'a str>,
}

impl<'a> Texts<'a> {
    fn row(&self, row: usize) -> impl Iterator<Item = (u32, &'a str)> + '_ {
        let width = self.columns.len();
        let cells = self.cells.get(row * width..(row + 1) * width).unwrap_or(&[]);
        self.columns.iter().copied().zip(cells.iter().copied())
    }
    fn rows(&self) -> usize {
        self.cells.len() / self.columns.len().max(1)
    }
}

/// Rows over the known buckets of a [`Table`], sparse.
pub struct Matrix {
    table: Table,
    columns: Vec<u32>,
    /// Where each column of each row begins, and the end: [rows * columns + 1].
    starts: Vec<usize>,
    slots: Vec<u32>,
    values: Vec<f32>,
}

impl Matrix {
    /// Counts all rows. `training` are those that decide which buckets are known, and how rare.
    ///
    /// # Errors
    /// 54000 when the texts are too long in all (see [`view_for`]), 22000 for a wrong view.
    pub fn read(view: View, texts: &Texts<'_>, training: &[u32]) -> Result<Self> {
        let table = known(view, texts, training).map_err(|what| {
            Refusal::new(code::DATA_EXCEPTION, "texts cannot be counted")
                .detail(format!("The n-grams are wrong: {what}."))
        })?;
        Matrix::over(table, texts)
    }

    /// Counts the buckets that a table knows.
    ///
    /// # Errors
    /// 54000 when the texts are too long in all.
    pub fn over(table: Table, texts: &Texts<'_>) -> Result<Self> {
        let columns = texts.columns.clone();
        let mut matrix =
            Matrix { table, columns, starts: vec![0], slots: Vec::new(), values: Vec::new() };
        let mut reader = Reader::default();
        for row in 0..texts.rows() {
            for (column, text) in texts.row(row) {
                matrix.push(column, text, &mut reader);
            }
            if matrix.values.len() > MOST_VALUES {
                return Err(Refusal::new(code::LIMIT_EXCEEDED, "texts are too long to be counted")
                    .detail(format!("They have more than {MOST_VALUES} n-grams."))
                    .hint("Train on fewer rows."));
            }
        }
        Ok(matrix)
    }

    fn push(&mut self, column: u32, text: &str, reader: &mut Reader) {
        let view = *self.table.view();
        reader.read(&view, column, text, |buckets| {
            let start = self.values.len();
            let mut square = 0.0;
            for (bucket, count) in counted(buckets) {
                let Some((slot, frequency)) = self.table.slot(bucket) else { continue };
                let x = view.weight(count) * frequency;
                square += x * x;
                self.slots.push(slot as u32);
                self.values.push(x as f32);
            }
            let scale = if square > 0.0 { 1.0 / square.sqrt() } else { 0.0 };
            for value in &mut self.values[start..] {
                *value = (f64::from(*value) * scale) as f32;
            }
        });
        self.starts.push(self.values.len());
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        (self.starts.len() - 1) / self.columns.len().max(1)
    }
    /// Number of known buckets.
    pub fn buckets(&self) -> usize {
        self.table.len()
    }
    /// Numbers of the columns, in the texts' order.
    pub fn columns(&self) -> &[u32] {
        &self.columns
    }

    /// The known buckets of some columns, by place, with these weights: what is stored and scored.
    /// The rows of the matrix score as they do here, but for the rounding of weights to float4.
    ///
    /// # Errors
    /// A weight that is not finite.
    pub fn table(
        &self,
        places: &[usize],
        weights: &[f64],
        bias: f64,
    ) -> std::result::Result<Table, String> {
        let mut used = vec![false; self.buckets()];
        for row in 0..self.rows() as u32 {
            self.cells(row, places).for_each(|(slot, _)| used[slot] = true);
        }
        let view = *self.table.view();
        let (mut known, mut kept) = (Vec::new(), Vec::new());
        for bucket in 0..view.buckets() as u32 {
            let Some((slot, frequency)) = self.table.slot(bucket) else { continue };
            if used[slot] {
                known.push((bucket, frequency as f32));
                kept.push(weights.get(slot).copied().unwrap_or(f64::NAN));
            }
        }
        let mut table = Table::new(view, &known)?;
        table.set_weights(&kept, bias)?;
        Ok(table)
    }

    /// Slots and values of a row's columns, by place; a slot may come more than once.
    #[inline]
    pub(super) fn cells<'a>(
        &'a self,
        row: u32,
        places: &'a [usize],
    ) -> impl Iterator<Item = (usize, f64)> + 'a {
        places.iter().flat_map(move |place| {
            let range = self.range(row, *place);
            let slots = self.slots[range.clone()].iter().map(|slot| *slot as usize);
            slots.zip(self.values[range].iter().map(|value| f64::from(*value)))
        })
    }

    fn range(&self, row: u32, place: usize) -> Range<usize> {
        let start = row as usize * self.columns.len() + place;
        self.starts[start]..self.starts[start + 1]
    }
}

/// A table with the buckets besides that enough of the rows of `training` have.
///
/// # Errors
/// What is wrong with the table's view.
pub fn extended(
    table: &Table,
    texts: &Texts<'_>,
    training: &[u32],
) -> std::result::Result<Table, String> {
    let new = known(*table.view(), texts, training)?;
    table.with(&new.frequencies().collect::<Vec<_>>())
}

/// The buckets that enough training rows have, and `ln((1 + rows) / (1 + rows with it)) + 1`.
fn known(view: View, texts: &Texts<'_>, training: &[u32]) -> std::result::Result<Table, String> {
    view.check()?;
    let mut rows_with = vec![0u32; view.buckets()];
    let (mut reader, mut own) = (Reader::default(), Vec::new());
    for row in training {
        own.clear();
        for (column, text) in texts.row(*row as usize) {
            reader.read(&view, column, text, |buckets| {
                own.extend(counted(buckets).map(|(bucket, _)| bucket));
            });
        }
        own.sort_unstable();
        own.dedup();
        own.iter().for_each(|bucket| rows_with[*bucket as usize] += 1);
    }
    let rows = 1.0 + training.len() as f64;
    let often = (0u32..).zip(&rows_with).filter(|(_, with)| **with >= LEAST_ROWS);
    let known: Vec<(u32, f32)> = often
        .map(|(bucket, with)| (bucket, ((rows / (1.0 + f64::from(*with))).ln() + 1.0) as f32))
        .collect();
    Table::new(view, &known)
}
