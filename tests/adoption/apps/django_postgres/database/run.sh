#!/bin/sh
# PostgreSQL, made when there is none yet; its data is in data/postgres. PORT comes from Fissile.
set -eu
data=$(pwd)/data/postgres
programs=$(dirname "$(command -v initdb || ls /usr/lib/postgresql/*/bin/initdb | sort -V | tail -n 1)")
as_owner=""
mkdir -p "$data"
if [ "$(id -u)" = 0 ]; then
    # PostgreSQL refuses to be run by root.
    chown postgres: "$data"
    as_owner="setpriv --reuid=postgres --regid=postgres --clear-groups"
fi
if [ ! -e "$data/PG_VERSION" ]; then
    $as_owner "$programs/initdb" -D "$data" -U notes --auth=trust --encoding=UTF8 --no-sync >/dev/null
    echo 'create database notes' | $as_owner "$programs/postgres" --single -D "$data" postgres >/dev/null
fi
exec $as_owner "$programs/postgres" -D "$data" -p "$PORT" -h 127.0.0.1 -k ''
