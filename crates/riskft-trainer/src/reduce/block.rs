//! Rows on their way into the sums, by column.

use std::marker::PhantomData;

use tch::{Device, Kind, Tensor};

/// Rows of a block.
pub const ROWS: usize = 512;

/// At most [`ROWS`] rows.
pub struct Block {
    /// [columns][ROWS]; NaN = missing.
    cells: Vec<f64>,
    rows: usize,
}

/// A block's rows as a matrix [columns, rows] that reads them in place.
pub struct Matrix<'a> {
    tensor: Tensor,
    /// The block can neither change nor go while this lives.
    block: PhantomData<&'a Block>,
}

impl Block {
    pub fn new(columns: usize) -> Self {
        Block { cells: vec![0.0; columns * ROWS], rows: 0 }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn room(&self) -> usize {
        ROWS - self.rows
    }

    /// Adds rows for which there is room: `fill` writes the cells of each column.
    pub fn add(&mut self, rows: usize, mut fill: impl FnMut(usize, &mut [f64])) {
        let rows = self.rows..self.rows + rows;
        for (column, cells) in self.cells.chunks_exact_mut(ROWS).enumerate() {
            fill(column, &mut cells[rows.clone()]);
        }
        self.rows = rows.end;
    }

    pub fn clear(&mut self) {
        self.rows = 0;
    }

    pub fn columns_mut(&mut self) -> impl Iterator<Item = &mut [f64]> {
        let rows = self.rows;
        self.cells.chunks_exact_mut(ROWS).map(move |cells| &mut cells[..rows])
    }

    /// 1 where a cell has a value, 0 where it is missing; None where none is.
    pub fn presence(&self) -> Option<Block> {
        // Without a way out of the loop, which would keep it from being vectorised.
        let has_gap =
            |cells: &[f64]| cells[..self.rows].iter().fold(false, |any, v| any | v.is_nan());
        if !self.cells.chunks_exact(ROWS).any(has_gap) {
            return None;
        }
        let cells = self.cells.iter().map(|v| if v.is_nan() { 0.0 } else { 1.0 }).collect();
        Some(Block { cells, rows: self.rows })
    }

    pub fn matrix(&self) -> Matrix<'_> {
        let shape = [(self.cells.len() / ROWS) as i64, self.rows as i64];
        let cells = self.cells.as_ptr().cast();
        let strides = [ROWS as i64, 1];
        // SAFETY: row j of the matrix is the `rows` cells from j * ROWS on, all within the block, which
        // the matrix borrows for as long as it lives.
        let tensor =
            unsafe { Tensor::from_blob(cells, &shape, &strides, Kind::Double, Device::Cpu) };
        Matrix { tensor, block: PhantomData }
    }
}

impl Matrix<'_> {
    /// Not to be kept, nor to be written to.
    pub fn tensor(&self) -> &Tensor {
        &self.tensor
    }
}
