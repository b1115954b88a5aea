#!/usr/bin/env bash
# Runs every test suite, all of them even when one fails, and ends with one line of sums.
# Set-up and install come first (`make test`).
. "$(dirname "$0")/common.sh"
cd "$root"

export RISKFT_BASE_DIR=${RISKFT_BASE_DIR:-$RISKFT_CACHE/models/minilm-l6}
log=$RISKFT_CACHE/logs/test.log
mkdir -p "${log%/*}"
: >"$log"
broken=0

[ -n "${RISKFT_SKIP_CLIENTS:-}" ] || scripts/clients.sh ||
    say "the tests of the clients will fail: their programs are not all installed"

# suite NAME COMMAND...
suite() {
    local name=$1
    shift
    say "tests of $name"
    if ! "$@" 2>&1 | tee -a "$log"; then
        say "the tests of $name failed"
        broken=1
    fi
}

suite "the core" cargo test --no-fail-fast --locked -p riskft-core
# As in the installed build, or libtorch's bindings would be compiled a second time.
suite "the trainer" cargo test --no-fail-fast --locked --release -p riskft-trainer
suite "the whole, against PostgreSQL" cargo test --no-fail-fast --locked -p riskft-tests

# A suite that broke without a failed test (a crash, a build error) counts as one failure.
awk -v broken="$broken" '
    /^test result: / {
        for (i = 2; i <= NF; i++) {
            if ($i == "passed;") passed += $(i - 1)
            if ($i == "failed;") failed += $(i - 1)
        }
    }
    END {
        if (broken && !failed) failed = 1
        printf "%d passed, %d failed\n", passed, failed
        exit failed > 0
    }' "$log" | tee "$RISKFT_CACHE/logs/test.sum"
