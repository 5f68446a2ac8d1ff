#!/bin/sh
# Build the file system of the emulated arm64 device (Debian 12, with every runtime) and print where it is.
# Nothing foreign is run: apt and pip unpack packages for arm64 natively, so no maintainer script is run either.
# It is cached by what goes into it: this script, with its package list, and the versions in constraints.txt.
# usage: rootfs.sh [bare]    "bare" leaves out every wheel
# Works as root and as an ordinary user; the device must be started by the user who built it. It ends with 4 if Debian's
# packages cannot be had.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../.." && pwd)
python=${PYTHON:-$repository/.venv/bin/python}
content=${1:-full}
suite=bookworm
python_version=3.11

packages="base-files base-passwd bash coreutils dash debianutils findutils grep sed gzip tar mawk hostname login
    util-linux mount procps libc-bin libstdc++6 libgomp1 openssh-server openssh-sftp-server python3"
# One environment for what can live together; tflite-runtime was built against numpy 1. The last one is there for
# TFLite's C library alone, which no other package has.
environments="/opt/edgeprof /opt/tflite /opt/tflite_c"
[ "$content" != bare ] || environments=""
wheels() {
    case $1 in
    /opt/edgeprof) echo "onnxruntime ai-edge-litert -c $repository/constraints.txt" ;;
    /opt/tflite) echo "tflite-runtime==2.14.0 numpy<2" ;;
    /opt/tflite_c) echo "--no-deps pymicro-wakeword==2.5.0" ;;
    esac
}

key=$(cat "$here/rootfs.sh" "$repository/constraints.txt" | sha256sum | cut -c1-16)
cache=${LAB_CACHE:-$repository/.cache/arm64}
[ "$content" = full ] || key=$key-$content
rootfs=$cache/$key
if [ -d "$rootfs" ]; then
    echo "$rootfs"
    exit
fi

umask 022
mkdir -p "$cache"
new=$(mktemp -d "$cache/new.XXXXXX")
trap 'rm -rf "$new"' EXIT
chmod 755 "$new"

# The host's own apt sources are fed on standard input: mirrors and proxies work as they do for the host.
mode=chrootless
[ "$(id -u)" != 0 ] || mode=root
cat /etc/apt/sources.list /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list 2>/dev/null |
    mmdebstrap --quiet --mode=$mode --architectures=arm64 --variant=extract \
        --include="$(echo $packages | tr ' ' ',')" \
        --aptopt='APT::Install-Recommends "false"' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' \
        $suite "$new" - >&2 || exit 4

# What maintainer scripts would have done.
cp "$new/usr/share/base-passwd/passwd.master" "$new/etc/passwd"
cp "$new/usr/share/base-passwd/group.master" "$new/etc/group"
echo 'sshd:x:104:65534::/run/sshd:/usr/sbin/nologin' >>"$new/etc/passwd"
echo 'pi:x:1000:1000::/home/pi:/bin/bash' >>"$new/etc/passwd"
echo 'pi:x:1000:' >>"$new/etc/group"
mkdir -p "$new/run/sshd" "$new/home/pi"
[ -e "$new/usr/bin/awk" ] || ln -s mawk "$new/usr/bin/awk"
[ -e "$new/bin/sh" ] || ln -s dash "$new/bin/sh"

# A virtual environment is a file, a link and a folder: it can be made without running the Python it is for.
for environment in $environments; do
    folder=$new$environment
    mkdir -p "$folder/bin" "$folder/lib/python$python_version"
    ln -s /usr/bin/python3 "$folder/bin/python"
    printf 'home = /usr/bin\ninclude-system-site-packages = false\nversion = %s\n' $python_version >"$folder/pyvenv.cfg"
    platforms=""
    for glibc in 2_36 2_35 2_34 2_28 2_27 2_17; do
        platforms="$platforms --platform manylinux_${glibc}_aarch64"
    done
    "$python" -m pip install -qq --disable-pip-version-check --no-warn-conflicts --no-compile --only-binary=:all: \
        --python-version $python_version --implementation cp --abi cp311 --abi abi3 --abi none \
        $platforms --platform manylinux2014_aarch64 \
        --target "$folder/lib/python$python_version/site-packages" $(wheels $environment) >&2
done

# The same minor version compiles natively; else every emulated start compiles the standard library again.
if "$python" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$python_version')"; then
    env -u PYTHONDONTWRITEBYTECODE "$python" -m compileall -q -j0 -s "$new" \
        "$new/usr/lib/python$python_version" "$new/usr/lib/python3" ${environments:+"$new/opt"} >/dev/null || true
fi

# Somebody else may have built the same meanwhile.
mv -T "$new" "$rootfs" 2>/dev/null || [ -d "$rootfs" ]
echo "$rootfs"
