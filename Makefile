PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check fix bench venv nvim picture

# Fills gaps in a real Python file with the embedded model, drawing the canvas as it settles.
demo: venv
	@$(BIN)/python -m midspan.server.commands.demo

# The editor tests name the mend themselves where no Neovim could be had.
test: venv
	-@tests/editors/fetch_nvim.sh
	@$(BIN)/python -m pytest

check: venv
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

fix: venv
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: venv
	@for tasks in fixtures/bench/*.jsonl*; do $(BIN)/midspan bench quality --tasks "$$tasks" --json || exit 1; done
	@$(BIN)/midspan bench keystroke --json

venv: $(VENV)/stamp

$(VENV)/stamp: pyproject.toml constraints.txt $(wildcard kernels/cpu/*)
	@echo "making $(VENV) with the midspan command: about a minute"
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "midspan needs Python 3.11 or newer: run make with PYTHON=python3.11")'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[kernels,train,test,lint]'
	@touch $@

# Neovim 0.12 for the editor tests, kept in .cache/nvim.
nvim:
	@tests/editors/fetch_nvim.sh

# The picture at the top of README.md: a real Neovim, the real server, what the embedded model offers.
picture: venv nvim
	@$(BIN)/python tests/editors/picture.py
