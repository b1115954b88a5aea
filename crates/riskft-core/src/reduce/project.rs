//! A row -> its components, with the same bits on every processor.
//!
//! Each component sums its products in the order of the columns, sixteen components side by side:
//! lanes never meet, so that wider registers change no bit. The mean is taken away before anything
//! is multiplied: folded into the product, it would cancel digits of columns far from zero.

use std::sync::Arc;

use super::axes::BLOCK;
use super::{Axes, Reducer};
use crate::cell::Cell;
use crate::encode::value::plain;
use crate::gemm::Kernel;
use crate::math::{Lanes, Task};

/// Standardised values are held within this bound, so that their sums stay finite.
const MOST: f64 = 1e150;

impl Axes {
    /// The components of a row's numbers, one for each column, NaN = missing, which is at the mean.
    /// The numbers are standardised in place. A kernel that the processor lacks computes as the
    /// portable one: the bits are the same.
    pub fn project(&self, kernel: Kernel, values: &mut [f64], out: &mut Vec<f64>) {
        let columns = self.means().iter().zip(&*self.inverses);
        for (value, (mean, inverse)) in values.iter_mut().zip(columns) {
            let is_known = !value.is_nan();
            *value = if is_known { ((*value - mean) * inverse).clamp(-MOST, MOST) } else { 0.0 };
        }
        out.clear();
        out.resize(self.count().div_ceil(BLOCK) * BLOCK, 0.0);
        if values.len() == self.columns() {
            kernel.run(Product { lanes: self.lanes(), values, out });
        }
        out.truncate(self.count());
    }
}

/// Projects rows by one reducer; holds the buffers of one user of it.
pub struct Projector {
    reducer: Arc<Reducer>,
    kernel: Kernel,
    values: Vec<f64>,
    out: Vec<f64>,
}

impl Projector {
    /// A kernel that the processor lacks computes as the portable one: the bits are the same.
    pub fn new(reducer: Arc<Reducer>, kernel: Kernel) -> Self {
        Projector {
            kernel,
            values: vec![f64::NAN; reducer.columns().len()],
            out: vec![0.0; reducer.count().div_ceil(BLOCK) * BLOCK],
            reducer,
        }
    }

    pub fn reducer(&self) -> &Reducer {
        &self.reducer
    }

    /// Private memory beside the reducer, bytes.
    pub fn bytes(&self) -> usize {
        (self.values.len() + self.out.len()) * size_of::<f64>()
    }

    /// The row's components, from the cells of the reducer's columns in their order. A missing cell
    /// (NULL, NaN, infinite, lacking) is at its column's mean.
    pub fn project(&mut self, cells: &[Cell<'_>]) -> &[f64] {
        let Projector { reducer, kernel, values, out } = self;
        values.fill(f64::NAN);
        values.iter_mut().zip(cells).for_each(|(value, cell)| *value = plain(*cell));
        reducer.axes().project(*kernel, values, out);
        out
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
