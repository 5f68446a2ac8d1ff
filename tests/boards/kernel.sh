#!/bin/sh
# Fetch Debian's arm64 kernel, cross-build the drivers that it lacks from its own source, and print where all of it is.
# The Debian kernel for arm64 has no i2c-stub, ina2xx or test_power: they are built as they stand in linux-source, beside
# vboard.c. apt runs with a configuration of its own: the host's list of packages does not change. No root is needed.
# It is cached by this script and vboard.c. It ends with 4 if Debian's packages cannot be had.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cache=${BOARDS_CACHE:-$(cd "$here/../.." && pwd)/.cache/boards}
series=6.1
sources="drivers/i2c/i2c-stub.c drivers/hwmon/ina2xx.c drivers/power/supply/test_power.c"

mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
key=$(cat "$here/kernel.sh" "$here/vboard.c" | sha256sum | cut -c1-16)
kernel=$cache/kernel-$key
if [ -d "$kernel" ]; then
    echo "$kernel"
    exit
fi

umask 022
new=$(mktemp -d "$cache/new.XXXXXX")
trap 'rm -rf "$new"' EXIT
chmod 755 "$new"
apt=$new/apt
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/deb"
: >"$apt/status"
cat >"$apt/apt.conf" <<END
APT::Architecture "arm64";
APT::Architectures {"arm64";};
Dir::State "$apt";
Dir::State::lists "$apt/lists";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache";
APT::Sandbox::User "root";
END
export APT_CONFIG="$apt/apt.conf"
apt-get -qq update >&2 || exit 4
version=$(apt-cache depends linux-image-arm64 | sed -n "s/.*Depends: linux-image-\($series\..*-arm64\)\$/\1/p" | head -1)
[ -n "$version" ] || exit 4
(cd "$apt/deb" && apt-get -qq download "linux-image-$version" "linux-headers-$version" \
    "linux-headers-${version%-arm64}-common" busybox-static "linux-source-$series") >&2 || exit 4

echo "$version" >"$new/version"
dpkg-deb -x "$apt"/deb/linux-image-*.deb "$new/image"
dpkg-deb -x "$apt"/deb/busybox-static_*.deb "$new/busybox"
for package in "$apt"/deb/linux-headers-*.deb; do dpkg-deb -x "$package" "$new/headers"; done
mkdir "$new/modules" "$new/source"
dpkg-deb --fsys-tarfile "$apt"/deb/linux-source-*.deb | tar -xO "./usr/src/linux-source-$series.tar.xz" |
    tar -xJ -C "$new/source" $(printf "linux-source-$series/%s " $sources)
for source in $sources; do cp "$new/source/linux-source-$series/$source" "$new/modules/"; done
cp "$here/vboard.c" "$new/modules/"
echo 'obj-m := i2c-stub.o ina2xx.o test_power.o vboard.o' >"$new/modules/Makefile"

# The headers look for each other and for kbuild's host programs under /usr.
headers=$new/headers/usr/src/linux-headers-$version
mkdir -p "$new/headers/usr/lib"
cp -a "/usr/lib/linux-kbuild-$series" "$new/headers/usr/lib/"
sed -i "s#^include /usr/src#include $new/headers/usr/src#" "$headers/Makefile"
make -s -C "$headers" M="$new/modules" ARCH=arm64 CROSS_COMPILE=aarch64-linux-gnu- modules >&2
aarch64-linux-gnu-strip --strip-debug "$new"/modules/*.ko
cp "$new/image/lib/modules/$version/kernel/drivers/i2c/i2c-dev.ko" "$new/modules/"
PATH=$PATH:/usr/sbin:/sbin depmod -b "$new/image" "$version"
rm -rf "$apt" "$new/headers" "$new/source"
mv -T "$new" "$kernel"
echo "$kernel"
