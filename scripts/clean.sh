#!/usr/bin/env bash
# Removes build outputs and logs; downloads, libtorch and base models stay.
. "$(dirname "$0")/common.sh"
cd "$root"

cargo clean
rm -rf "$RISKFT_CACHE/logs"
