# Everything a person runs from a clone. Each command sets up what it needs, and costs nothing where that stands.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
ROOMS := app connectors inference migrations examples bench tests setup
TEST_ARGS ?=
DEMO_ARGS ?=
CHAOS_ARGS ?=
BUGS ?=
BENCH ?= pipeline
BENCH_ARGS ?=

COMPILE := $(BIN)/uv --no-config pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-annotate \
	--no-emit-index-url --custom-compile-command "make constraints"

export PYTHONDONTWRITEBYTECODE :=
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint types contracts deps tests coverage test-accelerators test-compose chaos chaos-bugs bench
.PHONY: constraints clean

help:  ## show this
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

setup:  ## make .venv ready: exact, hashed packages and this project
	@test -n "$(PYTHON)" || { echo "There is no python3 on PATH: install Python 3.11, or run make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) setup/environment.py $(VENV)

demo: setup  ## run the demonstration plant until Ctrl-C (DEMO_ARGS="--for 90 --report report.json")
	@exec $(BIN)/headrace demo $(DEMO_ARGS)

test: setup  ## everything that has to be green
	@$(PYTHON) setup/checks.py $(VENV) $(TEST_ARGS)

lint: setup  ## ruff: rules and layout
	@$(PYTHON) setup/checks.py $(VENV) --only lint

types: setup  ## mypy, strict
	@$(PYTHON) setup/checks.py $(VENV) --only types

contracts: setup  ## import contracts between the rooms, and dependencies
	@$(PYTHON) setup/checks.py $(VENV) --only contracts --only dependencies

tests: setup  ## the tests alone (TEST_ARGS="tests/launcher -k redis")
	@$(BIN)/pytest $(TEST_ARGS)

coverage: setup  ## the tests with their coverage, 90 % at least; a fourth longer, as every process is measured
	@$(BIN)/pytest --cov --cov-report=term $(TEST_ARGS)

test-accelerators: setup  ## makers' runtimes in environments of their own, which are made in .accelerators: about 2 GB
	@$(PYTHON) setup/accelerators.py $(VENV) .accelerators
	@$(BIN)/pytest --no-cov tests/inference/accelerators $(TEST_ARGS)

test-compose: setup  ## build the images, run docker-compose.yml with the demonstration plant, look at what comes out
	@$(BIN)/python -m tests.compose

chaos: setup  ## pull the plug for an hour, report in docs/reports (CHAOS_ARGS="--for 600 --seed 7 --database postgresql")
	@$(BIN)/headrace selftest --plug --for 3600 --report docs/reports $(CHAOS_ARGS)

chaos-bugs: setup  ## put a bug into each hop, one after the other: the plug has to find it (BUGS=…)
	@$(BIN)/python -m tests.chaos.bugs $(BUGS)

bench: setup  ## one benchmark (BENCH=pipeline BENCH_ARGS=…)
	@$(BIN)/python -m pip install --quiet --require-hashes -r bench/requirements.txt
	@$(BIN)/python -m bench.$(BENCH) $(BENCH_ARGS)

constraints: setup  ## renew constraints.txt and what the images install: exact versions with hashes, no registry's address
	@$(COMPILE) --upgrade --extra embedded --extra demo --extra modbus --extra parquet --extra sm2 --extra webgpu --extra xlsx --group dev --group setup pyproject.toml --output-file constraints.txt
	@$(COMPILE) --constraints constraints.txt --extra modbus --extra parquet --extra xlsx pyproject.toml --output-file deploy/requirements/runtime.txt
	@$(COMPILE) --constraints constraints.txt --extra demo --extra modbus --extra parquet --extra xlsx pyproject.toml --output-file deploy/requirements/demo.txt
	@$(COMPILE) --constraints constraints.txt --group setup --output-file deploy/requirements/build.txt
	@$(COMPILE) --constraints constraints.txt --group bench --output-file bench/requirements.txt
	@$(COMPILE) --group mlserver --output-file bench/requirements-mlserver.txt
	@$(COMPILE) --group tritonclient --output-file bench/requirements-tritonclient.txt

clean:  ## remove what the commands above have made, but for data of a box (.headrace)
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage .coverage.* htmlcov dist build
	@find $(ROOMS) -name __pycache__ -type d -prune -exec rm -rf {} +
