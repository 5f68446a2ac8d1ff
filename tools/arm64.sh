#!/bin/sh
# The tests start an emulated arm64 device: install what that takes where we may; else they skip and say why.
set -eu
for program in mmdebstrap qemu-aarch64-static arch-test unshare ip; do
    command -v "$program" >/dev/null ||
        sh tools/apt.sh mmdebstrap qemu-user-static binfmt-support arch-test util-linux iproute2 openssh-server || {
        echo "arm64: $program is missing: tests on an emulated arm64 device will be skipped"
        exit
    }
done
