//! libFuzzer over the core's parsers, on stable Rust: `make fuzz TARGET=options MINUTES=10`.
//!
//! RISKFT_FUZZ names the target; all other arguments are libFuzzer's
//! (<https://llvm.org/docs/LibFuzzer.html>). `seeds FOLDER` writes the target's sound inputs.
#![no_main]

mod mutate;
// The targets are the core's, so that its tests replay what is found here.
#[path = "../../crates/riskft-core/tests/targets/mod.rs"]
mod targets;

use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use targets::memory::Counting;
use targets::{Target, TARGETS};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Most processor time of one input; instrumented code takes about three times as long as without.
const MOST_TIME: Duration = Duration::from_secs(1);

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("RISKFT_FUZZ").unwrap_or_default();
    let Some(target) = TARGETS.iter().find(|target| target.name == name) else {
        let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        eprintln!("RISKFT_FUZZ names no target: one of {}", names.join(", "));
        std::process::exit(2);
    };
    target
});

fuzz_target!(
    init: {
        if let Some(folder) = std::env::var_os("RISKFT_FUZZ_SEEDS") {
            plant(&TARGET, Path::new(&folder));
        }
    },
    |input: &[u8]| {
        if input.len() > targets::MOST_INPUT {
            return;
        }
        let before = processor_time();
        targets::run(&TARGET, input);
        let taken = processor_time().saturating_sub(before);
        assert!(taken <= MOST_TIME, "{} bytes took {taken:?}", input.len());
    }
);

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate::mutate(TARGET.form, data, size, max_size, seed)
});

/// Writes the seeds that are not there yet.
fn plant(target: &Target, folder: &Path) {
    for (i, seed) in (target.seeds)().iter().enumerate() {
        let path = folder.join(format!("seed-{i}"));
        if let Err(error) = std::fs::write(&path, seed) {
            eprintln!("{}: {error}", path.display());
            std::process::exit(2);
        }
    }
}

fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec that lives beyond the call.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
