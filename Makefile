# Every target sets itself up in .venv; a machine with Python >= 3.11 and make is all it takes.
# Debian's python3 is built with profile-guided optimisation: it is preferred where it is new enough.
PYTHON ?= $(shell for p in /usr/bin/python3 python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
RUN := $(BIN)/fissile -C examples/shop run

.PHONY: help venv shop test quick check format docs bench storm doors endings adoption restarts fuzz lock clean

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(VENV)/.dev: pyproject.toml requirements/dev.txt
	@test -n "$(PYTHON)" || { echo "no Python >= 3.11 with venv found: install python3-venv, or say make PYTHON=..."; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.docs: $(VENV)/.dev requirements/docs.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/docs.txt
	@touch $@

$(VENV)/.bench: $(VENV)/.dev requirements/bench.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/bench.txt
	@touch $@

venv: $(VENV)/.dev  ## the virtual environment that all others use

shop: venv  ## run the example shop as a monolith and print its address
	$(RUN)

# A test that is marked `alone` measures time, or fills the machine: it runs after the others, beside none.
WORKERS ?= 2
TEST = $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "not alone" && $(BIN)/python -m pytest -m alone
test: venv  ## the tests, WORKERS at a time
	$(TEST)

# The rooms that decide and the protocol, without a process, a socket or a clock.
quick: venv  ## the tests of the pure rooms: less than a minute
	$(BIN)/python -m pytest -n $(WORKERS) -m "not alone" tests/orchestrator tests/wire tests/component tests/simulation tests/architecture/test_rooms.py

check: venv  ## format, lint, types, layers, tests: what has to pass before a commit
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(TEST)

format: venv  ## put the code into the one format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.docs  ## build the documentation into build/docs; a dead link or a missing docstring is an error
	@command -v dot >/dev/null || { echo "the drawings need Graphviz: apt-get install graphviz"; exit 2; }
	$(BIN)/sphinx-build -q -W --keep-going -b html docs build/docs
	@echo "open build/docs/index.html"

# Fewer or shorter rounds show that the benchmarks run, not how fast anything is.
ROUNDS ?= 9
SECONDS_PER_ROUND ?= 1.0
BENCH_JSON ?= build/bench.json
# BENCH_DOCS=docs/benchmarks.md puts the figures into the documentation.
BENCH_DOCS ?=
bench: $(VENV)/.bench  ## measure against the peers, side by side; writes build/bench.json
	$(BIN)/python benchmarks/run.py --rounds $(ROUNDS) --seconds $(SECONDS_PER_ROUND) --json $(BENCH_JSON) \
		$(if $(BENCH_DOCS),--docs $(BENCH_DOCS))

RESTARTS ?= 50
BUSY ?= 4
restarts: $(VENV)/.bench  ## fifty restarts beside four busy processes: no request may be lost
	$(BIN)/python benchmarks/restarts.py $(RESTARTS) $(BUSY)

# The same seed raises the same storm: `make storm SEED=7`. Without one it is drawn, and printed.
SEED ?=
CALLS ?= 1000000
storm: venv  ## a million calls with everything that can go wrong, in 20 minutes at most
	$(BIN)/python -m tests.storm --calls $(CALLS) $(if $(SEED),--seed $(SEED))

# `make endings SEED=7 KILLS=20`.
KILLS ?= 100
endings: venv  ## kill supervisors, zygotes, replicas, and all at once, and look for what is left: half an hour
	$(BIN)/python -m tests.system.endings --kills $(KILLS) $(if $(SEED),--seed $(SEED))

# `make adoption SEED=7 WALKS=5`.
WALKS ?= 3
adoption: venv  ## applications of each framework through edits, deploys, crashes and power cuts by seed: six minutes a walk
	$(BIN)/python -m tests.adoption --walks $(WALKS) $(if $(SEED),--seed $(SEED))

# Many requests to every operation of every OpenAPI document; the tests make a few.
EXAMPLES ?= 300
fuzz: venv  ## every OpenAPI document against its service, by EXAMPLES requests of each kind, in ten minutes or so
	FISSILE_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest tests/system/test_openapi.py --timeout 3600

# Figures are promised for a machine that has nothing else to do.
SIEGE_SECONDS ?= 60
doors: venv  ## a hostile crowd at each door, beside ordinary visitors, for a minute each
	$(BIN)/python -m tests.doors --seconds $(SIEGE_SECONDS) $(if $(SEED),--seed $(SEED))

lock:  ## pin the newest versions of everything in requirements/*.txt
	$(PYTHON) requirements/lock.py

clean:  ## remove what the other targets made
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .import_linter_cache .hypothesis
