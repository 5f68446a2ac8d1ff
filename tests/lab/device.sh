#!/bin/sh
# Become the first process of an emulated arm64 device, without root, and run a command there as the user pi.
# Called by arm64.py inside new user, mount, process, host name and IPC namespaces.
# usage: device.sh ROOTFS FOLDER CPU COMMAND...    FOLDER is the host's and the device's alike; it has sys/ and perhaps cpuinfo.
set -eu
rootfs=$1
folder=$2
cpu=$3
shift 3

# The file system below is shared and never written to; what the device writes is in memory and gone with it.
disk=$folder/disk
root=$disk/root
mkdir -p "$disk"
mount -t tmpfs -o size=512m tmpfs "$disk"
mkdir "$disk/upper" "$disk/work" "$root"
mount -t overlay -o "lowerdir=$rootfs,upperdir=$disk/upper,workdir=$disk/work,userxattr" overlay "$root"
mkdir -p "$root/proc" "$root/sys" "$root/dev" "$root/tmp" "$root$folder"
chmod 1777 "$root/tmp"
mount --bind "$folder" "$root$folder"

mount -t proc proc "$root/proc"
mount -t tmpfs -o size=4m,mode=755 tmpfs "$root/sys"
cp -r "$folder/sys/." "$root/sys/"
[ ! -e "$folder/cpuinfo" ] || mount --bind "$folder/cpuinfo" "$root/proc/cpuinfo"
mount -t tmpfs -o size=1m,mode=755 tmpfs "$root/dev"
for name in null zero full random urandom tty; do
    touch "$root/dev/$name"
    mount --bind "/dev/$name" "$root/dev/$name"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mount -t tmpfs -o size=64m tmpfs "$root/dev/shm"
hostname arm64

# Where the host has not registered qemu for arm64 programs, a user namespace may have a register of its own (Linux 6.7).
if ! chroot "$root" /bin/true 2>/dev/null; then
    mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
    printf '%s' ':qemu-aarch64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:/usr/bin/qemu-aarch64-static:F' \
        >/proc/sys/fs/binfmt_misc/register
fi

# To sshd we must not look like root, whose sshd changes identity: a second user namespace makes us pi. It is entered
# natively, because qemu-user is multi-threaded and such a process may not (EINVAL); chroot needs the capabilities.
cd "$root"
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin "QEMU_CPU=$cpu" USER=pi \
    unshare --user --map-user=1000 --map-group=1000 --keep-caps \
    chroot "$root" /usr/bin/setpriv --ambient-caps=-all --inh-caps=-all "$@"
