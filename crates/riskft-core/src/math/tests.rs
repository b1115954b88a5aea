//! Accuracy of the vector functions, and the same bits on every instruction set.

use super::lanes::{Lanes, MAGIC};
use super::vector::{self, Activation, Layer, Scale};
use super::{Block, Task};
use crate::gemm::{compensation, pack, Kernel, Weights};

/// Runs a task on each path that the processor has; all results must be equal. Returns it.
fn same<T: Task<Output = Vec<u32>> + Clone>(task: T) -> Vec<u32> {
    let expected = Kernel::Portable.run(task.clone());
    for kernel in Kernel::ALL {
        if !kernel.available() {
            println!("skipped: this processor lacks {}", kernel.name());
            continue;
        }
        assert!(kernel.run(task.clone()) == expected, "{} differs", kernel.name());
    }
    expected
}

fn floats(bits: Vec<u32>) -> Vec<f32> {
    bits.into_iter().map(f32::from_bits).collect()
}
fn bits(blocks: &[Block]) -> Vec<u32> {
    blocks.as_flattened().iter().map(|v| v.to_bits()).collect()
}

/// Numbers of all sizes between +-`size`, dense around zero.
fn spread(count: usize, size: f32) -> Vec<Block> {
    let mut blocks = vec![[0.0; 16]; count.div_ceil(16)];
    for (i, v) in blocks.as_flattened_mut().iter_mut().enumerate() {
        let share = (i * 7919 % 10_007) as f32 / 5003.0 - 1.0;
        *v = share * share * share * size;
    }
    blocks
}

#[derive(Clone)]
struct Each(Function, Vec<Block>);
#[derive(Clone, Copy)]
enum Function {
    Exp,
    Gelu,
}
impl Task for Each {
    type Output = Vec<u32>;
    #[inline(always)]
    fn run<L: Lanes>(mut self) -> Vec<u32> {
        for block in &mut self.1 {
            let v = L::load(block);
            let v = match self.0 {
                Function::Exp => vector::exp(v),
                Function::Gelu => vector::gelu(v),
            };
            v.store(block);
        }
        bits(&self.1)
    }
}

#[test]
fn exp_is_accurate() {
    let x = spread(10_000, 87.0);
    let computed = floats(same(Each(Function::Exp, x.clone())));
    for (x, y) in x.as_flattened().iter().zip(computed) {
        let exact = libm::exp(f64::from(*x));
        assert!((f64::from(y) / exact - 1.0).abs() < 3e-7, "exp({x}) = {y}, not {exact}");
    }
    let ends = vec![[
        0.0,
        -0.0,
        1e9,
        -1e9,
        88.0,
        -87.0,
        f32::MAX,
        f32::MIN,
        1e-40,
        -1e-40,
        1.0,
        -1.0,
        0.5,
        10.0,
        -10.0,
        2.0,
    ]];
    let computed = floats(same(Each(Function::Exp, ends)));
    assert!(computed.iter().all(|v| v.is_finite()));
    assert_eq!(computed[..2], [1.0, 1.0]);
}

#[test]
fn gelu_is_accurate() {
    let exact = |x: f64| 0.5 * x * (1.0 + libm::erf(x / std::f64::consts::SQRT_2));
    let mut worst = 0.0f64;
    for size in [1.0, 3.0, 6.0] {
        let x = spread(10_000, size);
        let computed = floats(same(Each(Function::Gelu, x.clone())));
        for (x, y) in x.as_flattened().iter().zip(computed) {
            worst = worst.max((f64::from(y) - exact(f64::from(*x))).abs());
        }
    }
    println!("largest error of gelu: {worst:.2e}");
    assert!(worst < 1e-6, "{worst}");
    let far = vec![[
        1e4, -1e4, 300.0, -300.0, 30.0, -30.0, 12.0, -12.0, 0.0, -0.0, 1e-30, -1e-30, 1e30, -1e30,
        7.0, -7.0,
    ]];
    let computed = floats(same(Each(Function::Gelu, far.clone())));
    for (x, y) in far.as_flattened().iter().zip(computed) {
        let exact = exact(f64::from(*x));
        assert!((f64::from(y) - exact).abs() <= 1e-6 * exact.abs().max(1.0), "gelu({x}) = {y}");
    }
}

#[derive(Clone)]
struct Softmax(Vec<Block>, usize);
impl Task for Softmax {
    type Output = Vec<u32>;
    #[inline(always)]
    fn run<L: Lanes>(mut self) -> Vec<u32> {
        vector::softmax::<L>(&mut self.0, self.1);
        bits(&self.0)
    }
}

#[test]
fn softmax_sums_to_one_over_the_first_values() {
    for count in [1, 2, 15, 16, 17, 100, 333] {
        let x = spread(count + 16, 20.0);
        let computed = floats(same(Softmax(x.clone(), count)));
        let x = &x.as_flattened()[..count];
        let top = x.iter().fold(f32::MIN, |a, b| a.max(*b));
        let powers: Vec<f64> = x.iter().map(|x| libm::exp(f64::from(x - top))).collect();
        let sum: f64 = powers.iter().sum();
        for (computed, power) in computed.iter().zip(&powers) {
            assert!((f64::from(*computed) - power / sum).abs() < 1e-6);
        }
        assert!(computed[count..].iter().all(|v| *v == 0.0), "beyond {count}");
    }
}

#[derive(Clone)]
struct LayerNorm(Vec<Block>, usize);
impl Task for LayerNorm {
    type Output = Vec<u32>;
    #[inline(always)]
    fn run<L: Lanes>(mut self) -> Vec<u32> {
        let mut gain = vec![[1.5; 16]; self.0.len()];
        let mut shift = vec![[-0.25; 16]; self.0.len()];
        vector::clear_tail(&mut gain, self.1);
        vector::clear_tail(&mut shift, self.1);
        vector::layer_norm::<L>(&mut self.0, self.1, 1e-12, &gain, &shift);
        bits(&self.0)
    }
}

#[test]
fn layer_norm_follows_its_formula() {
    for count in [2, 16, 31, 60, 384] {
        let mut x = spread(count, 5.0);
        vector::clear_tail(&mut x, count);
        let computed = floats(same(LayerNorm(x.clone(), count)));
        let x: Vec<f64> = x.as_flattened()[..count].iter().map(|v| f64::from(*v)).collect();
        let mean = x.iter().sum::<f64>() / count as f64;
        let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count as f64;
        for (x, y) in x.iter().zip(&computed) {
            let exact = (x - mean) / variance.sqrt() * 1.5 - 0.25;
            assert!((f64::from(*y) - exact).abs() < 5e-6, "{y}, not {exact}");
        }
        assert!(computed[count..].iter().all(|v| *v == 0.0), "beyond {count}");
    }
    // Equal values have no variance; the result stays finite.
    let computed = floats(same(LayerNorm(vec![[3.0; 16]; 2], 32)));
    assert!(computed.iter().all(|v| v.is_finite()));
}

#[derive(Clone)]
struct Quantize(Vec<Block>);
impl Task for Quantize {
    type Output = Vec<u32>;
    #[inline(always)]
    fn run<L: Lanes>(mut self) -> Vec<u32> {
        let before = bits(&self.0);
        let mut bytes = vec![[7u8; 16]; self.0.len()];
        let scale = vector::quantize::<L>(&mut self.0, &mut bytes);
        assert_eq!(bits(&self.0), before, "the row is as before");
        let head = [scale.scale.to_bits(), scale.peak.to_bits(), scale.at as u32];
        head.into_iter().chain(bytes.as_flattened().iter().map(|b| u32::from(*b))).collect()
    }
}

#[test]
fn a_row_is_rounded_to_the_nearest_even_byte() {
    let mut row = vec![[0.0f32; 16]; 2];
    let values = [127.0, -127.0, 0.5, 1.5, 2.5, -0.5, -1.5, 63.4, 63.6, 900.0, 1.0];
    row.as_flattened_mut()[..values.len()].copy_from_slice(&values);
    let computed = same(Quantize(row));
    assert_eq!(computed[..3], [1.0f32.to_bits(), 900.0f32.to_bits(), 9]);
    let bytes: Vec<i32> = computed[3..].iter().map(|b| *b as i32 - 128).collect();
    assert_eq!(bytes[..11], [127, -127, 0, 2, 2, 0, -2, 63, 64, 0, 1]);
    assert!(bytes[11..].iter().all(|b| *b == 0));
}

#[test]
fn rows_of_any_size_are_quantized_alike() {
    for size in [0.0, 1e-38, 1e-30, 1e-20, 1.0, 1e20, 3e38] {
        for count in [16, 48, 384] {
            let row = spread(count, size);
            let computed = same(Quantize(row.clone()));
            let (scale, at) = (f32::from_bits(computed[0]), computed[2] as usize);
            for (i, (x, byte)) in row.as_flattened().iter().zip(&computed[3..]).enumerate() {
                let back = if i == at {
                    assert_eq!(*byte, 128);
                    f32::from_bits(computed[1])
                } else {
                    (*byte as f32 - 128.0) * scale
                };
                assert!((back - x).abs() <= scale * 0.5001 + 1e-30, "{x} came back as {back}");
            }
        }
    }
}

#[derive(Clone)]
struct Finish(Vec<[i32; 16]>, Activation, usize);
impl Task for Finish {
    type Output = Vec<u32>;
    #[inline(always)]
    fn run<L: Lanes>(self) -> Vec<u32> {
        let (outputs, inputs) = (self.0.len() * 16, 20);
        let w: Vec<i8> = (0..outputs * inputs).map(|i| (i * 31 % 255) as i8).collect();
        let packed = pack(&w, outputs, inputs);
        let sums = compensation(&packed, outputs, inputs);
        let Some(weights) = Weights::new(&packed, &sums, outputs, inputs) else { return vec![] };
        let scale = spread(outputs, 0.01);
        let bias = spread(outputs, 1.0);
        let layer = Layer { weights, scale: &scale, bias: &bias };
        let row = Scale { scale: 0.03, peak: -1.7, at: self.2 };
        let mut out = vec![[0.0; 16]; self.0.len()];
        vector::finish::<L>(&self.0, row, layer, self.1, &mut out);
        bits(&out)
    }
}

#[test]
fn sums_become_floats_by_the_formula() {
    let sums: Vec<[i32; 16]> =
        (0..3).map(|b| std::array::from_fn(|i| (b * 16 + i as i32 - 20) * 99_991)).collect();
    for at in [0, 1, 2, 3, 18, 19] {
        for activation in [Activation::None, Activation::Relu, Activation::Gelu] {
            let computed = floats(same(Finish(sums.clone(), activation, at)));
            if activation != Activation::None {
                continue;
            }
            let (scale, bias) = (spread(48, 0.01), spread(48, 1.0));
            for n in 0..48 {
                let weight = (n * 20 + at) * 31 % 255;
                let peak = -1.7 * f64::from(weight as i8 as i32);
                let sum = f64::from(sums[n / 16][n % 16]) * f64::from(0.03f32) + peak;
                let scale = f64::from(scale.as_flattened()[n]);
                let exact = sum * scale + f64::from(bias.as_flattened()[n]);
                let near = 1e-5 * exact.abs().max(1.0);
                assert!((f64::from(computed[n]) - exact).abs() < near, "{n} at {at}");
            }
        }
    }
}

#[derive(Clone)]
struct Sums(Vec<Block>);
impl Task for Sums {
    type Output = Vec<u32>;
    #[inline(always)]
    fn run<L: Lanes>(self) -> Vec<u32> {
        let sum = vector::sum::<L>(&self.0);
        let dot = vector::dot::<L>(&self.0, &self.0);
        let bytes: [i8; 64] = std::array::from_fn(|i| (i * 37) as i8);
        let mut columns = [[0.0; 16]; 5];
        for (k, column) in columns.iter_mut().take(4).enumerate() {
            L::from_column(&bytes, k).store(column);
        }
        L::splat(3.0).add(L::splat(MAGIC)).power_of_two().store(&mut columns[4]);
        let equal = L::load(&self.0[0]).equal(self.0[0][5]);
        [vec![sum.to_bits(), dot.to_bits(), equal], bits(&columns)].concat()
    }
}

#[test]
fn sums_run_in_one_order() {
    for count in [16, 160, 10_000] {
        let computed = same(Sums(spread(count, 100.0)));
        assert_ne!(computed[2] & 1 << 5, 0);
        let columns = floats(computed[3..].to_vec());
        assert_eq!(columns[1], 148u8 as i8 as f32);
        assert_eq!(columns[64], 8.0);
    }
}
