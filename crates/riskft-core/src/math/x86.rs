//! Lanes of AVX2 (two registers) and AVX-512 (one register).

use std::arch::x86_64::*;

use super::lanes::Lanes;
use super::{Block, Task};

/// # Safety
/// The processor has AVX2.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn run_avx2<T: Task>(task: T) -> T::Output {
    task.run::<Avx2>()
}

/// # Safety
/// The processor has AVX-512 F, BW, DQ and VL.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) unsafe fn run_avx512<T: Task>(task: T) -> T::Output {
    task.run::<Avx512>()
}

/// Used within [`run_avx2`] only.
#[derive(Clone, Copy)]
pub(super) struct Avx2(__m256, __m256);

/// Used within [`run_avx512`] only.
#[derive(Clone, Copy)]
pub(super) struct Avx512(__m512);

/// Both halves of one AVX2 operation.
macro_rules! halves {
    ($($name:ident($($other:ident)?) = $op:ident;)*) => {$(
        #[inline(always)]
        fn $name(self $(, $other: Self)?) -> Self {
            // SAFETY: lanes exist only within `run_avx2`, whose caller checked for AVX2.
            unsafe { Avx2($op(self.0 $(, $other.0)?), $op(self.1 $(, $other.1)?)) }
        }
    )*};
}

impl Lanes for Avx2 {
    halves! {
        add(other) = _mm256_add_ps;
        sub(other) = _mm256_sub_ps;
        mul(other) = _mm256_mul_ps;
        div(other) = _mm256_div_ps;
        max(other) = _mm256_max_ps;
        min(other) = _mm256_min_ps;
        abs() = abs256;
        power_of_two() = power256;
    }
    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: as in `halves`.
        unsafe { Avx2(_mm256_set1_ps(value), _mm256_set1_ps(value)) }
    }
    #[inline(always)]
    fn load(from: &Block) -> Self {
        // SAFETY: as in `halves`; both reads lie within the sixteen floats.
        unsafe { Avx2(_mm256_loadu_ps(from.as_ptr()), _mm256_loadu_ps(from.as_ptr().add(8))) }
    }
    #[inline(always)]
    fn store(self, to: &mut Block) {
        // SAFETY: as in `halves`; both writes lie within the sixteen floats.
        unsafe {
            _mm256_storeu_ps(to.as_mut_ptr(), self.0);
            _mm256_storeu_ps(to.as_mut_ptr().add(8), self.1);
        }
    }
    #[inline(always)]
    fn from_i32(from: &[i32; 16]) -> Self {
        // SAFETY: as in `halves`; both reads lie within the sixteen integers.
        unsafe {
            let low = _mm256_loadu_si256(from.as_ptr().cast());
            let high = _mm256_loadu_si256(from.as_ptr().add(8).cast());
            Avx2(_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high))
        }
    }
    #[inline(always)]
    fn from_i8(from: &[i8; 16]) -> Self {
        // SAFETY: as in `halves`; the read covers the sixteen bytes.
        unsafe {
            let bytes = _mm_loadu_si128(from.as_ptr().cast());
            let low = _mm256_cvtepi8_epi32(bytes);
            let high = _mm256_cvtepi8_epi32(_mm_srli_si128::<8>(bytes));
            Avx2(_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high))
        }
    }
    #[inline(always)]
    fn store_offset(self, to: &mut [u8; 16]) {
        // SAFETY: as in `halves`; the write covers the sixteen bytes.
        unsafe {
            // The low byte of each lane, in order, in the low four bytes of each 128-bit half.
            let pick = _mm256_setr_epi8(
                0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0, 4, 8, 12, -1, -1,
                -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
            );
            let order = _mm256_setr_epi32(0, 4, 7, 7, 7, 7, 7, 7);
            let low = _mm256_shuffle_epi8(_mm256_castps_si256(self.0), pick);
            let high = _mm256_shuffle_epi8(_mm256_castps_si256(self.1), pick);
            let low = _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(low, order));
            let high = _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(high, order));
            let bytes = _mm_xor_si128(_mm_unpacklo_epi64(low, high), _mm_set1_epi8(-128));
            _mm_storeu_si128(to.as_mut_ptr().cast(), bytes);
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn abs256(v: __m256) -> __m256 {
    _mm256_andnot_ps(_mm256_set1_ps(-0.0), v)
}
#[inline]
#[target_feature(enable = "avx2")]
fn power256(v: __m256) -> __m256 {
    let exponent = _mm256_add_epi32(_mm256_castps_si256(v), _mm256_set1_epi32(127));
    _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
}

macro_rules! whole {
    ($($name:ident($($other:ident)?) = $op:ident;)*) => {$(
        #[inline(always)]
        fn $name(self $(, $other: Self)?) -> Self {
            // SAFETY: lanes exist only within `run_avx512`, whose caller checked for AVX-512.
            unsafe { Avx512($op(self.0 $(, $other.0)?)) }
        }
    )*};
}

impl Lanes for Avx512 {
    whole! {
        add(other) = _mm512_add_ps;
        sub(other) = _mm512_sub_ps;
        mul(other) = _mm512_mul_ps;
        div(other) = _mm512_div_ps;
        max(other) = _mm512_max_ps;
        min(other) = _mm512_min_ps;
        abs() = _mm512_abs_ps;
        power_of_two() = power512;
    }
    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: as in `whole`.
        unsafe { Avx512(_mm512_set1_ps(value)) }
    }
    #[inline(always)]
    fn load(from: &Block) -> Self {
        // SAFETY: as in `whole`; the read covers the sixteen floats.
        unsafe { Avx512(_mm512_loadu_ps(from.as_ptr())) }
    }
    #[inline(always)]
    fn store(self, to: &mut Block) {
        // SAFETY: as in `whole`; the write covers the sixteen floats.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), self.0) }
    }
    #[inline(always)]
    fn from_i32(from: &[i32; 16]) -> Self {
        // SAFETY: as in `whole`; the read covers the sixteen integers.
        unsafe { Avx512(_mm512_cvtepi32_ps(_mm512_loadu_epi32(from.as_ptr()))) }
    }
    #[inline(always)]
    fn from_i8(from: &[i8; 16]) -> Self {
        // SAFETY: as in `whole`; the read covers the sixteen bytes.
        unsafe {
            let bytes = _mm_loadu_si128(from.as_ptr().cast());
            Avx512(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes)))
        }
    }
    #[inline(always)]
    fn store_offset(self, to: &mut [u8; 16]) {
        // SAFETY: as in `whole`; the write covers the sixteen bytes.
        unsafe {
            let bytes = _mm512_cvtepi32_epi8(_mm512_castps_si512(self.0));
            let bytes = _mm_xor_si128(bytes, _mm_set1_epi8(-128));
            _mm_storeu_si128(to.as_mut_ptr().cast(), bytes);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn power512(v: __m512) -> __m512 {
    let exponent = _mm512_add_epi32(_mm512_castps_si512(v), _mm512_set1_epi32(127));
    _mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent))
}
