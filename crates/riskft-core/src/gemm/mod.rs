//! Exact int8 matrix products.
//!
//! Activations are bytes `a + 128` (a in -127..=127), weights are int8, sums are 32-bit integers;
//! no instruction saturates, so the kernels agree to the bit. Weights lie as they are read:
//! `[outputs/16][inputs/4][16][4]`, filled up with zeros, straight from the model file.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512vnni;
mod portable;

/// Most inputs of a layer: 65,536 products of a byte and an int8 fit 32 bits.
pub const MAX_INPUTS: usize = 1 << 16;

/// The instruction set that computes; all of them give the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kernel {
    /// Any processor; the oracle of the others.
    Portable,
    /// x86-64 with AVX2.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ, VL and VNNI.
    Avx512Vnni,
}

impl Kernel {
    pub const ALL: [Kernel; 3] = [Kernel::Portable, Kernel::Avx2, Kernel::Avx512Vnni];

    /// The fastest that this processor has.
    pub fn detect() -> Self {
        let mut best = Kernel::Portable;
        for kernel in Kernel::ALL {
            if kernel.available() {
                best = kernel;
            }
        }
        best
    }

    /// Whether this processor has the instructions. A kernel that it lacks computes as portable.
    #[inline]
    pub fn available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        match self {
            Kernel::Portable => true,
            Kernel::Avx2 => is_x86_feature_detected!("avx2"),
            Kernel::Avx512Vnni => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            self == Kernel::Portable
        }
    }

    /// `auto` (the fastest), or a kernel by name; None for an unknown name.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(Kernel::detect()),
            name => Kernel::ALL.into_iter().find(|kernel| kernel.name() == name),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Kernel::Portable => "portable",
            Kernel::Avx2 => "avx2",
            Kernel::Avx512Vnni => "avx512vnni",
        }
    }
}

/// Shape of a packed weight tensor.
pub fn packed_shape(outputs: usize, inputs: usize) -> [usize; 4] {
    [outputs.div_ceil(16), inputs.div_ceil(4), 16, 4]
}

/// Row-major weights `[outputs, inputs]` -> packed weights.
pub fn pack(weight: &[i8], outputs: usize, inputs: usize) -> Vec<i8> {
    let shape = packed_shape(outputs, inputs);
    let mut packed = vec![0; shape.iter().product()];
    for output in 0..outputs {
        for input in 0..inputs {
            let group = (output / 16) * shape[1] + input / 4;
            packed[group * 64 + (output % 16) * 4 + input % 4] = weight[output * inputs + input];
        }
    }
    packed
}

/// For each output, -128 times the sum of its weights: takes back the 128 in the activations.
/// Filled up with zeros to whole blocks.
pub fn compensation(packed: &[i8], outputs: usize, inputs: usize) -> Vec<i32> {
    let shape = packed_shape(outputs, inputs);
    let mut sums = vec![0i32; shape[0] * 16];
    for (group, weights) in packed.chunks_exact(64).enumerate() {
        for (n, four) in weights.chunks_exact(4).enumerate() {
            let sum: i32 = four.iter().map(|w| i32::from(*w)).sum();
            let slot = &mut sums[group / shape[1] * 16 + n];
            *slot = slot.wrapping_sub(128 * sum);
        }
    }
    sums
}

/// Packed weights of one layer; the lengths are checked.
#[derive(Clone, Copy)]
pub struct Weights<'a> {
    packed: &'a [i8],
    #[cfg_attr(
        not(target_arch = "x86_64"),
        expect(dead_code, reason = "for kernels that add 128")
    )]
    compensation: &'a [i32],
    /// Blocks of sixteen outputs.
    blocks: usize,
    /// Groups of four inputs.
    groups: usize,
}

impl<'a> Weights<'a> {
    /// None if a length does not fit the shape, or the inputs are none or more than [`MAX_INPUTS`].
    pub fn new(
        packed: &'a [i8],
        compensation: &'a [i32],
        outputs: usize,
        inputs: usize,
    ) -> Option<Self> {
        let [blocks, groups, ..] = packed_shape(outputs, inputs);
        let length = blocks.checked_mul(groups)?.checked_mul(64)?;
        let fits = packed.len() == length && compensation.len() == blocks * 16;
        (fits && (1..=MAX_INPUTS).contains(&inputs)).then_some(Weights {
            packed,
            compensation,
            blocks,
            groups,
        })
    }
    /// The weights of four inputs, `[16][4]` for each block of outputs.
    pub(crate) fn column(&self, group: usize) -> impl Iterator<Item = &'a [i8; 64]> {
        let groups = self.packed.as_chunks::<64>().0;
        groups.get(group..).unwrap_or(&[]).iter().step_by(self.groups)
    }
    /// Blocks of sixteen outputs.
    pub fn blocks(&self) -> usize {
        self.blocks
    }
}

/// `out[row] = sum_k (activations[row][k] - 128) * weight[.][k]` for `rows` rows.
///
/// `activations` has rows of `stride` blocks of sixteen bytes; what lies beyond the inputs does not
/// matter. `out` has rows of `weights.blocks()` blocks.
///
/// # Panics
/// If a slice is shorter than the rows need.
pub fn multiply(
    kernel: Kernel,
    activations: &[[u8; 16]],
    stride: usize,
    rows: usize,
    weights: Weights<'_>,
    out: &mut [[i32; 16]],
) {
    assert!(stride * 4 >= weights.groups, "a row of activations is shorter than the weights'");
    assert!(activations.len() >= rows * stride, "too few activations");
    assert!(out.len() >= rows * weights.blocks, "too little room for the sums");
    #[cfg(target_arch = "x86_64")]
    match kernel {
        Kernel::Avx2 if kernel.available() => {
            // SAFETY: the processor has AVX2, and the lengths are checked above.
            return unsafe { avx2::multiply(activations, stride, rows, weights, out) };
        }
        Kernel::Avx512Vnni if kernel.available() => {
            // SAFETY: the processor has AVX-512 VNNI, and the lengths are checked above.
            return unsafe { avx512vnni::multiply(activations, stride, rows, weights, out) };
        }
        _ => {}
    }
    let _ = kernel;
    portable::multiply(activations, stride, rows, weights, out);
}
