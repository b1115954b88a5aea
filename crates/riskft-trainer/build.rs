//! Run paths of the trainer's binary.
//!
//! libtorch is looked for, in this order: `LD_LIBRARY_PATH`; `libtorch/lib` beside the binary and
//! `../lib/riskft/libtorch/lib` (an installed copy); the folder it was built against.

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

const INSTALLED: [&str; 2] = ["libtorch/lib", "../lib/riskft/libtorch/lib"];

fn run_path(path: &str) {
    println!("cargo:rustc-link-arg=-Wl,-rpath,{path}");
}
