#!/usr/bin/env bash
# Builds the extension and the trainer for release and installs them into the system's PostgreSQL:
#   $(pg_config --pkglibdir)/riskft.so, $(pg_config --sharedir)/extension/riskft*
#   $(pg_config --pkglibdir)/riskft/riskft-trainer, .../riskft/libtorch/lib/
#   $(pg_config --sharedir)/riskft/models/NAME/
# The extension looks in these places unless its settings name others.
. "$(dirname "$0")/common.sh"

main() {
    [ -x "$pg_config" ] || fail "$pg_config is missing; run make setup"
    [ -e "$LIBTORCH/lib/libtorch_cpu.so" ] || fail "libtorch is missing; run make setup"
    one_at_a_time
    cd "$root"
    local library share
    library=$("$pg_config" --pkglibdir)/riskft
    share=$("$pg_config" --sharedir)/riskft
    extension
    trainer "$library"
    runtime "$library"
    models "$share"
    say "installed into PostgreSQL $postgres_version ($library, $share)"
}

# cargo-pgrx copies over what is there, which takes down every backend that has the library mapped:
# new files get their names when they are whole instead.
extension() {
    say "building and installing the extension"
    local stage=$RISKFT_CACHE/stage file
    rm -rf "$stage"
    quietly install-extension cargo pgrx package --pg-config "$pg_config" --out-dir "$stage"
    while IFS= read -r file; do
        same "$stage$file" "$file" || replace "$stage$file" "$file"
    done < <(cd "$stage" && find . -type f | sed 's/^\.//')
    [ -e "$("$pg_config" --pkglibdir)/riskft.so" ] || fail "the package holds no riskft.so"
}

trainer() {
    say "building and installing the trainer"
    quietly build-trainer cargo build --release --locked -p riskft-trainer
    as_root mkdir -p "$1"
    # A running trainer keeps its own copy: the new file replaces the old one's name.
    as_root install -m 755 -s "$CARGO_TARGET_DIR/release/riskft-trainer" "$1/riskft-trainer.$$"
    as_root mv "$1/riskft-trainer.$$" "$1/riskft-trainer"
}

# The libraries that the trainer loads: half a gigabyte, copied only when they changed.
runtime() {
    local file name
    as_root mkdir -p "$1/libtorch/lib"
    for file in "$LIBTORCH"/lib/*.so*; do
        name=${file##*/}
        [ "$name" != libtorch.so ] || continue
        same "$file" "$1/libtorch/lib/$name" || replace "$file" "$1/libtorch/lib/$name"
    done
    [ ! -d "$LIBTORCH/licences" ] || as_root cp -r "$LIBTORCH/licences" "$1/libtorch/"
}

models() {
    local manifest name file
    for manifest in "$root"/models/*.json; do
        name=$(basename "$manifest" .json)
        as_root mkdir -p "$1/models/$name"
        for file in config.json tokenizer.json model.safetensors; do
            same "$RISKFT_CACHE/models/$name/$file" "$1/models/$name/$file" ||
                replace "$RISKFT_CACHE/models/$name/$file" "$1/models/$name/$file"
        done
    done
}

same() { cmp -s "$1" "$2"; }

replace() {
    as_root install -m 644 "$1" "$2.$$"
    as_root mv "$2.$$" "$2"
}

main
