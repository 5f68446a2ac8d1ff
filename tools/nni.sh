#!/bin/sh
# An environment of NNI 3.0 (its last release is of 2023) with the pins that still go together; those of constraints.txt do not.
set -eu
PLACE="${1:-.cache/nni}"
[ -e "$PLACE/.ready" ] && exit 0
"${PYTHON:-python3}" -m venv "$PLACE"
"$PLACE/bin/python" -m pip install --quiet --disable-pip-version-check -e '.[search]' 'nni==3.0' \
    'torch==2.13.0' 'pytorch-lightning==2.6.6' 'torchmetrics==1.9.0' 'filelock==3.11.0' 'typeguard==4.1.2'
"$PLACE/bin/python" -m pip check
touch "$PLACE/.ready"
