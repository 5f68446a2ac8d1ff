#!/bin/sh
# The tests start a fleet of emulated arm64 devices, which takes root: install what it takes where we may; else they skip.
set -eu
sh tools/arm64.sh
[ "$(id -u)" = 0 ] || exit 0
for program in nft ip nsenter pivot_root mount ssh; do
    command -v "$program" >/dev/null ||
        sh tools/apt.sh nftables iproute2 util-linux mount openssh-client || {
        echo "lab: $program is missing: tests on a fleet of emulated devices will be skipped"
        exit
    }
done
