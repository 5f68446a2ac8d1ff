#!/bin/sh
# The tests talk to a real sshd: install it where we may; else they skip and say why.
set -eu
[ -x /usr/sbin/sshd ] || command -v sshd >/dev/null || sh tools/apt.sh openssh-server ||
    echo "test: OpenSSH's server is missing (package openssh-server): tests over SSH will be skipped"
