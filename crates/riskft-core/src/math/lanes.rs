//! Sixteen f32 lanes: the operations that each instruction set provides.

use super::Block;

/// `1.5 * 2^23`: added to a float of less than 2^22, it leaves that float rounded to the nearest
/// integer (ties to even) in the low bits of the sum.
pub(crate) const MAGIC: f32 = 12_582_912.0;

/// Sixteen floats in registers. Every operation acts lane by lane and is rounded by itself.
pub(crate) trait Lanes: Copy {
    fn splat(value: f32) -> Self;
    fn load(from: &Block) -> Self;
    fn store(self, to: &mut Block);
    /// Nearest float of each integer.
    fn from_i32(from: &[i32; 16]) -> Self;
    fn from_i8(from: &[i8; 16]) -> Self;
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    /// `self > other ? self : other`, so `other` when either is NaN.
    fn max(self, other: Self) -> Self;
    /// `self < other ? self : other`, so `other` when either is NaN.
    fn min(self, other: Self) -> Self;
    fn abs(self) -> Self;
    /// `2^n`, where self is `n + MAGIC` with an integral n in -126..=127.
    fn power_of_two(self) -> Self;
    /// `n + 128` as bytes, where self is `n + MAGIC` with an integral n in -127..=127.
    fn store_offset(self, to: &mut [u8; 16]);

    /// All sixteen lanes, added pairwise: 8 + 8, 4 + 4, 2 + 2, 1 + 1.
    #[inline(always)]
    fn sum(self) -> f32 {
        fold(self, |a, b| a + b)
    }
    #[inline(always)]
    fn largest(self) -> f32 {
        fold(self, |a, b| if a > b { a } else { b })
    }
}

#[inline(always)]
fn fold<L: Lanes>(lanes: L, join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut v = [0.0; 16];
    lanes.store(&mut v);
    let mut half = 8;
    while half > 0 {
        for i in 0..half {
            v[i] = join(v[i], v[i + half]);
        }
        half /= 2;
    }
    v[0]
}

/// Plain arrays: every processor, and the oracle of the others.
#[derive(Clone, Copy)]
pub(crate) struct Portable([f32; 16]);

#[inline(always)]
fn each(a: Portable, b: Portable, f: impl Fn(f32, f32) -> f32) -> Portable {
    Portable(std::array::from_fn(|i| f(a.0[i], b.0[i])))
}

impl Lanes for Portable {
    #[inline(always)]
    fn splat(value: f32) -> Self {
        Portable([value; 16])
    }
    #[inline(always)]
    fn load(from: &Block) -> Self {
        Portable(*from)
    }
    #[inline(always)]
    fn store(self, to: &mut Block) {
        *to = self.0;
    }
    #[inline(always)]
    fn from_i32(from: &[i32; 16]) -> Self {
        Portable(from.map(|v| v as f32))
    }
    #[inline(always)]
    fn from_i8(from: &[i8; 16]) -> Self {
        Portable(from.map(f32::from))
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        each(self, other, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        each(self, other, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        each(self, other, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        each(self, other, |a, b| a / b)
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        each(self, other, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        each(self, other, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn abs(self) -> Self {
        Portable(self.0.map(|v| f32::from_bits(v.to_bits() & 0x7fff_ffff)))
    }
    #[inline(always)]
    fn power_of_two(self) -> Self {
        Portable(self.0.map(|v| f32::from_bits(v.to_bits().wrapping_add(127) << 23)))
    }
    #[inline(always)]
    fn store_offset(self, to: &mut [u8; 16]) {
        *to = self.0.map(|v| (v.to_bits() as u8) ^ 0x80);
    }
}
