# Each target does all its own set-up: a virtual environment in .venv and, for tests and benchmarks as root, the
# system's packages.
# Distributions build their interpreter with profile-guided optimisation; one built plainly costs us twice the CPU.
PYTHON ?= $(firstword $(wildcard /usr/bin/python3.13 /usr/bin/python3.12 /usr/bin/python3.11) python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

COMPILED := .venv-compiled

.PHONY: run test lint bench compiled fuzz simulate docs clean

run: $(READY)
	@exec $(BIN)/sipfarm demo

test: $(READY)
	@tests/live/install-packages
	@$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)
	@tests/live/install-packages
	@$(BIN)/python -m pip install --quiet -e '.[bench]'
	@$(MAKE) --no-print-directory compiled || true
	@$(BIN)/python -m bench.run

# The compiled build in an environment of its own, for the benchmark; setup.py says what it is.
compiled: $(COMPILED)/ready

fuzz: $(READY)
	@$(BIN)/python -m pytest tests/fuzz

# Seeds of the overlay's simulator, `make simulate SEEDS=0-5000 PLAN=partition`; docs/simulation.md says what they do.
SEEDS ?= 0-4999
simulate: $(READY)
	@$(BIN)/python -m tests.support.simulate $(SEEDS) --plan "$(PLAN)" --nodes $(or $(NODES),0)

# What is generated from the code: the pages of settings and of metrics, and the dashboards.
docs: $(READY)
	@$(BIN)/python -m docs.settings > docs/configuration.md
	@$(BIN)/python -m docs.metrics > docs/metrics.md
	@$(BIN)/python -m grafana.generate

$(READY): setup.cfg pyproject.toml
	@$(PYTHON) -m venv $(VENV) >/dev/null || { [ "$$(id -u)" = 0 ] && apt-get update -qq && \
		apt-get install -y -qq python3-venv >/dev/null && $(PYTHON) -m venv --clear $(VENV); } || \
		python3 -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade 'pip>=23'
	@$(BIN)/python -m pip install --quiet -e '.[test]'
	@touch $@

$(COMPILED)/ready: setup.py setup.cfg pyproject.toml $(shell find farm twisted -name '*.py') | $(READY)
	@command -v gcc >/dev/null || { echo "no compiled build: gcc is not installed" >&2; exit 1; }
	@rm -rf $(COMPILED) build
	@$(PYTHON) -m venv $(COMPILED)
	@echo "compiling into $(COMPILED), about a minute" >&2
	@SIPFARM_COMPILE=1 $(COMPILED)/bin/python -m pip install --quiet . >$(COMPILED)/log 2>&1 || \
		{ echo "no compiled build: $$(grep -m 1 -iE 'error|wants' $(COMPILED)/log) ($(COMPILED)/log)" >&2; exit 1; }
	@rm -rf build
	@touch $@

clean:
	rm -rf $(VENV) $(COMPILED) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -rf tests/live/browser/node_modules
