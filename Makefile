# make demo and make test do all their own set-up; nothing else has to be installed by hand.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test check format soak bench install packages clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' Makefile

demo: $(VENV)/demo  ## the whole job against an embedded machine, no account needed
	@$(BIN)/devsync demo

test: packages $(VENV)/dev  ## every test, against a real sshd and browser (installs openssh-server, rsync, chromium)
	$(BIN)/python -m pytest -n 2 --dist worksteal --durations 12 $(ARGS)

check: $(VENV)/dev  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/dev  ## let ruff put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

soak: packages $(VENV)/dev  ## the real daemon among killers, for MINUTES (30)
	$(BIN)/python -m tests.system.soak --minutes $(or $(MINUTES),30)

bench: packages $(VENV)/dev  ## devsync beside its peers; REPEAT=5 ONLY='tunnel save' PROFILE=wan SCALE=0.1 JSON=FILE
	$(BIN)/python -m benchmarks --repeat $(or $(REPEAT),5) --only '$(ONLY)' --profile '$(PROFILE)' \
		--scale $(or $(SCALE),1) $(if $(JSON),--json '$(JSON)')

install: $(VENV)/run

packages:
	@.ci/packages

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "devsync needs Python 3.11 or newer; name one: make PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/run: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/demo: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	@touch $@ $(VENV)/run

$(VENV)/dev: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/demo $(VENV)/run

clean:  ## remove what make made
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
