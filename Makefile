# `make run` shows it working, `make test` proves it, `make check` is what CI asks.

BIN := .venv/bin
STAMP := .venv/.ready
# Tests to run; `make test TESTS=tests/house` takes a part.
TESTS ?= tests
# Three processes, a folder of tests each, for two cores: a test waits for servers half of the time.
# `make test PROCESSES=0` runs all of them in one.
PROCESSES ?= 3
PYTEST = $(BIN)/pytest --numprocesses $(PROCESSES) --dist loadscope --no-loadscope-reorder
# The first Python that is new enough; `make setup PYTHON=/path/to/python3` takes another.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

# Another project's environment must not leak into ours, nor a habit of the caller's: a process
# that may not keep what it compiled starts slower each time.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV PYTHONDONTWRITEBYTECODE PYTHONUNBUFFERED
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

.PHONY: help setup run test test-long check golden format lock clean chaos bench

help:
	@echo "make setup   build .venv with the locked dependencies"
	@echo "make run     start the embedded stack and work off the sample requests"
	@echo "make test    run the tests; says what it left out for lack of a service"
	@echo "make test-long  outages and dead hosts played out in full"
	@echo "make check   format, lint, types, import contracts and tests: what CI asks"
	@echo "make golden  write the histories that a change of the flow is held against"
	@echo "make chaos   kill everything at every boundary; SEED=n replays; writes docs/reliability.md"
	@echo "make bench   measure speed and idle cost; writes docs/performance.md; BENCH='batch' a part"
	@echo "make format  put the code into form and mend what the linter can"
	@echo "make lock    pin the dependencies of pyproject.toml anew"
	@echo "make clean   remove .venv and caches; .refunds, with the ledger in it, stays"

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@if [ -z "$(PYTHON)" ]; then \
		echo "durable-refunds needs Python 3.11 or later, and finds none on PATH." >&2; \
		echo "Found: $$(python3 --version 2>&1 || true)" >&2; \
		echo "Name one with: make setup PYTHON=/path/to/python3" >&2; exit 1; fi
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "durable-refunds needs Python 3.11 or later; $(PYTHON) is $$($(PYTHON) --version 2>&1)." >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "$(PYTHON) has no venv module; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "Setting up .venv with the locked dependencies; the first time takes a minute or two."
	@rm -f $@
	@# A .venv whose interpreter has gone, or that was moved, is built anew.
	@$(BIN)/python -c 'import pip' 2>/dev/null || $(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --requirement requirements.lock
	@$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $@

run: setup
	@$(BIN)/refunds up --sample

test: setup
	@$(PYTEST) $(TESTS)

# Outages and dead hosts played out in full, ten minutes or so of them.
test-long: setup
	@REFUNDS_LONG=1 $(BIN)/pytest -m long $(TESTS)

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(PYTEST) $(TESTS)

# Only after the flow's version was raised: the histories of earlier versions stay as they are.
golden: setup
	@$(BIN)/pytest -q tests/replay/write_golden.py

# The seed decides the order of the cells; without one a fresh one is taken, and printed.
chaos: setup
	@$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED)) $(CHAOS)

# Needs PostgreSQL on 127.0.0.1:5432, or one named in BENCHMARKS_POSTGRESQL_URL.
bench: setup
	@$(BIN)/python -m benchmarks $(BENCH)

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# uv resolves for every platform and Python at once; it lives in an environment of its own that
# is thrown away. The file keeps the versions it has unless pyproject.toml asks for others.
lock:
	@scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && \
	$(PYTHON) -m venv "$$scratch" && "$$scratch/bin/python" -m pip install --quiet uv && \
	"$$scratch/bin/uv" pip compile --quiet --universal --python-version 3.11 \
		pyproject.toml --extra dev --output-file requirements.lock \
		--no-emit-index-url --no-emit-find-links --no-annotate --no-header

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
