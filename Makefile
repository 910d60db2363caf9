# Every target sets up what it needs, from nothing but Python 3.11 or newer with pip.

PYTHON ?= python3
VENV ?= .venv
ATLAS ?= out/atlas
KEEP ?= out/kept
SERVE ?= 1
PORT ?= 8400
ARGS ?=

BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help setup atlas test check campaign format bench docs wheel clean

help:
	@echo "make setup    the virtual environment $(VENV)"
	@echo "make atlas    build the atlas of the embedded network into $(ATLAS) and show it meanwhile (SERVE=0: only build);"
	@echo "              what you keep there lies in $(KEEP)"
	@echo "make test     the tests (ARGS: for pytest)"
	@echo "make check    formatting, lint, types and tests"
	@echo "make campaign kills, hostile command lines and calls, with a seed (ARGS: see tools/campaign.py)"
	@echo "make format   format the code"
	@echo "make bench    the benchmarks"
	@echo "make docs     the documentation, into build/docs"
	@echo "make wheel    wheel and source archive, into dist"
	@echo "make clean    remove what was made, but for the virtual environment"

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and \
		"netloupe needs Python 3.11 or newer, this is %d.%d; name another: make PYTHON=/path/to/python3" % v[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

atlas: $(READY)
	$(BIN)/netloupe atlas build --out $(ATLAS) $(if $(filter 0,$(SERVE)),,--serve --port $(PORT) --keep $(KEEP)) $(ARGS)

test: $(READY)
	$(BIN)/python -m pytest $(ARGS)

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest $(ARGS)

campaign: $(READY)
	$(BIN)/python tools/campaign.py $(ARGS)

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix --exit-zero .

bench: $(READY)
	@for script in $(sort $(wildcard benchmarks/*.py)); do echo "$$script"; $(BIN)/python "$$script" $(ARGS) || exit 1; done

docs: $(READY)
	$(BIN)/mkdocs build --strict --quiet

wheel: $(READY)
	$(BIN)/python -m build --outdir dist

clean:
	rm -rf build dist out .pytest_cache .ruff_cache .mypy_cache
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
