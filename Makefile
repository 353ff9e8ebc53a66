PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
SOURCES := pyproject.toml setup.py constraints.txt kernels/builds.py $(wildcard kernels/cpu/*)

.PHONY: demo test kernels parity-newest search check fix bench venv nvim emacs picture arm64 wheel \
    wheel-check vsix vscode test-editors picture-vscode llama-server test-remote

# Fills gaps in a real Python file with the embedded model, drawing the canvas as it settles.
demo: $(VENV)/stamp
	@$(BIN)/python -m midspan.server.commands.demo

# The editor tests name the fix themselves where no Neovim could be had.
test: $(VENV)/stamp-development
	-@tests/editors/fetch_nvim.sh
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(WORKERS)

# Two processes with a thread each, a file's tests all in one of them, as they share what takes long to make. Files come in
# the order of their names: the longest are not among the last, as they are in an order by the number of tests.
WORKERS := --numprocesses 2 --dist loadfile --no-loadscope-reorder

# Kernels for GPUs, without one: each against exact results in Triton's interpreter, and compiled for every kind of GPU.
kernels: $(VENV)/stamp-development
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m gpu_kernels $(WORKERS) tests/kernels tests/benchmarks/test_gpu.py

# The tests against transformers once more, on its newest release, which is laid over the one in the environment.
NEWEST := .cache/transformers-newest

parity-newest: $(VENV)/stamp-development
	@rm -rf $(NEWEST)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $(NEWEST) transformers
	@PYTHONPATH=$(NEWEST) $(BIN)/python -c 'import transformers; print("transformers", transformers.__version__)'
	@PYTHONPATH=$(NEWEST) $(BIN)/python -m pytest -m parity tests/engine tests/benchmarks

# Properties alone, at random: ten times as many cases as make test, others at every run.
search: $(VENV)/stamp-development
	@$(BIN)/python -m pytest -m hypothesis --hypothesis-profile=search --timeout=0 $(WORKERS)

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
	@echo "making $(VENV) with the midspan command: a minute or more, as torch is large"
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

# Emacs 30 with lsp-mode for its tests, kept in .cache/emacs.
emacs:
	@tests/editors/fetch_emacs.sh

# The picture at the top of README.md: a real Neovim, the real server, what the embedded model offers.
picture: $(VENV)/stamp-development nvim
	@$(BIN)/python tests/editors/picture.py

# The VS Code extension as a file, editors/vscode/midspan.vsix: npm's packages, the bundle, this source inside it.
EXTENSION := editors/vscode

vsix: $(VENV)/stamp $(EXTENSION)/midspan.vsix

$(EXTENSION)/node_modules/stamp: $(EXTENSION)/package-lock.json
	@command -v npm >/dev/null || { echo "no npm: install Node 20 or newer"; exit 1; }
	@cd $(EXTENSION) && npm ci --no-audit --no-fund --ignore-scripts --loglevel=error --cache $(abspath .cache/npm)
	@touch $@

$(EXTENSION)/midspan.vsix: $(EXTENSION)/node_modules/stamp $(EXTENSION)/package.json $(EXTENSION)/bundle.sh \
    $(wildcard $(EXTENSION)/src/*.ts $(EXTENSION)/walkthrough/* kernels/*.py kernels/cpu/* server/*.py server/*/*.py \
    engine/*.py engine/*/*.py)
	@$(PIP) 'setuptools>=77'
	@PYTHON=$(abspath $(BIN)/python) $(EXTENSION)/bundle.sh
	@cd $(EXTENSION) && npm run --silent types && npm run --silent build && \
	    npx vsce package --no-dependencies --allow-missing-repository --out midspan.vsix

# What its tests drive: Node 24, VS Code as code-server, Chromium; 1.2 GB in .cache/vscode, about two minutes.
vscode:
	@tests/editors/vscode/fetch.sh

# The editors' tests alone, those of VS Code and Emacs with them, which make test leaves out for what they fetch. VS Code's
# come first: one process has most of them, the other one its set-up and the rest.
LONGEST := tests/editors/test_vscode.py tests/editors/test_vscode_install.py
EDITORS := $(LONGEST) $(filter-out $(LONGEST),$(wildcard tests/editors/test_*.py))

test-editors: $(VENV)/stamp-development nvim emacs vscode vsix
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(WORKERS) -m 'vscode or not vscode' $(EDITORS)

# llama.cpp's server with a small model, kept in .cache/llama and .cache/smollm2; half a minute or more.
llama-server: $(VENV)/stamp-development
	@PYTHON=$(abspath $(BIN)/python) tests/engine/remote/fetch.sh

# Remote engines against the real program, and our own network against its text; make test leaves them out for what they
# fetch.
test-remote: llama-server
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m llama_server tests/engine/remote tests/engine/test_llama_cpp.py

# The picture of VS Code in README.md: the packaged extension, the real server, the embedded model.
picture-vscode: $(VENV)/stamp-development vscode vsix
	@$(BIN)/python -m pytest -q -m vscode tests/editors/test_vscode.py -k embedded
	@cp .cache/pictures/vscode.png docs/vscode.png

# The kernels for 64-bit ARM, compiled by a cross compiler and run under an emulator.
arm64: $(VENV)/stamp-development
	@for tool in aarch64-linux-gnu-g++ qemu-aarch64; do command -v $$tool >/dev/null || \
	    { echo "no $$tool: apt-get install g++-aarch64-linux-gnu qemu-user"; exit 1; }; done
	@$(BIN)/python -m pytest tests/kernels/test_program.py -k arm64

# A wheel for Linux machines of this kind, with the kernels in it, in dist/. It brings no OpenMP: torch has one loaded, and
# two in one process would each keep threads of their own.
wheel: $(VENV)/stamp
	@$(PIP) --editable '.[wheel]'
	@rm -rf build dist && $(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir build/wheel .
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/auditwheel repair --exclude libgomp.so.1 --wheel-dir dist build/wheel/*.whl

# Installs it in a new environment, and fills a gap there.
wheel-check: wheel
	@tests/wheel.sh dist/*.whl
