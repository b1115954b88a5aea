//! AVX2: bytes and int8 are widened to 16 bits, so that `vpmaddwd` adds pairs of products exactly
//! (`vpmaddubsw` would saturate).

use std::arch::x86_64::*;

use super::Weights;

/// Rows of a tile. Three rows take 12 of the 16 registers.
const ROWS: usize = 3;

/// # Safety
/// The processor has AVX2. `activations` holds `rows * stride` blocks, of which each row has at
/// least `weights.groups * 4` bytes; `out` holds `rows * weights.blocks` blocks.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn multiply(
    activations: &[[u8; 16]],
    stride: usize,
    rows: usize,
    weights: Weights<'_>,
    out: &mut [[i32; 16]],
) {
    for block in 0..weights.blocks {
        let mut row = 0;
        while row < rows {
            // SAFETY: rows `row..row + 1, 2 or 3` and `block` lie within the product.
            row += unsafe {
                match rows - row {
                    1 => sums::<1>(activations, stride, row, weights, block, out),
                    2 => sums::<2>(activations, stride, row, weights, block, out),
                    _ => sums::<ROWS>(activations, stride, row, weights, block, out),
                }
            };
        }
    }
}

/// The sums of R rows and one block of outputs. Returns R.
///
/// # Safety
/// As for [`multiply`]; `first + R` rows and `block` lie within the product.
#[target_feature(enable = "avx2")]
unsafe fn sums<const R: usize>(
    activations: &[[u8; 16]],
    stride: usize,
    first: usize,
    weights: Weights<'_>,
    block: usize,
    out: &mut [[i32; 16]],
) -> usize {
    // SAFETY: each row has four bytes for each group, the panel has 64 weights for each group, the
    // sums of a row and a block are sixteen integers, and no access needs alignment.
    unsafe {
        // Each register holds the sums of four outputs, two partial ones for each.
        let mut sums = [[_mm256_setzero_si256(); 4]; R];
        let panel = weights.packed.as_ptr().add(block * weights.groups * 64);
        let rows = activations.as_ptr().add(first * stride).cast::<u8>();
        for group in 0..weights.groups {
            let mut bytes = [_mm256_setzero_si256(); R];
            for (r, bytes) in bytes.iter_mut().enumerate() {
                let four = rows.add(r * stride * 16 + group * 4).cast::<i32>().read_unaligned();
                *bytes = _mm256_cvtepu8_epi16(_mm_set1_epi32(four));
            }
            for quarter in 0..4 {
                let at = panel.add(group * 64 + quarter * 16);
                let weights = _mm256_cvtepi8_epi16(_mm_loadu_si128(at.cast()));
                for (row, bytes) in sums.iter_mut().zip(bytes) {
                    let products = _mm256_madd_epi16(bytes, weights);
                    row[quarter] = _mm256_add_epi32(row[quarter], products);
                }
            }
        }
        let compensation = weights.compensation.as_ptr().add(block * 16).cast::<__m256i>();
        for (r, row) in sums.iter().enumerate() {
            let at = out.as_mut_ptr().add((first + r) * weights.blocks + block).cast::<__m256i>();
            for half in 0..2 {
                let pairs = _mm256_hadd_epi32(row[half * 2], row[half * 2 + 1]);
                // Pairs come as outputs 0 1 4 5 | 2 3 6 7.
                let ordered = _mm256_permute4x64_epi64::<0b11_01_10_00>(pairs);
                let start = _mm256_loadu_si256(compensation.add(half));
                _mm256_storeu_si256(at.add(half), _mm256_add_epi32(ordered, start));
            }
        }
    }
    R
}
