# `make demo` trains, measures and reports; `make test` lints and tests; `make docs` builds the pages in site/.
# Each sets up what it needs in .venv.
PYTHON ?= python3
RUN ?= runs/demo
BIN := .venv/bin

.PHONY: demo test lint format docs clean

demo: .venv/installed
	$(BIN)/python -m avq.main --config=configs/ah_vqvae_plus.py:tiny --workdir=$(RUN)
	$(BIN)/avq eval $(RUN) --json $(RUN)/eval.json --report $(RUN)/report.html

test: lint
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

lint: .venv/tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/tested
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/documented
	$(BIN)/properdocs build

.venv/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "avq needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/tested: .venv/installed
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@

.venv/documented: .venv/installed
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@

clean:
	rm -rf .venv dist site
