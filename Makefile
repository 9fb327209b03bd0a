# make demo   train on rendered faces, evaluate, draw: no download but the packages
# make test   lint and the whole test suite
# make lint   ruff and pyright, 40 s
# make docs   the documentation site into site/, warnings as errors
# All set up .venv first, from any Python 3.11+: PYTHON=python3.12 make test

# Large memory pages on Linux: a training step on CPUs takes two thirds of the time (RESULTS.md).
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test lint docs clean

demo: $(VENV)/.demo
	$(BIN)/hrnet-jax demo --config=configs/demo.py --workdir=runs/demo

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

test: lint
	$(BIN)/python -m pytest -q -n auto --dist loadfile --no-loadscope-reorder

$(VENV)/.demo: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/.test: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[data,dev]'
	touch $@ $(VENV)/.demo

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

$(VENV)/.docs: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV) runs predictions site
