# make demo: install, run the quickstart, print where the report is.
# make test: install with the test tools, then lint, types, import contract and all tests.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
CONSTRAINTS := constraints.txt

.PHONY: demo test slow lint clean

demo: .venv/installed
	$(BIN)/featurebench run configs/quickstart.yaml

# A file of tests stays in one process, since its tests share what they set up.
test: lint
	$(BIN)/pytest -n logical --maxprocesses 4 --dist loadfile

slow: .venv/installed-test
	$(BIN)/pytest -m slow

lint: .venv/installed-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf .venv stores results reports/quickstart

.venv/python:
	$(PYTHON) -m venv .venv
	touch $@

.venv/installed: .venv/python pyproject.toml $(CONSTRAINTS)
	$(BIN)/pip install --quiet --constraint $(CONSTRAINTS) --editable .
	touch $@

.venv/installed-test: .venv/installed
	$(BIN)/pip install --quiet --constraint $(CONSTRAINTS) --editable '.[test]'
	touch $@
