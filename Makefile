# Everything a bare Debian or Ubuntu machine with git, make and Python 3.11+ needs is installed by `make setup`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MODELS := .cache/models
N ?= 8

.PHONY: help setup torch nni demo check test arm64 lab boards faults bench clean

help:           ## show this list
	@grep -hE '^[a-z0-9]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

setup: $(VENV)/.ready  ## make .venv with edgeprof, every runtime and the tools

$(VENV)/.ready: pyproject.toml constraints.txt tests/models.txt tools/setup.sh edgeprof/provision.py
	PYTHON="$(PYTHON)" VENV="$(VENV)" MODELS="$(MODELS)" sh tools/setup.sh
	touch $@

torch: setup    ## add torch (gigabytes): exports of torch modules, and their tests, which are skipped without it
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[torch]'

nni: setup      ## an environment of NNI with the pins that go together (gigabytes), for its tests
	sh tools/nni.sh

demo: setup torch  ## profile a small real model, and search networks for this machine; explain the numbers
	$(BIN)/edgeprof demo

check: setup    ## format, lint, types, import rules, the agent's Python floor
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/vermin -q --no-tips --violations --target=3.9- --backport dataclasses --backport typing device_agents edgeprof/setting_up/on_device.py

test: setup     ## the whole test suite
	sh tools/sshd.sh
	sh tools/adb.sh
	sh tools/postgres.sh
	sh tools/faketime.sh
	sh tools/lab.sh
	sh tools/boards.sh
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

arm64: setup    ## profile a real model per runtime, operator by operator, on an emulated arm64 device
	sh tools/arm64.sh
	$(BIN)/python -m tests.lab arm64

lab: setup      ## a campaign on N=8 emulated arm64 devices, two of which fail on purpose; resumed and counted (root)
	sh tools/lab.sh
	$(BIN)/python -m tests.lab fleet $(N)

boards: setup   ## boot an emulated arm64 machine with a power chip, a battery and heat, and measure on it (set-up: root)
	sh tools/boards.sh
	$(BIN)/python -m tests.boards

faults: setup   ## let everything that must be survived happen to a campaign; writes the table of docs/reliability.md
	sh tools/sshd.sh
	sh tools/faketime.sh
	$(BIN)/python -m tests.faults

bench: setup    ## every benchmark; the last line of each is one JSON object
	@for f in benchmarks/[a-z]*.py; do echo "== $$f"; $(BIN)/python $$f; done

clean:          ## remove what make made
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build
