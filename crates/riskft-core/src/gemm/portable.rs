//! Plain integer arithmetic, for every processor.

use super::Weights;

pub(super) fn multiply(
    activations: &[[u8; 16]],
    stride: usize,
    rows: usize,
    weights: Weights<'_>,
    out: &mut [[i32; 16]],
) {
    let panels = weights.packed.chunks_exact(weights.groups.max(1) * 64);
    for (block, panel) in panels.enumerate() {
        for row in 0..rows {
            let bytes = activations[row * stride..(row + 1) * stride].as_flattened();
            let mut sums = [0i32; 16];
            for (four, weights) in bytes.chunks_exact(4).zip(panel.chunks_exact(64)) {
                for (n, sum) in sums.iter_mut().enumerate() {
                    for k in 0..4 {
                        let a = i32::from(four[k]) - 128;
                        *sum = sum.wrapping_add(a * i32::from(weights[n * 4 + k]));
                    }
                }
            }
            out[row * weights.blocks + block] = sums;
        }
    }
}
