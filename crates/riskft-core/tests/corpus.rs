//! The inputs that fuzzing kept, and the targets' own seeds: replayed, each within its memory.

mod targets;

use std::path::Path;

use targets::memory::Counting;
use targets::{Target, TARGETS};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn kept(target: &Target) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target.name);
    let read = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut inputs: Vec<(String, Vec<u8>)> = read
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.display().to_string(), std::fs::read(&path).unwrap()))
        .collect();
    inputs.sort();
    inputs
}

#[test]
fn kept_inputs_are_survived() {
    for target in TARGETS {
        let kept = kept(target);
        assert!(kept.len() >= 10, "{}: {} inputs are kept", target.name, kept.len());
        for (path, input) in &kept {
            let outcome = std::panic::catch_unwind(|| targets::run(target, input));
            assert!(outcome.is_ok(), "{path}");
        }
        println!("{}: {} kept inputs", target.name, kept.len());
    }
}

/// Each seed, cut at every length, and with each of its bytes changed once.
#[test]
fn damaged_seeds_are_survived() {
    for target in TARGETS {
        for seed in (target.seeds)() {
            assert!(seed.len() <= targets::MOST_INPUT, "{}: {} bytes", target.name, seed.len());
            targets::run(target, &seed);
            // Four thousand runs at most for one seed.
            let step = 1 + seed.len() / 2000;
            for at in (0..seed.len()).step_by(step) {
                targets::run(target, &seed[..at]);
                let mut changed = seed.clone();
                changed[at] = changed[at].wrapping_add(1 << (at % 8));
                targets::run(target, &changed);
            }
        }
    }
}
