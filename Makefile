# `make serve` runs the example project, `make test` passes everything; both set up what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CODE := protocol journal runtime tests bench examples

.PHONY: serve test check bench fmt

# Done again only when the dependencies may have changed.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[dev,bench]'
	touch $(READY)

serve: $(READY)
	$(BIN)/python examples/orders/run.py

test: check

check: $(READY)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy
	MYPYPATH=examples/orders $(BIN)/mypy examples/orders
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/pytest --cov --cov-report=term:skip-covered -q

bench: $(READY)
	$(BIN)/python -m bench

fmt: $(READY)
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)
