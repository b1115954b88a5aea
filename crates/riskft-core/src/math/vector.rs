//! Functions of rows of blocks: exponential, GELU, softmax, layer norm, quantization.

use super::lanes::{Lanes, MAGIC};
use super::Block;
use crate::gemm::Weights;

/// `exp(x)`, x held within [-87, 88]: the range reduction and polynomial of Cephes' expf,
/// relative error below 2e-7.
#[inline(always)]
pub(crate) fn exp<L: Lanes>(x: L) -> L {
    let x = x.max(L::splat(-87.0)).min(L::splat(88.0));
    let shifted = x.mul(L::splat(std::f32::consts::LOG2_E)).add(L::splat(MAGIC));
    let n = shifted.sub(L::splat(MAGIC));
    // ln 2 in two parts; the first has few bits, so its product with n is exact.
    let r = x.sub(n.mul(L::splat(0.693_359_4))).sub(n.mul(L::splat(-2.121_944_4e-4)));
    let mut p = L::splat(1.987_569_1e-4);
    for c in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5.0e-1] {
        p = p.mul(r).add(L::splat(c));
    }
    p.mul(r).mul(r).add(r).add(L::splat(1.0)).mul(shifted.power_of_two())
}

/// `x Phi(x)` with the normal distribution function Phi, as `max(x, 0) - |x| erfc(|x|/sqrt 2) / 2`;
/// erfc by Abramowitz and Stegun 7.1.26. Absolute error below 1e-6.
#[inline(always)]
pub(crate) fn gelu<L: Lanes>(x: L) -> L {
    let a = x.abs();
    let one = L::splat(1.0);
    // 0.3275911 / sqrt(2)
    let t = one.div(one.add(a.mul(L::splat(0.231_641_89))));
    let mut p = L::splat(1.061_405_4);
    for c in [-1.453_152, 1.421_413_8, -0.284_496_72, 0.254_829_6] {
        p = p.mul(t).add(L::splat(c));
    }
    let tail = p.mul(t).mul(exp(x.mul(x).mul(L::splat(-0.5))));
    x.max(L::splat(0.0)).sub(a.mul(L::splat(0.5)).mul(tail))
}

/// Sum of a row.
#[inline(always)]
pub(crate) fn sum<L: Lanes>(row: &[Block]) -> f32 {
    let mut total = L::splat(0.0);
    for block in row {
        total = total.add(L::load(block));
    }
    total.sum()
}

/// Sum of the products of two rows.
#[inline(always)]
pub(crate) fn dot<L: Lanes>(a: &[Block], b: &[Block]) -> f32 {
    let mut total = L::splat(0.0);
    for (a, b) in a.iter().zip(b) {
        total = total.add(L::load(a).mul(L::load(b)));
    }
    total.sum()
}

/// `row += share * other`
#[inline(always)]
pub(crate) fn add_share<L: Lanes>(row: &mut [Block], share: f32, other: &[Block]) {
    let share = L::splat(share);
    for (block, other) in row.iter_mut().zip(other) {
        L::load(block).add(L::load(other).mul(share)).store(block);
    }
}

/// Sets all but the first `count` values of a row to zero.
#[inline(always)]
pub(crate) fn clear_tail(row: &mut [Block], count: usize) {
    if let Some(values) = row.as_flattened_mut().get_mut(count..) {
        values.fill(0.0);
    }
}

/// `exp(x_i - max x) / sum` over the first `count` values; the rest of the row becomes zero.
#[inline(always)]
pub(crate) fn softmax<L: Lanes>(row: &mut [Block], count: usize) {
    if let Some(values) = row.as_flattened_mut().get_mut(count..) {
        values.fill(f32::MIN);
    }
    let mut top = L::splat(f32::MIN);
    for block in row.iter() {
        top = L::load(block).max(top);
    }
    let top = L::splat(top.largest());
    for block in row.iter_mut() {
        exp(L::load(block).sub(top)).store(block);
    }
    clear_tail(row, count);
    let inverse = L::splat(1.0 / sum::<L>(row));
    for block in row.iter_mut() {
        L::load(block).mul(inverse).store(block);
    }
}

/// `(x - mean) / sqrt(var + epsilon)` over the first `count` values, the others being zero before
/// and after.
#[inline(always)]
pub(crate) fn normalise<L: Lanes>(row: &mut [Block], count: usize, epsilon: f32) {
    let mean = L::splat(sum::<L>(row) / count as f32);
    for block in row.iter_mut() {
        L::load(block).sub(mean).store(block);
    }
    clear_tail(row, count);
    let variance = dot::<L>(row, row) / count as f32;
    let inverse = L::splat(1.0 / (variance + epsilon).sqrt());
    for block in row.iter_mut() {
        L::load(block).mul(inverse).store(block);
    }
}

/// `normalise`, then `* gain + shift`.
#[inline(always)]
pub(crate) fn layer_norm<L: Lanes>(
    row: &mut [Block],
    count: usize,
    epsilon: f32,
    gain: &[Block],
    shift: &[Block],
) {
    normalise::<L>(row, count, epsilon);
    for ((block, gain), shift) in row.iter_mut().zip(gain).zip(shift) {
        L::load(block).mul(L::load(gain)).add(L::load(shift)).store(block);
    }
}

/// The scale of a quantized row, and its largest value, which stays a float.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Scale {
    pub scale: f32,
    pub peak: f32,
    /// Where the peak is; its byte is that of zero.
    pub at: usize,
}

/// A row as bytes `round(x / scale) + 128` with `scale = max |x| / 127`, but for its largest value.
///
/// Some tokens of BERT models hold nearly all of their norm in one channel (Bondarenko et al. 2021);
/// with that value in the scale, the others would round to nothing. Left out of it, the mean cosine
/// of MiniLM's pooled vectors with f32 rises from 0.9960 to 0.9990. The row is as before on return.
///
/// A row below 1e-30 counts as zero (scale 0): the inverse of its scale would overflow.
#[inline(always)]
pub(crate) fn quantize<L: Lanes>(row: &mut [Block], bytes: &mut [[u8; 16]]) -> Scale {
    let top = largest::<L>(row);
    let found = row.iter().enumerate().find_map(|(b, block)| {
        let equal = L::load(block).abs().equal(top);
        (equal != 0).then(|| b * 16 + equal.trailing_zeros() as usize)
    });
    let at = found.unwrap_or(0);
    let values = row.as_flattened_mut();
    let peak = values.get_mut(at).map_or(0.0, std::mem::take);
    let top = largest::<L>(row);
    let (scale, inverse) = if top < 1e-30 { (0.0, 0.0) } else { (top / 127.0, 127.0 / top) };
    let inverse = L::splat(inverse);
    for (block, bytes) in row.iter().zip(bytes) {
        L::load(block).mul(inverse).add(L::splat(MAGIC)).store_offset(bytes);
    }
    if let Some(value) = row.as_flattened_mut().get_mut(at) {
        *value = peak;
    }
    Scale { scale, peak, at }
}

/// `max |x|`
#[inline(always)]
fn largest<L: Lanes>(row: &[Block]) -> f32 {
    let mut top = L::splat(0.0);
    for block in row {
        top = L::load(block).abs().max(top);
    }
    top.largest()
}

/// An int8 layer's values; scale and bias are filled up to whole blocks.
#[derive(Clone, Copy)]
pub(crate) struct Layer<'a> {
    pub weights: Weights<'a>,
    pub scale: &'a [Block],
    pub bias: &'a [Block],
}

/// What follows a linear layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    None,
    Relu,
    Gelu,
}

/// Integer sums -> floats: `(sum * scale + peak * weight at the peak) * weight_scale + bias`, then
/// the activation.
#[inline(always)]
pub(crate) fn finish<L: Lanes>(
    sums: &[[i32; 16]],
    scale: Scale,
    layer: Layer<'_>,
    activation: Activation,
    out: &mut [Block],
) {
    let (row_scale, peak) = (L::splat(scale.scale), L::splat(scale.peak));
    let column = layer.weights.column(scale.at / 4);
    let values = sums.iter().zip(column).zip(layer.scale).zip(layer.bias);
    for ((((sums, group), weight_scale), bias), out) in values.zip(out) {
        let v = L::from_i32(sums).mul(row_scale);
        let v = v.add(L::from_column(group, scale.at % 4).mul(peak));
        let v = v.mul(L::load(weight_scale)).add(L::load(bias));
        let v = match activation {
            Activation::None => v,
            Activation::Relu => v.max(L::splat(0.0)),
            Activation::Gelu => gelu(v),
        };
        v.store(out);
    }
}
