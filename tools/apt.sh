#!/bin/sh
# Install Debian packages where we may: as root, or through sudo that asks no password. Fails without a word otherwise.
set -eu
command -v apt-get >/dev/null || exit 1
if [ "$(id -u)" = 0 ]; then
    run=""
else
    command -v sudo >/dev/null && sudo -n true 2>/dev/null || exit 1
    run="sudo -n"
fi
export DEBIAN_FRONTEND=noninteractive
$run apt-get install -y -qq --no-install-recommends "$@" >/dev/null 2>&1 ||
    { $run apt-get update -qq && $run apt-get install -y -qq --no-install-recommends "$@" >/dev/null; }
