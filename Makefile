# Everything a fresh machine needs: `make demo` and `make test` set up a virtual environment of their own first.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help setup demo test lint format bench docs clean

help:
	@echo "make demo    train, prune, export, check, time and report on real images (runs/demo/report.html)"
	@echo "make test    the test suite"
	@echo "make lint    ruff and pyright"
	@echo "make bench   accuracy figures; EXPERIMENT=, DATA=, WEIGHTS= as in benchmarks/README.md"
	@echo "make docs    the documentation as a site (site/index.html)"

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip setuptools
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[torch,search,bench,dev]"
	touch $(READY)

setup: $(READY)

demo: $(READY)
	$(BIN)/secateur compress --recipe examples/digits.yaml --out runs/demo

test: $(READY)
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal --durations 30 --durations-min 5

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)
	$(BIN)/python benchmarks/cifar10.py $(or $(EXPERIMENT),goals) --data $(or $(DATA),cifar10) --weights $(or $(WEIGHTS),weights)

docs: $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) build dist site runs
