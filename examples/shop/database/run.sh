#!/bin/sh
# PostgreSQL as a service of the shop: made when there is none yet, then run in the foreground.
# PORT comes from Fissile; the data stays in .data/postgres, from one `up` to the next.
set -eu
data=$(pwd)/.data/postgres
programs=$(dirname "$(command -v initdb || ls /usr/lib/postgresql/*/bin/initdb | sort -V | tail -n 1)")

as_owner() {
    if [ "$(id -u)" = 0 ]; then
        # PostgreSQL refuses to be run by root.
        setpriv --reuid=postgres --regid=postgres --clear-groups "$@"
    else
        "$@"
    fi
}

mkdir -p "$data"
[ "$(id -u)" != 0 ] || chown postgres: "$data"
if [ ! -e "$data/PG_VERSION" ]; then
    as_owner "$programs/initdb" -D "$data" -U shop --auth=trust --encoding=UTF8 >/dev/null
    echo 'create database shop' | as_owner "$programs/postgres" --single -D "$data" postgres >/dev/null
fi
if [ "$(id -u)" = 0 ]; then
    exec setpriv --reuid=postgres --regid=postgres --clear-groups \
        "$programs/postgres" -D "$data" -p "$PORT" -h 127.0.0.1 -k ''
fi
exec "$programs/postgres" -D "$data" -p "$PORT" -h 127.0.0.1 -k ''
