#!/usr/bin/env bash
# Searches for inputs that a parser of the core does not survive: libFuzzer, on stable Rust.
#   TARGET   artifact | encoder | bundle | base | vocabulary | tokenizer | options | protocol | dataset |
#            trees | grams
#   MINUTES  how long (10)
# What makes the target fail lies in $CARGO_TARGET_DIR/fuzzing/found/TARGET-faults; fuzz/corpus/TARGET
# gets the smallest of the inputs that reach what those kept do not, 110 kB at most in all.
. "$(dirname "$0")/common.sh"
cd "$root/fuzz"
: "${TARGET:?name the target: make fuzz TARGET=options MINUTES=10}"
minutes=${MINUTES:-10}

# The coverage passes of LLVM; cargo-fuzz sets the same. Only the target is built with them.
triple=$(rustc -vV | sed -n 's/^host: //p')
flags=(-Cpasses=sancov-module)
for pass in level=4 inline-8bit-counters pc-table trace-compares; do
    flags+=("-Cllvm-args=-sanitizer-coverage-$pass")
done
say "build"
target=${CARGO_TARGET_DIR:-$root/target}/fuzzing
CARGO_TARGET_DIR=$target CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f'; echo "${flags[*]}") \
    cargo build --quiet --release --locked --target "$triple"

binary=$target/$triple/release/riskft-fuzz
work=$target/found/$TARGET
cover=$target/found/$TARGET-cover
corpus=corpus/$TARGET
rm -rf "$cover"
mkdir -p "$work" "$work-faults" "$cover" "$corpus"
export RISKFT_FUZZ=$TARGET
say "fuzz $TARGET for $minutes minutes"
RISKFT_FUZZ_SEEDS=$work nice -n 19 "$binary" "$work" "$corpus" -artifact_prefix="$work-faults/" \
    -max_total_time=$((minutes * 60)) -max_len=65536 -timeout=60 -rss_limit_mb=1024 \
    -print_final_stats=1

say "keep the smallest inputs"
find "$corpus" -type f -exec cp -t "$cover" {} +
"$binary" -set_cover_merge=1 -use_counters=0 -max_len=65536 "$cover" "$work" 2>/dev/null
bytes=$(find "$corpus" -type f -exec cat {} + | wc -c)
while read -r size name; do
    [ ! -e "$corpus/$name" ] || continue
    bytes=$((bytes + size))
    [ "$bytes" -le 110000 ] || break
    cp "$cover/$name" "$corpus/${name:0:16}"
done < <(find "$cover" -type f -printf '%s %f\n' | sort -n)
say "$corpus holds $(find "$corpus" -type f | wc -l) inputs"
