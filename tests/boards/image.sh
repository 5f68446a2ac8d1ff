#!/bin/sh
# Make what a board boots from, of KERNEL (kernel.sh) and ROOTFS (tests/lab/rootfs.sh), and print where it is: disk.img,
# one initramfs per machine, and their device trees. No loop mount. Cached by what goes into it.
# usage: image.sh KERNEL ROOTFS
set -eu
PATH=$PATH:/usr/sbin:/sbin

here=$(cd "$(dirname "$0")" && pwd)
cache=${BOARDS_CACHE:-$(cd "$here/../.." && pwd)/.cache/boards}
kernel=$1
rootfs=$2
version=$(cat "$kernel/version")

mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
key=$({ cat "$here/image.sh" "$here/init" && basename "$kernel" "$rootfs"; } | sha256sum | cut -c1-16)
image=$cache/image-$key
if [ -d "$image" ]; then
    echo "$image"
    exit
fi

umask 022
new=$(mktemp -d "$cache/new.XXXXXX")
trap 'rm -rf "$new"' EXIT
chmod 755 "$new"

# Sparse. An emulated SD card must be a power of two in size. The disk is never written to: it needs no journal.
disk=$(basename "$rootfs")
if [ ! -e "$cache/disk-$disk.img" ]; then
    truncate -s 2G "$new/disk.img"
    mke2fs -q -t ext4 -O ^has_journal,^metadata_csum -d "$rootfs" -F "$new/disk.img" >&2
    mv "$new/disk.img" "$cache/disk-$disk.img"
fi
ln "$cache/disk-$disk.img" "$new/disk.img"

# usage: initramfs NAME MODULE...; modules are loaded in the order of their names' numbers, each after what it needs.
initramfs() {
    name=$1
    shift
    root=$new/root-$name
    mkdir -p "$root/bin" "$root/modules" "$root/sensors" "$root/proc" "$root/sys" "$root/dev" "$root/root"
    cp "$kernel/busybox/bin/busybox" "$root/bin/"
    install -m 755 "$here/init" "$root/init"
    n=100
    for module in $(for m in "$@"; do
        modprobe -d "$kernel/image" -S "$version" --show-depends "$m"
    done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }'); do
        cp "$module" "$root/modules/$n-$(basename "$module")"
        n=$((n + 1))
    done
    cp "$kernel"/modules/*.ko "$root/sensors/"
    (cd "$root" && find . | LC_ALL=C sort | cpio -o -H newc -R 0:0 --quiet) >"$new/$name.cpio"
    rm -rf "$root"
}
initramfs virt virtio_pci virtio_mmio virtio_blk virtio_net virtio-rng crc32c_generic ext4 cpufreq_powersave
initramfs raspi3b bcm2835-thermal sdhci-iproc bcm2835 mmc_block phy-generic dwc2 cdc_ether rndis_host \
    crc32c_generic ext4 bcm2835-rng

# The machine's own device tree, with two big and two little cores that a thermal zone may slow down.
qemu-system-aarch64 -M "virt,gic-version=2,dumpdtb=$new/virt.dtb" -cpu cortex-a72 -smp 4 -m 1024 -nodefaults \
    -display none >/dev/null 2>&1
fdtput -t s "$new/virt.dtb" / model "edgeprof virtual board, big.LITTLE 2+2"
for cpu in 0 1 2 3; do
    capacity=$([ $cpu -lt 2 ] && echo 1024 || echo 446)
    fdtput -t i "$new/virt.dtb" "/cpus/cpu@$cpu" capacity-dmips-mhz "$capacity"
    fdtput -t i "$new/virt.dtb" "/cpus/cpu@$cpu" "#cooling-cells" 2
done
cp "$kernel/image/usr/lib/linux-image-$version/broadcom/bcm2837-rpi-3-b.dtb" "$new/raspi3b.dtb"
cp "$kernel/image/boot/vmlinuz-$version" "$new/vmlinuz"
mv -T "$new" "$image"
echo "$image"
