#!/usr/bin/env bash
# The demo: a throw-away cluster of its own, with the loans, a trained model and its scores.
#   demo.sh start | psql | url | stop
. "$(dirname "$0")/common.sh"

# The server's user must be able to reach the folder, which it cannot under root's home.
if [ "$(id -u)" = 0 ]; then
    demo=${RISKFT_DEMO:-/var/cache/riskft/demo}
else
    demo=${RISKFT_DEMO:-$RISKFT_CACHE/demo}
fi
bin=${pg_config%/*}
[ ! -x "$pg_config" ] || bin=$("$pg_config" --bindir)

port() { cat "$demo/port"; }

is_up() { [ -e "$demo/port" ] && "$bin/pg_isready" -q -h "$demo/socket" -p "$(port)"; }

# Local connections are trusted because only the server's user (and root) can enter the folder;
# connections through the network need the password.
url() {
    ! is_up || printf 'postgresql://analyst:%s@127.0.0.1:%s/riskft\n' "$(cat "$demo/password")" "$(port)"
}

run_psql() { psql -X "host=$demo/socket port=$(port) dbname=riskft user=$1" "${@:2}"; }

start() {
    stop
    say "starting a throw-away cluster in $demo"
    create_cluster
    load
    say "training and scoring as role analyst"
    run_psql analyst -q <"$root/tests/sql/demo.sql"
    say "the demo stays up; end it with: make demo-stop"
    say "open it with:  make psql"
    say "or:            psql $(url)"
}

create_cluster() {
    local password
    password=$(od -An -N12 -tx1 /dev/urandom | tr -d ' \n')
    mkdir -p "$demo"
    : >"$demo/is-riskft-demo"
    mkdir "$demo/socket"
    free_port >"$demo/port"
    (umask 077 && printf '%s\n' "$password" >"$demo/password")
    chmod 700 "$demo"
    [ "$(id -u)" != 0 ] || chown -R postgres "$demo"
    quietly demo-initdb as_server_user "$bin/initdb" --pgdata "$demo/data" --username postgres \
        --encoding UTF8 --locale C.UTF-8 --auth-local trust --auth-host scram-sha-256
    as_server_user tee -a "$demo/data/postgresql.conf" >/dev/null <<CONF
listen_addresses = '127.0.0.1'
port = $(port)
unix_socket_directories = '$demo/socket'
cluster_name = 'riskft demo'
CONF
    quietly demo-start as_server_user "$bin/pg_ctl" start --wait --pgdata "$demo/data" --log "$demo/log"
    psql -Xq -v ON_ERROR_STOP=1 "host=$demo/socket port=$(port) dbname=postgres user=postgres" <<SQL
CREATE ROLE analyst LOGIN PASSWORD '$password';
CREATE DATABASE riskft OWNER analyst;
SQL
    run_psql postgres -qc 'CREATE EXTENSION riskft'
}

load() {
    say "loading 20,000 loans"
    run_psql analyst -q -v ON_ERROR_STOP=1 -f "$root/tests/sql/loans.sql"
    gzip -dc "$root/tests/data/sba_loans.csv.gz" |
        run_psql analyst -q -v ON_ERROR_STOP=1 -c 'COPY loans FROM STDIN (FORMAT csv, HEADER)'
    run_psql analyst -qc 'ANALYZE loans'
}

# The first free port from 54320 on.
free_port() {
    local candidate
    for candidate in $(seq 54320 54399); do
        if ! (: <>"/dev/tcp/127.0.0.1/$candidate") 2>/dev/null; then
            echo "$candidate"
            return 0
        fi
    done
    fail "no port between 54320 and 54399 is free"
}

stop() {
    [ -e "$demo" ] || return 0
    [ -e "$demo/is-riskft-demo" ] || fail "$demo was not made by the demo; it is left alone (RISKFT_DEMO names another folder)"
    if [ -d "$demo/data" ] && as_server_user "$bin/pg_ctl" status --pgdata "$demo/data" >/dev/null; then
        say "stopping the demo in $demo"
        quietly demo-stop as_server_user "$bin/pg_ctl" stop --pgdata "$demo/data" --mode fast
    fi
    rm -rf "$demo"
}

case ${1:-} in
start) start ;;
stop) stop ;;
url) url ;;
psql)
    is_up || fail "the demo is down; start it with: make demo"
    run_psql analyst
    ;;
*) fail "usage: demo.sh start | psql | url | stop" ;;
esac
