# Two commands do everything on a fresh machine: `make demo` and `make test`.
# Each builds its own environment from the hash-pinned lock; nothing is installed by hand.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.locked

.PHONY: test lint types unit demo bench test-mesh env clean lock

test: lint types unit

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

unit: $(STAMP)
	$(BIN)/python -m pytest -q

# Three real nodes on this machine, real text, a stranger at the gate.
demo: $(STAMP)
	$(BIN)/ai-memory demo

# 60,000 memories over three nodes, each killed with -9 in the middle of pushes, twenty times over; restores.
test-mesh: $(STAMP)
	MESH_RECORDS=60000 MESH_KILLS=20 $(BIN)/python -m pytest -q -s --timeout 1500 tests/mesh

# One run, one table: each figure beside the limit of its parts.
bench: $(STAMP)
	$(BIN)/python -m tests.bench

env: $(STAMP)

# The stamp depends on the lock alone: an unchanged lock means an unchanged environment.
$(STAMP): requirements-dev.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python %d.%d found, 3.11 or newer needed: set PYTHON=" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes --only-binary :all: -r requirements-dev.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation --no-index -e .
	touch $@

# Needs `uv` on PATH; everything else here does not.
lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate pyproject.toml -o requirements.lock
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate --group dev pyproject.toml -o requirements-dev.lock
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate --only-group build -o build.lock

clean:
	rm -rf $(VENV) dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
