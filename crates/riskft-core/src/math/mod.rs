//! Elementary functions with the same bits on every processor.
//!
//! The standard library's `exp`, `ln` and `tanh` call the system's libm, which picks FMA variants
//! by processor; scoring therefore uses the `libm` crate (software, one path) for scalars in f64
//! and polynomials over sixteen fixed lanes, without FMA, for vectors in f32.
//!
//! Vectors are whole blocks of sixteen; rows that are shorter are filled up with zeros. Sums run
//! over the blocks in order, lane by lane, and end in one fixed tree. Every operation is rounded
//! by itself (IEEE 754, to nearest even): Rust neither contracts nor reorders, so the
//! instantiations of a `Task` for different instruction sets agree to the bit.

mod lanes;
#[cfg(test)]
mod tests;
pub(crate) mod vector;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use lanes::{Lanes, Portable};

use crate::gemm::Kernel;

/// Sixteen floats.
pub type Block = [f32; 16];

/// Blocks that hold `count` values.
pub const fn blocks(count: usize) -> usize {
    count.div_ceil(16)
}

/// A computation over lanes, compiled once for each instruction set.
/// `run` must be `#[inline(always)]`, as must be all that it calls, or the lanes' instructions
/// become function calls.
pub(crate) trait Task {
    type Output;
    fn run<L: Lanes>(self) -> Self::Output;
}

impl Kernel {
    pub(crate) fn run<T: Task>(self, task: T) -> T::Output {
        #[cfg(target_arch = "x86_64")]
        match self {
            // SAFETY: `available` found the instructions that the path needs.
            Kernel::Avx2 if self.available() => return unsafe { x86::run_avx2(task) },
            // SAFETY: as above.
            Kernel::Avx512Vnni if self.available() => return unsafe { x86::run_avx512(task) },
            _ => {}
        }
        task.run::<Portable>()
    }
}

/// `1 / (1 + exp(-x))`; 0 and 1 at the infinities, NaN for NaN.
pub fn logistic(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + libm::exp(-x))
    } else {
        let e = libm::exp(x);
        e / (1.0 + e)
    }
}

/// `ln(p / (1 - p))` with p held within [1e-15, 1 - 1e-15].
pub fn logit(p: f64) -> f64 {
    let p = p.clamp(1e-15, 1.0 - 1e-15);
    libm::log(p / (1.0 - p))
}

/// Floats aligned to a cache line, kept between calls; the start of a row is a block.
#[derive(Default)]
pub(crate) struct Floats(Vec<Line>);

#[derive(Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([f32; 16]);

impl Floats {
    /// The first `count` blocks, grown with zeros, else as they were left.
    pub(crate) fn first(&mut self, count: usize) -> &mut [Block] {
        if self.0.len() < count {
            self.0.resize(count, Line::default());
        }
        bytemuck::cast_slice_mut(&mut self.0[..count])
    }
    /// The first `count` blocks as integers.
    pub(crate) fn first_i32(&mut self, count: usize) -> &mut [[i32; 16]] {
        bytemuck::cast_slice_mut(self.first(count))
    }
    pub(crate) fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<Line>()
    }
}
