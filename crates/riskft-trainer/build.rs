//! Run paths of the trainer's binary.
//!
//! libtorch is looked for, in this order: `LD_LIBRARY_PATH`; `libtorch/` beside the binary and
//! `../lib/riskft/libtorch` (an installed copy); the folder it was built against.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    for relative in INSTALLED {
        run_path(&format!("$ORIGIN/{relative}"));
    }
    if let Ok(library) = env::var("DEP_TCH_LIBTORCH_LIB") {
        run_path(&library);
    }
}

/// The trimmed libtorch keeps the layout of its wheel, in which libtorch_cpu.so finds
/// libcudart by its own relative run path.
const INSTALLED: [&str; 4] = [
    "libtorch/lib",
    "libtorch/site/torch/lib",
    "../lib/riskft/libtorch/lib",
    "../lib/riskft/libtorch/site/torch/lib",
];

fn run_path(path: &str) {
    println!("cargo:rustc-link-arg=-Wl,-rpath,{path}");
}
