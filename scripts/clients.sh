#!/usr/bin/env bash
# Installs the clients that the tests drive riskft through: psycopg, SQLAlchemy and dbt into a
# Python environment of their own in the cache, Java and PostgreSQL's JDBC driver from Debian.
# Safe to run again. Running riskft needs none of them.
. "$(dirname "$0")/common.sh"

main() {
    one_at_a_time
    debian_packages python3-venv libpostgresql-jdbc-java
    java_compiler
    python_clients
}

# The test program is run from its source, which needs the compiler.
java_compiler() {
    [ -x /usr/bin/javac ] || debian_packages default-jdk-headless
}

python_clients() {
    local pins=$root/tests/clients/requirements.txt folder=$RISKFT_CACHE/clients-venv key
    key=$(sha256 "$pins")
    done_before clients "$key" && [ -x "$folder/bin/python" ] && return 0
    say "installing psycopg, SQLAlchemy and dbt"
    rm -rf "$folder"
    # Debian's Python, whose version the pinned files are for, whatever else is on the path.
    quietly clients-venv /usr/bin/python3 -m venv "$folder"
    quietly clients-pip "$folder/bin/python" -m pip install --disable-pip-version-check \
        --no-cache-dir --no-deps --require-hashes --only-binary :all: --requirement "$pins"
    mark_done clients "$key"
}

main
