# `make serve` runs an example project (EXAMPLE=payments another one), `make test` passes everything; both set up their needs.
PYTHON ?= python3
VENV := .venv
EXAMPLE ?= orders
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CODE := protocol journal runtime tests bench examples

WORKERS ?= 2
SEEDS ?= 2000
FAULTS ?= 30
FUZZED := tests/protocol/test_hostile_files.py tests/protocol/test_cost.py tests/runtime/test_hostile_settings.py \
	tests/journal/test_hostile_bytes.py tests/runtime/door/test_hostile_requests.py tests/system/test_described_api.py

.PHONY: serve test check audit bench simulate faults fmt

# Done again only when the dependencies may have changed.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[dev,bench]'
	touch $(READY)

serve: $(READY)
	$(BIN)/python examples/run.py examples/$(EXAMPLE)

test: check

check: $(READY)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy
	$(BIN)/mypy examples
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --cov --cov-report=term:skip-covered -q
	$(BIN)/python -m tests.audit --note

# Known vulnerabilities of what is installed. It needs the package index; `check` only notes what it hears, if anything.
audit: $(READY)
	$(BIN)/python -m tests.audit

bench: $(READY)
	$(BIN)/python -m bench

# The whole runtime under faults, from seeds: minutes, and not part of `check`, which runs a slice of it.
simulate: $(READY)
	$(BIN)/python -m tests.simulation --seeds $(SEEDS)

# Fuzzing with new examples, so many times as long as in `check`: some ten minutes.
faults: $(READY)
	FAULTS=$(FAULTS) $(BIN)/pytest -q --timeout 3600 $(FUZZED)

fmt: $(READY)
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)
