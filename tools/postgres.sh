#!/bin/sh
# The tests start a PostgreSQL server of their own: install it where we may; else they skip and say why.
set -eu
command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 && exit 0
run=""
[ "$(id -u)" = 0 ] || run="sudo -n"
# Debian's package would make a server for the whole machine and start it, which nobody asked for.
settings=/etc/postgresql-common/createcluster.conf
if [ ! -e "$settings" ] && $run mkdir -p "${settings%/*}" 2>/dev/null; then
    echo "create_main_cluster = false" | $run tee "$settings" >/dev/null
fi
sh tools/apt.sh postgresql ||
    echo "test: no PostgreSQL (package postgresql): tests of a shared store will be skipped"
