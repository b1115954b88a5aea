#!/usr/bin/env bash
# Format, lints and quick tests; needs no cluster.
. "$(dirname "$0")/common.sh"
cd "$root"

say "format"
cargo fmt --all --check
say "lints"
cargo clippy --quiet -p riskft -- -D warnings
cargo clippy --quiet -p riskft-core -p riskft-tests -p riskft-bench --all-targets -- -D warnings
if [ -e "$LIBTORCH/lib/libtorch_cpu.so" ]; then
    cargo clippy --quiet --release -p riskft-trainer --all-targets -- -D warnings
else
    say "the trainer is left out: no libtorch in $LIBTORCH (make setup)"
fi
say "quick tests"
cargo test --quiet -p riskft-core
