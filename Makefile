# Every target works on a fresh clone: it makes .venv first. Bare `make` lists them.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Byte code saves seconds at every start, so a machine-wide wish to leave none does not hold here.
unexport PYTHONDONTWRITEBYTECODE
# A virtual environment of the shell's own would win over .venv in some tools.
unexport VIRTUAL_ENV PYTHONPATH

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.run ## make .venv with what a run needs, exactly as locked

$(VENV)/.installer: requirements/installer.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Penstock needs Python 3.11 or later; say which: make PYTHON=python3.11 ..." >&2; exit 2; }
	@$(PYTHON) -m venv --clear $(VENV) || { echo "$(PYTHON) cannot make a virtual environment; install its venv module (Debian: python3-venv)" >&2; exit 2; }
	@echo "setting up .venv (once)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes --only-binary :all: -r requirements/installer.txt
	@touch $@

$(VENV)/.run: $(VENV)/.installer requirements/run.txt pyproject.toml
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --require-hashes --only-binary :all: -r requirements/run.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements/dev.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --require-hashes --only-binary :all: -r requirements/dev.txt
	@touch $@

run: $(VENV)/.run ## do it all: ingest, build, gate, publish, report
	@$(BIN)/penstock run $(ARGS)

ingest: $(VENV)/.run ## sources -> raw
	@$(BIN)/penstock ingest $(ARGS)

build: $(VENV)/.run ## raw -> candidate marts, with dbt
	@$(BIN)/penstock build $(ARGS)

gate: $(VENV)/.run ## judge raw and the candidate marts
	@$(BIN)/penstock gate $(ARGS)

publish: $(VENV)/.run ## candidate marts -> Postgres, in one transaction, and the exports
	@$(BIN)/penstock publish $(ARGS)

deadletters: $(VENV)/.run ## records that could not go on: ARGS="show ID", "export --to FILE", "discard ..."
	@$(BIN)/penstock deadletters $(or $(ARGS),list)

replay: $(VENV)/.run ## dead letters through the pipeline again: ARGS=FILE, corrected; or filters, as they came
	@$(BIN)/penstock replay $(ARGS)

status: $(VENV)/.run ## the last runs
	@$(BIN)/penstock status $(ARGS)

docs: $(VENV)/.run ## the report site: runs, quality, dbt docs
	@$(BIN)/penstock docs $(ARGS)

serve: $(VENV)/.run ## show the report site on 127.0.0.1
	@$(BIN)/penstock serve $(ARGS)

test: $(VENV)/.dev ## all tests
	@$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.dev ## ruff, mypy, sqlfluff
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/sqlfluff lint dbt_project --disable-progress-bar

bench: $(VENV)/.run ## Penstock beside other ways to do the same; ARGS=--quick for a try (benchmarks/README.md)
	@$(BIN)/python -m benchmarks $(ARGS)

loadtest: $(VENV)/.run ## BATCH_SIZE x CONCURRENCY against a slow, failing API: TOTAL_RECORDS, FAILURE_RATE
	@$(BIN)/python -m benchmarks.loadtest $(ARGS)

chaos: $(VENV)/.dev ## the fault suite: real kills, broken servers, full disks; ARGS=--short for 5 minutes
	@$(BIN)/python -m tests.chaos $(ARGS)

lock: $(VENV)/.dev ## write the lock files anew from pyproject.toml
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header requirements/installer.in -o requirements/installer.txt
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header -c requirements/installer.txt --extra install pyproject.toml -o requirements/run.txt
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header -c requirements/run.txt -c requirements/installer.txt --extra install --extra dev pyproject.toml -o requirements/dev.txt

clean: ## stop the embedded Postgres and remove everything made here, .venv included
	@if [ -x $(BIN)/penstock ]; then $(BIN)/penstock dsn --stop --delete || true; fi
	@rm -rf $(VENV) .penstock exports site target logs

.PHONY: help setup run ingest build gate publish deadletters replay status docs serve test lint bench loadtest chaos lock clean
