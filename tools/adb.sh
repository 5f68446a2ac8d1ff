#!/bin/sh
# The tests of phones use adb's own client: install it where we may; else they skip and say why.
set -eu
command -v adb >/dev/null || sh tools/apt.sh adb ||
    echo "test: adb's client is missing (package adb): tests of phones will be skipped"
