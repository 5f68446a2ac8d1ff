#!/bin/sh
# The tests let a device's clock jump: install libfaketime where we may; else they skip and say why.
set -eu
ls /usr/lib/*/faketime/libfaketimeMT.so.1 >/dev/null 2>&1 || sh tools/apt.sh libfaketime ||
    echo "test: libfaketime is missing (package libfaketime): tests of a clock that jumps will be skipped"
