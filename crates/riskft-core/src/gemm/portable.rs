//! Plain integer arithmetic, for every processor.
//!
//! Pairs of 16-bit products are summed in 32 bits: a form that compilers turn into the multiply-add
//! of pairs that SSE2 and NEON have.

use super::Weights;

pub(super) fn multiply(
    activations: &[[u8; 16]],
    stride: usize,
    rows: usize,
    weights: Weights<'_>,
    out: &mut [[i32; 16]],
) {
    let panels = weights.packed.as_chunks::<64>().0.chunks_exact(weights.groups);
    for (block, panel) in panels.enumerate() {
        for row in 0..rows {
            let bytes = activations[row * stride..(row + 1) * stride].as_flattened();
            out[row * weights.blocks + block] = sums(bytes.as_chunks().0, panel);
        }
    }
}

/// The sums of one row and one block of outputs.
fn sums(row: &[[u8; 4]], panel: &[[i8; 64]]) -> [i32; 16] {
    let mut pairs = [0i32; 32];
    for (four, weights) in row.iter().zip(panel) {
        let mut a = [0i16; 64];
        for repeated in a.as_chunks_mut::<4>().0 {
            *repeated = four.map(|a| i16::from(a) - 128);
        }
        let w = weights.map(i16::from);
        for (i, pair) in pairs.iter_mut().enumerate() {
            let first = i32::from(a[2 * i]) * i32::from(w[2 * i]);
            let second = i32::from(a[2 * i + 1]) * i32::from(w[2 * i + 1]);
            *pair = pair.wrapping_add(first + second);
        }
    }
    std::array::from_fn(|n| pairs[2 * n].wrapping_add(pairs[2 * n + 1]))
}
