# Names and helpers that the scripts share; sourced, not run.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

export RISKFT_CACHE=${RISKFT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/riskft}
export LIBTORCH=${LIBTORCH:-$RISKFT_CACHE/libtorch}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$RISKFT_CACHE/target}
export PATH=$PATH:$HOME/.cargo/bin

postgres_version=15
pg_config=${PG_CONFIG:-/usr/lib/postgresql/$postgres_version/bin/pg_config}
pgrx_version=0.18.1
rust_version=1.95
cmake_version=3.28
# What scripts/setup.sh fetched where the machine's own is too old.
[ ! -x "$RISKFT_CACHE/cmake/bin/cmake" ] || export CMAKE=$RISKFT_CACHE/cmake/bin/cmake

# What the last run of each step did; see `done_before`.
stamps=$RISKFT_CACHE/stamps

say() { printf 'riskft: %s\n' "$*"; }

fail() {
    printf 'riskft: error: %s\n' "$*" >&2
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# Runs a command as root: plainly when root, else through sudo.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        fail "this step needs root: $*"
    fi
}

# Runs a command as the server's user: PostgreSQL refuses to run as root.
as_server_user() {
    if [ "$(id -u)" = 0 ]; then
        (cd / && runuser -u postgres -- "$@")
    else
        "$@"
    fi
}

# A command's output goes to a log; the log's end is shown only when it fails.
quietly() {
    local log=$RISKFT_CACHE/logs/$1.log
    shift
    mkdir -p "${log%/*}"
    if ! "$@" >"$log" 2>&1 </dev/null; then
        tail -n 20 "$log" >&2
        fail "\"$*\" failed; the whole output is in $log"
    fi
}

# Set-up and install change what all checkouts on the machine share: they wait for each other.
one_at_a_time() {
    mkdir -p "$RISKFT_CACHE"
    exec 9>"$RISKFT_CACHE/lock"
    flock --nonblock 9 || { say "waiting for another set-up or install to end" && flock 9; }
}

# debian_packages NAME...: installs those that are missing.
debian_packages() {
    local missing=() package
    for package in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null)" = "ii " ] || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    have apt-get || fail "these Debian packages are missing: ${missing[*]}"
    say "installing Debian packages: ${missing[*]}"
    quietly apt-update as_root apt-get update
    case " ${missing[*]} " in
    *" postgresql-$postgres_version "*) no_main_cluster ;;
    esac
    quietly apt-install as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y --no-install-recommends "${missing[@]}"
}

# Debian's server package would create and start a cluster of its own; a machine that gets the
# server only now does not want one.
no_main_cluster() {
    quietly apt-postgresql-common as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y --no-install-recommends postgresql-common
    as_root pg_conftool /etc/postgresql-common/createcluster.conf set create_main_cluster false
}

sha256() { sha256sum "$1" | cut -d ' ' -f 1; }

# done_before STEP KEY: whether STEP was finished with the same KEY (a digest of its inputs).
done_before() { [ "$(cat "$stamps/$1" 2>/dev/null)" = "$2" ]; }

mark_done() {
    mkdir -p "$stamps"
    printf '%s\n' "$2" >"$stamps/$1"
}
