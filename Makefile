# `make demo` and `make test` set up everything they need: .venv/ with the versions of constraints.txt.
# A base Python 3.11-3.13 is looked for in this order; PYTHON=/path/to/python overrides it.
PYTHON ?= python3.13 python3.12 python3.11 python3 python
# Passed on to the demo's script, to pytest or to ruff.
ARGS ?=

SHELL := /bin/sh
VENV := .venv
VENV_PYTHON := $(VENV)/bin/python
STAMP := $(VENV)/.setup-complete

# Hides TensorFlow's start-up notes; has to be set before the interpreter imports it.
export TF_CPP_MIN_LOG_LEVEL ?= 3

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint clean

help:
	@echo "make setup   make .venv/ from pinned versions (nothing is done twice)"
	@echo "make demo    train, measure and look at a TNet on needle_digits; ARGS='--seed=2' adds flags"
	@echo "make test    run the whole test suite; ARGS='-k geometry' adds pytest options"
	@echo "make lint    check style with ruff"
	@echo "make clean   remove .venv/ and what tools left behind; runs/ stays"

setup: $(STAMP)

# The stamp goes first and comes back last, so an interrupted setup leaves none. Without a stamp the
# environment is made afresh: pip cannot be trusted to repair a half-unpacked package. With an
# outdated stamp only what changed is installed.
# No build isolation: the two source builds (this package, promise) use the pinned setuptools too.
$(STAMP): setup.cfg pyproject.toml constraints.txt
	@if [ -f $(STAMP) ]; then rm -f $(STAMP); else \
	  base=; \
	  for candidate in $(PYTHON); do \
	    if "$$candidate" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' >/dev/null 2>&1; \
	    then base=$$candidate; break; fi; \
	  done; \
	  if [ -z "$$base" ]; then \
	    echo "make setup: no Python 3.11, 3.12 or 3.13 with venv and ensurepip found. Received: PYTHON=$(PYTHON)" >&2; \
	    exit 1; \
	  fi; \
	  echo "make setup: $(VENV)/ from $$("$$base" -c 'import sys; print(sys.executable, sys.version.split()[0])')"; \
	  "$$base" -m venv --clear $(VENV); \
	fi
	$(VENV_PYTHON) -m pip install --disable-pip-version-check --quiet -c constraints.txt setuptools wheel
	$(VENV_PYTHON) -m pip install --disable-pip-version-check --no-build-isolation -c constraints.txt -e '.[test]'
	@touch $(STAMP)

demo: setup
	$(VENV_PYTHON) experiments/imagenet_tnet.py --flagfile=experiments/flagfiles/needle_digits.flags $(ARGS)

# Two workers: each holds its own TensorFlow (about 1 GB), and a file stays on one worker so that
# its module-wide fixtures are built once.
test: setup
	$(VENV_PYTHON) -m pytest -n 2 --dist loadfile --durations=15 $(ARGS)

lint: setup
	$(VENV_PYTHON) -m ruff check $(ARGS)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
