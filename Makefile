# demo: install and run the demo. test: all tests. check: lint, types, generated documents. docs: write those.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
RUN_STAMP := .venv/.installed
DEV_STAMP := .venv/.installed-dev

.PHONY: demo test check lint type docs docs-current

demo: $(RUN_STAMP)
	$(BIN)/flowmm demo

test: $(DEV_STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile

check: lint type docs-current

lint: $(DEV_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: $(DEV_STAMP)
	$(BIN)/mypy

docs: $(DEV_STAMP)
	$(BIN)/python docs/generate.py
	FLOWMM_WRITE_LIMITS=1 $(BIN)/python -m pytest -q tests/e2e/test_failures.py

docs-current: $(DEV_STAMP)
	$(BIN)/python docs/generate.py --check

$(BIN)/python:
	$(PYTHON) -m venv .venv

$(RUN_STAMP): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e .
	touch $@

$(DEV_STAMP): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e '.[dev]'
	touch $@ $(RUN_STAMP)
