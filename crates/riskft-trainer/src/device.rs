//! Where the run computes, and with what arithmetic.
//!
//! One binary serves the CPU and the GPU: it is linked with libtorch's CPU library alone and
//! loads `libtorch_cuda.so` at start, if there is one, before any call that asks for CUDA.

use std::ffi::OsString;
use std::path::PathBuf;

use riskft_core::options::{DeviceChoice, Options, Precision};
use riskft_core::protocol::TRAINER_ENVIRONMENT;
use riskft_core::refusal::{code, Refusal, Result};
use tch::{Device, Kind, Tensor};

/// Names a libtorch folder (with `lib/`) that is used in place of the one installed.
pub const LIBTORCH_VARIABLE: &str = "RISKFT_LIBTORCH";

/// The device of a run.
#[derive(Debug, Clone)]
pub struct Compute {
    pub device: Device,
    /// `cpu`, or the GPU's name.
    pub name: String,
    /// Kind of the encoder's matrix products; everything else is f32.
    pub kind: Kind,
    pub threads: usize,
}

impl Compute {
    /// Picks the device of the options.
    ///
    /// # Errors
    /// 0A000 when a GPU is asked for and none answers.
    pub fn choose(options: &Options) -> Result<Self> {
        let gpu = options.device != DeviceChoice::Cpu && load_cuda() && tch::Cuda::is_available();
        if options.device == DeviceChoice::Gpu && !gpu {
            return Err(no_gpu());
        }
        let threads = use_threads(options.threads);
        tch::manual_seed(options.seed as i64);
        let device = if gpu { Device::Cuda(0) } else { Device::Cpu };
        let bf16 = match options.precision {
            Precision::Bf16 => true,
            Precision::F32 => false,
            Precision::Auto => gpu || cpu_multiplies_bf16(),
        };
        let kind = if bf16 { Kind::BFloat16 } else { Kind::Float };
        Ok(Compute { device, name: device_name(gpu), kind, threads })
    }

    pub fn precision(&self) -> &'static str {
        if self.kind == Kind::BFloat16 {
            "bf16"
        } else {
            "f32"
        }
    }

    /// A sentence for the user.
    pub fn in_words(&self) -> String {
        match self.device {
            Device::Cpu => {
                format!("training on the CPU with {} threads in {}", self.threads, self.precision())
            }
            _ => format!("training on the GPU {} in {}", self.name, self.precision()),
        }
    }
}

/// Lets libtorch use so many threads, 0 = as many as the machine has; their number.
pub fn use_threads(asked: usize) -> usize {
    let threads = match asked {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        given => given,
    };
    settle_functions();
    tch::set_num_threads(i32::try_from(threads).unwrap_or(1));
    threads
}

/// Calls MKL's vector functions once, in one thread. Their first call sets them up, and not safely:
/// where two threads made it at once, a part of the second one's values came out of a less accurate
/// path. On a busy machine about one training in 480 took its first roots so (560 of 4,320 values off by
/// one bit), and ended with other weights than its repetitions.
fn settle_functions() {
    type Function = fn(&Tensor) -> Tensor;
    const FUNCTIONS: [Function; 9] = [
        Tensor::sqrt,
        Tensor::exp,
        Tensor::log,
        Tensor::log1p,
        Tensor::sin,
        Tensor::cos,
        Tensor::tanh,
        Tensor::erf,
        |square| square.mm(square),
    ];
    tch::set_num_threads(1);
    let _guard = tch::no_grad_guard();
    for kind in [Kind::Float, Kind::Double] {
        let square = Tensor::full([16, 16], 0.5, (kind, Device::Cpu));
        for function in FUNCTIONS {
            let _ = function(&square);
        }
    }
}

fn no_gpu() -> Refusal {
    Refusal::new(code::NOT_SUPPORTED, "no GPU can be used")
        .detail("options.device is 'gpu', but libtorch finds no CUDA device.")
        .hint("Point the environment variable RISKFT_LIBTORCH of the server at a libtorch built with CUDA, or use options.device = 'auto'.")
}

/// Whether the processor has dot products of bf16 pairs (AVX512-BF16). Measured on Zen 5: a step
/// of LoRA takes 0.6 of the seconds of f32; processors without them emulate bf16 slowly.
pub fn cpu_multiplies_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("avx512bf16")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// Loads libtorch's CUDA library for good; false when there is none.
pub fn load_cuda() -> bool {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    // SAFETY: loading runs the library's initialisers; it is libtorch's own, found on the same
    // path as the libtorch that this process is linked with.
    match unsafe { Library::open(Some("libtorch_cuda.so"), RTLD_NOW | RTLD_GLOBAL) } {
        Ok(library) => {
            std::mem::forget(library);
            true
        }
        Err(_) => false,
    }
}

/// Where the libtorch in use was loaded from.
pub fn libtorch_path() -> Option<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|line| line.ends_with("/libtorch_cpu.so"))?;
    line.find('/').map(|start| line[start..].to_owned())
}

/// The GPU's name from the kernel driver; libtorch's C interface does not tell it.
fn device_name(gpu: bool) -> String {
    if !gpu {
        return "cpu".to_owned();
    }
    let models = std::fs::read_dir("/proc/driver/nvidia/gpus").into_iter().flatten().flatten();
    models
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("information")).ok())
        .find_map(|text| {
            let line = text.lines().find(|line| line.starts_with("Model:"))?;
            Some(line["Model:".len()..].trim().to_owned())
        })
        .unwrap_or_else(|| "gpu".to_owned())
}

/// Starts this program anew if its environment lacks what libraries read at load: the path of an
/// external libtorch ([`LIBTORCH_VARIABLE`]) and [`TRAINER_ENVIRONMENT`].
pub fn settle_environment() {
    use std::os::unix::process::CommandExt;
    let mut wanted: Vec<(&str, OsString)> = TRAINER_ENVIRONMENT
        .into_iter()
        .filter(|(name, _)| std::env::var_os(name).is_none())
        .map(|(name, value)| (name, OsString::from(value)))
        .collect();
    if let Some(path) = external_path() {
        wanted.push((LIBRARY_PATH, path));
    }
    let Ok(program) = std::env::current_exe() else { return };
    if !wanted.is_empty() {
        // Comes back only if the program cannot be started: it then goes on as it is.
        let _ = std::process::Command::new(program)
            .args(std::env::args_os().skip(1))
            .envs(wanted)
            .exec();
    }
}

const LIBRARY_PATH: &str = "LD_LIBRARY_PATH";

/// The loader's path with the external libtorch in front; None when there is none, or it is there.
fn external_path() -> Option<OsString> {
    let folder = std::env::var_os(LIBTORCH_VARIABLE).filter(|f| !f.is_empty())?;
    let library = PathBuf::from(folder).join("lib");
    let old = std::env::var_os(LIBRARY_PATH).unwrap_or_default();
    if std::env::split_paths(&old).next().as_deref() == Some(library.as_path()) {
        return None;
    }
    let mut path = OsString::from(&library);
    if !old.is_empty() {
        path.push(":");
        path.push(&old);
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_that_is_not_there_is_refused() {
        if load_cuda() && tch::Cuda::is_available() {
            println!("skipped: this machine has a GPU");
            return;
        }
        let options = Options { device: DeviceChoice::Gpu, ..Options::default() };
        assert_eq!(
            Compute::choose(&options).map(|c| c.name).unwrap_err().code,
            code::NOT_SUPPORTED
        );
        let auto = Compute::choose(&Options {
            precision: Precision::F32,
            threads: 1,
            ..Options::default()
        });
        let auto = auto.expect("the CPU is always there");
        assert_eq!((auto.name.as_str(), auto.kind, auto.threads), ("cpu", Kind::Float, 1));
    }
}
