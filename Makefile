# `make demo` trains, measures and reports; `make test` lints and tests. Both set up what they need in .venv.
PYTHON ?= python3
RUN ?= runs/demo
BIN := .venv/bin

.PHONY: demo test lint format clean

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

.venv/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "avq needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/tested: .venv/installed
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@

clean:
	rm -rf .venv dist
