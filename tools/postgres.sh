#!/bin/sh
# The tests start a PostgreSQL server of their own: install it where we may; else they skip and say why.
# Debian's package would make and start a server for the whole machine, which nobody asked for: it is told not to.
set -eu
[ -x "$(command -v initdb)" ] || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || {
    settings=/etc/postgresql-common/createcluster.conf
    if [ "$(id -u)" = 0 ] && [ ! -e "$settings" ]; then
        mkdir -p "${settings%/*}"
        echo "create_main_cluster = false" >"$settings"
        made=$settings
    fi
    sh tools/apt.sh postgresql || echo "test: no PostgreSQL (package postgresql): tests of a shared store will be skipped"
}
