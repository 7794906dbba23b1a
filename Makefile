VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help sample serve test test-all lint docs format floors clean

help:
	@echo "make sample   install, then generate 20 images into samples.png"
	@echo "make serve    install with the extra serve, then start the studio and the HTTP API (FLAGS='--model runs/var')"
	@echo "make test     install with the dev tools, then run the tests"
	@echo "make test-all the same with the tests marked long: slow ones, and repeats of a law"
	@echo "make lint     format check, lint, types, import contracts"
	@echo "make docs     build the documentation into build/site"
	@echo "make format   format the code and apply safe fixes"
	@echo "make floors   install the lowest supported versions into a temporary environment, and try each feature there"
	@echo "make clean    remove the environment, caches and build outputs"

sample: $(VENV)/.installed
	$(BIN)/nextscale sample --num-images 20 --show-scales --out samples.png

serve: $(VENV)/.installed-serve
	$(BIN)/nextscale serve $(FLAGS)

test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m "not long"

test-all: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

docs: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

floors: $(VENV)/.created
	$(BIN)/python .ci/floors.py

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .import_linter_cache
	find src tests -type d -name __pycache__ -prune -exec rm -rf {} +

# Stamps: an install is done again only when the project file or the pins change.
$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("nextscale needs Python 3.10 or newer: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/.created
	@echo "Installing nextscale into $(VENV) (the first time takes a few minutes)"
	@$(PIP) install -q -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-serve: pyproject.toml constraints.txt | $(VENV)/.created
	@echo "Installing nextscale with the extra serve into $(VENV) (the first time takes a few minutes)"
	@$(PIP) install -q -c constraints.txt -e '.[serve]'
	@touch $(VENV)/.installed $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/.created
	@echo "Installing nextscale and its dev tools into $(VENV) (the first time takes a few minutes)"
	@$(PIP) install -q --no-compile -c constraints.txt -e '.[dev]'
	@$(BIN)/python -m compileall -q -j 0 $(VENV)/lib >/dev/null || true # as pip does, but on all cores
	@touch $(VENV)/.installed $(VENV)/.installed-serve $@
