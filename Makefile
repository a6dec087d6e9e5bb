# Each target does all its own set-up: a virtual environment in .venv and, for tests and benchmarks as root, the
# system's packages.
# Distributions build their interpreter with profile-guided optimisation; one built plainly costs us twice the CPU.
PYTHON ?= $(firstword $(wildcard /usr/bin/python3.13 /usr/bin/python3.12 /usr/bin/python3.11) python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.PHONY: run test lint bench fuzz docs clean

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
	@$(BIN)/python -m bench.run

fuzz: $(READY)
	@$(BIN)/python -m pytest tests/fuzz

# What is generated from the code: the page of settings and the dashboards.
docs: $(READY)
	@$(BIN)/python -m docs.settings > docs/configuration.md
	@$(BIN)/python -m grafana.generate

$(READY): setup.cfg pyproject.toml
	@$(PYTHON) -m venv $(VENV) >/dev/null || { [ "$$(id -u)" = 0 ] && apt-get update -qq && \
		apt-get install -y -qq python3-venv >/dev/null && $(PYTHON) -m venv --clear $(VENV); } || \
		python3 -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade 'pip>=23'
	@$(BIN)/python -m pip install --quiet -e '.[test]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
