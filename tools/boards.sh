#!/bin/sh
# The tests boot whole arm64 machines with a kernel of their own: install what that takes where we may; else they skip.
set -eu
sh tools/arm64.sh
for program in qemu-system-aarch64 aarch64-linux-gnu-gcc cpio fdtput make setpriv ssh /sbin/mke2fs /sbin/depmod \
    /usr/lib/linux-kbuild-6.1/scripts/mod/modpost; do
    command -v "$program" >/dev/null ||
        sh tools/apt.sh qemu-system-arm ipxe-qemu cpio e2fsprogs kmod device-tree-compiler gcc-aarch64-linux-gnu \
            linux-kbuild-6.1 make util-linux openssh-client || {
        echo "boards: $program is missing: tests on virtual boards will be skipped"
        exit
    }
done
