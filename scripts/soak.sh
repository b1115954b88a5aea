#!/usr/bin/env bash
# Strikes trainings hundreds of times and prints a table (tests/src/bin/soak.rs). A run that was cut
# off goes on where it was; remove the file of figures to begin anew.
. "$(dirname "$0")/common.sh"
cd "$root"

figures=$RISKFT_CACHE/soak/figures.tsv
mkdir -p "${figures%/*}"
say "figures are kept in $figures"
cargo run --quiet --locked -p riskft-tests --bin soak -- "$figures"
