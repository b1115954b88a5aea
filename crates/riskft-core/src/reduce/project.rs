//! A row -> its components, with the same bits on every processor.
//!
//! Each component sums its products in the order of the columns, sixteen components side by side:
//! lanes never meet, so that wider registers change no bit. The mean is taken away before anything
//! is multiplied: folded into the product, it would cancel digits of columns far from zero.

use std::sync::Arc;

use super::file::BLOCK;
use super::Reducer;
use crate::cell::Cell;
use crate::encode::value::plain;
use crate::gemm::Kernel;
use crate::math::{Lanes, Task};

/// Standardised values are held within this bound, so that their sums stay finite.
const MOST: f64 = 1e150;

/// Projects rows by one reducer; holds the buffers of one user of it.
pub struct Projector {
    reducer: Arc<Reducer>,
    kernel: Kernel,
    /// 1 / scale of each column.
    inverses: Vec<f64>,
    values: Vec<f64>,
    out: Vec<f64>,
}

impl Projector {
    /// A kernel that the processor lacks computes as the portable one: the bits are the same.
    pub fn new(reducer: Arc<Reducer>, kernel: Kernel) -> Self {
        Projector {
            kernel,
            inverses: reducer.scales().iter().map(|scale| 1.0 / scale).collect(),
            values: vec![0.0; reducer.columns().len()],
            out: vec![0.0; reducer.count().div_ceil(BLOCK) * BLOCK],
            reducer,
        }
    }

    pub fn reducer(&self) -> &Reducer {
        &self.reducer
    }

    /// Private memory beside the reducer, bytes.
    pub fn bytes(&self) -> usize {
        (self.inverses.len() + self.values.len() + self.out.len()) * size_of::<f64>()
    }

    /// The row's components, from the cells of the reducer's columns in their order. A missing cell
    /// (NULL, NaN, infinite, lacking) is at its column's mean.
    pub fn project(&mut self, cells: &[Cell<'_>]) -> &[f64] {
        let Projector { reducer, kernel, inverses, values, out } = self;
        values.fill(0.0);
        let columns = reducer.means().iter().zip(&*inverses).zip(values.iter_mut()).zip(cells);
        for (((mean, inverse), value), cell) in columns {
            let number = plain(*cell);
            if !number.is_nan() {
                *value = ((number - mean) * inverse).clamp(-MOST, MOST);
            }
        }
        kernel.run(Product { lanes: reducer.lanes(), values, out });
        &out[..reducer.count()]
    }
}

/// `out[component] = sum over the columns of value * loading`
struct Product<'a> {
    /// `[blocks][columns][16]`
    lanes: &'a [f64],
    values: &'a [f64],
    out: &'a mut [f64],
}

impl Task for Product<'_> {
    type Output = ();

    /// The lanes of `L` are f32; these are plain arrays, which the compiler turns into the registers
    /// of the instruction set that it compiles for.
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let blocks = self.lanes.chunks_exact(self.values.len() * BLOCK);
        for (block, out) in blocks.zip(self.out.as_chunks_mut::<BLOCK>().0) {
            let mut sums = [0.0; BLOCK];
            for (loadings, value) in block.as_chunks::<BLOCK>().0.iter().zip(self.values) {
                for (sum, loading) in sums.iter_mut().zip(loadings) {
                    *sum += value * loading;
                }
            }
            *out = sums;
        }
    }
}
