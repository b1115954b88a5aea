//! AVX-512 VNNI: `vpdpbusd` adds four products of a byte and an int8 to each of 16 sums.

use std::arch::x86_64::*;

use super::Weights;

/// Most rows of a tile. With two blocks of outputs, 12 rows take 24 of the 32 registers.
const ROWS: usize = 12;

/// # Safety
/// The processor has AVX-512 F and VNNI. `activations` holds `rows * stride` blocks, of which
/// each row has at least `weights.groups * 4` bytes; `out` holds `rows * weights.blocks` blocks.
#[target_feature(enable = "avx512f,avx512vnni")]
pub(super) unsafe fn multiply(
    activations: &[[u8; 16]],
    stride: usize,
    rows: usize,
    weights: Weights<'_>,
    out: &mut [[i32; 16]],
) {
    if rows == 0 {
        return;
    }
    let tiles = rows.div_ceil(ROWS);
    let place = Place {
        activations: activations.as_ptr().cast(),
        stride: stride * 16,
        packed: weights.packed.as_ptr(),
        groups: weights.groups,
        compensation: weights.compensation.as_ptr(),
        out: out.as_mut_ptr().cast(),
        blocks: weights.blocks,
    };
    // One panel of weights after the other, so that it stays in the first cache for all tiles.
    let mut block = 0;
    while block < weights.blocks {
        let left = weights.blocks - block;
        let width = match rows {
            1 if left >= 8 => 8,
            1..=4 if left >= 4 => 4,
            _ if left >= 2 => 2,
            _ => 1,
        };
        for tile in 0..tiles {
            let (first, end) = (rows * tile / tiles, rows * (tile + 1) / tiles);
            // SAFETY: the tile lies within the rows and blocks that the caller vouches for.
            unsafe { place.tile(first, end - first, block, width) };
        }
        block += width;
    }
}

/// Where a product reads and writes.
#[derive(Clone, Copy)]
struct Place {
    activations: *const u8,
    /// Bytes of a row of activations.
    stride: usize,
    packed: *const i8,
    groups: usize,
    compensation: *const i32,
    out: *mut i32,
    blocks: usize,
}

impl Place {
    /// # Safety
    /// As for [`multiply`]; `first + rows` and `block + width` lie within the product.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vnni")]
    unsafe fn tile(self, first: usize, rows: usize, block: usize, width: usize) {
        // SAFETY: the caller's promise, passed on.
        unsafe {
            match (rows, width) {
                (1, 8) => self.sums::<1, 8>(first, block),
                (1, 4) => self.sums::<1, 4>(first, block),
                (2, 4) => self.sums::<2, 4>(first, block),
                (3, 4) => self.sums::<3, 4>(first, block),
                (4, 4) => self.sums::<4, 4>(first, block),
                (_, 2) => match rows {
                    1 => self.sums::<1, 2>(first, block),
                    2 => self.sums::<2, 2>(first, block),
                    3 => self.sums::<3, 2>(first, block),
                    4 => self.sums::<4, 2>(first, block),
                    5 => self.sums::<5, 2>(first, block),
                    6 => self.sums::<6, 2>(first, block),
                    7 => self.sums::<7, 2>(first, block),
                    8 => self.sums::<8, 2>(first, block),
                    9 => self.sums::<9, 2>(first, block),
                    10 => self.sums::<10, 2>(first, block),
                    11 => self.sums::<11, 2>(first, block),
                    _ => self.sums::<ROWS, 2>(first, block),
                },
                _ => {
                    for row in first..first + rows {
                        self.sums::<1, 1>(row, block);
                    }
                }
            }
        }
    }

    /// The sums of R rows and B blocks of outputs, held in registers.
    ///
    /// # Safety
    /// As for [`Place::tile`].
    #[target_feature(enable = "avx512f,avx512vnni")]
    unsafe fn sums<const R: usize, const B: usize>(self, first: usize, block: usize) {
        // SAFETY: rows `first..first + R` and blocks `block..block + B` lie within the product, each
        // row of activations has four bytes for each group, and no access needs alignment.
        unsafe {
            let mut sums = [[_mm512_setzero_si512(); B]; R];
            for b in 0..B {
                let start = _mm512_loadu_epi32(self.compensation.add((block + b) * 16));
                for row in &mut sums {
                    row[b] = start;
                }
            }
            let panel = self.packed.add(block * self.groups * 64);
            let rows = self.activations.add(first * self.stride);
            for group in 0..self.groups {
                let mut weights = [_mm512_setzero_si512(); B];
                for (b, weights) in weights.iter_mut().enumerate() {
                    let at = panel.add((b * self.groups + group) * 64);
                    *weights = _mm512_loadu_si512(at.cast());
                }
                for (r, row) in sums.iter_mut().enumerate() {
                    let four = rows.add(r * self.stride + group * 4).cast::<i32>();
                    let four = _mm512_set1_epi32(four.read_unaligned());
                    for (sum, weights) in row.iter_mut().zip(weights) {
                        *sum = _mm512_dpbusd_epi32(*sum, four, weights);
                    }
                }
            }
            for (r, row) in sums.iter().enumerate() {
                for (b, sum) in row.iter().enumerate() {
                    let at = self.out.add(((first + r) * self.blocks + block + b) * 16);
                    _mm512_storeu_epi32(at, *sum);
                }
            }
        }
    }
}
