# The five commands of this repository. Needs Python >= 3.11 and make, nothing else.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help install up test lint bench lock clean
.DEFAULT_GOAL := help

help:  ## show these targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/'

.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"gaia needs Python 3.11 or newer, $(PYTHON) is {sys.version.split()[0]}: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

install: .venv/installed  ## build .venv from the lock file

up: install  ## run the whole platform here: PostgreSQL, NATS, four services, the agent
	@exec $(BIN)/gaia up $(ARGS)

test: install  ## run every test (add ARGS="-k name" to choose)
	$(BIN)/python -m pytest $(ARGS)

lint: install  ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: install  ## print the performance figures of this machine
	$(BIN)/python -m tests.bench $(ARGS)

lock:  ## resolve requirements.lock again from pyproject.toml (needs uv)
	uv pip compile --universal --generate-hashes --python-version 3.11 --extra dev \
	  --custom-compile-command "make lock" --upgrade --output-file requirements.lock pyproject.toml

clean:  ## remove .venv, caches and the local platform's data
	rm -rf .venv .gaia .mypy_cache .ruff_cache .pytest_cache .hypothesis
