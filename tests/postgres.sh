#!/usr/bin/env bash
# A PostgreSQL server for tests, in a folder of its own, on a free port of this machine.
#   tests/postgres.sh start FOLDER   starts it and prints FREEHOLD_TEST_POSTGRES=ADDRESS; another
#                                    user than root must be able to get into the folder
#   tests/postgres.sh stop FOLDER    stops it and removes the folder
#   tests/postgres.sh run COMMAND... runs a command beside one
# Installs Debian's package where there is none and the user is root.
set -euo pipefail

# Where Debian puts what is not on the path.
programs() {
    local found
    found=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
    [ -n "$found" ] || found=$(dirname "$(command -v initdb)" 2>/dev/null) || return 1
    [ -x "$found/initdb" ] && echo "$found"
}

# PostgreSQL refuses to run as root.
as_user() {
    if [ "$(id -u)" -eq 0 ]; then setpriv --reuid postgres --regid postgres --clear-groups "$@"; else "$@"; fi
}

start() {
    local folder=$1 bin port
    if ! bin=$(programs); then
        if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
            echo "no PostgreSQL here: install the package postgresql" >&2
            return 1
        fi
        # Without a cluster of the system's, which would start at once.
        { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes \
            --no-install-recommends postgresql; } >&2
        bin=$(programs)
    fi
    # The server runs in its folder: its user may not see where we are.
    mkdir -p "$folder"
    if [ "$(id -u)" -eq 0 ]; then chown postgres "$folder"; fi
    chmod 700 "$folder"
    cd "$folder"
    as_user "$bin/initdb" --pgdata "$folder/data" --username postgres --auth trust \
        --encoding UTF8 --no-sync >"$folder/log" 2>&1 || { cat "$folder/log" >&2; return 1; }
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    # Its data is thrown away, so no write needs to reach the disk.
    as_user "$bin/pg_ctl" --pgdata "$folder/data" --log "$folder/server.log" --wait --timeout 60 \
        -o "-c listen_addresses=127.0.0.1 -c port=$port -c unix_socket_directories=$folder -c fsync=off" \
        start >>"$folder/log" 2>&1 || { cat "$folder/log" "$folder/server.log" >&2; return 1; }
    echo "FREEHOLD_TEST_POSTGRES=postgres://postgres@127.0.0.1:$port/postgres"
}

stop() {
    local folder=$1
    cd "$folder"
    as_user "$(programs)/pg_ctl" --pgdata "$folder/data" --mode immediate stop >>/dev/null
    cd /
    rm -rf "$folder"
}

run() {
    RUN_FOLDER=$(mktemp -d)
    local address
    address=$(start "$RUN_FOLDER")
    trap 'stop "$RUN_FOLDER"' EXIT
    export "${address?}"
    "$@"
}

"$@"
