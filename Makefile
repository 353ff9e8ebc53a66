PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test targets parity-newest search check fix bench venv nvim picture

# Fills gaps in a real Python file with the embedded model, drawing the canvas as it settles.
demo: venv
	@$(BIN)/python -m midspan.server.commands.demo

# The editor tests name the mend themselves where no Neovim could be had.
test: venv
	-@tests/editors/fetch_nvim.sh
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(WORKERS)

# Two processes with a thread each, a file's tests all in one of them, as they share what takes long to make.
WORKERS := --numprocesses 2 --dist loadfile

# Kernels compiled for the kinds of GPU that make test leaves out.
targets: venv
	@$(BIN)/python -m pytest -m targets tests/kernels

# The tests against transformers once more, on its newest release, which is laid over the one in the environment.
NEWEST := .cache/transformers-newest

parity-newest: venv
	@rm -rf $(NEWEST)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $(NEWEST) transformers
	@PYTHONPATH=$(NEWEST) $(BIN)/python -c 'import transformers; print("transformers", transformers.__version__)'
	@PYTHONPATH=$(NEWEST) $(BIN)/python -m pytest -m parity tests/engine tests/benchmarks

# Properties alone, at random: ten times as many cases as make test, others at every run.
search: venv
	@$(BIN)/python -m pytest -m hypothesis --hypothesis-profile=search --timeout=0 $(WORKERS)

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
