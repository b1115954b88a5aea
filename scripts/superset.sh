#!/usr/bin/env bash
# The dashboard of docs/superset:
#   superset.sh bundle FILE.zip             packs it for Superset's import
#   superset.sh check URL [SCREENSHOT.png]  starts a throw-away Superset, imports it there for the database
#                                           of the URL, and asks for the data of each chart
. "$(dirname "$0")/common.sh"

main() {
    case "${1:-} $#" in
    "bundle 2") bundle "$2" ;;
    "check 2" | "check 3") check "${@:2}" ;;
    *) fail "usage: superset.sh bundle FILE.zip | check URL [SCREENSHOT.png]" ;;
    esac
}

# Superset expects all files below one folder.
bundle() {
    /usr/bin/python3 - "$root/docs/superset" "$1" <<'PYTHON'
import pathlib, sys, zipfile
folder = pathlib.Path(sys.argv[1])
with zipfile.ZipFile(sys.argv[2], "w", zipfile.ZIP_DEFLATED) as bundle:
    for file in sorted(folder.rglob("*.yaml")):
        # A fixed date: the same files give the same bytes.
        entry = zipfile.ZipInfo(f"riskft/{file.relative_to(folder)}", (2020, 1, 1, 0, 0, 0))
        bundle.writestr(entry, file.read_bytes())
PYTHON
}

check() {
    # Not local: the trap runs after this function.
    throw_away=$(mktemp -d)
    trap 'rm -rf "$throw_away"' EXIT
    install_superset
    bundle "$throw_away/riskft.zip"
    mkdir "$throw_away/superset"
    "$RISKFT_CACHE/superset-venv/bin/python" "$root/tests/superset/check.py" \
        "$throw_away/riskft.zip" "$1" "$throw_away/superset" "${@:2}" || {
        tail -n 20 "$throw_away/superset/prepare.log" "$throw_away/superset/server.log" >&2
        exit 1
    }
}

install_superset() {
    local pins=$root/tests/superset/requirements.txt folder=$RISKFT_CACHE/superset-venv key
    key=$(sha256 "$pins")
    debian_packages python3-venv
    done_before superset "$key" && [ -x "$folder/bin/python" ] && return 0
    say "installing Apache Superset"
    rm -rf "$folder"
    quietly superset-venv /usr/bin/python3 -m venv "$folder"
    quietly superset-pip "$folder/bin/python" -m pip install --disable-pip-version-check \
        --no-cache-dir --no-deps --require-hashes --requirement "$pins"
    mark_done superset "$key"
}

main "$@"
