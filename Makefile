# Everything a person needs, each target safe to run again. `make` alone lists them.
PYTHON ?= python3
# Tests that run at once, each in a process with one thread. A worker takes about 1 GB.
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Workloads of bench-check: those that need no model.
CHECKED := tokenizer data scorers
# The folders that stages/workspace.txt lists, the host's own (.) left out.
STAGES := $(shell sed -n 's/^-e \.\/\([^[]*\).*/\1/p' stages/workspace.txt)

# Modules are compiled when they are first imported (half a minute less than all of them at once), so this must be allowed.
unexport PYTHONDONTWRITEBYTECODE

PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS)

.DEFAULT_GOAL := help
.PHONY: help install demo test check test-slow bench-check test-gpu docs site wheel wheel-check clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(STAMP): constraints.txt stages/workspace.txt pyproject.toml $(wildcard stages/*/pyproject.toml)
	@echo "installing into $(VENV), a few minutes"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt hatchling editables
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --no-build-isolation -c constraints.txt \
		-r stages/workspace.txt
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --no-build-isolation -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

install: $(STAMP)  ## install every stage, editable, into .venv

demo: $(STAMP)  ## draw pictures, train every stage on them, score, report: runs/demo (a quarter of an hour on 2 CPU cores)
	$(BIN)/lavit quickstart --out runs/demo

test: $(STAMP)  ## run the tests that need neither a GPU nor patience
	$(PYTEST) --dist loadfile --no-loadscope-reorder

check: $(STAMP)  ## style, types, import rules, generated pages, words
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy src $(STAGES:%=%/src)
	$(BIN)/lint-imports
	$(BIN)/python docs/build_commands.py --check
	$(BIN)/python docs/check_words.py

test-slow: $(STAMP)  ## run the tests that take minutes
	$(PYTEST) --dist worksteal -m slow --timeout 3600

bench-check: $(STAMP)  ## fail if a ratio of `lavit bench` has fallen (minutes; not part of CI: docs/adr)
	OMP_NUM_THREADS=1 $(BIN)/lavit bench $(CHECKED) --dtype bf16 --out runs/bench.json
	$(BIN)/python benchmarks/check.py runs/bench.json benchmarks/baselines/amd-epyc-bf16.json

test-gpu: $(STAMP)  ## run the tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu

docs: $(STAMP)  ## write docs/commands.md from the commands' own help
	$(BIN)/python docs/build_commands.py

site: $(STAMP)  ## build the documentation as a site into site/
	$(BIN)/python docs/build_site.py

wheel: $(STAMP)  ## build a wheel of every distribution into dist/
	rm -rf dist
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist $(STAGES:%=./%) .

wheel-check: wheel  ## install the wheels of dist/ into a fresh environment, and use every stage (minutes; not part of CI)
	OMP_NUM_THREADS=1 $(BIN)/python tests/check_wheels.py dist

clean:  ## remove the environment and everything generated (runs/ too)
	rm -rf $(VENV) dist site runs .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
