//! The kernels against plain sums, to the bit.

mod engine;

use engine::Random;
use riskft_core::gemm::{compensation, multiply, pack, Kernel, Weights};

struct Case {
    rows: usize,
    outputs: usize,
    inputs: usize,
    a: Vec<i8>,
    w: Vec<i8>,
}

impl Case {
    fn new(rows: usize, outputs: usize, inputs: usize, mut value: impl FnMut() -> i8) -> Self {
        let a = (0..rows * inputs).map(|_| value()).collect();
        let w = (0..outputs * inputs).map(|_| value()).collect();
        Case { rows, outputs, inputs, a, w }
    }

    fn expected(&self) -> Vec<i64> {
        let mut out = Vec::new();
        for row in self.a.chunks_exact(self.inputs) {
            for weights in self.w.chunks_exact(self.inputs) {
                let products = row.iter().zip(weights).map(|(a, w)| i64::from(*a) * i64::from(*w));
                out.push(products.sum());
            }
        }
        out
    }

    /// `beyond` fills the activations' bytes beyond the inputs, which must not matter.
    fn computed(&self, kernel: Kernel, beyond: u8) -> Vec<i64> {
        let stride = self.inputs.div_ceil(16) + 1;
        let mut bytes = vec![[beyond; 16]; self.rows * stride];
        for (row, bytes) in self.a.chunks_exact(self.inputs).zip(bytes.chunks_exact_mut(stride)) {
            for (a, byte) in row.iter().zip(bytes.as_flattened_mut()) {
                *byte = (i16::from(*a) + 128) as u8;
            }
        }
        let packed = pack(&self.w, self.outputs, self.inputs);
        let sums = compensation(&packed, self.outputs, self.inputs);
        let weights = Weights::new(&packed, &sums, self.outputs, self.inputs).unwrap();
        let mut out = vec![[i32::MIN; 16]; self.rows * weights.blocks()];
        multiply(kernel, &bytes, stride, self.rows, weights, &mut out);
        out.chunks_exact(weights.blocks())
            .flat_map(|row| row.as_flattened()[..self.outputs].to_vec())
            .map(i64::from)
            .collect()
    }

    fn check(&self, what: &str) {
        let expected = self.expected();
        for kernel in Kernel::ALL {
            if !kernel.available() {
                println!("skipped: this processor lacks {}", kernel.name());
                continue;
            }
            for beyond in [0, 128, 255] {
                let computed = self.computed(kernel, beyond);
                assert!(
                    computed == expected,
                    "{} x {} x {}, {what}, {}",
                    self.rows,
                    self.outputs,
                    self.inputs,
                    kernel.name()
                );
            }
        }
    }
}

#[test]
fn every_number_of_rows_and_blocks_is_exact() {
    let mut random = Random(7);
    for rows in (1..=26).chain([37, 48, 49]) {
        for outputs in [1, 16, 17, 40, 64, 70, 128, 150] {
            Case::new(rows, outputs, 36, || random.int8()).check("random");
        }
    }
}

#[test]
fn any_shape_is_exact() {
    let mut random = Random(11);
    for _ in 0..300 {
        let shape = (1 + random.below(30), 1 + random.below(200), 1 + random.below(400));
        Case::new(shape.0, shape.1, shape.2, || random.int8()).check("random");
    }
}

/// Where a kernel with saturating 16-bit sums gives other numbers.
#[test]
fn extremes_do_not_saturate() {
    for (a, w) in [(127, 127), (-127, 127), (127, -127), (-127, -127)] {
        let mut first = 5 * 300;
        let case = Case::new(5, 40, 300, || {
            first -= 1;
            if first >= 0 {
                a
            } else {
                w
            }
        });
        assert_eq!(case.expected()[0], 300 * i64::from(a) * i64::from(w));
        case.check("extremes");
    }
    let mut random = Random(3);
    Case::new(9, 33, 4096, || if random.below(2) == 0 { 127 } else { -127 }).check("extremes");
    Case::new(2, 3, 65_536, || 127).check("the longest rows");
    // No quantizer makes -128, a damaged file may hold it.
    Case::new(6, 40, 512, || -128).check("-128");
}

#[test]
fn wrong_lengths_are_refused() {
    let (packed, sums) = (vec![0i8; 2 * 9 * 64], vec![0i32; 32]);
    assert!(Weights::new(&packed, &sums, 32, 36).is_some());
    assert!(Weights::new(&packed, &sums, 32, 37).is_none());
    assert!(Weights::new(&packed, &sums, 33, 36).is_none());
    assert!(Weights::new(&packed, &sums[1..], 32, 36).is_none());
    assert!(Weights::new(&packed[1..], &sums, 32, 36).is_none());
    assert!(Weights::new(&[], &[], 0, 0).is_none());
    assert!(Weights::new(&[], &[], usize::MAX, 64).is_none());
}

#[test]
fn kernels_are_found_by_name() {
    for kernel in Kernel::ALL {
        assert_eq!(Kernel::parse(kernel.name()), Some(kernel));
    }
    assert_eq!(Kernel::parse("auto"), Some(Kernel::detect()));
    assert_eq!(Kernel::parse("sse"), None);
    assert!(Kernel::detect().available());
    assert!(Kernel::Portable.available());
}
